"""What holds for every session, whatever the user, the client and the model do and when.

Most rules are checked by the call itself at every step: one open response and one request at a
time, one end for each response and nothing of it afterwards, always a deadline while it is open.
"""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.mimo import Ended, Output, Sound, Text
from agent.objects import Json, ServerVad
from tests.virtual_call import ANSWER, BROKEN, IS_SILENT, SECOND, SPEAKS, UTTERANCE, Call, config

AFTER_ANYTHING_S = 120.0
"""Longer than every patience, and than whatever the agent may still be saying."""


@dataclass
class Hear:
    """The microphone sends frames that are all alike."""

    probability: float
    frames: int


@dataclass
class FromModel:
    output: Output
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


Move = Hear | FromModel | Client | Edit | Detect | Wait

DETECTIONS: list[Json | None] = [
    None,
    {"type": "server_vad"},
    {"type": "server_vad", "interrupt_response": False},
    {"type": "server_vad", "create_response": False},
    {"type": "server_vad", "silence_duration_ms": 100, "prefix_padding_ms": 0},
    {"type": "semantic_vad", "eagerness": "high"},
]
OUTPUTS = [Text("word "), Sound(b""), SECOND, SECOND, SECOND, Ended(), BROKEN]
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
HEAR = st.builds(Hear, st.sampled_from([SPEAKS, SPEAKS, IS_SILENT, 0.4]), st.integers(1, 20))
FROM_MODEL = st.builds(FromModel, st.sampled_from(OUTPUTS), st.sampled_from([False, False, True]))
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
)


def play(call: Call, move: Move) -> None:
    match move:
        case Hear(probability, frames):
            call.user([probability] * frames)
        case FromModel(output, late):
            call.model(output, of=call.asks[0].response_id if late and call.asks else None)
        case Client(kind, fields):
            call.client(kind, **fields)
        case Edit(kind, place, fields):
            ids = call.items() or ["nope"]
            call.client(kind, item_id=ids[-1 - place % len(ids)], **fields)
        case Detect(turn_detection):
            call.update(turn_detection=turn_detection)
        case Wait(pause_s):
            call.wait(pause_s)


@settings(max_examples=300, deadline=None)
@given(st.lists(MOVES, max_size=40))
def test_every_call_keeps_the_rules_and_answers_the_next_spoken_turn(script: list[Move]):
    call = Call(config(ServerVad(), transcription=True))
    for move in script:
        play(call, move)

    call.client("session.update", session={"type": "realtime", "output_modalities": ["audio"]})
    call.update(turn_detection={"type": "server_vad"})
    call.client("input_audio_buffer.clear")
    call.wait(AFTER_ANYTHING_S)
    assert call.running is None
    call.told()
    call.user(UTTERANCE)
    assert call.told()[-1] == "response.created"
    call.model(*ANSWER)
    assert call.running is None
    assert call.done().status == "completed"
