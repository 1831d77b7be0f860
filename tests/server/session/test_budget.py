"""What the memory of sessions is limited to, and what is left of one that is over."""

import asyncio
import base64
import gc
import json
import os
import weakref
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect

from agent.errors import ProtocolError
from server.model.router import ModelRouter
from server.session.budget import SERVER_FULL, SESSION_FULL, Budget
from tests.drivers.processes import child, memory_mb, start_server
from tests.fakes import stand_in
from tests.server.session.test_connection import BY_HAND, calling, run

MEGABYTE = 2**20


async def scene() -> None:
    held = [0, 0]
    budget = Budget(100, 150)
    one, other = (budget.open(lambda each=each: held[each]) for each in range(2))
    one.take(60)
    # It dropped what was counted: only now is it measured.
    one.take(60)
    held[0] = 60
    with pytest.raises(ProtocolError, match="holds 60 bytes") as refused:
        one.take(60)
    assert refused.value.code == SESSION_FULL
    other.take(90)
    held[1] = 90
    with pytest.raises(ProtocolError) as refused:
        other.take(5)
    assert refused.value.code == SERVER_FULL
    one.close()
    other.take(5)


def test_what_is_held_is_measured_where_more_was_counted_than_may_be():
    asyncio.run(scene())


def test_nothing_of_a_session_is_left_when_it_is_over_whenever_the_collector_comes():
    async def body(router: ModelRouter) -> None:
        async with calling(router) as client:
            session = weakref.ref(client.connection._session)  # pyright: ignore[reportPrivateUsage]
            outbox = weakref.ref(client.connection.link.outbox)
            await client.socket.recv()
            await client.send(2, bytes(MEGABYTE))
        assert (session(), outbox()) == (None, None)

    gc.disable()
    try:
        run(body)
    finally:
        gc.enable()


async def answered(client: ClientConnection, kind: str) -> str:
    """The code of the next error; empty if an event of that type comes first."""
    async for line in client:
        event = json.loads(line)
        if event["type"] in (kind, "error"):
            return event["error"]["code"] if event["type"] == "error" else ""
    raise AssertionError("the server hung up")


async def fill(url: str) -> int:
    """Send texts until one is refused; return how many were taken, and see the session go on."""
    text = {"type": "input_text", "text": "x" * 500_000}
    item = {"type": "message", "role": "user", "content": [text]}
    async with connect(url, max_size=None) as client:
        for taken in range(100):
            await client.send(json.dumps({"type": "conversation.item.create", "item": item}))
            if code := await answered(client, "conversation.item.done"):
                assert code == SESSION_FULL
                await client.send('{"type": "input_audio_buffer.clear"}')
                assert await answered(client, "input_audio_buffer.cleared") == ""
                return taken
    raise AssertionError("nothing was refused")


@pytest.mark.system
def test_a_session_that_holds_too_much_is_told_so_and_goes_on(tmp_path: Path):
    config = tmp_path / "server.toml"
    config.write_text("[listen]\nmost_session_mb = 8")
    with stand_in() as model:
        options = ("--config", str(config))
        with start_server(model.url.removesuffix("/v1"), *options) as url:
            assert 10 < asyncio.run(asyncio.wait_for(fill(f"{url}/v1/realtime"), 60)) < 17


async def come_and_go(url: str) -> None:
    async with connect(url) as client:
        await client.send(json.dumps({"type": "session.update", "session": BY_HAND}))
        audio = base64.b64encode(os.urandom(MEGABYTE)).decode()
        await client.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await client.send('{"type": "input_audio_buffer.commit"}')
        assert await answered(client, "input_audio_buffer.committed") == ""


@pytest.mark.system
def test_after_everybody_has_left_the_server_is_as_small_as_it_was():
    async def visit(url: str, times: int) -> None:
        for _ in range(times):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(10):
                    tasks.create_task(come_and_go(url))

    with stand_in() as model, start_server(model.url.removesuffix("/v1")) as url:
        pid = child("serve")
        asyncio.run(visit(f"{url}/v1/realtime", 1))
        before_mb = memory_mb(pid)
        asyncio.run(asyncio.wait_for(visit(f"{url}/v1/realtime", 10), 100))
        where = urlsplit(url).netloc
        while b'"sessions":0' not in urlopen(f"http://{where}/healthz").read():
            pass
        assert memory_mb(pid) < 1.1 * before_mb
