"""HTTP on the port of the WebSocket: what is answered, what is refused, and how long it waits."""

import asyncio
import json
import logging
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent.realtime.config import SessionConfig
from agent.realtime.merge import merged
from server.auth import Authenticator, Secret
from server.model.replica import Condition
from server.settings import Kiosk
from server.web import pages
from server.web.client_secrets import ClientSecrets
from server.web.crowd import Crowd
from server.web.door import ANSWER_S, LARGEST_BODY, REQUEST_S, Doorway
from server.web.entrance import Entrance
from server.web.health import health
from server.web.pages import FOLDER, TYPES, Pages
from server.web.refusals import MOST_A_MINUTE, Refusals
from server.web.site import Site
from tests.drivers.virtual_call import opened
from tests.server.test_app import Hasty

KEY = "sk-right"
SECRETS = "/v1/realtime/client_secrets"
HEAD = f"POST {SECRETS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {KEY}\r\n"
SESSION = b'{"session":{"type":"realtime","instructions":"Speak like a pirate."}}'
HANDSHAKE = (
    "GET /v1/realtime HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Client:
    """A connection that speaks bytes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doorway: Doorway
    ):
        self.reader = reader
        self.writer = writer
        self.doorway = doorway

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    async def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Read one whole answer: status, headers in small letters, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        start, *lines = head.rstrip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        has_body = method != "HEAD" and not start.startswith("HTTP/1.1 304")
        size = int(headers.get("content-length", "0")) if has_body else 0
        return int(start.split()[1]), headers, await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        return await self.reader.read()


async def echo(socket: ServerConnection) -> None:
    assert socket.transport.get_protocol() is socket, "nothing stands between"
    async for frame in socket:
        await socket.send(frame)


Door = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def serving(most: int = 500) -> AsyncGenerator[tuple[Door, str]]:
    """Serve the site with an echo for a session; give a way in, and the address."""
    authenticator = Authenticator(KEY)

    def configured(secret: Secret) -> SessionConfig:
        return merged(opened(), secret.patch)

    secrets = ClientSecrets(authenticator, configured)
    site = Site(Pages(Kiosk()), secrets, lambda: health(0, 0, [Condition()]))
    doorway = Doorway(site, Entrance(authenticator, Crowd(1_000, 100), Refusals()), most)
    how: Any = {"create_connection": doorway.connection, "subprotocols": None}
    clients: list[Client] = []

    async with serve(
        echo,
        "127.0.0.1",
        0,
        select_subprotocol=lambda _, offered: offered[0] if offered else None,
        **how,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]

        async def enter() -> Client:
            clients.append(Client(*await asyncio.open_connection("127.0.0.1", port), doorway))
            return clients[-1]

        try:
            yield enter, f"ws://127.0.0.1:{port}"
        finally:
            doorway.close()
            for client in clients:
                client.writer.close()
                with suppress(OSError):
                    await client.writer.wait_closed()


def run(play: Callable[[Door, str], Awaitable[None]], **how: int) -> None:
    async def scene() -> None:
        async with serving(**how) as (enter, url):
            await play(enter, url)

    asyncio.run(asyncio.wait_for(scene(), 60))


def chunked(body: bytes, size: int = 7) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])


LARGE = LARGEST_BODY + 1
REFUSED: dict[str, tuple[bytes | str, int, str]] = {
    "no HTTP": ("hello\r\n\r\n", 400, "invalid_request"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_request"),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "unknown_http_version"),
    "a header without a colon": (f"GET / HTTP/1.1\r\nBearer {KEY}\r\n\r\n", 400, "invalid_request"),
    "no host": ("GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
    "two hosts": ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_request"),
    "two lengths": (
        HEAD + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        400,
        "invalid_request",
    ),
    "a length below nothing": (HEAD + "Content-Length: -1\r\n\r\n", 400, "invalid_request"),
    "a length of ten thousand digits": (
        HEAD + "Content-Length: " + "9" * 5_000 + "\r\n\r\n",
        400,
        "invalid_request",
    ),
    "a length and chunks": (
        HEAD + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "invalid_request",
    ),
    "a chunk without a size": (
        HEAD + "Transfer-Encoding: chunked\r\n\r\nx\r\n",
        400,
        "invalid_request",
    ),
    "an unknown coding": (HEAD + "Transfer-Encoding: gzip\r\n\r\n", 501, "invalid_request"),
    "a control character": (
        "GET / HTTP/1.1\r\nHost: h\r\nA: \x01b\r\n\r\n",
        400,
        "invalid_request",
    ),
    "two keys": (HEAD + f"Authorization: Bearer {KEY}\r\n\r\n", 400, "repeated_header"),
    "two keys for a session": (
        HANDSHAKE + "Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
        400,
        "repeated_header",
    ),
    "two origins": (
        HANDSHAKE + "Origin: https://a\r\nOrigin: https://b\r\n\r\n",
        400,
        "repeated_header",
    ),
    "a wrong key": (
        f"POST {SECRETS} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer \xff\r\n\r\n".encode(
            "latin-1"
        ),
        401,
        "invalid_api_key",
    ),
    "a long head": ("GET / HTTP/1.1\r\nHost: h\r\n" + "a: b\r\n" * 3_000, 431, "head_too_large"),
    "a long line": (
        "GET / HTTP/1.1\r\nHost: h\r\nCookie: " + "c" * 9_000 + "\r\n\r\n",
        431,
        "head_too_large",
    ),
    "many headers": (
        "GET / HTTP/1.1\r\nHost: h\r\n" + "a: b\r\n" * 100 + "\r\n",
        431,
        "head_too_large",
    ),
    "a long address": ("GET /" + "a" * 9_000 + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"),
    "a large body": (HEAD + f"Content-Length: {LARGE}\r\n\r\n", 413, "body_too_large"),
    "a large body in chunks": (
        (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunked(bytes(LARGE), 65_536),
        413,
        "body_too_large",
    ),
    "a form": (
        HEAD + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b",
        415,
        "unsupported_media_type",
    ),
    "a compressed body": (
        HEAD + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        415,
        "unsupported_media_type",
    ),
    "nesting": (
        HEAD
        + "Content-Length: 200013\r\n\r\n"
        + '{"session":'
        + "[" * 100_000
        + "]" * 100_000
        + "} ",
        400,
        "invalid_value",
    ),
    "no UTF-8": (
        (HEAD + "Content-Length: 24\r\n\r\n").encode() + b'{"session":{"type":"\xff"}}',
        400,
        "invalid_json",
    ),
    "a method that is not there": (
        "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
        405,
        "method_not_allowed",
    ),
    "a proxy's request": (
        "CONNECT else.where:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        405,
        "method_not_allowed",
    ),
    "an address that is no address": ("GET //[ HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found"),
    "no upgrade": ("GET /v1/realtime HTTP/1.1\r\nHost: h\r\n\r\n", 426, "upgrade_required"),
    "an upgrade by HTTP/1.0": (
        HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0") + "\r\n",
        426,
        "upgrade_required",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named_to_the_client_and_in_one_line_of_the_log(
    what: str, caplog: pytest.LogCaptureFixture
):
    sent, status, code = REFUSED[what]

    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(sent)
        found, headers, body = await client.answer()
        error = json.loads(body)["error"]
        assert (found, error["code"], headers["content-type"]) == (status, code, "application/json")
        assert error["message"]
        if status == 405:
            assert headers["allow"] == "GET, HEAD"

    run(play)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert re.match(rf"refused 127\.0\.0\.1: (\S+ /\S*|no request): {code}: ", record.getMessage())
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ("POST /v1/realtime/calls", "WebSocket at /v1/realtime"),
        ("POST /v1/realtime/calls/rtc_1/accept", "WebSocket at /v1/realtime"),
        ("POST /v1/realtime/sessions", "POST /v1/realtime/client_secrets"),
        ("POST /v1/realtime/transcription_sessions", "session.audio.input.transcription"),
        ("GET /v1/models", "any model name"),
        ("GET /v1/models/gpt-realtime", "any model name"),
        ("POST /v1/chat/completions", "mimo-live ask"),
        ("POST /v1/audio/speech", "mimo-live ask"),
        ("GET /favicon.ico", "/healthz"),
        ("GET /v1", "WebSocket at /v1/realtime"),
        ("GET /v1/", "WebSocket at /v1/realtime"),
        ("GET /kiosk/", "/kiosk"),
    ],
)
def test_what_is_not_offered_is_answered_by_what_is(asked: str, instead: str):
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(f"{asked} HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nv=0\n")
        status, _, body = await client.answer()
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (404, "not_found")
        assert instead in error["message"].partition(asked.split()[1])[2]

    run(play)


def test_a_websocket_elsewhere_and_a_call_by_post_are_shown_the_way():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(HANDSHAKE.replace("/v1/realtime", "/") + "\r\n")
        status, _, body = await client.answer()
        assert status == 404
        assert b"There is no WebSocket at /. Sessions are held over the WebSocket at" in body
        client.send("POST /v1/realtime HTTP/1.1\r\nHost: here\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, headers["allow"]) == (405, "GET")
        assert b"WebRTC and SIP are not supported" in body

    run(play)


def test_a_body_in_chunks_is_read_as_one_with_a_length():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        for framed in (
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(SESSION),
            b"Content-Length: %d\r\n\r\n%b" % (len(SESSION), SESSION),
            b"Content-Length: %d\r\n" % len(SESSION) * 2 + b"\r\n" + SESSION,
        ):
            client.send(HEAD.encode() + framed)
            status, headers, body = await client.answer()
            assert status == 200
            assert json.loads(body)["session"]["instructions"] == "Speak like a pirate."
            assert headers["cache-control"] == "no-store"

    run(play)


def test_a_body_is_asked_for_only_from_clients_that_may_send_one():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        wait = "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        client.send(HEAD + wait)
        assert (await client.answer())[0] == 100
        client.send("{}")
        assert (await client.answer())[0] == 200
        client.send(HEAD.replace(KEY, "sk-wrong") + wait)
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (401, "close")
        assert headers["www-authenticate"] == "Bearer"
        assert await client.rest() == b""

    run(play)


def test_head_is_get_without_the_body_and_a_known_tag_saves_it():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        page = "/page/page.js HTTP/1.1\r\nHost: here\r\n"
        client.send(f"GET {page}\r\n")
        status, headers, body = await client.answer()
        assert (status, body) == (200, (FOLDER / "page.js").read_bytes())
        client.send(f"HEAD {page}\r\n")
        status, same, _ = await client.answer("HEAD")
        del headers["date"], same["date"]
        assert (status, same) == (200, headers)
        tag = headers["etag"]
        for known in (tag, f'"x", W/{tag}', "*", f'"x"\r\nIf-None-Match: {tag}'):
            client.send(f"GET {page}If-None-Match: {known}\r\n\r\n")
            status, same, body = await client.answer()
            assert (status, body, same["etag"]) == (304, b"", tag)
            assert "content-length" not in same
        client.send(f'GET {page}If-None-Match: "other"\r\n\r\n')
        assert (await client.answer())[0] == 200

    run(play)


@pytest.mark.parametrize(
    "asked",
    [
        "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET http://else.where:80/healthz HTTP/1.0\r\n\r\n",
        # Who sends two requests at once has to ask again.
        "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" * 2,
    ],
)
def test_a_connection_that_ends_is_announced(asked: str):
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(asked)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(body)["status"] == "healthy"
        assert await client.rest() == b""

    run(play)


def test_a_refusal_arrives_although_the_client_goes_on_sending():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(HEAD.replace(KEY, "sk-wrong") + "Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            client.send(chunked(bytes(65_536), 65_536)[:-5])
            await client.writer.drain()
        assert (await client.answer())[0] == 401

    run(play)


def play_by_a_hasty_clock(play: Callable[[Door, Hasty], Awaitable[None]]) -> None:
    loop = Hasty()

    async def scene() -> None:
        async with serving() as (enter, _):
            await play(enter, loop)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(asyncio.wait_for(scene(), 1_000))


@pytest.mark.parametrize(
    ("begun", "part"),
    [("GET / HT", "head"), (HEAD + "Content-Length: 9\r\n\r\n{", "body")],
)
def test_a_request_that_does_not_end_is_given_up(begun: str, part: str):
    async def play(enter: Door, loop: Hasty) -> None:
        client, other = await enter(), await enter()
        client.send(begun)
        other.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        await other.answer()
        loop.ahead_s += REQUEST_S
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(body)["error"]["message"].startswith(f"The {part} of the request was not")
        assert await client.rest() == b""
        assert await other.rest() == b"", "and who asks for nothing more is let go without a word"

    play_by_a_hasty_clock(play)


def test_answers_that_nobody_reads_are_few_and_are_dropped():
    async def play(enter: Door, loop: Hasty) -> None:
        other, client = await enter(), await enter()
        client.reader._transport.pause_reading()  # pyright: ignore

        async def is_served() -> None:
            other.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await other.answer())[0] == 200

        # More than the system keeps for a connection.
        for _ in range(15 * 2**20 // (FOLDER / "session.js").stat().st_size):
            client.send("GET /page/session.js HTTP/1.1\r\nHost: h\r\n\r\n")
            await is_served()
        [waiting] = [each for each in client.doorway._doors if each._is_unread]  # pyright: ignore
        assert 2**16 < waiting._transport.get_write_buffer_size() < 2**17  # pyright: ignore
        for passes_s, is_kept in ((ANSWER_S / 3, True), (ANSWER_S, False)):
            loop.ahead_s += passes_s
            for _ in range(5):
                await asyncio.sleep(0)
            assert (waiting in client.doorway._doors) == is_kept  # pyright: ignore

    play_by_a_hasty_clock(play)


def test_where_too_many_wait_the_one_that_waited_longest_goes(caplog: pytest.LogCaptureFixture):
    async def play(enter: Door, url: str) -> None:
        key = {"Authorization": f"Bearer {KEY}"}
        async with connect(url + "/v1/realtime", additional_headers=key) as session:
            first = await enter()
            others = [await enter() for _ in range(3)]
            assert await first.rest() == b""
            await session.send("a session counts no longer")
            assert await session.recv()
            for each in others:
                each.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                assert (await each.answer())[0] == 200

    run(play, most=3)
    assert "too_many_connections" in caplog.text


def test_subprotocols_on_several_lines_are_one_list():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        offered = ["realtime", f"openai-insecure-api-key.{KEY}, other"]
        client.send(HANDSHAKE)
        client.send("".join(f"Sec-WebSocket-Protocol: {each}\r\n" for each in offered) + "\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["sec-websocket-protocol"]) == (101, "realtime")

    run(play)


def test_a_handshake_and_its_first_frame_may_come_together():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        key = f"api-key: {KEY}\r\n"
        client.send(f"{HANDSHAKE}{key}\r\n".encode() + b"\x81\x82\0\0\0\0hi")
        assert (await client.answer())[0] == 101
        assert await client.reader.readexactly(4) == b"\x81\x02hi"

    run(play)


def test_a_handshake_that_is_wrong_is_answered_by_what_is_wrong():
    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send(HANDSHAKE.replace("Version: 13", "Version: 8") + "\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers["sec-websocket-version"]) == (426, "13")

    run(play)


def spoiled(chance: random.Random, text: bytes) -> bytes:
    """Cut, change, repeat or add bytes somewhere."""
    place, end = sorted(chance.randrange(len(text)) for _ in range(2))
    part = text[place:end]
    new = chance.choice([b"", part * 2, chance.randbytes(3), b"\r\n", b"\0", b"\xff", b": ", b","])
    return text[:place] + new + text[chance.choice([place, end]) :]


def test_spoiled_requests_are_answered_or_dropped_and_harm_nobody(caplog: pytest.LogCaptureFixture):
    chance = random.Random(12)
    whole = [
        b"GET /page/page.js?a=b HTTP/1.1\r\nHost: h\r\nIf-None-Match: a, b\r\n\r\n",
        HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(SESSION),
        HEAD.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(SESSION), SESSION),
        HANDSHAKE.encode() + b"Sec-WebSocket-Protocol: realtime\r\n\r\n\x81\x82\0\0\0\0hi",
    ]

    async def play(enter: Door, url: str) -> None:
        for _ in range(400):
            client = await enter()
            client.send(spoiled(chance, spoiled(chance, chance.choice(whole))))
            client.writer.write_eof()
            answer = await client.rest()
            assert not answer or re.match(rb"HTTP/1\.1 (1|2|3|4|501|505)", answer)
            client.writer.close()

    run(play)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert KEY not in caplog.text


def test_a_flood_of_refusals_is_counted_and_others_are_still_logged(
    caplog: pytest.LogCaptureFixture,
):
    now = 0.0
    refusals = Refusals(lambda: now)
    for number in range(MOST_A_MINUTE + 5):
        refusals.note("10.0.0.1", "GET /", "not_found", f"{number}\n\x1b[31m and more")
    refusals.note("10.0.0.1", "GET /", "invalid_api_key", "wrong")
    assert len(caplog.records) == MOST_A_MINUTE + 1
    assert caplog.messages[0] == "refused 10.0.0.1: GET /: not_found: 0??[31m and more"
    assert "invalid_api_key" in caplog.messages[-1]
    caplog.clear()
    now = 60.0
    refusals.note("10.0.0.1", "GET /", "not_found", "again")
    assert caplog.messages[0] == "refused 5 more for not_found"
    assert caplog.messages[1].endswith("again")


def test_every_file_of_the_page_has_a_type_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert {path.suffix for path in FOLDER.iterdir()} <= set(TYPES)
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "a.js~").write_text("1")
    (tmp_path / "index.html").write_text("")
    (tmp_path / "kiosk.html").write_text("")
    monkeypatch.setattr(pages, "FOLDER", tmp_path)

    async def play(enter: Door, url: str) -> None:
        client = await enter()
        client.send("GET /page/a.js HTTP/1.1\r\nHost: h\r\n\r\n")
        _, headers, _ = await client.answer()
        assert headers["content-type"] == "text/javascript; charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"
        client.send("GET /page/a.js~ HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.answer())[0] == 404

    run(play)
