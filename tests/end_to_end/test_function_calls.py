"""Functions through the whole server: told to the model, called by it, and answered."""

import json
from collections.abc import Generator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.drivers.processes import start_server
from tests.fakes import Reply, StandIn, stand_in

pytestmark = pytest.mark.system

Event = dict[str, Any]

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[StandIn, str]]:
    """A server that writes the functions into the instructions."""
    config = tmp_path_factory.mktemp("functions") / "server.toml"
    config.write_text('[model]\ntool_style = "prompt"\n')
    with (
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), "--config", str(config)) as url,
    ):
        yield model, url


def send(socket: ClientConnection, *events: Event) -> None:
    for event in events:
        socket.send(json.dumps(event))


def item(kind: str, **fields: Any) -> Event:
    return {"type": "conversation.item.create", "item": {"type": kind, **fields}}


def written(text: str) -> Event:
    return item("message", role="user", content=[{"type": "input_text", "text": text}])


def done(socket: ClientConnection) -> Event:
    """Read on to the end of the response."""
    while (event := json.loads(socket.recv(10)))["type"] != "response.done":
        assert event["type"] != "error", event
    return event["response"]


def test_a_function_written_into_the_instructions_is_called_and_answered(
    running: tuple[StandIn, str],
):
    model, url = running
    with connect(f"{url}/v1/realtime") as socket:
        send(
            socket,
            {"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}},
            written('call: weather {"city": "Oslo"}'),
            {"type": "response.create"},
        )
        [call] = done(socket)["output"]
        assert (call["name"], call["arguments"]) == ("weather", '{"city":"Oslo"}')
        told = model.chats[-1].body
        assert "tools" not in told
        assert '"name":"weather"' in json.dumps(told["messages"][0]).replace("\\", "")
        send(
            socket,
            item("function_call_output", call_id=call["call_id"], output="snow"),
            {"type": "response.create"},
        )
        [answer] = done(socket)["output"]
        assert answer["content"][0]["transcript"] == "I was told: snow"


@pytest.mark.parametrize(
    "invitation",
    [
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
    ],
)
def test_a_client_that_answers_a_call_at_once_is_answered(
    running: tuple[StandIn, str], invitation: str
):
    model, url = running
    model.reply = Reply(groups=100, rtf=1.0)
    with connect(f"{url}/v1/realtime") as socket:
        send(
            socket,
            {"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}},
            written('call: weather {"city": "Oslo"}'),
            {"type": "response.create"},
        )
        while True:
            event = json.loads(socket.recv(10))
            if event["type"] == invitation and "call_id" in event.get("item", event):
                break
        model.reply = Reply()
        call_id = event.get("item", event)["call_id"]
        send(
            socket,
            item("function_call_output", call_id=call_id, output="snow"),
            {"type": "response.create"},
        )
        assert done(socket)["output"][0]["call_id"] == call_id
        [answer] = done(socket)["output"]
        assert answer["content"][0]["transcript"] == "I was told: snow"


def test_a_call_is_there_while_the_model_still_speaks_and_ends_that(running: tuple[StandIn, str]):
    model, url = running
    model.reply = Reply(groups=100, rtf=1.0)
    with connect(f"{url}/v1/realtime") as socket:
        send(
            socket,
            {"type": "session.update", "session": {"type": "realtime", "tools": [WEATHER]}},
            written("call: weather {}"),
            {"type": "response.create"},
        )
        assert done(socket)["output"][0]["name"] == "weather"
        request = model.chats[-1]
        model.wait(lambda: request.ended)
        assert request.ended == "closed"
