"""What may be had without a key: next to nothing; and how many may come."""

import asyncio
import json
import os
import resource
import socket
from collections.abc import Generator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from server.event_loop import PatientLoop
from server.settings import Listen
from server.web import crowd
from server.web.crowd import Crowd, places
from tests.drivers.processes import address, child, command, memory_mb, start_server, started
from tests.fakes import stand_in
from tests.server.web import test_http

KEY = "sk-right"
FRAME = bytes(20 * 2**20)
HANDSHAKE = (
    "GET /v1/realtime HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\n"
)


@pytest.fixture(scope="module")
def locked() -> Generator[str]:
    with (
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), environment={"MIMO_LIVE_API_KEY": KEY}) as url,
    ):
        yield url


async def flood(url: str, head: str) -> bytes:
    """Shake hands without a key, send a frame of 20 MiB, and return what comes until the end."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"{HANDSHAKE}Sec-WebSocket-Key: {'A' * 22}==\r\n{head}\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    with suppress(ConnectionError):
        writer.write(b"\x82\xff" + len(FRAME).to_bytes(8) + bytes(4) + FRAME)
        await writer.drain()
        answer += await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


@pytest.mark.system
@pytest.mark.parametrize(
    ("head", "status"), [("", b"401"), ("Origin: https://a.example\r\n", b"101")]
)
def test_no_frame_of_who_has_no_key_is_kept(locked: str, head: str, status: bytes):
    pid = child("serve")
    before_mb = memory_mb(pid)

    async def attack() -> list[bytes]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(flood(locked, head) for _ in range(10)))

    assert {answer.split()[1] for answer in asyncio.run(attack())} == {status}
    assert memory_mb(pid) - before_mb < 20


@pytest.mark.system
def test_a_key_is_never_logged_whatever_is_wrong_with_the_head(tmp_path: Path):
    log = tmp_path / "log"
    words = ["sh", "-c", f"exec \"$@\" 2> '{log}'", "sh"]
    serve = command("serve", "--port", "0", "--model-url", "http://127.0.0.1:9/v1")
    spoiled = f"{KEY}\xff".encode("latin-1")
    with started([*words, *serve], "the page is at", {"MIMO_LIVE_API_KEY": KEY}) as lines:
        where = urlsplit(address(lines, "ws"))
        for shown in (
            b"Authorization: Bearer " + spoiled,
            b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + spoiled,
            b"Sec-WebSocket-Protocol: realtime,, /openai-insecure-api-key." + KEY.encode(),
            b"Sec-WebSocket-Key: x\r\napi-key: " + KEY.encode(),
            b"Authorization: Bearer " + KEY.encode() + b"\r\nSec-WebSocket-Protocol: @" + spoiled,
        ):
            with socket.create_connection((where.hostname, where.port), timeout=10) as client:
                client.sendall(HANDSHAKE.encode() + shown + b"\r\n\r\n")
                assert client.recv(1_000).split()[1].startswith(b"4")
    assert KEY not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.system
def test_where_few_files_may_be_open_silent_connections_make_room_and_the_server_goes_on(
    tmp_path: Path,
):
    log = tmp_path / "log"
    words = ["sh", "-c", f"ulimit -n 64; exec \"$@\" 2> '{log}'", "sh"]
    with (
        stand_in() as model,
        started(
            [*words, *command("serve", "--port", "0", "--model-url", model.url)], "the page is at"
        ) as lines,
        ExitStack() as silent,
    ):
        where = urlsplit(address(lines, "ws"))
        connect = partial(socket.create_connection, (where.hostname, where.port), timeout=10)
        for _ in range(80):
            silent.enter_context(connect())
        connection = silent.enter_context(connect())
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in log.read_text()
    assert len(log.read_text().splitlines()) < 80


def test_without_a_file_to_open_accepting_pauses_and_says_so_in_one_line(
    caplog: pytest.LogCaptureFixture,
):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def starve(loop: PatientLoop) -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server:
            where = server.sockets[0].getsockname()
            clients = [socket.socket() for _ in range(20)]
            open_files = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files - 1, hard))
            for client in clients:
                client.connect(where)
            for _ in range(1_000):
                await asyncio.sleep(0)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()

    try:
        with asyncio.Runner(loop_factory=PatientLoop) as runner:
            loop = cast(PatientLoop, runner.get_loop())
            runner.run(starve(loop))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    [record] = caplog.records
    assert "ulimit -n" in record.getMessage()
    assert record.exc_info is None


def test_one_address_may_hold_so_many_sessions_and_all_together_no_more_than_fit():
    held = Crowd(most=3, most_each=2)
    for _ in range(2):
        assert held.objection("10.0.0.1") is None
        held.enter("10.0.0.1")
    objection = held.objection("10.0.0.1")
    assert objection is not None
    assert objection.code == crowd.HERE
    assert held.objection("10.0.0.2") is None
    held.enter("127.0.0.1")
    objection = held.objection("10.0.0.2")
    assert objection is not None
    assert objection.code == crowd.EVERYWHERE
    held.leave("10.0.0.1")
    assert held.objection("10.0.0.1") is None


def test_a_proxy_on_this_machine_is_no_single_client():
    held = Crowd(most=10, most_each=1)
    for _ in range(3):
        held.enter("127.0.0.1")
    assert held.objection("127.0.0.1") is None


def test_no_more_places_are_given_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch):
    files = 64

    def limit(_: int) -> tuple[int, int]:
        return files, files

    monkeypatch.setattr(resource, "getrlimit", limit)
    sessions, waiting = places(1_000, 500)
    assert 2 * sessions + waiting + crowd.RESERVED_FILES <= 64
    assert min(sessions, waiting) > 1
    files = 2**16
    assert places(1_000, 500) == (1_000, 500)


@pytest.mark.system
def test_the_session_that_is_one_too_many_is_told_when_to_come_back(tmp_path: Path):
    assert Listen().most_sessions > 1
    config = tmp_path / "server.toml"
    config.write_text("[listen]\nmost_sessions = 1")

    async def crowd_in(url: str) -> None:
        async with connect(url) as first:
            await first.recv()
            with pytest.raises(InvalidStatus) as refused:
                await connect(url)
            answer = refused.value.response
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
            assert json.loads(answer.body or b"")["error"]["code"] == crowd.EVERYWHERE
            async with connect(url, origin=Origin("http://localhost:1")) as page:
                assert crowd.EVERYWHERE in str(await page.recv())
                await page.wait_closed()
                assert page.close_code == 1013
        await until_admitted(url)

    async def until_admitted(url: str) -> ClientConnection:
        while True:
            with suppress(InvalidStatus):
                client = await connect(url)
                await client.close()
                return client

    with stand_in() as model:
        options = ("--config", str(config))
        with start_server(model.url.removesuffix("/v1"), *options) as url:
            asyncio.run(asyncio.wait_for(crowd_in(f"{url}/v1/realtime"), 30))


def test_a_body_in_very_many_chunks_is_refused_before_it_has_come():
    async def play(enter: test_http.Door, url: str) -> None:
        client = await enter()
        client.send(f"{test_http.HEAD}Transfer-Encoding: chunked\r\n\r\n")
        client.send(b"1\r\n \r\n" * 1_001)
        status, _, body = await client.answer()
        assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")

    test_http.run(play)


@pytest.mark.system
def test_who_pings_and_reads_nothing_is_answered_the_latest(tmp_path: Path):
    async def flood(url: str, pid: int) -> None:
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**20)
        writer.write(f"{HANDSHAKE}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
        await reader.readuntil(b"session.created")
        before_mb = memory_mb(pid)
        for _ in range(800):
            writer.write(200 * (b"\x89\xfd" + bytes(4) + bytes(125)))
            await writer.drain()
        writer.write(b"\x89\x84" + bytes(4) + b"last")
        seen = b""
        while b"\x8a\x04last" not in seen:
            seen = seen[-10:] + await reader.read(2**20)
        assert memory_mb(pid) - before_mb < 10
        writer.close()

    with stand_in() as model, start_server(model.url.removesuffix("/v1")) as url:
        asyncio.run(asyncio.wait_for(flood(url, child("serve")), 60))
