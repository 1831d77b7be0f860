"""The queue at a replica, which makes one reply at a time: who goes next, and how long it takes.

Whose listener runs dry first goes first. That is fair, too: a reply that waits for silence only
can't be overtaken by one that is asked for later.
"""

from dataclasses import dataclass

TYPICAL_S = 4.0
"""How long a reply occupies a replica until some have been seen."""

_WEIGHT = 0.2
"""Of the latest reply in the moving average."""


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A place in the queue; the least goes first."""

    dry_at: float
    """When the listener will have heard everything there is."""
    number: int


class Admission:
    """Admits one reply at a time."""

    def __init__(self) -> None:
        self._waiting: list[Ticket] = []
        self._running: Ticket | None = None
        self._began_at = 0.0
        self._count = 0
        self._average_s = TYPICAL_S

    def wait_s(self, dry_at: float, now: float) -> float:
        """Estimate how long a reply asked for now would wait."""
        ahead = sum(ticket.dry_at <= dry_at for ticket in self._waiting)
        rest_s = max(0.0, self._average_s - (now - self._began_at)) if self._running else 0.0
        return rest_s + ahead * self._average_s

    def enter(self, dry_at: float) -> Ticket:
        """Join the queue; `advance` says whose turn it is."""
        self._count += 1
        ticket = Ticket(dry_at, self._count)
        self._waiting.append(ticket)
        return ticket

    def advance(self, now: float) -> Ticket | None:
        """Return the one that may begin now, if any."""
        if self._running is not None or not self._waiting:
            return None
        self._running, self._began_at = min(self._waiting), now
        self._waiting.remove(self._running)
        return self._running

    def leave(self, ticket: Ticket, now: float) -> None:
        """End, or give up waiting."""
        if ticket != self._running:
            self._waiting.remove(ticket)
            return
        self._running = None
        self._average_s += _WEIGHT * (now - self._began_at - self._average_s)
