"""Marks: where the time between the end of speech and the first sound went, to the millisecond."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agent.audio import RATE, milliseconds
from agent.floor import states as floor
from agent.metrics import Marks, Stopwatch
from agent.model.output import Ended, Text
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection
from client.evaluation.figures import answer, latency
from client.evaluation.recordings import SHIPPED, Library
from client.evaluation.scenarios import Scenario, scenarios
from tests.drivers.scripted import Json, Scripted, sound
from tests.drivers.simulated_call import SimulatedCall

MARKS: Json = {"x_mimo": {"marks": True}}


def asking(**session: Any) -> Scripted:
    scripted = Scripted()
    scripted.send({"type": "session.update", "session": {"type": "realtime", **session}})
    return scripted


def marks(scripted: Scripted) -> list[tuple[int | None, ...]]:
    """End of speech, requested, decided, first output and first sound of each response."""
    found = [event for event in scripted.server if event["type"] == "x_mimo.marks"]
    names = ("speech_end_ms", "requested_ms", "decided_ms", "first_output_ms", "first_sound_ms")
    return [tuple(event[name] for name in names) for event in found]


def test_a_reply_that_was_prepared_in_the_pause_shows_how_long_it_waited():
    scripted = asking(**MARKS)
    scripted.user([0.9] * 20)
    scripted.user([0.0] * 10)
    scripted.model(Text("Hi."))
    scripted.user([0.0] * 6)
    assert not marks(scripted), "there is no sound yet"
    scripted.wait(0.1)
    scripted.model(sound(480))
    # Frames of 32 ms: the pause is seen after 7 of them, the end of the turn after 16.
    assert marks(scripted) == [(640, 224, 512, 320, 612)]
    kinds = scripted.types()
    assert kinds[kinds.index("x_mimo.marks") + 1] == "response.output_audio.delta"
    scripted.model(sound(480))
    scripted.model(Ended())
    assert len(marks(scripted)) == 1


def test_a_written_answer_has_its_marks_at_its_end():
    scripted = asking(output_modalities=["text"], **MARKS)
    scripted.send({"type": "response.create"})
    scripted.wait(0.25)
    scripted.model(Text("Hi."))
    scripted.wait(0.25)
    scripted.model(Ended())
    assert marks(scripted) == [(None, 0, 0, 250, None)]
    assert scripted.types()[-1] == "response.done"


def test_a_response_that_was_cancelled_before_it_began_has_marks_as_well():
    scripted = asking(**MARKS)
    scripted.send({"type": "response.create"})
    scripted.send({"type": "response.cancel"})
    assert marks(scripted) == [(None, 0, 0, None, None)]


def test_a_turn_that_waited_for_the_answer_before_counts_from_its_own_end():
    detection = {"type": "server_vad", "interrupt_response": False}
    scripted = asking(audio={"input": {"turn_detection": detection}}, **MARKS)
    scripted.send({"type": "response.create"})
    scripted.model(sound(10_000))
    scripted.user([0.9] * 20)
    scripted.user([0.0] * 16)
    scripted.wait(1.0)
    scripted.model(Ended())
    scripted.wait(0.2)
    scripted.model(sound(480))
    assert marks(scripted) == [(None, 0, 0, 0, 0), (640, 1512, 1512, 1712, 1712)]


def test_nobody_is_told_who_did_not_ask():
    scripted = asking()
    scripted.send({"type": "response.create"})
    scripted.model(sound(480))
    scripted.model(Ended())
    assert not marks(scripted)


SPOKEN = {
    each.name: each
    for each in scenarios(Library(SHIPPED), seed=1)
    if each.kind == "turn" or each.name == "word/no"
}
CLOSE_MS = 45
"""A frame of the detector, and how well an ear would agree on where a sound dies away."""


def in_a_room(scenario: Scenario, noise: float) -> Scenario:
    """The same, with noise of an amplitude and for some seconds after."""
    after = np.concatenate((scenario.opening, np.zeros(3 * RATE, np.int16)))
    noisy = after + np.random.default_rng(1).normal(0, noise, len(after))
    return replace(scenario, opening=np.clip(noisy, -(2**15), 2**15 - 1).astype(np.int16))


@pytest.mark.parametrize("detection", [SemanticVad(), ServerVad()], ids=["semantic", "server"])
@pytest.mark.parametrize("name", SPOKEN)
def test_the_end_of_recorded_speech_is_told_and_the_latency_shown_from_it_is_the_true_one(
    name: str, detection: TurnDetection
):
    take = SimulatedCall(SPOKEN[name], detection).hold()
    [told] = [each for each in take.events if each.event["type"] == "x_mimo.marks"]
    first, true = answer(take), latency(take)
    assert first is not None
    assert true is not None
    end_ms = milliseconds(take.scenario.speech_end)
    assert told.event["speech_end_ms"] == pytest.approx(end_ms, abs=CLOSE_MS)
    shown_ms = told.event["first_sound_ms"] + milliseconds(first.start - told.at)
    assert shown_ms == pytest.approx(true.voice_to_voice_ms, abs=CLOSE_MS)


@pytest.mark.parametrize("name", ["turn/weather_question", "turn/hi_how_are_you", "turn/help_me"])
def test_the_noise_of_a_loud_room_is_not_taken_for_the_end_of_speech(name: str):
    """The detector alone hears speech for 40 to 160 ms too long there."""
    scenario = in_a_room(SPOKEN[name], noise=150)
    take = SimulatedCall(scenario).hold()
    [told] = [each.event for each in take.events if each.event["type"] == "x_mimo.marks"]
    assert told["speech_end_ms"] == pytest.approx(milliseconds(scenario.speech_end), abs=CLOSE_MS)


def test_a_turn_that_was_over_when_it_was_judged_counts_from_the_end_of_its_speech():
    stopwatch = Stopwatch()
    ended = floor.TurnEnded("item_1", "resp_1", floor.Silence(0.4, 1_000))
    stopwatch.note_event(floor.OverlapPassed(ended), 10.0)
    stopwatch.note_action(floor.OpenResponse("resp_1"), 10.0)
    stopwatch.note_action(floor.RequestReply("resp_1"), 10.0)
    found = stopwatch.note_action(floor.Deliver("resp_1", sound(480)), 10.5)
    assert found == Marks(
        response_id="resp_1",
        speech_end_ms=1_000,
        requested_ms=400,
        decided_ms=400,
        first_output_ms=None,
        first_sound_ms=900,
    )
