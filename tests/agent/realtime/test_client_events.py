"""The client's events: each is read as it was meant, or refused with what was wrong and where."""

import json

import pytest
from hypothesis import given, strategies as st

from agent.errors import ProtocolError
from agent.realtime import client_events as protocol
from agent.realtime.client_events import AnyClientEvent, decode
from agent.realtime.config import Json, SemanticVad, ServerVad
from agent.realtime.items import InputText, MessageItem, ResponseOptions

ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi?"}]}
EVENTS: list[tuple[Json, AnyClientEvent]] = [
    (
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        protocol.InputAudioAppend(audio=b"\0\0\0"),
    ),
    ({"type": "input_audio_buffer.commit"}, protocol.InputAudioCommit()),
    ({"type": "input_audio_buffer.clear"}, protocol.InputAudioClear()),
    (
        {"type": "conversation.item.create", "item": ITEM, "previous_item_id": "root"},
        protocol.ItemCreate(
            item=MessageItem(role="user", content=[InputText("Hi?")]), previous_item_id="root"
        ),
    ),
    (
        {"type": "conversation.item.retrieve", "item_id": "a"},
        protocol.ItemRetrieve(item_id="a"),
    ),
    (
        {
            "type": "conversation.item.truncate",
            "item_id": "a",
            "content_index": 0,
            "audio_end_ms": 5,
        },
        protocol.ItemTruncate(item_id="a", content_index=0, audio_end_ms=5),
    ),
    ({"type": "conversation.item.delete", "item_id": "a"}, protocol.ItemDelete(item_id="a")),
    ({"type": "response.create"}, protocol.ResponseCreate()),
    (
        {"type": "response.create", "response": {"instructions": None, "metadata": {"a": "b"}}},
        protocol.ResponseCreate(response=ResponseOptions(metadata={"a": "b"})),
    ),
    ({"type": "response.cancel"}, protocol.ResponseCancel()),
    ({"type": "response.cancel", "response_id": "r"}, protocol.ResponseCancel(response_id="r")),
    ({"type": "output_audio_buffer.clear"}, protocol.OutputAudioClear()),
]


@pytest.mark.parametrize(("wire", "meant"), EVENTS, ids=[str(wire["type"]) for wire, _ in EVENTS])
def test_every_event_is_read(wire: Json, meant: AnyClientEvent):
    assert decode(json.dumps(wire)) == meant
    for event_id in ("mine", "x" * 512):
        assert decode(json.dumps({**wire, "event_id": event_id}).encode()).event_id == event_id


def update(**session: object) -> Json:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def listening(**audio_input: object) -> Json:
    return update(audio={"input": audio_input})


@pytest.mark.parametrize(
    ("wire", "meant"),
    [
        ({"type": "semantic_vad"}, SemanticVad()),
        ({"type": "semantic_vad", "eagerness": "low"}, SemanticVad("low")),
        ({"type": "semantic_vad", "eagerness": "medium"}, SemanticVad("medium")),
        ({"type": "semantic_vad", "eagerness": "high"}, SemanticVad("high")),
        ({"type": "semantic_vad", "eagerness": "auto"}, SemanticVad("auto")),
        ({"type": "server_vad", "silence_duration_ms": 200}, ServerVad(silence_duration_ms=200)),
        (None, None),
    ],
)
def test_turn_detection_is_read(wire: object, meant: object):
    event = decode(json.dumps(listening(turn_detection=wire)))
    assert isinstance(event, protocol.SessionUpdate)
    assert event.session.audio.input.turn_detection == meant


DEFAULT_UPDATES = {
    "agents (Python)": update(
        model="gpt-realtime-2.1",
        audio={
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"},
        },
        tools=[],
    ),
    "agents (Python), tracing": update(model="gpt-realtime-2.1", tracing="auto"),
    "agents (JS)": listening(noise_reduction=None, turn_detection={"type": "semantic_vad"}),
    "livekit": update(
        audio={
            "input": {"turn_detection": {"type": "semantic_vad", "eagerness": "medium"}},
            "output": {"voice": "marin", "speed": 1},
        },
        max_output_tokens="inf",
        tracing=None,
    ),
}


@pytest.mark.parametrize("wire", DEFAULT_UPDATES.values(), ids=DEFAULT_UPDATES)
def test_what_clients_send_unasked_is_no_error(wire: Json):
    decode(json.dumps(wire))


