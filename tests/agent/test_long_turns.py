"""The longest turns: each goes to the model whole, or is refused; and hearing never stops."""

from dataclasses import replace

import msgspec
import pytest

from agent import limits
from agent.audio import seconds
from agent.errors import ModelError
from agent.model.context import fit
from agent.model.output import ChatMessage
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection
from server.settings import Turn
from tests.drivers.sounds import frame
from tests.drivers.virtual_call import (
    ANSWER,
    FRAME_S,
    IS_SILENT,
    POLICY,
    SPEAKS,
    Call,
    config,
    kind,
)

VOICE, ROOM = frame(-25.0), frame(-70.0)
MINUTE = VOICE * round(60 / FRAME_S)


def speak(call: Call, duration_s: float) -> None:
    call.user([SPEAKS] * round(duration_s / FRAME_S), VOICE)


def clip_s(call: Call) -> float:
    """How much sound the model was given as the turn to be answered."""
    return seconds(call.asks[-1].messages[-1].pcm)


@pytest.mark.parametrize("minutes", [1, 6, 10])
def test_a_turn_by_hand_is_heard_whole(minutes: int):
    call = Call(config(None))
    for _ in range(minutes):
        call.append(MINUTE)
    call.client("input_audio_buffer.commit")
    call.client("response.create")
    assert clip_s(call) == pytest.approx(60 * minutes, abs=0.1)


def test_a_turn_by_hand_that_is_too_long_is_refused_and_the_next_one_is_heard():
    call = Call(config(None))
    for _ in range(10):
        call.append(MINUTE)
    call.told()
    call.append(MINUTE)
    assert call.error().message == "The input audio buffer is full (600 s). Commit or clear it."
    call.client("input_audio_buffer.clear")
    call.append(MINUTE)
    call.client("input_audio_buffer.commit")
    call.client("response.create")
    assert clip_s(call) == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize(
    "detection", [ServerVad(), SemanticVad("low"), ServerVad(prefix_padding_ms=5_000)]
)
@pytest.mark.parametrize("longest_ms", [1_000, 600_000])
def test_speech_without_end_is_cut_into_turns_that_are_heard_whole(
    detection: TurnDetection, longest_ms: int
):
    longest_s = min(longest_ms / 1_000, limits.TURN_S)
    call = Call(config(detection), replace(POLICY, longest_turn_ms=longest_ms))
    speak(call, longest_s + 1)
    first_s = clip_s(call)
    assert longest_s <= first_s <= longest_s + limits.AROUND_TURN_S
    assert first_s <= limits.CLIP_S
    call.model(*ANSWER)
    call.user([IS_SILENT] * 400, ROOM)
    speak(call, 0.8)
    call.user([IS_SILENT] * 130, ROOM)
    kinds = [kind(event) for event in call.sent]
    assert kinds.count("input_audio_buffer.committed") >= 2
    assert kinds[-1] == "response.created"


def test_a_session_at_the_longest_setting_goes_on_hearing():
    call = Call(config(SemanticVad()), replace(POLICY, longest_turn_ms=600_000))
    for _ in range(2):
        speak(call, limits.TURN_S + 5)
        call.model(*ANSWER)
    committed = [event for event in call.sent if kind(event) == "input_audio_buffer.committed"]
    assert len(committed) == 2
    assert "error" not in map(kind, call.sent)


def test_a_buffer_without_turn_detection_holds_less_than_one_with_it():
    call = Call(config(ServerVad()))
    for _ in range(15):
        call.append(MINUTE)
    call.update(turn_detection=None)
    call.told()
    call.client("input_audio_buffer.commit")
    assert "900.0 s of audio; the limit is 600 s" in call.error().message


def test_all_settings_fit_what_a_model_takes_in_one_clip():
    longest = msgspec.json.schema(Turn)["$defs"]["Turn"]["properties"]["longest_turn_ms"]["maximum"]
    assert longest == limits.CLIP_S * 1_000
    assert limits.TURN_S + limits.AROUND_TURN_S <= limits.CLIP_S
    assert limits.HANDS_FREE_BUFFER_S >= limits.CLIP_S + limits.APPEND_S
    # 15 MiB, as the protocol has it.
    assert seconds(bytes(15 * 2**20)) <= limits.APPEND_S


def test_a_turn_that_the_models_context_cannot_hold_is_refused_with_both_sizes():
    turn = ChatMessage("user", "", MINUTE)
    with pytest.raises(ModelError, match=r"take 385 tokens\. .*context is 400") as refused:
        fit([turn], max_tokens=3_200, context=400)
    assert refused.value.code == "context_length_exceeded"
    prompt, most = fit([turn], max_tokens=3_200, context=512)
    assert (prompt, most) == ([turn], 512 - 385)
