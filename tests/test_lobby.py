"""How many sessions wait for their clients, and which ends first; and that a stuck one is seen."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent.session import EXPIRED, Session
from server.connection import Connection, new_id
from server.lobby import Lobby
from server.model import ModelServer
from server.settings import Settings
from server.transcription import Transcriber
from server.vad import WebRtc
from tests.scripted import Scripted, config

WISH = {"type": "session.update", "session": {"type": "realtime", "x_mimo": {"resume": True}}}


@asynccontextmanager
async def serving(
    lobby: Lobby, lasts_s: float = 60.0
) -> AsyncGenerator[tuple[str, list[ServerConnection]]]:
    """Serve sessions that expire after that time; give the address, and every client's socket."""
    model = ModelServer(Settings())
    transcriber = Transcriber(Settings(), model)
    sockets: list[ServerConnection] = []

    async def one_client(socket: ServerConnection) -> None:
        sockets.append(socket)
        expires_at = asyncio.get_running_loop().time() + lasts_s
        session = Session(config(), Scripted().timing, new_id, expires_at)
        connection = Connection(socket, session, model.seat(), transcriber, WebRtc(), grace_s=60.0)
        with lobby.running(connection):
            await connection.run()

    async with serve(one_client, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", sockets
        lobby.close()
    await model.close()


async def lose_clients(lobby: Lobby, count: int) -> list[bool]:
    """Lose so many clients one after the other, then take one more; tell who is waited for."""
    async with serving(lobby) as (url, sockets):
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
            return [lobby.find(token) is not None for token in tokens]


def test_the_oldest_session_ends_where_too_many_wait():
    found = asyncio.run(asyncio.wait_for(lose_clients(Lobby(most_away=2), 4), 20))
    assert found == [False, False, True, True]


SAID = {
    "type": "conversation.item.create",
    "item": {
        "id": "long",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "a" * 20_000}],
    },
}
ASKED = {"type": "conversation.item.retrieve", "item_id": "long"}


async def stop_reading(lobby: Lobby, logged: asyncio.Event) -> str:
    """Ask for more than is read, until that is logged; return how the session ends nevertheless."""
    async with serving(lobby, lasts_s=0.5) as (url, _):
        watch = asyncio.create_task(lobby.watch())
        async with connect(url, max_queue=1) as socket:
            for event in (SAID, *[ASKED] * 600):
                await socket.send(json.dumps(event))
            await logged.wait()
            assert (lobby.sessions, lobby.stuck) == (1, 1)
            async for _ in socket:
                pass
        watch.cancel()
        assert socket.close_reason is not None
        return socket.close_reason


def test_a_session_that_should_have_acted_is_logged_with_its_state_and_counted(
    caplog: pytest.LogCaptureFixture,
):
    logged = asyncio.Event()
    caplog.handler.addFilter(lambda _: logged.set() or True)
    lobby = Lobby(stuck_s=0.2)
    ended = asyncio.run(asyncio.wait_for(stop_reading(lobby, logged), 20))
    assert ended == EXPIRED
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "in Listening, " in record.getMessage()
    assert "256 of 256 to send" in record.getMessage()
    assert (lobby.sessions, lobby.stuck) == (0, 0)