CANCEL = {"type": "response.cancel"}
TRUNCATE = {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0}
RATIO = {"type": "retention_ratio", "retention_ratio": 0.8}
REFUSED: list[tuple[Json, str, str]] = [
    ({}, "invalid_event", "type"),
    ({"type": 5}, "invalid_event", "type"),
    ({"type": "no.such.event"}, "invalid_value", "type"),
    ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
    ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_type", "audio"),
    ({**CANCEL, "id": "x"}, "unknown_parameter", "id"),
    ({**TRUNCATE, "audio_end_ms": -1}, "invalid_value", "audio_end_ms"),
    ({**TRUNCATE, "audio_end_ms": 12.5}, "invalid_type", "audio_end_ms"),
    ({**TRUNCATE}, "missing_required_parameter", "audio_end_ms"),
    ({"type": "session.update", "session": {}}, "missing_required_parameter", "session.type"),
    (update(voice="ash"), "unknown_parameter", "session.voice"),
    (update(input_audio_format="pcm16"), "unknown_parameter", "session.input_audio_format"),
    (update(**{"a`b": 1}), "unknown_parameter", "session.a`b"),
    (update(instructions=5), "invalid_type", "session.instructions"),
    (update(output_modalities=["smell"]), "invalid_value", "session.output_modalities[0]"),
    (
        listening(turn_detection={"type": "server_vad", "threshold": 1.5}),
        "invalid_value",
        "session.audio.input.turn_detection.threshold",
    ),
    (
        listening(turn_detection={"type": "psychic_vad"}),
        "invalid_value",
        "session.audio.input.turn_detection.type",
    ),
    (update(truncation="sometimes"), "invalid_value", "session.truncation"),
    (update(truncation={**RATIO, "type": "ratio"}), "invalid_value", "session.truncation.type"),
    (
        update(truncation={**RATIO, "retention_ratio": 1.2}),
        "invalid_value",
        "session.truncation.retention_ratio",
    ),
    (
        update(truncation={**RATIO, "token_limits": {"post_instructions": -1}}),
        "invalid_value",
        "session.truncation.token_limits.post_instructions",
    ),
    (
        {"type": "conversation.item.create", "item": {**ITEM, "content": [{"text": "Hi?"}]}},
        "missing_required_parameter",
        "item.content[0].type",
    ),
    (
        {"type": "conversation.item.create", "item": {**ITEM, "role": "nobody"}},
        "invalid_value",
        "item.role",
    ),
]


@pytest.mark.parametrize(("wire", "code", "param"), REFUSED, ids=[str(r[0])[:70] for r in REFUSED])
def test_what_is_wrong_is_refused_with_code_and_path(wire: Json, code: str, param: str):
    with pytest.raises(ProtocolError) as refused:
        decode(json.dumps(wire))
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize("wire", [wire for wire, _, _ in REFUSED])
def test_an_error_quotes_the_events_own_id(wire: Json):
    with pytest.raises(ProtocolError) as refused:
        decode(json.dumps({**wire, "event_id": "mine"}))
    assert refused.value.event_id == "mine"


@pytest.mark.parametrize("frame", ["[]", "5", "null", '"text"'])
def test_json_that_is_no_object_is_no_event(frame: str):
    with pytest.raises(ProtocolError) as refused:
        decode(frame)
    assert (refused.value.code, refused.value.param) == ("invalid_event", None)


@pytest.mark.parametrize("event_id", ["x" * 513, 5, ["mine"]])
def test_an_id_that_is_none_is_refused_and_not_quoted(event_id: object):
    with pytest.raises(ProtocolError) as refused:
        decode(json.dumps({**CANCEL, "event_id": event_id}))
    assert (refused.value.param, refused.value.event_id) == ("event_id", None)


def test_an_unknown_event_is_told_which_there_are():
    with pytest.raises(ProtocolError, match=r"input_audio_buffer.append, .*session.update"):
        decode('{"type": "no.such.event"}')


@pytest.mark.parametrize("frame", [b"", b"{", b"\xff", b'{"type": "\xff"}', '{"type": "\\ud800"}'])
def test_what_is_no_json_is_refused(frame: bytes | str):
    with pytest.raises(ProtocolError) as refused:
        decode(frame)
    assert refused.value.code == "invalid_json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)


@pytest.mark.parametrize("opens", ["[", '{"type":', '{"a":'])
def test_nesting_without_end_is_refused(opens: str):
    with pytest.raises(ProtocolError):
        decode(opens * 100_000)


def survives(frame: bytes | str) -> None:
    try:
        decode(frame)
    except ProtocolError as error:
        assert error.code  # noqa: PT017


@given(st.binary() | st.text(st.characters(exclude_categories=())) | JSON.map(json.dumps))
def test_anything_at_all_is_read_or_refused(frame: bytes | str):
    survives(frame)


SPITEFUL = ["`", "``", "a`", " - at `", "x - at `$.y", "\0", "é" * 9]
"""Names that look like the sentences from which a path is read."""


@pytest.mark.parametrize("name", SPITEFUL)
def test_a_name_that_looks_like_an_error_is_refused_as_well(name: str):
    with pytest.raises(ProtocolError) as refused:
        decode(json.dumps(update(**{name: 1})))
    assert refused.value.code == "unknown_parameter"


NAMES = ["type", "event_id", "session", "item", "content", "audio", "input", "response", "x"]


@given(st.sampled_from([*(wire for wire, _ in EVENTS), *DEFAULT_UPDATES.values()]), st.data())
def test_any_event_with_anything_in_any_field_is_read_or_refused(wire: Json, data: st.DataObject):
    name = data.draw(st.sampled_from([*wire, *NAMES]))
    survives(json.dumps({**wire, name: data.draw(JSON)}))
