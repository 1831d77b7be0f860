"""The sessions that are running: found again by clients that were lost, and seen when stuck."""

import asyncio
import hmac
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from agent.realtime.resumption import Position
from server.session.connection import Connection
from server.web.http import query

log = logging.getLogger(__name__)

MOST_AWAY = 1_000
"""Sessions that wait for their client; when one more begins, the oldest of them ends."""
LONGEST_NUMBER = 15
"""Digits of an event or a sample, of which a session has billions at most."""
STUCK_S = 60.0
"""Past its deadline; a client that stopped reading is given up sooner, for it answers no ping."""


class SessionRegistry:
    """Knows every connection while it runs.

    Args:
        on_change: Told when one comes, goes or is found stuck.
    """

    def __init__(
        self,
        most_away: int = MOST_AWAY,
        stuck_s: float = STUCK_S,
        on_change: Callable[[], object] = lambda: None,
    ):
        self._on_change = on_change
        self._most_away = most_away
        self._stuck_s = stuck_s
        self._connections: dict[Connection, None] = {}
        self.is_draining = False
        """Whether no session is to begin any more, and those that run are to end."""
        self._emptied = asyncio.Event()

    @contextmanager
    def running(self, connection: Connection) -> Generator[None]:
        """Know the connection for the time of a `with`."""
        away = [each for each in self._connections if each.link.is_away]
        for each in away[: max(0, len(away) - self._most_away)]:
            each.link.end()
        self._connections[connection] = None
        self._on_change()
        if self.is_draining:
            connection.drain()
        try:
            yield
        finally:
            del self._connections[connection]
            self._on_change()
            if not self._connections:
                self._emptied.set()

    def find(self, token: str) -> Connection | None:
        """The connection that a client may go on with by showing that token."""
        for connection in self._connections:
            known = connection.link.resume_token
            if known and hmac.compare_digest(known.encode(), token.encode()):
                return connection
        return None

    @property
    def sessions(self) -> int:
        """How many there are."""
        return len(self._connections)

    @property
    def stuck(self) -> int:
        """How many should have acted a minute ago, and have not: a bug of ours."""
        return len(self._stuck())

    async def watch(self) -> None:
        """Log every session that gets stuck, once."""
        known: list[Connection] = []
        while True:
            await asyncio.sleep(self._stuck_s / 4)
            stuck = self._stuck()
            for each in stuck:
                if each not in known:
                    log.error("stuck: %s, %.0f s after its deadline", str(each), each.overdue_s)
            known = stuck
            self._on_change()

    def _stuck(self) -> list[Connection]:
        return [each for each in self._connections if each.overdue_s > self._stuck_s]

    async def drain(self) -> None:
        """End each session once nobody has its floor, and return when the last is over."""
        self.is_draining = True
        for connection in self._connections:
            connection.drain()
        self._emptied.clear()
        if self._connections:
            await self._emptied.wait()

    def close(self) -> None:
        """End the sessions whose clients are away; the others end with their sockets."""
        for connection in self._connections:
            connection.link.end()


def asked(target: str) -> tuple[str, Position]:
    """What the query of a handshake says: the token to resume with, and how far the client got.

    What can't be read counts as not said.
    """
    words = query(target)
    after = _first(words, "after").removeprefix("event_")
    position = Position(
        _number(after), _first(words, "item_id"), _number(_first(words, "received_samples")) or 0
    )
    return _first(words, "resume"), position


def _first(words: Mapping[str, Sequence[str]], name: str) -> str:
    return words.get(name, [""])[0]


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return int(text) if is_number else None
