"""Marks: where the time between the end of speech and the first sound went, to the millisecond."""

from typing import Any

from agent.mimo import Ended, Text
from tests.scripted import Json, Scripted, sound

MARKS: Json = {"x_mimo": {"marks": True}}


def asking(**session: Any) -> Scripted:
    scripted = Scripted()
    scripted.client({"type": "session.update", "session": {"type": "realtime", **session}})
    return scripted


def marks(scripted: Scripted) -> list[tuple[int | None, ...]]:
    """Requested, decided, first output and first sound of each response."""
    found = [event for event in scripted.server if event["type"] == "x_mimo.marks"]
    names = ("requested_ms", "decided_ms", "first_output_ms", "first_sound_ms")
    return [tuple(event[name] for name in names) for event in found]


def test_a_reply_that_was_prepared_in_the_pause_shows_how_long_it_waited():
    scripted = asking(**MARKS)
    scripted.speak(0.9, 20)
    scripted.speak(0.0, 10)
    scripted.model(Text("Hi."))
    scripted.speak(0.0, 6)
    assert not marks(scripted), "there is no sound yet"
    scripted.advance(0.1)
    scripted.model(sound(480))
    # Frames of 32 ms: the pause is seen after 7 of them, the end of the turn after 16.
    assert marks(scripted) == [(224, 512, 320, 612)]
    kinds = scripted.types()
    assert kinds[kinds.index("x_mimo.marks") + 1] == "response.output_audio.delta"
    scripted.model(sound(480))
    scripted.model(Ended())
    assert len(marks(scripted)) == 1


def test_a_written_answer_has_its_marks_at_its_end():
    scripted = asking(output_modalities=["text"], **MARKS)
    scripted.client({"type": "response.create"})
    scripted.advance(0.25)
    scripted.model(Text("Hi."))
    scripted.advance(0.25)
    scripted.model(Ended())
    assert marks(scripted) == [(0, 0, 250, None)]
    assert scripted.types()[-1] == "response.done"


def test_a_response_that_was_cancelled_before_it_began_has_marks_as_well():
    scripted = asking(**MARKS)
    scripted.client({"type": "response.create"})
    scripted.client({"type": "response.cancel"})
    assert marks(scripted) == [(0, 0, None, None)]


def test_a_turn_that_waited_for_the_answer_before_counts_from_its_own_end():
    detection = {"type": "server_vad", "interrupt_response": False}
    scripted = asking(audio={"input": {"turn_detection": detection}}, **MARKS)
    scripted.client({"type": "response.create"})
    scripted.model(sound(10_000))
    scripted.speak(0.9, 20)
    scripted.speak(0.0, 16)
    scripted.advance(1.0)
    scripted.model(Ended())
    scripted.advance(0.2)
    scripted.model(sound(480))
    assert marks(scripted) == [(0, 0, 0, 0), (1512, 1512, 1712, 1712)]


def test_nobody_is_told_who_did_not_ask():
    scripted = asking()
    scripted.client({"type": "response.create"})
    scripted.model(sound(480))
    scripted.model(Ended())
    assert not marks(scripted)
