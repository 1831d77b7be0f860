"""A server that is told to end: who is being answered hears the answer, and nobody else begins."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from server.settings import checked
from tests.fakes import stand_in
from tests.server.test_app import serving

ASK = {
    "type": "conversation.item.create",
    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
}


@asynccontextmanager
async def being_answered(
    groups: int = 10,
) -> AsyncGenerator[tuple[str, asyncio.Task[None], ClientConnection]]:
    """A server, and a client that has heard the beginning of an answer."""
    with stand_in(groups=groups, rtf=0.5) as model:
        settings = checked(
            {"listen": {"port": 0}, "model": {"urls": [model.url]}, "turn": {"vad": "webrtc"}},
            "test",
        )
        async with serving(settings) as (url, app), connect(url) as client:
            await client.send(json.dumps(ASK))
            await client.send('{"type": "response.create"}')
            await heard(client, "response.output_audio.delta")
            yield url, app, client


async def heard(client: ClientConnection, kind: str) -> dict[str, Any]:
    async for frame in client:
        event = json.loads(frame)
        if event["type"] == kind:
            return event
    raise AssertionError(f"no {kind}; closed with {client.close_code}")


def ended(body: Any) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


def test_an_answer_that_runs_is_heard_to_its_end():
    async def body() -> None:
        async with being_answered() as (_, app, client):
            signal.raise_signal(signal.SIGTERM)
            done = await heard(client, "response.done")
            await client.wait_closed()
            await app
        assert done["response"]["status"] == "completed"
        assert (client.close_code, client.close_reason) == (1001, "The server is shutting down.")

    ended(body)


def test_nobody_begins_a_session_meanwhile():
    async def body() -> None:
        async with being_answered() as (url, app, client):
            async with connect(url) as idle:
                await idle.recv()
                signal.raise_signal(signal.SIGTERM)
                await idle.wait_closed()
                assert idle.close_code == 1001
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            answer = refused.value.response
            assert answer.status_code == 503
            assert json.loads(answer.body or b"")["error"]["code"] == "server_shutting_down"
            health = url.replace("ws", "http", 1).replace("/v1/realtime", "/healthz")
            found = json.loads(await asyncio.to_thread(lambda: urlopen(health).read()))
            assert (found["ending"], found["sessions"]) == (True, 1)
            await heard(client, "response.done")
            await app

    ended(body)


def test_a_second_signal_ends_it_at_once():
    async def body() -> None:
        async with being_answered(groups=1_000) as (_, app, client):
            signal.raise_signal(signal.SIGTERM)
            await heard(client, "response.output_audio.delta")
            signal.raise_signal(signal.SIGTERM)
            await client.wait_closed()
            await app
            assert client.close_code == 1001

    ended(body)
