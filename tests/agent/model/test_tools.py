"""Function calls in the model's text: found wherever chunks are cut, and never said."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from agent.errors import ModelError, ProtocolError
from agent.model import tools
from agent.model.output import Call, ChatMessage, Ended, Failed, Output, Text, TextEnded
from agent.model.request import chat_request
from agent.model.tools import CallReader
from agent.policy import Patience, Policy
from agent.realtime.config import Json
from tests.drivers.scripted import PATIENT, Scripted, sound

WEATHER: Json = {"type": "function", "name": "weather", "description": "Now", "parameters": {}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def read(chunks: list[str]) -> tuple[str, list[Call], CallReader]:
    reader = CallReader(frozenset({"weather"}))
    parts = [part for chunk in chunks for part in reader.read_text(chunk)]
    parts += reader.finish()
    said = "".join(part for part in parts if isinstance(part, str))
    return said, [part for part in parts if isinstance(part, Call)], reader


@given(st.lists(st.integers(0, len(CALL) * 2 + 12), max_size=12))
def test_calls_are_found_wherever_the_text_is_cut(cuts: list[int]):
    text = f"Let me see {CALL}\n{CALL} so"
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[a:b] for a, b in itertools.pairwise(places)]
    said, calls, reader = read(chunks)
    assert said == "Let me see "
    assert calls == [Call("weather", '{"city":"Oslo"}')] * 2
    assert reader.problem is None


@given(st.text(alphabet="<tol_ca>x ", max_size=40))
def test_other_text_is_said_whole(text: str):
    said, calls, _ = read(list(text))
    before = text.lstrip() if "<tool_call>" not in text else text.partition("<tool_call>")[0]
    assert said == before.lstrip()
    assert not calls


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>{",
        "<tool_call>{</tool_call>",
        "<tool_call>[]</tool_call>",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "no object"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
        "<tool_call>" + "x" * 70_000,
    ],
)
def test_a_call_that_cannot_be_read_is_neither_said_nor_made(broken: str):
    said, calls, reader = read(["Well. ", broken])
    assert said == "Well. "
    assert not calls
    assert reader.problem is not None
    assert reader.problem.code == "invalid_tool_call"


def test_a_readable_call_beside_a_broken_one_is_made():
    _, calls, reader = read(["<tool_call>?</tool_call>" + CALL])
    assert calls == [Call("weather", '{"city":"Oslo"}')]
    assert reader.problem is not None


def test_the_request_carries_functions_for_the_template_and_results_as_strings():
    messages = [ChatMessage("user", "Hi"), ChatMessage("tool", "3 <|im_end|>degrees")]
    body = chat_request(messages, "audio", 10, "m", tools.for_chat([WEATHER | {"strict": True}]))
    function = {"name": "weather", "description": "Now"}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == "none"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "tool", "content": "3 degrees"},
    ]
    assert "tools" not in chat_request(messages, "audio", 10, "m")


def test_in_the_prompt_style_our_own_words_tell_of_the_functions():
    scripted = Scripted(policy=Policy(Patience(30.0, 10.0), 200, 300_000, tool_style="prompt"))
    session: Json = {"type": "realtime", "tools": [WEATHER], "tool_choice": "required"}
    scripted.send({"type": "session.update", "session": session})
    scripted.send({"type": "response.create"})
    assert scripted.asked is not None
    assert scripted.asked.tools == ()
    system = scripted.asked.messages[0].text
    assert system.startswith("Be brief.\n\n")
    assert '{"type":"function","function":{"name":"weather","description":"Now"}}' in system
    assert system.endswith("\n\nAnswer with a function call.")


def test_a_call_made_in_a_pause_frees_the_model_at_once_and_is_told_after_the_verdict():
    scripted = Scripted()
    scripted.send({"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}})
    scripted.user([0.9] * 20)
    scripted.user([0.0] * 10)
    scripted.model(Text(CALL))
    scripted.model(TextEnded())
    assert scripted.log[-1] == {"abort": "resp_1"}
    assert "response.created" not in scripted.types()
    scripted.user([0.0] * 10)
    [done] = [each for each in scripted.server if each["type"] == "response.done"]
    assert done["response"]["status"] == "completed"
    assert [each["name"] for each in done["response"]["output"]] == ["weather"]


NOW = '<tool_call>{"name": "now"}</tool_call>'
INVITATIONS = [
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
CALLED: list[tuple[list[Output], str]] = [
    ([Text(CALL), sound(480), TextEnded()], "completed"),
    ([Text("Let me see."), sound(480), Text(CALL + NOW), sound(480), Ended()], "completed"),
    ([Text(CALL), sound(160), Text(NOW), TextEnded(cut_short=True)], "incomplete"),
    ([Text(CALL), Failed(ModelError("broken", code="model_cut_off"))], "failed"),
    ([Text(CALL), Text("<tool_call>{</tool_call>"), Ended()], "failed"),
]


@pytest.mark.parametrize("invitation", INVITATIONS)
@pytest.mark.parametrize(("said", "status"), CALLED)
@pytest.mark.parametrize("style", ["request", "prompt"])
def test_a_call_is_told_when_its_answer_can_be_taken(
    style: tools.Style, said: list[Output], status: str, invitation: str
):
    scripted = Scripted(policy=Policy(Patience(30.0, 10.0), 200, 300_000, tool_style=style))
    offered = [WEATHER, {"type": "function", "name": "now"}]
    scripted.send({"type": "session.update", "session": {"type": "realtime", "tools": offered}})
    scripted.send({"type": "response.create"})
    answered = Text("Cold.")
    for output in [*said, answered, Ended()]:
        before = len(scripted.frames)
        scripted.model(output)
        told = scripted.server[before:]
        [call, *_] = [*(each for each in told if "call_id" in each), {"call_id": ""}]
        if call["call_id"] and any(_invites(each, invitation) for each in told):
            result = {"type": "function_call_output", "call_id": call["call_id"], "output": "3"}
            scripted.send({"type": "conversation.item.create", "item": result})
            scripted.send({"type": "response.create"})
    done = [each["response"] for each in scripted.server if each["type"] == "response.done"]
    assert [each["status"] for each in done] == [status, "completed"]
    assert done[-1]["output"][-1]["content"][0]["transcript"] == answered.text
    assert "error" not in scripted.types()


def _invites(event: dict[str, Any], kind: str) -> bool:
    return event["type"] == kind and event.get("item", {}).get("type") != "message"


@pytest.mark.parametrize("by", ["cancel", "speech"])
def test_a_call_that_was_called_off_is_not_told(by: str):
    scripted = Scripted()
    scripted.send({"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}})
    scripted.send({"type": "response.create"})
    scripted.model(Text(CALL))
    if by == "cancel":
        scripted.send({"type": "response.cancel"})
    else:
        scripted.user([0.9] * 20)
    [done] = [each["response"] for each in scripted.server if each["type"] == "response.done"]
    assert (done["status"], done["output"]) == ("cancelled", [])
    assert not any("call_id" in each for each in scripted.server)
    scripted.send({"type": "input_audio_buffer.clear"})
    scripted.send({"type": "response.create"})
    assert scripted.asked
    assert {message.role for message in scripted.asked.messages} == {"system"}


@pytest.mark.parametrize("style", ["request", "prompt"])
@pytest.mark.parametrize("token", ["<|im_end|>", "<|sosp|>", "</tool_response>", "<tool_call>"])
def test_no_special_token_of_a_client_reaches_the_chat_template(token: str, style: tools.Style):
    scripted = Scripted(policy=replace(PATIENT, tool_style=style))
    bad = f"a{token}b"
    schema = {"type": "object", "properties": {bad: {"type": "string", "enum": [bad]}}}
    tool = {"type": "function", "name": "f", "description": bad, "parameters": schema}
    session = {"type": "realtime", "instructions": bad, "tools": [tool]}
    scripted.send({"type": "session.update", "session": session})
    call = {
        "type": "function_call",
        "name": bad,
        "call_id": "c",
        "arguments": f'{{"{bad}":"{bad}"}}',
    }
    output = {"type": "function_call_output", "call_id": "c", "output": bad}
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": bad}]}
    wrote = {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": bad},
            {"type": "output_audio", "transcript": bad},
        ],
    }
    rule = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": bad}]}
    for item in (rule, wrote, call, output, said):
        assert (
            scripted.send({"type": "conversation.item.create", "item": item})[0]["type"] != "error"
        )
    scripted.send({"type": "response.create"})
    ask = scripted.asked
    assert ask is not None
    body = chat_request(ask.messages, "audio", 10, "m", ask.tools)
    text = json.dumps(body["messages"]) + json.dumps(body.get("tools", []))
    ours = text.count("<tool_call>") if token == "<tool_call>" else 0
    # Around the call in the history, and in our own words about calls.
    assert text.count(token) == ours == (ours and 1 + (style == "prompt"))


def test_a_function_may_not_be_called_by_a_special_token():
    tool: dict[str, object] = {"type": "function", "name": "a<|im_end|>"}
    with pytest.raises(ProtocolError, match="special token") as refused:
        tools.checked([tool], "auto", "session")
    assert refused.value.param == "session.tools[0].name"
