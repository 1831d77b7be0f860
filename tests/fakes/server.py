"""The stand-in itself: one reply at a time or more, audio remembered by `uuid`, every request kept.

It runs in a thread with an event loop of its own, so that a test may be plain or asynchronous.
"""

import asyncio
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.audio import read_wav
from tests.fakes.http import Connection, CutError, Request
from tests.fakes.wire import (
    GROUP_SAMPLES,
    MODEL,
    Fault,
    Json,
    Reply,
    error,
    fitted,
    sound,
    stream,
    whole,
)

Answer = tuple[int, Json]


class StandIn:
    """The stand-in, running. `reply`, `faults`, `always` and `healthy` may be set at any time.

    Attributes:
        url: Where the API is, ending in `/v1`.
        faults: Each chat request takes the first; `None` is a request without fault.
        always: Faults of every chat request.
        requests: Every request so far, with what became of it.
    """

    def __init__(
        self,
        reply: Reply,
        always: frozenset[Fault],
        at_once: int,
        port: int,
        speak: Path | None,
    ):
        self.reply = reply
        self._speak = speak
        self.always = always
        self.faults: deque[Fault | None] = deque()
        self.healthy = True
        self.serves = MODEL
        """The model's name at `/v1/models`; requests call it as ever."""
        self.tells_seats = False
        """Whether it says there how many replies it makes at once; vLLM doesn't."""
        self.key: str | None = None
        """What must be shown, as vLLM wants it with `--api-key`."""
        self.requests: list[Request] = []
        self.url = ""
        self._at_once = at_once
        self._port = port
        self._known: set[str] = set()
        self._connections = 0
        self._changed = threading.Condition()

    @property
    def chats(self) -> list[Request]:
        return [each for each in self.requests if each.path == "/v1/chat/completions"]

    def wait(self, until: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until something is true of the requests; fail if it never is."""
        with self._changed:
            assert self._changed.wait_for(until, timeout_s), self.requests

    def forget(self) -> None:
        """Lose the audio that was sent before, as a replica that was restarted."""
        self._known.clear()

    async def run(self, ready: Callable[[asyncio.Event], None]) -> None:
        """Listen until the event that `ready` is given is set."""
        self._slots = asyncio.Semaphore(self._at_once)
        stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            ready(stop)
            await stop.wait()
            # What is still open ends with the loop, not by itself.
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._connections)
        self._connections += 1
        try:
            while (request := await connection.read()) is not None:
                self.requests.append(request)
                self._tell()
                ended = await connection.answer(self._answer(request, connection))
                request.ended_at, request.ended = time.monotonic(), ended
                self._tell()
                if ended != "finished" or request.headers.get("connection") == "close":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: Request, connection: Connection) -> None:
        shown = request.headers.get("authorization")
        if self.key and request.path.startswith("/v1/") and shown != f"Bearer {self.key}":
            # vLLM's body says no more than this; others repeat what they were shown.
            await connection.send(401, {"error": f"Unauthorized: {shown}"})
            return
        match request.method, request.path:
            case "GET", "/health" if not self.healthy:
                await connection.send(503, error("engine is dead", "Service Unavailable", 503))
            case "GET", "/health":
                await connection.send(200, {"status": "healthy"})
            case "GET", "/v1/models":
                model: Json = {"id": self.serves, "object": "model", "owned_by": "vllm"}
                if self.tells_seats:
                    model["replies_at_once"] = self._at_once
                await connection.send(200, {"object": "list", "data": [model]})
            case "GET", "/requests":
                await connection.send(200, {"requests": list(map(_summary, self.chats))})
            case "POST", "/v1/audio/transcriptions":
                await connection.send(200, {"text": self.reply.heard})
            case "POST", "/v1/chat/completions":
                await self._chat(request, connection)
            case _:
                await connection.send(404, error("Not Found", "Not Found", 404))

    async def _chat(self, request: Request, connection: Connection) -> None:
        fault = self.faults.popleft() if self.faults else None
        faults = self.always | (frozenset({fault}) if fault else frozenset[Fault]())
        if Fault.CACHE_LOST in faults:
            self.forget()
        if Fault.SILENT in faults:
            await asyncio.Event().wait()
        if Fault.CUT_FIRST in faults:
            raise CutError
        if Fault.SLOW_FIRST_BYTE in faults:
            await asyncio.sleep(self.reply.slow_ms / 1000)
        refusal = self._refusal(request, faults)
        if refusal is not None:
            await connection.send(*refusal)
            return
        request.pcm = self._voice(request)
        completion_id = "chatcmpl-" + request.headers.get("x-request-id", f"{id(request):016x}")
        if not request.body.get("stream"):
            await self._send_whole(request, faults, connection, completion_id)
            return
        await connection.begin_stream()
        async with self._slots:
            began = request.work_began_at = time.monotonic()
            self._tell()
            reply = fitted(request.body, self.reply)
            for event in stream(request.body, reply, faults, request.pcm, completion_id):
                # An event that is due already goes out at once, with those before it.
                if (wait_s := began + event.at_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                await connection.send_event(event.data)
                if event.has_sound:
                    request.sent_at.append(time.monotonic())
                    self._tell()
            if faults & {Fault.STALL_FIRST, Fault.STALL_MIDWAY}:
                await asyncio.Event().wait()
            if Fault.CUT_MIDWAY in faults:
                raise CutError
        await connection.end_stream()

    def _voice(self, request: Request) -> bytes:
        """The sound of an answer: a tone, or the recording that the instructions name."""
        named = re.search(r"speak: ([\w.+-]+)", str(request.body["messages"][0]["content"]))
        if self._speak is None or named is None:
            return sound(self.chats.index(request), self.reply.groups)
        pcm = read_wav((self._speak / f"{named[1]}.wav").read_bytes())
        return pcm[: len(pcm) // (GROUP_SAMPLES * 2) * GROUP_SAMPLES * 2]

    async def _send_whole(
        self,
        request: Request,
        faults: frozenset[Fault],
        connection: Connection,
        completion_id: str,
    ) -> None:
        took_s, body = whole(
            request.body, fitted(request.body, self.reply), request.pcm, completion_id
        )
        async with self._slots:
            request.work_began_at = time.monotonic()
            self._tell()
            await asyncio.sleep(took_s)
        if faults & {Fault.STALL_FIRST, Fault.STALL_MIDWAY}:
            await asyncio.Event().wait()
        if Fault.CUT_MIDWAY in faults:
            raise CutError
        await connection.send(200, body)

    def _refusal(self, request: Request, faults: frozenset[Fault]) -> Answer | None:
        """Check a request as the real server does, in its words; remember its audio."""
        if Fault.ERROR_BEFORE in faults:
            return 500, error("stage-0 exploded", "Internal Server Error", 500)
        try:
            request.body = json.loads(request.raw)
        except ValueError as problem:
            return 400, error(f"1 validation error:\n  {problem}", "Bad Request", 400)
        body = request.body
        if body.get("model", MODEL) != MODEL:
            text = f"The model `{body['model']}` does not exist."
            return 404, error(text, "NotFoundError", 404)
        if odd := sorted(set(body.get("modalities") or []) - {"text", "audio"}):
            text = f"Unsupported output modalities {', '.join(odd)} for this model. "
            return 400, error(f"{text}Supported modalities: audio, text", "BadRequestError", 400)
        per_message = [list(_audio_parts(message)) for message in body.get("messages", [])]
        if any(len(parts) > 1 for parts in per_message):
            text = "Mismatch between audio placeholders and audio items in a message."
            return 500, error(text, "Internal Server Error", 500)
        for index, part in enumerate(part for parts in per_message for part in parts):
            if part.get(part["type"]):
                self._known |= {part["uuid"]} if part.get("uuid") else set()
            elif part.get("uuid") not in self._known:
                text = f"Cache miss for audio at index {index} but data is not provided."
                return 400, error(text, "BadRequestError", 400)
        if not request.body.get("stream") and Fault.ERROR_FIRST in faults:
            return 400, error("prompt too long", "BadRequestError", 400)
        return None


def _audio_parts(message: Json) -> Iterator[Json]:
    content: list[Json] | str = message.get("content") or []
    for part in content:
        if isinstance(part, dict) and part["type"] in {"audio_url", "input_audio"}:
            yield part


def _summary(request: Request) -> Json:
    names = ("connection", "began_at", "work_began_at", "sent_at", "ended", "ended_at")
    return {"bytes": len(request.raw)} | {name: getattr(request, name) for name in names}


@contextmanager
def stand_in(
    *,
    always: frozenset[Fault] | set[Fault] = frozenset(),
    at_once: int = 1,
    port: int = 0,
    speak: Path | None = None,
    **reply: Any,
) -> Generator[StandIn, None, None]:
    """Run a stand-in for the model server; it is ready when given.

    Args:
        always: Faults of every chat request.
        at_once: How many replies are made at the same time; the others queue.
        port: Where to listen; 0 is any free port.
        speak: A folder of WAV files; instructions with `speak: NAME` are answered by one.
        reply: What is answered and how fast: the fields of `Reply`.
    """
    model = StandIn(Reply(**reply), frozenset(always), at_once, port, speak)
    listening = threading.Event()
    stops: list[Callable[[], object]] = []

    def ready(stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        listening.set()

    thread = threading.Thread(target=lambda: asyncio.run(model.run(ready)), name="stand-in")
    thread.start()
    assert listening.wait(10), "the stand-in does not listen"
    try:
        yield model
    finally:
        stops[0]()
        thread.join(10)
