"""The programs that another one starts: found, started, and always ended.

The programs that are started here stand in for the real ones: they listen, answer health
checks and hold a named pipe open, so that its end tells that all of them have ended.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from client import processes
from client.recognition import is_model_server
from tests.fakes import stand_in

ROOT = Path(__file__).parents[2]

STAND_IN = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

SAYS = {{
    "/healthz": '{{"service": "mimo-live"}}',
    "/health": "",
    "/v1/models": '{{"data": [{{"id": "MiMo-Audio-7B-Instruct", "owned_by": "vllm"}}]}}',
}}

class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path in SAYS and self.path in "{paths}".split()
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(SAYS[self.path].encode() if known else b"")

def main(argv):
    if "{name}" == os.environ.get("BREAKS"):
        print("loading")
        sys.exit("out of memory")
    if "{name}" == os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(os.environ["ALIVE"], "w") as alive:
        port = int(argv[argv.index("--port") + 1]) if "--port" in argv else 0
        listening = HTTPServer(("127.0.0.1", port), Health)
        print("{name} was given", *argv)
        print("listening on {scheme}://127.0.0.1:%d/v1{rest}" % listening.server_port)
        listening.serve_forever()
"""


@dataclass
class Place:
    """A folder that holds the command and its stand-ins."""

    folder: Path
    alive: Path
    waited_for: list[str] = field(default_factory=list[str])

    def local_server(self):
        return processes.local_server(lambda what, _: self.waited_for.append(what))

    def logs(self) -> list[Path]:
        return list(self.folder.glob("tmp/mimo-live-*/*.log"))

    def watch(self) -> Callable[[], None]:
        """Return a wait for the end of every program started from now on."""
        # Opened for both, it doesn't wait for a writer; and only then can programs write.
        pipe = os.open(self.alive, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(pipe, True)

        def ended() -> None:
            with open(pipe, "rb") as reading:
                assert reading.read() == b""

        return ended


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("agent", "client"):
        (tmp_path / name).symlink_to(ROOT / name)
    embedded = tmp_path / "server" / "embedded"
    embedded.mkdir(parents=True)
    serve = STAND_IN.format(name="serve", paths="/healthz", scheme="ws", rest="/realtime")
    model = STAND_IN.format(name="model", paths="/health /v1/models", scheme="http", rest="")
    for folder in (tmp_path / "server", embedded):
        (folder / "__init__.py").touch()
    (tmp_path / "server" / "command.py").write_text(serve)
    (embedded / "app.py").write_text(model)
    (tmp_path / "tmp").mkdir()
    os.mkfifo(tmp_path / "alive")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIVE", str(tmp_path / "alive"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    # Nothing listens on the port of discarded traffic.
    monkeypatch.setattr(processes, "MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setattr(processes, "SERVER_URL", "ws://127.0.0.1:9/v1/realtime")
    return Place(tmp_path, tmp_path / "alive")


Says = dict[str, tuple[int, str]]
"""What something answers to each path; anything else is 404."""

SERVER: Says = {"/healthz": (200, '{"status": "healthy", "service": "mimo-live"}')}


def serves(*ids: str, owner: str = "vllm") -> Says:
    models = [{"id": each, "object": "model", "owned_by": owner} for each in ids]
    return {
        "/health": (200, ""),
        "/v1/models": (200, json.dumps({"object": "list", "data": models})),
    }


@pytest.fixture
def taken() -> Generator[Callable[[Says], int]]:
    """Have something listen, that may be ours or not; returns its port."""
    servers: list[HTTPServer] = []

    def listen(says: Says) -> int:
        class Other(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = says.get(self.path, says.get("*", (404, "")))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Other))
        threading.Thread(target=servers[-1].serve_forever).start()
        return servers[-1].server_port

    yield listen
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.system
def test_what_is_missing_is_started_told_of_each_other_and_ended(place: Place):
    ended = place.watch()
    with place.local_server() as url:
        assert url.startswith("ws://127.0.0.1:")
        assert url.endswith("/v1/realtime")
        model, serve = sorted(place.logs())
        [model_url] = re.findall(r"listening on (\S+)", model.read_text())
        given = f"--model-url {model_url} --transcription-url {model_url}"
        assert f"serve was given {given}\n" in serve.read_text()
    ended()
    assert dict.fromkeys(place.waited_for) == dict.fromkeys(
        ["starting the speech model", "starting the conversation server"]
    )
    assert list((place.folder / "tmp").iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize(
    "model",
    [
        serves("Other", "MiMo-Audio-7B-Instruct"),
        serves("embedded/SmolLM2-135M", owner="mimo-live embedded demonstration model"),
    ],
)
def test_what_runs_already_is_used(
    place: Place,
    taken: Callable[[Says], int],
    monkeypatch: pytest.MonkeyPatch,
    model: Says,
):
    monkeypatch.setattr(processes, "MODEL_URL", f"http://127.0.0.1:{taken(model)}/v1")
    server_url = f"ws://127.0.0.1:{taken(SERVER)}/v1/realtime"
    monkeypatch.setattr(processes, "SERVER_URL", server_url)
    with place.local_server() as url:
        assert url == server_url
    assert place.waited_for == []


OTHERS: list[Says] = [
    {},
    {"*": (200, "<!doctype html><title>Router</title>")},
    {"*": (200, "{}")},
    {"*": (200, '{"service": "other", "data": [{"id": "other", "owned_by": "other"}]}')},
    {"*": (503, '{"service": "mimo-live"}')},
    {"*": (302, "/healthz/"), "/healthz/": SERVER["/healthz"]},
    serves("qwen2.5-7b"),
    serves("embedded/whisper-base", owner="mimo-live embedded demonstration model"),
    serves("MiMo-Audio-7B-Instruct") | {"/health": (503, "")},
    serves("MiMo-Audio-7B-Instruct") | {"/v1/models": (200, " " * 2**17)},
]


@pytest.mark.parametrize("says", OTHERS)
def test_a_port_that_something_else_took_is_left_to_it(
    place: Place, taken: Callable[[Says], int], monkeypatch: pytest.MonkeyPatch, says: Says
):
    port = taken(says)
    monkeypatch.setattr(processes, "MODEL_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setattr(processes, "SERVER_URL", f"ws://127.0.0.1:{port}/v1/realtime")
    ended = place.watch()
    with place.local_server() as url:
        [model] = place.folder.glob("tmp/mimo-live-*/model.log")
        [server] = place.folder.glob("tmp/mimo-live-*/serve.log")
        assert "model was given --port 0\n" in model.read_text()
        assert server.read_text().startswith("serve was given --model-url")
        assert f":{port}/" not in model.read_text() + server.read_text() + url
    ended()


def test_what_speaks_no_http_has_its_port_to_itself(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("client.recognition.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(processes, "SERVER_URL", f"ws://127.0.0.1:{port}/v1/realtime")
        ended = place.watch()
        with place.local_server() as url:
            assert not url.startswith(f"ws://127.0.0.1:{port}/")
        ended()


def test_the_usual_ports_may_be_any_free_ones(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "MODEL_URL", "http://127.0.0.1:0/v1")
    monkeypatch.setattr(processes, "SERVER_URL", "ws://127.0.0.1:0/v1/realtime")
    ended = place.watch()
    with place.local_server():
        for log in place.logs():
            assert "--port 0\n" in log.read_text()
    ended()


def test_the_model_server_is_shown_its_key(monkeypatch: pytest.MonkeyPatch):
    with stand_in() as model:
        model.key = "sk-right"
        monkeypatch.delenv("MIMO_LIVE_MODEL_API_KEY", raising=False)
        assert not is_model_server(model.url)
        monkeypatch.setenv("MIMO_LIVE_MODEL_API_KEY", "sk-right")
        assert is_model_server(model.url)


def test_a_program_that_fails_is_told_with_its_last_word_and_its_log(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BREAKS", "serve")
    ended = place.watch()
    with pytest.raises(processes.StartError) as told, place.local_server():
        pass
    ended()
    words = str(told.value)
    assert words.startswith("the conversation server exited with status 1: out of memory")
    [log] = place.folder.glob("tmp/mimo-live-*/serve.log")
    assert words.endswith(str(log))


def test_a_program_that_will_not_end_is_killed(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUBBORN", "model")
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    ended = place.watch()
    with place.local_server():
        pass
    ended()


STARTER = """
import signal, sys
from client import processes
# Where the tests run in the background, a shell has had Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
processes.MODEL_URL, processes.SERVER_URL = "http://127.0.0.1:9/v1", "ws://127.0.0.1:9/v1/realtime"
with processes.local_server(lambda *_: None) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.system
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_behind_however_the_starter_ends(place: Place, by: signal.Signals):
    ended = place.watch()
    words = [sys.executable, "-c", STARTER]
    environment = os.environ | {"TMPDIR": str(place.folder / "tmp")}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline().startswith(b"ws://127.0.0.1:")
        starter.send_signal(by)
        starter.wait(20)
    ended()
