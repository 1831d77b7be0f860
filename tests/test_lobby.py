"""How many sessions wait for their clients, and which of them ends when there are too many."""

import asyncio
import json

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent.session import Session
from server.connection import Connection, new_id
from server.lobby import Lobby
from server.model import ModelServer
from server.settings import Settings
from server.transcription import Transcriber
from server.vad import WebRtc
from tests.scripted import Scripted, config

WISH = {"type": "session.update", "session": {"type": "realtime", "x_mimo": {"resume": True}}}


async def lose_clients(lobby: Lobby, count: int) -> list[bool]:
    """Lose so many clients one after the other, then take one more; tell who is waited for."""
    model = ModelServer(Settings())
    transcriber = Transcriber(Settings(), model)
    sockets: list[ServerConnection] = []

    async def one_client(socket: ServerConnection) -> None:
        sockets.append(socket)
        session = Session(config(), Scripted().timing, new_id)
        connection = Connection(socket, session, model.seat(), transcriber, WebRtc(), grace_s=60.0)
        with lobby.running(connection):
            await connection.run()

    async with serve(one_client, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
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
            found = [lobby.find(token) is not None for token in tokens]
        lobby.close()
    await model.close()
    return found


def test_the_oldest_session_ends_where_too_many_wait():
    found = asyncio.run(asyncio.wait_for(lose_clients(Lobby(most_away=2), 4), 20))
    assert found == [False, False, True, True]
