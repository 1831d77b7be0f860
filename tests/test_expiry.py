"""A session's time runs out on a real socket: it is told why, and the close code says so."""

import asyncio
import json

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent.session import Session
from server.connection import Connection, new_id
from server.model import ModelServer
from server.settings import Settings
from server.transcription import Transcriber
from server.vad import WebRtc
from tests.scripted import Scripted, config


async def expire() -> tuple[list[str], int | None, str | None]:
    model = ModelServer(Settings())
    transcriber = Transcriber(Settings(), model)

    async def one_client(socket: ServerConnection) -> None:
        soon = asyncio.get_running_loop().time() + 0.05
        session = Session(config(), Scripted().timing, new_id, soon)
        await Connection(socket, session, model.seat(), transcriber, WebRtc()).run()

    async with serve(one_client, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as socket:
            told = [json.loads(frame) async for frame in socket]
    await model.close()
    kinds = [event.get("error", {}).get("code") or event["type"] for event in told]
    return kinds, socket.close_code, socket.close_reason


def test_an_expired_session_is_told_so_and_closed_with_1001():
    told, code, reason = asyncio.run(asyncio.wait_for(expire(), 20))
    assert told == ["session.created", "session_expired"]
    assert code == 1001
    assert reason == "Your session hit the maximum duration of 60 minutes."
