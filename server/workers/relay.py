"""Connections handed on to the worker that has their session, and taken from the others.

Over a socket in the workers' own folder comes first the client's address, as a line, and then what
the client sends, byte for byte, so that it is served there like any other. TLS ends at the worker
that accepted the connection, which is why this can't hand over the connection itself.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from websockets.asyncio.server import Server
from websockets.server import ServerProtocol

from agent.workers import Place
from server.session.registry import asked
from server.session.socket import ClientSocket, address

CHUNK = 2**16
"""Bytes that are passed on at once, and as many again may wait in each direction: a client that
stops reading stalls its session as soon as one that is connected to it directly, or nearly."""
STALLED_S = 60.0
"""For what was passed on to be read. Its session has given up a client after 40 s without an answer
to a ping, which goes unnoticed here while nothing more is read from the session."""
GOODBYE_S = 10.0
"""For the last bytes to be read once the other end has closed."""


class Relay:
    """What a worker does for sessions of the others."""

    def __init__(self, place: Place, folder: Path):
        self._place = place
        self._folder = folder
        self._taken: asyncio.Queue[_Taken | None] = asyncio.Queue()

    @property
    def path(self) -> Path:
        """Where this worker takes connections from the others."""
        return self._path(self._place.number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"

    def take(
        self,
        target: str,
        transport: asyncio.Transport,
        data: bytes,
        on_over: Callable[[], None],
    ) -> bool:
        """Take a handshake that goes on with another worker's session, if that worker is there."""
        token, _ = asked(target)
        owner = self._place.owner(token)
        if owner is None:
            return False
        way = socket.socket(socket.AF_UNIX)
        way.setblocking(False)
        try:
            # Within one machine this takes no time.
            way.connect(str(self._path(owner)))
        except OSError:
            way.close()
            return False
        first = f"{address(transport)}\n".encode() + data
        self._taken.put_nowait(_Taken(_End.of(transport), way, first, on_over))
        return True

    @asynccontextmanager
    async def serving(
        self, listening: Callable[..., AbstractAsyncContextManager[Server]]
    ) -> AsyncGenerator[Server]:
        """Serve what the others hand on, and hand on what is theirs.

        In the end, what was handed on is waited for.

        Args:
            listening: Gives a server of `websockets`, once told where to listen.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run())
            async with listening(
                unix=True, path=str(self.path), create_connection=Arrival
            ) as server:
                yield server
            self._taken.put_nowait(None)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while taken := await self._taken.get():
                tasks.create_task(_join(taken), name="relay")


class Arrival(asyncio.Protocol):
    """A connection from another worker, until it has said whose it is."""

    _transport: asyncio.Transport

    def __init__(self, *arguments: Any, **options: Any):
        self._socket = ClientSocket(*arguments, **options)
        self._data = b""

    @property
    def protocol(self) -> ServerProtocol:
        """`websockets` looks for it here when it chooses the subprotocol."""
        return self._socket.protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        client, is_whole, handshake = self._data.partition(b"\n")
        if is_whole:
            self._socket.take_over(self._transport, client.decode(), handshake)


class _End:
    """One end of what is joined, as a pair of streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader = reader
        self.writer = writer

    @classmethod
    def of(cls, transport: asyncio.Transport) -> "_End":
        """Take over a connection from another protocol."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(CHUNK, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def pass_on(self, to: "_End") -> None:
        """Write there what is read here, until one of the two is closed, or takes nothing more."""
        with suppress(OSError, TimeoutError):
            while data := await self.reader.read(CHUNK):
                to.writer.write(data)
                async with asyncio.timeout(STALLED_S):
                    await to.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                with suppress(OSError):
                    await self.writer.wait_closed()
        except TimeoutError:
            self.writer.transport.abort()


class _Taken(NamedTuple):
    """A connection that is handed on."""

    here: _End
    way: socket.socket
    first: bytes
    """What was read of it."""
    on_over: Callable[[], None]


async def _join(taken: _Taken) -> None:
    """Pass on what comes at either end to the other, until one of them is closed."""
    here = taken.here
    there = _End(*await asyncio.open_unix_connection(sock=taken.way, limit=CHUNK))
    there.writer.write(taken.first)
    try:
        async with asyncio.TaskGroup() as tasks:
            ways = [tasks.create_task(here.pass_on(there)), tasks.create_task(there.pass_on(here))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for each in ways:
                each.cancel()
    finally:
        taken.on_over()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(here.close())
            tasks.create_task(there.close())
