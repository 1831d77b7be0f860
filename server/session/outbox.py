"""What waits to be sent to one client; it holds up who fills it while it is full."""

import asyncio

from agent.commands import Close
from agent.realtime.resumption import Position
from agent.realtime.server_events import ResponseDone, ServerEvent, SessionCreated
from agent.speaking.resend_buffer import Frame, ResendBuffer

OUTBOX_EVENTS = 256
"""A reply is held up while so many wait: more take memory for a client that doesn't read."""


class Outbox:
    """See `ResendBuffer`, which decides what is sent; this waits."""

    def __init__(self, most: int = OUTBOX_EVENTS):
        self._outgoing = ResendBuffer()
        self._most = most
        self._has_some = asyncio.Event()
        self._has_room = asyncio.Event()

    def __str__(self) -> str:
        return f"{len(self._outgoing)} of {self._most}"

    async def put(self, event: ServerEvent | Close) -> None:
        match event:
            case ResponseDone(response=response) if response.status == "cancelled":
                # It makes room, as sound that waits is dropped.
                pass
            case _:
                while len(self._outgoing) >= self._most:
                    self._has_room.clear()
                    await self._has_room.wait()
        self._outgoing.put(event)
        self._has_some.set()

    async def get(self) -> Frame | Close:
        while not len(self._outgoing):
            self._has_some.clear()
            await self._has_some.wait()
        self._has_room.set()
        return self._outgoing.take()

    def heard(self, item_id: str, samples: int) -> None:
        self._outgoing.heard(item_id, samples)

    def resume(self, greeting: SessionCreated, position: Position) -> None:
        self._outgoing.resume(greeting, position)
        self._has_some.set()
