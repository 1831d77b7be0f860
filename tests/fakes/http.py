"""HTTP/1.1 for the stand-in, which sees at once when a client leaves, whatever it waits for."""

import asyncio
import json
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.wire import Json


@dataclass(eq=False)
class Request:
    """One request as it came; times are of `time.monotonic`."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    connection: int
    """Which connection it came on, counted from 0."""
    began_at: float
    body: Json = field(default_factory=dict[str, Any])
    """The JSON that it held, or nothing."""
    pcm: bytes = b""
    """All of the sound that answers it."""
    work_began_at: float | None = None
    """When its turn came."""
    sent_at: list[float] = field(default_factory=list[float])
    """When each chunk with sound was written."""
    ended: Literal["", "finished", "closed", "cut"] = ""
    """`closed` by the client before the answer was whole, or `cut` by a fault."""
    ended_at: float | None = None


class _ClientGoneError(Exception):
    """The client closed its connection."""


class CutError(Exception):
    """The connection is to break here."""


class Connection:
    """HTTP/1.1 on one connection: reads requests, writes answers, and sees its client leave."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int):
        self._reader = reader
        self._writer = writer
        self._number = number
        self._early = b""

    async def read(self) -> Request | None:
        """Read the next request; `None` if there is none."""
        first, self._early = self._early, b""
        try:
            head = first + await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        began_at = time.monotonic()
        start, *lines = head.decode("latin-1").strip().split("\r\n")
        method, path, _ = start.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        raw = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, raw, self._number, began_at)

    async def answer(
        self, answering: Coroutine[Any, Any, None]
    ) -> Literal["finished", "closed", "cut"]:
        """Run what answers a request until it is done or its client has left."""
        ended: Literal["finished", "closed", "cut"] = "finished"
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(self._watch())
                await answering
                watch.cancel()
        except* CutError:
            ended = "cut"
            self._writer.transport.abort()
        except* (_ClientGoneError, ConnectionError):
            ended = "closed"
        return ended

    async def _watch(self) -> None:
        with suppress(ConnectionError):
            # The first byte of a next request, which must not get lost, or the end.
            self._early = await self._reader.read(1)
        if not self._early:
            raise _ClientGoneError

    async def send(self, status: int, body: Json) -> None:
        raw = json.dumps(body, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status} -\r\nserver: uvicorn\r\ncontent-length: {len(raw)}\r\n"
        self._writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + raw)
        await self._writer.drain()

    async def begin_stream(self) -> None:
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
            b"content-type: text/event-stream; charset=utf-8\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await self._writer.drain()

    async def send_event(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
