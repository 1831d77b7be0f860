"""The server in this process: what ends a connection, and with which close code."""

import asyncio
import base64
import io
import json
import logging
import re
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, redirect_stdout, suppress
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from agent.audio import RATE, SAMPLE_BYTES
from server.app import App
from server.logs import to_terminal
from server.settings import Settings, checked
from server.vad import Silero, VoiceActivityDetector

HOUR_S = 3_600
NOBODY = {"urls": ["http://127.0.0.1:9/v1"]}
SETTINGS = checked({"listen": {"port": 0}, "model": NOBODY, "turn": {"vad": "webrtc"}}, "test")


class Hasty(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Console(io.StringIO):
    """Where the server prints its address."""

    def __init__(self) -> None:
        super().__init__()
        self.url = asyncio.get_running_loop().create_future()

    def write(self, text: str) -> int:
        if found := re.search(r"wss?://\S+", text):
            self.url.set_result(found[0])
        return len(text)


class Client(ClientConnection):
    """Notices the server's pings."""

    pinged: asyncio.Event

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pinged.set()
        super().process_event(event)


@asynccontextmanager
async def serving(
    settings: Settings = SETTINGS,
) -> AsyncGenerator[tuple[str, asyncio.Task[None]]]:
    """Run the server until the end; give its address."""
    with redirect_stdout(console := Console()):
        app = asyncio.create_task(App(settings).run())
        url = await console.url
    yield url, app
    app.cancel()
    await asyncio.wait([app])


async def idle_for_an_hour(loop: Hasty) -> None:
    Client.pinged = asyncio.Event()
    async with (
        serving() as (url, _),
        connect(url, create_connection=Client, ping_interval=None) as client,
    ):
        created = json.loads(await client.recv())
        assert abs(created["session"]["expires_at"] - time.time() - HOUR_S) < 10
        await client.send('{"type": "input_audio_buffer.append", "audio": "AAAA"}')
        loop.ahead_s += 20
        await asyncio.wait_for(Client.pinged.wait(), 10)
        loop.ahead_s += HOUR_S - 30
        await (await client.ping())
        loop.ahead_s += 10
        [error] = [json.loads(frame)["error"] async for frame in client]
    assert error["code"] == "session_expired"
    assert error["message"] == "Your session hit the maximum duration of 60 minutes."
    assert (client.close_code, client.close_reason) == (1001, error["message"])


def test_an_idle_session_is_pinged_and_kept_and_after_an_hour_told_so_and_closed():
    loop = Hasty()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(asyncio.wait_for(idle_for_an_hour(loop), 2 * HOUR_S))


def test_a_server_that_goes_away_says_so_to_its_clients():
    async def leave() -> None:
        async with serving() as (url, app), connect(url) as client:
            await client.recv()
            signal.raise_signal(signal.SIGTERM)
            await client.wait_closed()
            await app
        assert client.close_code == 1001

    asyncio.run(asyncio.wait_for(leave(), 60))


def test_sound_that_is_refused_is_quoted_by_its_event_id(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agent.limits.HANDS_FREE_BUFFER_S", 1)
    audio = base64.b64encode(bytes(RATE * SAMPLE_BYTES + 2)).decode()
    event = {"type": "input_audio_buffer.append", "audio": audio, "event_id": "mine"}

    async def refuse() -> None:
        async with serving() as (url, _), connect(url) as client:
            await client.recv()
            await client.send(json.dumps(event))
            error = json.loads(await client.recv())["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_full", "mine")

    asyncio.run(asyncio.wait_for(refuse(), 60))


def test_each_client_that_is_turned_away_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    evil: dict[str, Any] = {"origin": "https://evil.example"}
    beta: dict[str, Any] = {"additional_headers": {"OpenAI-Beta": "realtime=v1"}}
    update = {"type": "session.update", "session": {"voice": "alloy"}}

    async def knock() -> None:
        async with serving() as (url, _):
            async with connect(url, **evil) as client:
                await client.wait_closed()
            with pytest.raises(InvalidStatus):
                await connect(url, **beta)
            with pytest.raises(InvalidStatus):
                await connect(url.replace("v1/realtime", "nothing?key=sk-secret"))
            where = urlsplit(url)
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            head = "GET /v1/realtime HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n"
            writer.write(f"{head}Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            await writer.wait_closed()
            async with connect(url) as client:
                await client.send(json.dumps(update))
                await client.wait_closed()
        assert client.close_code == 4000

    asyncio.run(asyncio.wait_for(knock(), 60))
    for words in (
        "refused 127.0.0.1: GET /v1/realtime: origin_not_allowed: The origin https://evil.example",
        "refused 127.0.0.1: GET /v1/realtime: beta_api_shape_disabled: ",
        "refused 127.0.0.1: GET /nothing: not_found: ",
        "refused 127.0.0.1: GET /v1/realtime: invalid_handshake: ",
        "closing with 4000, invalid_request_error.beta_api_shape_disabled",
    ):
        assert caplog.text.count(words) == 1, words
    assert "sk-secret" not in caplog.text


def test_strangers_that_never_say_goodbye_are_waited_for_only_so_many(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("server.web.entrance.MOST_GOODBYES", 2)
    head = (
        "GET /v1/realtime HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Origin: https://evil.example\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    async def stay() -> None:
        async with serving() as (url, _):
            where = urlsplit(url)
            told: list[bool] = []
            writers: list[asyncio.StreamWriter] = []
            for _ in range(4):
                reader, writer = await asyncio.open_connection(where.hostname, where.port)
                writers.append(writer)
                writer.write(head.encode())
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    await reader.readuntil(b"origin_not_allowed")
                    told.append(True)
            for writer in writers:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        assert told == [True, True]

    asyncio.run(asyncio.wait_for(stay(), 60))


class Broken(VoiceActivityDetector):
    """A detector with a bug."""

    def __init__(self, kind: str):
        super().__init__()

    def _add(self, frame: bytes) -> None:
        raise ZeroDivisionError


def missing(kind: str) -> Broken:
    raise ZeroDivisionError


def misled(kind: str) -> Silero:
    """One whose state the network doesn't take."""
    microphone = Silero()
    microphone.state = np.zeros((1, 1, 1), np.float32)
    return microphone


@pytest.mark.parametrize("detector", [Broken, missing, misled])
def test_a_bug_ends_its_own_session_only_and_clients_may_try_again(
    detector: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def fail() -> None:
        async with serving() as (url, _), connect(url) as other:
            await other.recv()
            monkeypatch.setattr("server.app.detector", detector)
            async with connect(url) as client:
                with suppress(ConnectionClosed):
                    audio = base64.b64encode(bytes(2000)).decode()
                    await client.send(
                        json.dumps({"type": "input_audio_buffer.append", "audio": audio})
                    )
                await client.wait_closed()
            assert client.close_code == 1011
            await other.send('{"type": "input_audio_buffer.clear"}')
            assert "input_audio_buffer.cleared" in str(await other.recv())

    asyncio.run(asyncio.wait_for(fail(), 60))
    assert "ZeroDivisionError" in caplog.text or "ValueError: matmul" in caplog.text


def test_what_others_say_is_logged_without_what_a_terminal_obeys():
    said = "it says %s"
    record = logging.makeLogRecord({"msg": said, "args": ("\x1b]52;c;aGk=\x07, \u202eabc",)})
    assert to_terminal().format(record).endswith("it says  ]52;c;aGk= ,  abc")
