"""A conversation server on a real socket, whose side of every call is played by the test."""

import base64
import json
import queue
import threading
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from agent.audio import Samples, samples_in

Event = dict[str, Any]

PAGE = Path(__file__).parents[2] / "server" / "page"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
GONE = "gone"
AMPLITUDE, CYCLE_SAMPLES = 8000, 96
LARGEST_STEP = AMPLITUDE * 2 * np.pi / CYCLE_SAMPLES
"""Between two samples of the agent's voice, which is a tone of 250 Hz."""


class Peer:
    """The server's side of one connection."""

    def __init__(self, socket: ServerConnection):
        self._socket = socket
        self._received: queue.Queue[Event] = queue.Queue()

    @property
    def query(self) -> dict[str, list[str]]:
        """The query of the address that the client asked for."""
        assert self._socket.request is not None
        return parse_qs(urlsplit(self._socket.request.path).query)

    @property
    def subprotocols(self) -> str:
        """What the client offered, as in its header."""
        assert self._socket.request is not None
        return self._socket.request.headers.get("Sec-WebSocket-Protocol", "")

    def send(self, *events: Event) -> None:
        for event in events:
            self._socket.send(json.dumps(event))

    def expect(self, kind: str) -> Event:
        """The next event of that type that the client sends; those before it are passed over."""
        while True:
            event = self._received.get(timeout=15)
            if event["type"] == kind:
                return event

    def greet(self, session: str = "sess_1", token: str = "") -> None:
        """Begin a session; with a token, it grants every extension."""
        self.send({"type": "session.created", "session": {"id": session, "model": "a tone"}})
        self.expect("session.update")
        granted = {"duck": True, "playout": True, "resume": True, "resume_token": token}
        updated: Event = {"audio": {"input": {"turn_detection": None}}}
        if token:
            updated["x_mimo"] = granted
        self.send({"type": "session.updated", "session": updated})

    def begin(self, response: str) -> None:
        self.send({"type": "response.created", "response": {"id": response}})

    def speak(self, response: str, duration_ms: int, words: str = "", from_ms: int = 0) -> None:
        """Say a part of the tone, which begins and ends at zero after whole cycles of 4 ms."""
        of: Event = {"response_id": response, "item_id": f"item_{response}"}
        pcm = tone(from_ms + duration_ms)[samples_in(from_ms) :]
        sound = base64.b64encode(pcm.tobytes()).decode()
        self.send(
            of | {"type": "response.output_audio_transcript.delta", "delta": words},
            of | {"type": "response.output_audio.delta", "delta": sound},
        )

    def end(self, response: str, status: str = "completed") -> None:
        item = f"item_{response}"
        done = {"id": response, "status": status, "output": [{"id": item}]}
        self.send(
            {"type": "response.output_audio.done", "response_id": response, "item_id": item},
            {"type": "response.done", "response": done},
        )

    def say(self, response: str, duration_ms: int, words: str = "") -> None:
        """A whole answer."""
        self.begin(response)
        self.speak(response, duration_ms, words)
        self.end(response)

    def hear_onset(self) -> None:
        self.send({"type": "input_audio_buffer.speech_started", "item_id": "item_user"})

    def cut_line(self) -> None:
        """Lose the connection, without a word of goodbye."""
        self._socket.socket.shutdown(2)

    def wait_for_goodbye(self) -> int | None:
        """The code with which the client closed the connection."""
        while self._received.get(timeout=15)["type"] != GONE:
            pass
        return self._socket.close_code

    def refuse(self, code: int, reason: str) -> None:
        self._socket.close(code, reason)

    def receive(self) -> None:
        """Take in what the client sends, until it goes."""
        with suppress(ConnectionClosed):
            for message in self._socket:
                self._received.put(cast(Event, json.loads(message)))
        self._received.put({"type": GONE})


class ScriptedServer:
    """Serves the page's files; every connection is answered by the test."""

    def __init__(self, kiosk: Event | None = None, folder: str = "/"):
        """
        Args:
            kiosk: The kiosk's settings.
            folder: Everything is below it, as behind a proxy; nothing is anywhere else.
        """
        self.refusal: int | None = None
        """A status with which WebSockets are refused, as a proxy does that knows none."""
        self.is_healthy = True
        self.status = "healthy"
        """What it says of its model."""
        """Whether it answers anything but the page's files."""

        self._folder = folder
        self._kiosk = kiosk
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._server: Server = serve(
            self._converse,
            "127.0.0.1",
            0,
            process_request=self._answer,
            compression=None,
            subprotocols=[Subprotocol("realtime")],
            select_subprotocol=lambda _, offered: (
                Subprotocol("realtime") if "realtime" in offered else None
            ),
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{folder}"

    def accepted(self, timeout_s: float) -> Peer | None:
        """The next client, if one comes within that time."""
        with suppress(queue.Empty):
            return self._peers.get(timeout=timeout_s)
        return None

    def accept(self) -> Peer:
        """The next connection."""
        return self._peers.get(timeout=15)

    def greet(self, session: str = "sess_1", token: str = "") -> Peer:
        """The next connection, greeted."""
        peer = self.accept()
        peer.greet(session, token)
        return peer

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _converse(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self._peers.put(peer)
        peer.receive()

    def _answer(self, _: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if not path.startswith(self._folder):
            return _response(b"", "text/plain", 404)
        path = "/" + path.removeprefix(self._folder)
        if path == "/v1/realtime" and self.refusal is not None:
            return _response(b"", "text/plain", self.refusal)
        if path == "/v1/realtime":
            return None if self.is_healthy else _response(b"", "text/plain", 503)
        if path == "/healthz":
            found = json.dumps({"status": self.status}).encode()
            return _response(found, "application/json", 200 if self.is_healthy else 503)
        if path == "/page/kiosk.json":
            return _response(json.dumps(self._kiosk).encode(), "application/json")
        names = {"/": "index.html", "/kiosk": "kiosk.html"}
        file = PAGE / names.get(path, path.removeprefix("/page/"))
        return _response(file.read_bytes(), TYPES[file.suffix])


def _response(body: bytes, kind: str, status: int = 200) -> Response:
    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Security-Policy": "default-src 'self'",
            "Connection": "close",
        }
    )
    return Response(status, HTTPStatus(status).phrase, headers, body)


def tone(duration_ms: int) -> Samples:
    """The agent's voice."""
    samples = np.arange(samples_in(duration_ms))
    return np.rint(AMPLITUDE * np.sin(2 * np.pi * samples / CYCLE_SAMPLES)).astype(np.int16)
