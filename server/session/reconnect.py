"""The wait for a client that lost its connection and may come back."""

import asyncio
from contextlib import suppress

from agent.realtime import server_events as events
from agent.realtime.resumption import Position


class ClientGoneError(Exception):
    """The client is gone for good."""


class ReconnectWindow:
    """The wait for a client that was lost."""

    def __init__(self, grace_s: float):
        self._grace_s = grace_s
        self._stirred = asyncio.Event()
        self._come: tuple[events.SessionCreated, Position] | None = None
        self.is_over = False

    def come(self, greeting: events.SessionCreated, position: Position) -> None:
        self._come = greeting, position
        self._stirred.set()

    def end(self) -> None:
        """Nobody is waited for, now or later."""
        self.is_over = True
        self._stirred.set()

    async def wait(self) -> tuple[events.SessionCreated, Position]:
        """Wait for the client; return its greeting, and how far it had got.

        Raises:
            GoneError: If it doesn't come back.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                await self._stirred.wait()
        come, self._come = self._come, None
        if come is None:
            self.is_over = True
            raise ClientGoneError
        if not self.is_over:
            self._stirred.clear()
        return come
