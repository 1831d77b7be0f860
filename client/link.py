"""One WebSocket to a conversation server: opened, refused, greeted."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from agent.errors import AgentError, ProtocolError
from agent.keys import SERVER
from agent.proxies import ProxyError, proxy_for
from client import wire
from client.keys import authorization, key_of_environment
from client.wire import SessionCreated, full_url

MOST_FRAME_BYTES = 2**24
HELLO_TIMEOUT_S = 10.0
PING_S = 5.0
"""Between pings, and for each answer: how soon a cut cable is noticed."""

REFUSED = (401, 403)

WRONG_KEY = "invalid_api_key"


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
        refused = isinstance(error, InvalidStatus) and error.response.status_code in REFUSED
        kind = RefusedError if refused else UnreachableError
        raise kind(f"can't reach a conversation server at {url}: {reason}") from error


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
            other = "a different" if key_of_environment(SERVER) else "an"
            raise RefusedError(
                f"the server requires {other} API key; set the environment variable {SERVER}"
            )
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
