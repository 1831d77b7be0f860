"""Any client, any model: whatever they do, events come in order and every response ends."""

from typing import Any

from hypothesis import given, settings, strategies as st

from agent.errors import ModelError
from agent.model.output import Ended, Failed, Text, TextEnded
from tests.drivers.protocol_order import assert_in_order
from tests.drivers.scripted import Json, Scripted, sound

TOOL: Json = {"type": "function", "name": "look"}
CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'


def update(**session: Any) -> Json:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def listening(**audio_input: Any) -> Json:
    return update(audio={"input": audio_input})


def create(**options: Any) -> Json:
    return {"type": "response.create", "response": options}


def item(kind: str, **fields: Any) -> Json:
    return {"type": "conversation.item.create", "item": {"type": kind, **fields}}


CLIENT: list[Json] = [
    update(tools=[TOOL], x_mimo={"marks": True}),
    update(tools=[], output_modalities=["text"]),
    update(output_modalities=["audio"], audio={"output": {"format": {"type": "audio/pcmu"}}}),
    update(audio={"output": {"speed": 1.3}}),
    listening(turn_detection=None),
    listening(turn_detection={"type": "semantic_vad", "interrupt_response": False}),
    listening(turn_detection={"type": "server_vad", "idle_timeout_ms": 5_000}),
    listening(turn_detection={"type": "server_vad", "create_response": False}),
    create(),
    create(output_modalities=["text"], tools=[TOOL], tool_choice="required"),
    create(conversation="none", input=[]),
    {"type": "response.cancel"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    item("message", role="user", content=[{"type": "input_text", "text": "Hi"}]),
    item("function_call_output", call_id="call_1", output="a tree"),
    *(
        {
            "type": "conversation.item.truncate",
            "item_id": f"item_{number}",
            "content_index": 0,
            "audio_end_ms": 300,
        }
        for number in range(1, 4)
    ),
    {"type": "conversation.item.delete", "item_id": "item_2"},
]
MODEL = [
    Text("Well "),
    Text(CALL[:20]),
    Text(CALL[20:]),
    sound(500),
    TextEnded(),
    Ended(),
    Ended(cut_short=True),
    Failed(ModelError("broken")),
]
MOVES = st.one_of(
    st.sampled_from(CLIENT),
    st.sampled_from(MODEL),
    st.tuples(st.sampled_from([0.0, 0.9]), st.integers(1, 20)),
    st.floats(0.1, 40.0),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(MOVES, max_size=40))
def test_every_session_stays_in_order(moves: list[Any]):
    scripted = Scripted()
    for move in moves:
        match move:
            case {"type": _} as event:
                scripted.send(event)
            case (float(probability), int(count)):
                scripted.user([probability] * count)
            case float():
                scripted.wait(move)
            case output if scripted.asks:
                scripted.model(output)
            case _:
                pass
    assert_in_order(scripted.server)
    scripted.wait(120.0)
    assert not assert_in_order(scripted.server), "a response that nothing ends"
