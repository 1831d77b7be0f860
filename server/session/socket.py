"""The server's end of a client's WebSocket, whose messages can be taken in the moment they come."""

import asyncio
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from server.auth import Objection
from server.event_loop import PatientLoop

LARGE = 2**20
"""Bytes of a frame; sixteen that wait, as small ones may, would take 320 MiB of one client."""

MOST_UNREAD = 2**17
"""Bytes sent and not read: twice what makes a sender wait, so that only answers to pings do."""
PONG = b"\x8a"

Message = str | bytes


class ClientSocket(ServerConnection):
    """A connection of `websockets`, which otherwise wakes a task for every message."""

    client = "somebody"
    """Its address."""
    on_message: Callable[[Message], bool] | None = None
    """Takes a message, or returns False to have it wait for `recv`."""
    objection: Objection | None = None
    """Why it may not come in; it is told so, and nothing of it is read."""
    _pong = b""
    """The answer to the latest ping, while what was sent is not read."""
    on_lost: Callable[[], None] | None = None
    """Called at the end of the connection."""

    def take_over(self, transport: asyncio.Transport, client: str, data: bytes) -> None:
        """Take a connection from whatever had it, with what came over it so far."""
        self.client = client
        transport.set_protocol(self)
        self.connection_made(transport)
        self.data_received(data)

    def begin(self, on_message: Callable[[Message], bool]) -> None:
        """Hand over messages from now on, and read them together with those of other clients."""
        self.on_message = on_message
        if isinstance(self.loop, PatientLoop) and not self.transport.is_closing():
            self.loop.read_together(self.transport)

    def leave(self) -> None:
        """The connection is over, here or where it was served."""
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)
        # Tracebacks may hold this for long: not with half a message.
        self.protocol.reader.buffer.clear()

    def send_data(self) -> None:
        """Send what `websockets` wrote; who doesn't read is answered only the latest of its pings,
        as RFC 6455 allows: any number of answers would wait otherwise."""
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            written = self.protocol.writes
            pongs = [each for each in written if each[:1] == PONG]
            if pongs:
                self._pong = pongs[-1]
                self.protocol.writes = [each for each in written if each[:1] != PONG]
        super().send_data()

    def resume_writing(self) -> None:
        pong, self._pong = self._pong, b""
        if pong and not self.transport.is_closing():
            self.transport.write(pong)
        super().resume_writing()

    def process_event(self, event: Event) -> None:
        """Hand over a message; what is not whole, or comes after one that waits, waits as well."""
        if isinstance(event, Frame) and len(event.data) > LARGE:
            # From who sends such, one waits, and not sixteen.
            self.recv_messages.high = self.recv_messages.low = 0
        if (
            self.on_message is not None
            and isinstance(event, Frame)
            and event.fin
            and not self.recv_messages.frames
            and (message := _message(event)) is not None
            and self.on_message(message)
        ):
            return
        super().process_event(event)


def address(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection."""
    match transport.get_extra_info("peername"):
        case [str(address), *_]:
            return address
        case _:
            return "somebody"


def _message(frame: Frame) -> Message | None:
    """What the frame says, if it is a message of its own; `recv` complains of what is no text."""
    if frame.opcode is Opcode.BINARY:
        return bytes(frame.data)
    if frame.opcode is Opcode.TEXT:
        try:
            return str(frame.data, "utf-8")
        except UnicodeDecodeError:
            return None
    return None
