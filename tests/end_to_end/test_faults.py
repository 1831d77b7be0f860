"""Everything that the model server does wrong, through the whole server: what a client hears and
sees, and that the next turn works."""

import base64
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.sync.client import ClientConnection, connect

from agent.audio import RATE
from tests.drivers.processes import ROOT
from tests.fakes import Fault, Reply, StandIn, stand_in

pytestmark = pytest.mark.system

CONFIG = """
[model]
urls = ["{url}"]
first_output_timeout_ms = 1_200
between_outputs_timeout_ms = 800

[transcription]
url = "{url}"
"""
SERVE = "import sys; from server.command import main; sys.exit(main(sys.argv[1:]))"
SESSION = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}

Event = dict[str, Any]


class Heard(NamedTuple):
    status: str
    code: str | None
    pcm: bytes
    words: str


@contextmanager
def serve(config: Path) -> Generator[str]:
    """Run the server; give the address of its sessions."""
    command = [sys.executable, "-c", SERVE, "--config", str(config), "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[StandIn, str]]:
    config = tmp_path_factory.mktemp("faults") / "server.toml"
    with stand_in() as model:
        config.write_text(CONFIG.format(url=model.url))
        with serve(config) as url:
            yield model, url


class Caller:
    """A client that ends its turns by hand."""

    def __init__(self, socket: ClientConnection, model: StandIn):
        self._socket = socket
        self._model = model
        self._send({"type": "session.update", "session": SESSION})
        self.until("session.updated")

    def _send(self, event: Event) -> None:
        self._socket.send(json.dumps(event))

    def until(self, kind: str) -> list[Event]:
        events: list[Event] = []
        while not events or events[-1]["type"] != kind:
            events.append(json.loads(self._socket.recv(10)))
        return events

    def turn(self, *faults: Fault) -> Heard:
        """Say something; return what becomes of the answer."""
        self._model.faults.extend(faults)
        speech = base64.b64encode(bytes([len(self._model.chats), 1]) * RATE).decode()
        self._send({"type": "input_audio_buffer.append", "audio": speech})
        self._send({"type": "input_audio_buffer.commit"})
        self._send({"type": "response.create"})
        events = self.until("response.done")
        response = events[-1]["response"]
        details: Event = response["status_details"] or {}
        error: Event = details.get("error") or {}
        deltas = [each for each in events if each["type"] == "response.output_audio.delta"]
        words = [each for each in events if each["type"].endswith("transcript.delta")]
        return Heard(
            response["status"],
            error.get("code"),
            b"".join(base64.b64decode(each["delta"]) for each in deltas),
            "".join(each["delta"] for each in words),
        )


@pytest.fixture
def model(running: tuple[StandIn, str]) -> Generator[StandIn]:
    model, _ = running
    yield model
    model.always, model.healthy, model.reply = frozenset(), True, Reply()
    # What is still on its way of this test must not meet the fault of the next.
    model.wait(lambda: all(request.ended for request in model.requests))


@pytest.fixture
def caller(running: tuple[StandIn, str], model: StandIn) -> Generator[Caller]:
    with connect(running[1]) as socket:
        yield Caller(socket, model)


def assert_next_turn_works(caller: Caller, model: StandIn) -> None:
    before = len(model.chats)
    heard = caller.turn()
    [chat] = [each for each in model.chats[before:] if b'"hi"' not in each.raw]
    assert heard == Heard("completed", None, chat.pcm, "Hello there, how are you?")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.ERROR_MIDWAY, "model_failed"),
        (Fault.STALL_MIDWAY, "model_timeout"),
        (Fault.CUT_MIDWAY, "model_cut_off"),
        (Fault.WRONG_JSON, "model_bad_chunk"),
        (Fault.WRONG_BASE64, "model_bad_audio"),
    ],
)
def test_a_reply_that_breaks_midway(caller: Caller, model: StandIn, fault: Fault, code: str):
    before = len(model.chats)
    heard = caller.turn(fault)
    chat = model.chats[before]
    assert (heard.status, heard.code) == ("failed", code)
    assert heard.pcm == chat.pcm[: len(heard.pcm)]
    assert len(heard.pcm) == 3 * 3_840 * 2
    assert_next_turn_works(caller, model)
    model.wait(lambda: chat.ended)


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.STALL_FIRST])
def test_a_reply_that_never_begins(caller: Caller, model: StandIn, fault: Fault):
    before = len(model.chats)
    assert caller.turn(fault) == Heard("failed", "model_timeout", b"", "")
    model.wait(lambda: model.chats[before].ended == "closed")
    assert_next_turn_works(caller, model)


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.CUT_FIRST])
def test_a_failure_before_the_reply_goes_unnoticed(caller: Caller, model: StandIn, fault: Fault):
    heard = caller.turn(fault)
    assert (heard.status, heard.words) == ("completed", "Hello there, how are you?")
    assert_next_turn_works(caller, model)


def test_failures_that_go_on_are_told(caller: Caller, model: StandIn):
    model.always = frozenset({Fault.ERROR_BEFORE})
    assert caller.turn() == Heard("failed", "model_failed", b"", "")
    model.always = frozenset()
    assert_next_turn_works(caller, model)


def test_a_refusal_is_told(caller: Caller, model: StandIn):
    assert caller.turn(Fault.ERROR_FIRST) == Heard("failed", "model_refused", b"", "")
    assert_next_turn_works(caller, model)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.SLOW_FIRST_BYTE,
        Fault.DUPLICATE_TAIL,
        Fault.WAV,
        Fault.WAV_ONCE,
        Fault.STOP_EVERYWHERE,
        Fault.EMPTY_CHUNKS,
        Fault.NO_DONE,
    ],
)
def test_what_a_client_never_notices(caller: Caller, model: StandIn, fault: Fault):
    model.reply = Reply(slow_ms=200)
    before = len(model.chats)
    heard = caller.turn(fault)
    assert heard == Heard("completed", None, model.chats[before].pcm, "Hello there, how are you?")
    assert_next_turn_works(caller, model)


def test_a_cache_that_was_lost(caller: Caller, model: StandIn):
    caller.turn()
    before = len(model.chats)
    assert caller.turn(Fault.CACHE_LOST).status == "completed"
    assert [b'"audio_url":null' in each.raw for each in model.chats[before:]] == [True, False]
    assert_next_turn_works(caller, model)


def test_health_counts_for_nothing_against_a_real_answer(caller: Caller, model: StandIn):
    model.healthy = False
    assert_next_turn_works(caller, model)
    assert_next_turn_works(caller, model)
