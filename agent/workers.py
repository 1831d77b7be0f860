"""Several processes behind one port: which of them has a session, and what share each takes.

What is said here of one worker is true of a server that has no others, too.
"""

import re
from dataclasses import dataclass

STARTED_EVERY_S = 5.0
"""A worker is started no more often: sooner would keep a core busy with one that always dies,
later would leave its core idle for longer."""

_NAMED = re.compile(r"resume_(\d{1,4})_")


@dataclass(frozen=True, slots=True)
class Place:
    """A process among those that serve one port."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"worker {self.number + 1} of {self.of}"

    def share(self, whole: int) -> int:
        """Its part of what all together may have: at least 1, and no more in all if there are as
        many as workers."""
        return max(1, whole // self.of + (self.number < whole % self.of))

    def named(self, new_id: str) -> str:
        """An id, in which a token for going on with a session says whose session that is."""
        kind, _, secret = new_id.partition("_")
        is_one = kind == "resume" and self.of > 1
        return f"{kind}_{self.number}_{secret}" if is_one else new_id

    def owner(self, token: str) -> int | None:
        """Which other worker a token names, if it does; whether it is good, only that one knows."""
        found = _NAMED.match(token)
        number = int(found[1]) if found else self.number
        return number if number != self.number and number < self.of else None


ALONE = Place()
"""A server that is one process."""


def pause_s(started_at: float, now: float) -> float:
    """How long to wait before a worker is started anew that was last started then."""
    return max(0.0, started_at + STARTED_EVERY_S - now)
