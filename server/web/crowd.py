"""How many conversations may be open at once: in all, and from one address."""

import logging
from collections import Counter

from server.auth import Objection, is_loopback

try:
    import resource
except ImportError:
    # Windows has another limit.
    resource = None

log = logging.getLogger(__name__)

RESERVED_FILES = 40
"""File descriptors for the model servers, the recogniser, traces and Python's own modules: without
one the server can neither answer nor go on. More would be missing where few are allowed."""

_UNLIMITED = 2**20
"""Stands for no limit; more than any setting asks for."""

EVERYWHERE, HERE = "too_many_sessions", "too_many_sessions_from_address"


class Crowd:
    """Counts the conversations.

    Args:
        most: How many there may be.
        most_each: How many from one address. Those of this machine are not counted, as the
            clients of a proxy here all come from it.
    """

    def __init__(self, most: int, most_each: int):
        self._most = most
        self._most_each = most_each
        self._counts: Counter[str] = Counter()

    def objection(self, address: str) -> Objection | None:
        """Why nobody else may come from there now."""
        if self._counts.total() >= self._most:
            message = f"The server holds {self._most} sessions, which is its limit. Try later."
            return Objection(EVERYWHERE, message)
        if self._counts[address] >= self._most_each and not is_loopback(address):
            message = f"Your address holds {self._most_each} sessions, which is the limit of the "
            return Objection(HERE, f"{message}server. End one of them.")
        return None

    def enter(self, address: str) -> None:
        self._counts[address] += 1

    def leave(self, address: str) -> None:
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]


def places(sessions: int, waiting: int) -> tuple[int, int]:
    """How many sessions, and connections without one, the system has file descriptors for.

    Args:
        sessions: How many there should be; fewer are logged.
        waiting: The same of connections.
    """
    free = _most_files() - RESERVED_FILES
    waiting = max(1, min(waiting, free // 3))
    # Each session may have a request to the model.
    fits = max(1, (free - waiting) // 2)
    if fits < sessions:
        log.warning("only %d sessions fit: too few files may be open, see ulimit -n", fits)
    return min(sessions, fits), waiting


def _most_files() -> int:
    if resource is None:
        return _UNLIMITED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft
