"""The user's turn: it begins, it ends and it is answered, whatever the microphone brings or not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.audio import RATE, seconds
from agent.floor import states as floor
from agent.hearing.end_of_turn import Eagerness
from agent.model.output import Ended, Sound
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection
from tests.drivers.sounds import frame, probabilities
from tests.drivers.virtual_call import (
    ANSWER,
    BROKEN,
    FRAME_S,
    IS_SILENT,
    POLICY,
    SPEAKS,
    Call,
    config,
)

VOICE, BREATH, ROOM = frame(-25.0), frame(-45.0), frame(-70.0)
QUESTION = [SPEAKS] * 20
MICROPHONE_OFF_S = 3.0
"""Without a frame for so long the turn ends by the clock."""


def answered(detection: TurnDetection, duck: bool = False) -> Call:
    """A call in which two seconds of an answer were sent at once, and it is complete."""
    call = Call(config(detection, duck=duck))
    call.user(QUESTION, VOICE)
    call.user([IS_SILENT] * 40, ROOM)
    call.model(*ANSWER)
    assert isinstance(call.session.state, floor.AgentSpeaking)
    call.told()
    return call


def turns(call: Call) -> list[str]:
    """What the client was told of the user's turns, and of responses to them."""
    kinds = ("input_audio_buffer.", "response.created")
    return [kind.split(".")[-1] for kind in call.told() if kind.startswith(kinds)]


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
@pytest.mark.parametrize("silent", [0, 5, 7])
@pytest.mark.parametrize("before_s", [0.55, 0.25])
@pytest.mark.parametrize("word", [5, 10])
def test_a_short_answer_near_the_end_of_the_agents_speech_is_answered(
    word: int, before_s: float, silent: int, eagerness: Eagerness
):
    call = answered(SemanticVad(eagerness), duck=True)
    call.user([IS_SILENT] * round((2.0 - before_s) / FRAME_S), ROOM)
    call.user([SPEAKS] * word, VOICE)
    call.user([IS_SILENT] * silent, ROOM)
    call.user(probabilities(0.36, 0.49, 60), BREATH)
    call.user([IS_SILENT] * 130, ROOM)
    assert turns(call) == ["speech_started", "speech_stopped", "committed", "created"]
    call.model(*ANSWER)
    call.user(QUESTION, VOICE)
    assert turns(call)[0] == "speech_started"


def others_wait(call: Call) -> None:
    call.session.model_busy = True


def the_early_reply_fails(call: Call) -> None:
    if call.asked:
        call.model(BROKEN)


def nothing_else(_: Call) -> None:
    pass


def test_who_pauses_hesitates_whether_or_not_a_reply_is_prepared():
    for early_start_ms, busy in ((160, False), (160, True), (0, False)):
        call = Call(config(SemanticVad()), replace(POLICY, early_start_ms=early_start_ms))
        call.session.model_busy = busy
        call.user(QUESTION, VOICE)
        call.user([IS_SILENT] * 6, ROOM)
        assert isinstance(call.session.state, floor.Hesitating)
        assert (call.asked is not None) == (early_start_ms > 0 and not busy)


@pytest.mark.parametrize("meanwhile", [nothing_else, others_wait, the_early_reply_fails])
@pytest.mark.parametrize("silent_frames", [0, 2, 8])
@pytest.mark.parametrize("early_start_ms", [0, 160])
@pytest.mark.parametrize("detection", [ServerVad(), SemanticVad("low"), SemanticVad("high")])
def test_a_turn_ends_by_the_clock_when_the_microphone_stops_sending(
    detection: TurnDetection,
    early_start_ms: int,
    silent_frames: int,
    meanwhile: Callable[[Call], None],
):
    call = Call(config(detection), replace(POLICY, early_start_ms=early_start_ms))
    call.user(QUESTION, VOICE)
    meanwhile(call)
    call.user([IS_SILENT] * silent_frames, ROOM)
    meanwhile(call)
    call.wait(MICROPHONE_OFF_S - 0.01)
    assert turns(call) == ["speech_started"]
    call.wait(0.01)
    assert turns(call) == ["speech_stopped", "committed", "created"]
    assert call.asked is not None
    assert len(call.asked.messages[-1].pcm) >= len(VOICE) * len(QUESTION)


def test_speech_beside_an_answer_that_it_may_not_interrupt_ends_by_the_clock_as_well():
    call = answered(ServerVad(interrupt_response=False))
    call.user(QUESTION, VOICE)
    call.wait(MICROPHONE_OFF_S)
    assert turns(call) == ["speech_started", "speech_stopped", "committed", "created"]


def test_speech_that_outlasts_an_answer_it_may_not_interrupt_is_answered_early_as_any_other():
    call = answered(ServerVad(interrupt_response=False))
    call.user(QUESTION * 4, VOICE)
    assert isinstance(call.session.state, floor.UserSpeaking)
    call.user([IS_SILENT] * 8, ROOM)
    assert call.asked is not None
    assert turns(call) == ["speech_started"]


def test_while_frames_come_a_patient_session_waits_longer_than_for_a_dead_microphone():
    call = Call(config(ServerVad(silence_duration_ms=5_000)))
    call.user(QUESTION, VOICE)
    call.user([IS_SILENT] * round(4.9 / FRAME_S), ROOM)
    assert turns(call) == ["speech_started"]
    call.user([IS_SILENT] * 10, ROOM)
    assert turns(call) == ["speech_stopped", "committed", "created"]


def test_a_turn_that_began_haltingly_over_the_agents_voice_is_heard_to_its_end():
    call = answered(SemanticVad(), duck=True)
    call.user([SPEAKS] * 6, VOICE)
    call.user([IS_SILENT] * 7, ROOM)
    call.user([SPEAKS] * round(61.0 / FRAME_S), VOICE)
    assert turns(call)[:4] == ["speech_started", "speech_stopped", "committed", "created"]
    assert seconds(call.asks[-1].messages[-1].pcm) == pytest.approx(60.0, abs=0.5)


@pytest.mark.parametrize(("kind", "outcome"), [("commit", "committed"), ("clear", "cleared")])
def test_what_a_client_has_dealt_with_is_no_turn_again(kind: str, outcome: str):
    call = Call(config(ServerVad(interrupt_response=True)))
    call.client("response.create")
    call.model(Sound(frame(-25.0, RATE)))
    call.user([SPEAKS] * 10, VOICE)
    call.client(f"input_audio_buffer.{kind}")
    call.user([IS_SILENT] * 60, ROOM)
    assert turns(call) == ["created", outcome]


def test_after_the_microphone_was_off_the_first_word_is_heard():
    call = Call(config(ServerVad()))
    call.client("response.create")
    call.model(Sound(frame(-25.0, RATE)), Ended())
    call.user([IS_SILENT], ROOM)
    call.wait(60.0)
    call.user([SPEAKS] * 4, VOICE)
    assert turns(call) == ["created", "speech_started"]
