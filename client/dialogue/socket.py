"""One WebSocket to a conversation server: opened, refused, greeted."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from agent.errors import AgentError, ProtocolError
from agent.keys import SERVER
from agent.network.proxies import ProxyError, proxy_for
from client.dialogue import events as wire
from client.dialogue.events import Problem, SessionCreated, full_url
from client.keys import authorization, key_of_environment

MOST_FRAME_BYTES = 2**24
"""Above the largest event of a server; more would let a wrong one fill the memory."""
HELLO_TIMEOUT_S = 10.0
"""A busy server greets within it; longer only delays saying that it won't."""
PING_S = 5.0
"""Between pings, and for each answer: how soon a cut cable is noticed."""

PROBE_S = 3.0
"""One question more to a server that has refused already: its user waits for the reason."""

REFUSED = (401, 403)
"""HTTP's for a key that is missing or wrong, and for one that isn't enough."""

WRONG_KEY = "invalid_api_key"


class _Refusal(msgspec.Struct):
    error: Problem


class _Connect(connect):
    """Connects directly or through a proxy; each redirect decides anew."""

    async def open_tcp_connection(self) -> ClientConnection:
        self.proxy = proxy_for(self.uri, os.environ)
        return await super().open_tcp_connection()


class UnreachableError(AgentError):
    """The server can't be reached, refused the session, or left in the middle of it."""


class RefusedError(UnreachableError):
    """The server wants no conversation with this client; trying again won't help."""


async def reach(url: str, **query: str | int) -> ClientConnection:
    """Connect to a conversation server, with the key of the environment if there is one.

    Raises:
        UnreachableError: If nothing answers there, or what answers holds no conversations.
        SettingsError: If the environment's key can't be one.
    """
    key = key_of_environment(SERVER)
    try:
        return await _Connect(
            full_url(url, **query),
            additional_headers=authorization(key),
            max_size=MOST_FRAME_BYTES,
            compression=None,
            close_timeout=1,
            ping_interval=PING_S,
            ping_timeout=PING_S,
        )
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ProxyError, ValueError) as error:
        reason = str(error) or "no answer in time"
        status = error.response.status_code if isinstance(error, InvalidStatus) else None
        if isinstance(error, InvalidStatus) and (told := _told(error.response.body)):
            if told.code == WRONG_KEY:
                raise RefusedError(_key_wanted()) from error
            reason = told.message
        refused = status in REFUSED
        kind = RefusedError if refused else UnreachableError
        garbled = isinstance(error, InvalidMessage | ssl.SSLError | ConnectionResetError)
        if garbled or status == HTTPStatus.BAD_REQUEST:
            reason = await _other_scheme(full_url(url)) or reason
        raise kind(f"can't reach a conversation server at {url}: {reason}") from error


def _told(body: bytes | bytearray | None) -> Problem | None:
    """What a server of this protocol says of a handshake that it refused."""
    try:
        return msgspec.json.decode(body or b"", type=_Refusal).error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _key_wanted() -> str:
    other = "a different" if key_of_environment(SERVER) else "an"
    return f"the server requires {other} API key; set the environment variable {SERVER}"


async def _other_scheme(url: str) -> str:
    """What to say where the server speaks TLS and the URL doesn't, or the reverse; else `""`."""
    where = urlsplit(url)
    secure = where.scheme == "wss"
    port = where.port or (443 if secure else 80)
    context = ssl.create_default_context()
    # Only whether TLS is spoken counts here, not by whom.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_S):
            other = None if secure else context
            reader, writer = await asyncio.open_connection(where.hostname, port, ssl=other)
            try:
                writer.write(f"GET / HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
                await reader.readuntil(b"HTTP/")
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        return ""
    scheme, speaks = ("ws", "does not speak") if secure else ("wss", "speaks")
    return f"the server {speaks} TLS: use {where._replace(scheme=scheme).geturl()}"


async def greeted(socket: ClientConnection) -> SessionCreated:
    """Wait for the server's first word.

    Raises:
        UnreachableError: If it is another one, or doesn't come.
        RefusedError: If the server wants another key.
    """
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            event = wire.decode(await socket.recv())
    except (TimeoutError, ConnectionClosed, ProtocolError) as error:
        raise UnreachableError(
            "the server accepted the connection but did not start a session"
        ) from error
    match event:
        case SessionCreated():
            return event
        case wire.ErrorEvent(error) if error.code == WRONG_KEY:
            raise RefusedError(_key_wanted())
        case wire.ErrorEvent(error):
            raise UnreachableError(error.message)
        case _:
            raise UnreachableError("the server did not start a session")


@asynccontextmanager
async def open_socket(url: str) -> AsyncGenerator[ClientConnection]:
    """Connect to a conversation server, as `reach` does, for the time of a `with`."""
    socket = await reach(url)
    try:
        yield socket
    finally:
        await socket.close()
