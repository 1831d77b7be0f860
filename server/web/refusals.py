"""The log of who was refused and why: a line each, but not for a flood of strangers."""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST_A_MINUTE = 20
"""Lines for each reason; more would let strangers fill a disk."""


class Refusals:
    """Logs refusals, and only counts those that are too many.

    Args:
        clock: Seconds that go on, from anywhere.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since = clock()
        self._counts: Counter[str] = Counter()

    def note(self, who: str, what: str, code: str, why: str) -> None:
        """Log a refusal.

        Args:
            who: Address of the client.
            what: What it asked for, without its query.
            code: The reason, one of a few words of ours.
            why: The reason as a sentence, never with a key.
        """
        if self._clock() - self._since >= 60.0:
            self._begin_anew()
        self._counts[code] += 1
        if self._counts[code] <= MOST_A_MINUTE:
            log.warning("refused %s: %s: %s: %s", who, _plain(what, 80), code, _plain(why, 200))

    def _begin_anew(self) -> None:
        for code, count in self._counts.items():
            if count > MOST_A_MINUTE:
                log.warning("refused %d more for %s", count - MOST_A_MINUTE, code)
        self._since = self._clock()
        self._counts.clear()


def client(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection."""
    match transport.get_extra_info("peername"):
        case [str(address), *_]:
            return address
        case _:
            return "somebody"


def _plain(text: str, most: int) -> str:
    """What clients may write into a log: short, and without line ends and control characters."""
    return re.sub("[^ -~]", "?", text[:most])
