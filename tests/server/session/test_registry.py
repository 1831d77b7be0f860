"""How many sessions wait for their clients, and which ends first; and that a stuck one is seen."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent.commands import Command
from agent.session import Session
from server.model.router import ModelRouter
from server.model.transcription import Transcriber
from server.session.connection import Connection
from server.session.ids import new_id
from server.session.registry import SessionRegistry, asked
from server.session.socket import ClientSocket
from server.settings import Settings
from server.vad import WebRtc
from tests.drivers.virtual_call import POLICY, opened

WISH = {"type": "session.update", "session": {"type": "realtime", "x_mimo": {"resume": True}}}


@asynccontextmanager
async def serving(
    registry: SessionRegistry, lasts_s: float = 60.0, kind: type[Session] = Session
) -> AsyncGenerator[tuple[str, list[ServerConnection]]]:
    """Serve sessions that expire after that time; give the address, and every client's socket."""
    model = ModelRouter(Settings())
    transcriber = Transcriber(Settings(), model)
    sockets: list[ServerConnection] = []

    async def one_client(socket: ServerConnection) -> None:
        assert isinstance(socket, ClientSocket)
        sockets.append(socket)
        assert socket.request is not None
        token, position = asked(socket.request.path)
        if known := registry.find(token):
            await known.resume(socket, position)
            return
        expires_at = asyncio.get_running_loop().time() + lasts_s
        session = kind(opened(), POLICY, new_id, expires_at)
        connection = Connection(
            socket, session, model.client(), transcriber, WebRtc(), grace_s=60.0
        )
        with registry.running(connection):
            await connection.run()

    async with serve(one_client, "127.0.0.1", 0, create_connection=ClientSocket) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", sockets
        registry.close()
    await model.close()


async def lose_clients(registry: SessionRegistry, count: int) -> list[bool]:
    """Lose so many clients one after the other, then take one more; tell who is waited for."""
    async with serving(registry) as (url, sockets):
        tokens: list[str] = []
        for _ in range(count):
            async with connect(url) as socket:
                await socket.recv()
                await socket.send(json.dumps(WISH))
                updated = json.loads(await socket.recv())
                tokens.append(updated["session"]["x_mimo"]["resume_token"])
                socket.transport.abort()
            await sockets[-1].wait_closed()
        async with connect(url) as socket:
            await socket.recv()
            return [registry.find(token) is not None for token in tokens]


def test_the_oldest_session_ends_where_too_many_wait():
    found = asyncio.run(asyncio.wait_for(lose_clients(SessionRegistry(most_away=2), 4), 20))
    assert found == [False, False, True, True]


class Forgetful(Session):
    """A session that does not do what is due."""

    def pass_deadline(self, now: float) -> list[Command]:
        return []


async def forget(registry: SessionRegistry, logged: asyncio.Event) -> None:
    """Have a session forget its end, until that is logged."""
    async with serving(registry, lasts_s=0.0, kind=Forgetful) as (url, _):
        watch = asyncio.create_task(registry.watch())
        async with connect(url):
            await logged.wait()
            assert (registry.sessions, registry.stuck) == (1, 1)
        watch.cancel()


def test_a_session_that_should_have_acted_is_logged_with_its_state_and_counted(
    caplog: pytest.LogCaptureFixture,
):
    logged = asyncio.Event()
    caplog.handler.addFilter(lambda _: logged.set() or True)
    registry = SessionRegistry(stuck_s=0.2)
    asyncio.run(asyncio.wait_for(forget(registry, logged), 20))
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "in Listening, 0 events to take, 0 of 256 to send" in record.getMessage()
    assert (registry.sessions, registry.stuck) == (0, 0)


async def expire_while_away(registry: SessionRegistry) -> tuple[str, list[str], int | None]:
    """Come back to a session that expired meanwhile.

    Returns:
        How it looked after that, what the client is told, and how it is closed.
    """
    async with serving(registry, lasts_s=0.2) as (url, sockets):
        async with connect(url) as socket:
            await socket.recv()
            await socket.send(json.dumps(WISH))
            token = json.loads(await socket.recv())["session"]["x_mimo"]["resume_token"]
            socket.transport.abort()
        await sockets[-1].wait_closed()
        connection = registry.find(token)
        assert connection is not None
        before = str(connection)
        turns = 0
        while turns < 500:
            # It expires; then there is time enough to say so again and again.
            await asyncio.sleep(0)
            turns += str(connection) != before
        after = str(connection)
        async with connect(f"{url}/?resume={token}") as socket:
            said = [json.loads(frame)["type"] async for frame in socket]
        return after, said, socket.close_code


def test_a_session_that_expires_while_its_client_is_away_says_so_once():
    after, said, code = asyncio.run(asyncio.wait_for(expire_while_away(SessionRegistry()), 20))
    assert after == "sess_1 in Listening, 0 events to take, 2 of 256 to send"
    assert (said, code) == (["session.created", "error"], 1001)
