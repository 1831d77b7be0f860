"""The link to one client: read and write, over one socket after the other.

A client that asked to resume may lose its socket and come back over another: the session goes on
meanwhile, until the grace time is over.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from agent.commands import SHUTTING_DOWN, Close
from agent.errors import ProtocolError
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.resumption import Position
from agent.session import Session
from agent.speaking.resend_buffer import Frame
from server.session.inbox import Inbox
from server.session.outbox import Outbox
from server.session.socket import ClientSocket, Message

log = logging.getLogger(__name__)

GOODBYE = 1000
"""WebSocket close code of a client that won't come back; all others are losses."""


class ClientGoneError(Exception):
    """The client is gone for good."""


class Link:
    """The link to one client.

    Args:
        inbox: Takes what the client sends.
        hear: Takes sound on the spot, while the inbox is idle, or returns False.
        grace_s: How long a client that asked to resume may be away.
    """

    def __init__(
        self,
        socket: ClientSocket,
        session: Session,
        inbox: Inbox,
        hear: Callable[[protocol.InputAudioAppend], bool],
        grace_s: float,
    ):
        self._socket = socket
        self._session = session
        self._inbox = inbox
        self._hear = hear
        self._grace_s = grace_s
        self.outbox = Outbox()
        """What is sent to the client."""
        self._come: tuple[events.SessionCreated, Position] | None = None
        self._stirred = asyncio.Event()
        self._is_over = False
        self._is_reading = False
        """Whether a long message is being read: what comes behind it must wait."""

    @property
    def resume_token(self) -> str | None:
        """What a client has to show to go on with this session."""
        close = self._socket.protocol.close_rcvd
        has_left = close is not None and close.code == GOODBYE
        return None if self._is_over or has_left else self._session.resumption.token

    @property
    def is_away(self) -> bool:
        """Whether the client has lost its connection."""
        return self._socket.state is State.CLOSED

    async def run(self) -> None:
        """Read and write until nobody is waited for any more.

        Raises:
            ClientGoneError: Then.
        """
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(self._socket), name="read")
                    tasks.create_task(self._write(self._socket), name="write")
            except* ConnectionClosed:
                pass
            if self.resume_token is None:
                self.end()
            self.outbox.resume(*await self._wait())

    async def _read(self, socket: ClientSocket) -> None:
        socket.begin(self._take)
        try:
            while True:
                message = await socket.recv()
                self._is_reading = True
                event = await _read_event(message)
                self._is_reading = False
                await self._inbox.put(event)
        finally:
            socket.on_message = None
            self._is_reading = False

    def _take(self, message: Message) -> bool:
        """Take a message for which nobody has to wait."""
        if self._is_reading or not self._inbox.is_idle or len(message) > protocol.MOST_BYTES:
            return False
        event = _event(message)
        if not (isinstance(event, protocol.InputAudioAppend) and self._hear(event)):
            self._inbox.put_now(event)
        return True

    async def _write(self, socket: ClientSocket) -> None:
        while True:
            match await self.outbox.get():
                case Close(code, reason):
                    log.info("%s: closing with %d, %s", self._session, code, reason)
                    self.end()
                    await socket.close(code, reason)
                    return
                case Frame(data, is_text):
                    await socket.send(data, text=is_text)

    async def _wait(self) -> tuple[events.SessionCreated, Position]:
        """Wait for the client to come back; return its greeting, and how far it had got.

        Raises:
            ClientGoneError: If it doesn't.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                await self._stirred.wait()
        come, self._come = self._come, None
        if come is None:
            self._is_over = True
            raise ClientGoneError
        if not self._is_over:
            self._stirred.clear()
        return come

    async def resume(
        self, socket: ClientSocket, greeting: events.SessionCreated, position: Position
    ) -> None:
        """Go on over another socket, and return when that is closed.

        The old socket may look open still: a cut network is noticed late.
        """
        old, self._socket = self._socket, socket
        self._come = greeting, position
        self._stirred.set()
        old.transport.abort()
        await socket.wait_closed()

    def end(self) -> None:
        """Wait for the client no more, should it be away or get lost."""
        self._is_over = True
        self._stirred.set()

    async def say_goodbye(self) -> None:
        """Close the connection once all is sent, as the server is to end."""
        await self.outbox.put(SHUTTING_DOWN)

    async def close(self) -> None:
        """Close the socket, which only a failure leaves open."""
        await self._socket.close(1011)


async def _read_event(message: Message) -> protocol.AnyClientEvent | ProtocolError:
    """Read a message of any size, and let others be served meanwhile."""
    if isinstance(message, bytes) or len(message) <= protocol.MOST_BYTES:
        return _event(message)
    steps = protocol.decode_in_steps(message)
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as done:
        event: protocol.AnyClientEvent = done.value
        return event
    except ProtocolError as error:
        return error


def _event(message: Message) -> protocol.AnyClientEvent | ProtocolError:
    try:
        is_binary = isinstance(message, bytes)
        return protocol.BinaryAppend(audio=message) if is_binary else protocol.decode(message)
    except ProtocolError as error:
        return error
