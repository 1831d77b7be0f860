"""What is passed on between two workers: all of it, no faster than it is read, until one goes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from websockets.asyncio.server import Server

from agent.workers import Place
from server.workers import relay
from server.workers.relay import Relay

TARGET = f"/v1/realtime?resume=resume_1_{'0' * 32}"
LARGE = bytes(range(256)) * 4 * 2**12
PIECES = 6
"""Of 4 MiB each: no buffers of the system hold them all."""


class Pipe(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self) -> None:
        for _ in range(PIECES):
            self.writer.write(LARGE)
            await self.writer.drain()


class _Door(asyncio.Protocol):
    def __init__(self, here: Relay, over: asyncio.Event):
        self._relay = here
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._relay.take(
            TARGET, cast(asyncio.Transport, transport), b"begins ", self._over.set
        )


@asynccontextmanager
async def joined(folder: Path) -> AsyncGenerator[tuple[Pipe, Pipe]]:
    """A client, and what reaches the worker that has its session; one of them has to go."""
    arrived: asyncio.Queue[Pipe] = asyncio.Queue()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait(Pipe(reader, writer))

    @asynccontextmanager
    async def nowhere(**_: Any) -> AsyncGenerator[Server]:
        yield cast(Server, None)

    over = asyncio.Event()
    here, there = Relay(Place(0, 2), folder), Relay(Place(1, 2), folder)
    loop = asyncio.get_running_loop()
    async with (
        await asyncio.start_unix_server(arrive, there.path),
        await loop.create_server(lambda: _Door(here, over), "127.0.0.1", 0) as server,
    ):
        async with here.serving(nowhere):
            client = Pipe(*await asyncio.open_connection(*server.sockets[0].getsockname()))
            owner = await arrived.get()
            assert await owner.reader.readuntil(b"begins ") == b"127.0.0.1\nbegins "
            assert not over.is_set()
            yield client, owner
        assert over.is_set()
        for each in (client, owner):
            each.writer.close()


def run(test: Callable[[Pipe, Pipe], Awaitable[None]], folder: Path) -> None:
    async def whole() -> None:
        async with joined(folder) as (client, owner):
            await test(client, owner)

    asyncio.run(asyncio.wait_for(whole(), 30))


@pytest.mark.parametrize("direction", [1, -1])
def test_who_does_not_read_is_sent_no_more_than_fits(tmp_path: Path, direction: int):
    async def talk(client: Pipe, owner: Pipe) -> None:
        source, sink = (client, owner)[::direction]
        # Its own reader takes nothing until it is read from.
        sending = asyncio.create_task(source.send())
        done, _ = await asyncio.wait([sending], timeout=0.5)
        assert not done
        for _ in range(PIECES):
            assert await sink.reader.readexactly(len(LARGE)) == LARGE
        await sending
        source.writer.close()

    run(talk, tmp_path)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_last_words_of_one_end_reach_the_other(tmp_path: Path, direction: int):
    async def talk(client: Pipe, owner: Pipe) -> None:
        source, sink = (client, owner)[::direction]
        source.writer.write(LARGE)
        source.writer.close()
        assert await sink.reader.read(-1) == LARGE

    run(talk, tmp_path)


@pytest.mark.parametrize("direction", [1, -1])
def test_who_breaks_off_takes_the_other_along(tmp_path: Path, direction: int):
    async def talk(client: Pipe, owner: Pipe) -> None:
        source, sink = (client, owner)[::direction]
        source.writer.transport.abort()
        assert await sink.reader.read(-1) == b""

    run(talk, tmp_path)


def test_a_client_that_reads_no_goodbye_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay, "STALLED_S", 0.5)
    monkeypatch.setattr(relay, "GOODBYE_S", 0.05)

    async def talk(_: Pipe, owner: Pipe) -> None:
        sending = asyncio.create_task(owner.send())
        await asyncio.wait([sending], timeout=0.5)
        sending.cancel()
        owner.writer.transport.abort()

    run(talk, tmp_path)


def test_a_worker_that_is_not_there_leaves_its_clients_to_others(tmp_path: Path):
    async def talk() -> None:
        here = Relay(Place(0, 2), tmp_path)
        nobody = cast(asyncio.Transport, None)
        assert not here.take(TARGET, nobody, b"", print)
        assert not here.take(TARGET.replace("resume_1", "resume_0"), nobody, b"", print)

    asyncio.run(talk())
