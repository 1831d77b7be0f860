"""What holds for every session, whatever the user, the client and the model do and when.

Most rules are checked by the call itself at every step: one open response and one request at a
time, one end for each response and nothing of it afterwards, always a deadline while it is open.
"""

import os
from dataclasses import dataclass, replace

from hypothesis import given, settings, strategies as st

from agent.audio import RATE
from agent.model.output import Ended, Output, Sound, Text
from agent.realtime.config import Json, ServerVad
from tests.drivers.sounds import frame, probabilities
from tests.drivers.virtual_call import (
    ANSWER,
    BROKEN,
    IS_SILENT,
    POLICY,
    SECOND,
    SPEAKS,
    UTTERANCE,
    Call,
    config,
)

CONVERSATIONS = int(os.environ.get("CONVERSATIONS", "300"))
AFTER_ANYTHING_S = 120.0
"""Longer than every patience, and than whatever the agent may still be saying."""


@dataclass
class Hear:
    """The microphone sends frames of one kind of sound."""

    sound: "Heard"
    frames: int
    seed: int


@dataclass(frozen=True)
class Heard:
    """A kind of sound: how sure the detector is that it is speech, and its level."""

    least: float
    most: float
    level_db: float


@dataclass
class Busy:
    """Others wait for the model, or not any more."""

    others_wait: bool


@dataclass
class FromModel:
    output: str
    late: bool
    """It belongs to the very first request instead of the open one."""


@dataclass
class Client:
    kind: str
    fields: Json


@dataclass
class Edit:
    """The client does something with one of the latest items."""

    kind: str
    place: int
    fields: Json


@dataclass
class Detect:
    turn_detection: Json | None


@dataclass
class Wait:
    pause_s: float


Move = Hear | Busy | FromModel | Client | Edit | Detect | Wait

SOUNDS = [
    Heard(0.7, 1.0, -25.0),
    Heard(0.7, 1.0, -25.0),
    Heard(0.5, 0.9, -32.0),
    Heard(0.35, 0.5, -48.0),
    Heard(0.3, 0.6, -40.0),
    Heard(0.0, 0.35, -55.0),
    Heard(0.0, 0.1, -70.0),
    Heard(0.0, 1.0, -30.0),
    Heard(SPEAKS, SPEAKS, -120.0),
    Heard(IS_SILENT, IS_SILENT, -120.0),
]
"""A voice near and farther away, breath, noise, a quiet room, anything, and no sound at all."""

DETECTIONS: list[Json | None] = [
    None,
    {"type": "server_vad"},
    {"type": "server_vad", "interrupt_response": False},
    {"type": "server_vad", "create_response": False},
    {"type": "server_vad", "silence_duration_ms": 100, "prefix_padding_ms": 0},
    {"type": "server_vad", "idle_timeout_ms": 5_000},
    *({"type": "semantic_vad", "eagerness": each} for each in ("low", "medium", "high", "auto")),
    {"type": "semantic_vad", "interrupt_response": False},
    {"type": "semantic_vad", "create_response": False},
]
VOICE = Sound(frame(-25.0, RATE))
OUTPUTS: dict[str, Output] = {
    "text": Text("word "),
    "nothing": Sound(b""),
    "silence": SECOND,
    "voice": VOICE,
    "end": Ended(),
    "failure": BROKEN,
}
SAYS = ["text", "nothing", "silence", "voice", "voice", "end", "failure"]
OFTEN = [
    Client("response.create", {}),
    Client("response.cancel", {}),
    Client("input_audio_buffer.commit", {}),
    Client("input_audio_buffer.clear", {}),
]


def message(role: str, *content: Json) -> Json:
    return {"type": "message", "role": role, "content": list(content)}


