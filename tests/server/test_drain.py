"""A server that is told to end: who is being answered hears the answer, and nobody else begins."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.settings import checked
from tests.drivers.resuming import DELTA, Client, client
from tests.fakes import stand_in
from tests.server.test_app import serving

NEVER_S = 600
"""Longer than a test may take."""


@asynccontextmanager
async def being_answered(
    groups: int = 10,
) -> AsyncGenerator[tuple[str, asyncio.Task[None], Client]]:
    """A server, and a client that has heard the beginning of an answer."""
    with stand_in(groups=groups, rtf=0.5) as model:
        listen = {"port": 0, "drain_s": NEVER_S}
        settings = checked(
            {"listen": listen, "model": {"urls": [model.url]}, "turn": {"vad": "webrtc"}}, "test"
        )
        async with serving(settings) as (url, app), client(url) as speaking:
            await speaking.start()
            await speaking.ask()
            await speaking.until(DELTA)
            yield url, app, speaking


def ended(body: Any) -> None:
    asyncio.run(asyncio.wait_for(body(), 60))


def test_an_answer_that_runs_is_heard_to_its_end():
    async def body() -> None:
        async with being_answered() as (_, app, speaking):
            signal.raise_signal(signal.SIGTERM)
            done = await speaking.until("response.done")
            await speaking.wait_for_end()
            await app
        assert done["response"]["status"] == "completed"
        assert (speaking.close_code, speaking.close_reason) == (
            1001,
            "The server is shutting down.",
        )

    ended(body)


def test_nobody_begins_a_session_meanwhile():
    async def body() -> None:
        async with being_answered() as (url, app, speaking):
            async with client(url) as idle:
                signal.raise_signal(signal.SIGTERM)
                await idle.wait_for_end()
                assert idle.close_code == 1001
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            answer = refused.value.response
            assert answer.status_code == 503
            assert json.loads(answer.body or b"")["error"]["code"] == "server_shutting_down"
            health = url.replace("ws", "http", 1).replace("/v1/realtime", "/healthz")
            found = json.loads(await asyncio.to_thread(lambda: urlopen(health).read()))
            assert (found["ending"], found["sessions"]) == (True, 1)
            await speaking.until("response.done")
            await app

    ended(body)


def test_a_second_signal_ends_it_at_once():
    async def body() -> None:
        async with being_answered(groups=1_000) as (_, app, speaking):
            signal.raise_signal(signal.SIGTERM)
            await speaking.until(DELTA)
            signal.raise_signal(signal.SIGTERM)
            await speaking.wait_for_end()
            await app
            assert speaking.close_code == 1001

    ended(body)
