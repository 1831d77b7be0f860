"""The queue at a replica and its seats, one for each reply that it makes at once.

Whose listener runs dry first goes first. That is fair, too: a reply that waits for silence only
can't be overtaken by one that is asked for later. Where there are several seats, a reply that is
made in a pause takes only one that nobody else needs, and gives it back to a turn that is over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

TYPICAL_S = 4.0
"""How long a reply occupies its seat until some have been seen."""

_WEIGHT = 0.2
"""Of the latest reply in the moving average."""


@dataclass(slots=True, eq=False)
class EarlyStart:
    """A reply that is made in a pause, unheard."""

    give_way: Callable[[], object]
    """Ends it at once: somebody else's turn is over."""
    is_kept: bool = False
    """Whether its own turn is over."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the queue, then a seat."""

    dry_at: float
    """When the listener will have heard everything there is."""
    number: int
    session: object
    early: EarlyStart | None
    began_at: float = nan
    leaves: bool = False
    """Whether it was told to give way."""

    @property
    def gives_way(self) -> bool:
        return self.early is not None and not self.early.is_kept

    @property
    def place(self) -> tuple[bool, float, int]:
        """The least goes first."""
        return self.gives_way, self.dry_at, self.number


class Admission:
    """Admits as many replies as there are seats, and one of a session at a time."""

    def __init__(self, seats: int = 1) -> None:
        self.seats = seats
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        """In the order in which they began."""
        self._count = 0
        self._average_s = TYPICAL_S

    def wait_s(self, dry_at: float, now: float, *, is_early: bool = False) -> float:
        """Estimate how long a reply asked for now would wait."""
        place = is_early and self.seats > 1, dry_at, self._count + 1
        ahead = sum(ticket.place < place for ticket in self._waiting)
        rests_s = [self._rest_s(ticket, now, is_early) for ticket in self._running]
        rests_s += [0.0] * (self.seats - len(rests_s))
        rounds, seat = divmod(ahead, self.seats)
        return sorted(rests_s)[seat] + rounds * self._average_s

    def _rest_s(self, ticket: Ticket, now: float, is_early: bool) -> float:
        """How long a seat stays taken for another reply."""
        is_free = ticket.leaves or (ticket.gives_way and not is_early)
        return 0.0 if is_free else max(0.0, self._average_s - (now - ticket.began_at))

    def enter(self, dry_at: float, session: object, early: EarlyStart | None = None) -> Ticket:
        """Join the queue; `advance` says whose turn it is."""
        self._count += 1
        # With one seat, giving way would only change who waits.
        ticket = Ticket(dry_at, self._count, session, early if self.seats > 1 else None)
        self._waiting.append(ticket)
        return ticket

    def advance(self, now: float) -> Ticket | None:
        """Return the next one that may begin now, if any."""
        ready = self._ready()
        if len(self._running) == self.seats or not ready:
            return None
        ticket = min(ready, key=lambda each: each.place)
        self._waiting.remove(ticket)
        self._running.append(ticket)
        ticket.began_at = now
        return ticket

    def displace(self) -> EarlyStart | None:
        """Return the youngest early start that has to give way now, if any; it leaves by itself."""
        wanted = sum(not ticket.gives_way for ticket in self._ready())
        leaving = sum(ticket.leaves for ticket in self._running)
        staying = [each for each in self._running if each.gives_way and not each.leaves]
        if wanted <= leaving or not staying:
            return None
        staying[-1].leaves = True
        return staying[-1].early

    def _ready(self) -> list[Ticket]:
        """Those who wait for a seat, and not for the end of their own session's reply."""
        talking = [ticket.session for ticket in self._running]
        return [ticket for ticket in self._waiting if ticket.session not in talking]

    def leave(self, ticket: Ticket, now: float) -> None:
        """End, or give up waiting."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            return
        self._running.remove(ticket)
        if not ticket.leaves:
            self._average_s += _WEIGHT * (now - ticket.began_at - self._average_s)