ITEMS = [
    message("user", {"type": "input_text", "text": "Hi?"}),
    message("user", {"type": "input_audio", "audio": "AAAA"}),
    message("assistant", {"type": "output_text", "text": "a"}),
    message("assistant", {"type": "output_audio", "transcript": "b c", "audio": "AAAAAAAA"}),
    message("system"),
]
SELDOM = [
    *(Client("conversation.item.create", {"item": item}) for item in ITEMS),
    Client("conversation.item.create", {"item": ITEMS[0], "previous_item_id": "root"}),
    Client("session.update", {"session": {"type": "realtime", "output_modalities": ["text"]}}),
    Client("session.update", {"session": {"type": "realtime", "output_modalities": ["audio"]}}),
    Client("response.create", {"response": {"output_modalities": ["text"]}}),
    Client("response.create", {"response": {"max_output_tokens": 20, "instructions": None}}),
    Client("response.cancel", {"response_id": "resp_0"}),
    Client("conversation.item.delete", {"item_id": "nope"}),
    Client("output_audio_buffer.clear", {}),
    Client("no.such.event", {}),
]

PLACES = st.integers(0, 3)
CUTS = st.integers(0, 5_000).map(lambda end_ms: {"content_index": 0, "audio_end_ms": end_ms})
READS = st.sampled_from(["conversation.item.delete", "conversation.item.retrieve"])
HEAR = st.builds(Hear, st.sampled_from(SOUNDS), st.integers(1, 30), st.integers(0, 99))
FROM_MODEL = st.builds(FromModel, st.sampled_from(SAYS), st.sampled_from([False, False, True]))
MOVES = st.one_of(
    HEAR,
    HEAR,
    FROM_MODEL,
    FROM_MODEL,
    st.sampled_from(OFTEN),
    st.sampled_from(OFTEN),
    st.sampled_from(SELDOM),
    st.builds(Edit, READS, PLACES, st.just({})),
    st.builds(Edit, st.just("conversation.item.truncate"), PLACES, CUTS),
    st.builds(Detect, st.sampled_from(DETECTIONS)),
    st.builds(Wait, st.floats(0, 12)),
    st.builds(Busy, st.booleans()),
)


def play(call: Call, move: Move) -> None:
    match move:
        case Hear(sound, frames, seed):
            each = probabilities(sound.least, sound.most, frames, seed)
            call.user(each, frame(sound.level_db))
        case Busy(others_wait):
            call.session.model_busy = others_wait
        case FromModel(output, late):
            call.model(OUTPUTS[output], of=call.asks[0].response_id if late and call.asks else None)
        case Client(kind, fields):
            call.client(kind, **fields)
        case Edit(kind, place, fields):
            ids = call.items() or ["nope"]
            call.client(kind, item_id=ids[-1 - place % len(ids)], **fields)
        case Detect(turn_detection):
            call.update(turn_detection=turn_detection)
        case Wait(pause_s):
            call.wait(pause_s)


@settings(max_examples=CONVERSATIONS, deadline=None)
@given(
    st.lists(MOVES, max_size=40),
    st.sampled_from(DETECTIONS),
    st.sampled_from([0, 160, 200]),
    st.booleans(),
)
def test_every_call_keeps_the_rules_and_answers_the_next_spoken_turn(
    script: list[Move], detection: Json | None, early_start_ms: int, duck: bool
):
    call = Call(
        config(ServerVad(), transcription=True, duck=duck),
        replace(POLICY, early_start_ms=early_start_ms),
    )
    call.update(turn_detection=detection)
    for move in script:
        play(call, move)

    call.client("session.update", session={"type": "realtime", "output_modalities": ["audio"]})
    call.update(turn_detection={"type": "server_vad"})
    call.client("input_audio_buffer.clear")
    call.wait(AFTER_ANYTHING_S)
    assert call.running is None
    call.told()
    call.user(UTTERANCE, frame(-25.0))
    assert call.told()[-1] == "response.created"
    call.model(*ANSWER)
    assert call.running is None
    assert call.done().status == "completed"
