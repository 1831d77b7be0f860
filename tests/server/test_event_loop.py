"""The event loop that reads clients together: who waits for the others, and who never does."""

import asyncio
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE
from typing import cast

import pytest

from server.event_loop import PatientLoop, PatientSelector

FOREVER = 20.0
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def selector() -> Generator[PatientSelector]:
    made = PatientSelector()
    yield made
    made.close()


@pytest.fixture
def pairs() -> Generator[Iterator[Ends]]:
    with ExitStack() as stack:

        def connected() -> Iterator[Ends]:
            while True:
                one, other = socket.socketpair()
                yield stack.enter_context(one), stack.enter_context(other)

        yield connected()


def clients(selector: PatientSelector, pairs: Iterator[Ends], count: int) -> list[Ends]:
    ends = [next(pairs) for _ in range(count)]
    for near, _ in ends:
        selector.register(near.fileno(), EVENT_READ, "a client")
        selector.defer(near.fileno())
    return ends


def ready(selector: PatientSelector, timeout: float) -> set[object]:
    return {key.fd for key, _ in selector.select(timeout)}


def test_clients_are_read_together_once_a_beat(selector: PatientSelector, pairs: Iterator[Ends]):
    ends = clients(selector, pairs, 4)
    ends[0][1].send(b"sound")
    began = time.monotonic()
    assert ready(selector, FOREVER) == {ends[0][0].fileno()}
    ends[0][0].recv(100)
    for _, far in ends[1:]:
        far.send(b"sound")
    assert ready(selector, 0) == set()
    found = set[object]()
    while not found:
        found = ready(selector, FOREVER)
    assert found == {near.fileno() for near, _ in ends[1:]}
    assert 0.01 < time.monotonic() - began < FOREVER


def test_all_else_waits_for_no_beat(selector: PatientSelector, pairs: Iterator[Ends]):
    ends = clients(selector, pairs, 4)
    near, far = next(pairs)
    selector.register(near.fileno(), EVENT_READ, "a model")
    ends[0][1].send(b"sound")
    assert ready(selector, FOREVER) == {ends[0][0].fileno()}
    far.send(b"reply")
    assert ready(selector, FOREVER) == {near.fileno()}
    selector.modify(ends[1][0].fileno(), EVENT_READ | EVENT_WRITE, "it reads slowly")
    assert ends[1][0].fileno() in ready(selector, FOREVER)
    assert selector.get_key(ends[1][0].fileno()).data == "it reads slowly"
    selector.modify(ends[1][0].fileno(), EVENT_READ, "it reads")
    assert selector.get_key(ends[1][0].fileno()).data == "it reads"


def test_few_clients_are_read_at_once(selector: PatientSelector, pairs: Iterator[Ends]):
    ends = clients(selector, pairs, 2)
    for near, far in 3 * ends:
        far.send(b"sound")
        assert ready(selector, FOREVER) == {near.fileno()}
        near.recv(100)


def test_a_client_that_has_gone_leaves_nothing(selector: PatientSelector, pairs: Iterator[Ends]):
    others = clients(selector, pairs, 4)
    near, far = others.pop()
    selector.unregister(near.fileno())
    with pytest.raises(KeyError):
        selector.get_key(near.fileno())
    # Its number may be another socket's by now, which is not a client.
    selector.register(near.fileno(), EVENT_READ, "a model")
    others[0][1].send(b"sound")
    assert ready(selector, FOREVER) == {others[0][0].fileno()}
    far.send(b"reply")
    assert ready(selector, FOREVER) == {near.fileno()}


def test_streams_work_that_are_read_together():
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PatientLoop)
        loop.read_together(writer.transport)
        # More than sockets hold: it is held up, paused, and goes on.
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def paused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As one is whose client sent much before the session began.
        transport = cast(asyncio.Transport, writer.transport)
        transport.pause_reading()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PatientLoop)
        loop.read_together(transport)
        transport.resume_reading()
        await echo(reader, writer)

    async def one(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = b"sound" * 2**20
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()

    async def body() -> None:
        for served in (echo, paused):
            async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                async with asyncio.timeout(FOREVER), asyncio.TaskGroup() as tasks:
                    for _ in range(6):
                        tasks.create_task(one(port))

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(body())
