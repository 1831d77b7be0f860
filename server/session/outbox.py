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
        self._changed = asyncio.Condition()

    def __str__(self) -> str:
        return f"{len(self._outgoing)} of {self._most}"

    async def put(self, event: ServerEvent | Close) -> None:
        async with self._changed:
            match event:
                case ResponseDone(response=response) if response.status == "cancelled":
                    pass
                case _:
                    await self._changed.wait_for(lambda: len(self._outgoing) < self._most)
            self._outgoing.put(event)
            self._changed.notify_all()

    async def get(self) -> Frame | Close:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._outgoing))
            event = self._outgoing.take()
            self._changed.notify_all()
            return event

    def heard(self, item_id: str, samples: int) -> None:
        self._outgoing.heard(item_id, samples)

    async def resume(self, greeting: SessionCreated, position: Position) -> None:
        async with self._changed:
            self._outgoing.resume(greeting, position)
            self._changed.notify_all()
