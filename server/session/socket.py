"""The server's end of a client's WebSocket, whose messages can be taken in the moment they come."""

import asyncio
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from server.event_loop import PatientLoop

Message = str | bytes


class ClientSocket(ServerConnection):
    """A connection of `websockets`, which otherwise wakes a task for every message."""

    client = "somebody"
    """Its address."""
    on_message: Callable[[Message], bool] | None = None
    """Takes a message, or returns False to have it wait for `recv`."""

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

    def process_event(self, event: Event) -> None:
        """Hand over a message; what is not whole, or comes after one that waits, waits as well."""
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
