"""How long to wait before each attempt to reach a server that is not there."""

from collections.abc import Iterator
from random import Random

FIRST_S = 0.25
"""Less would press a server that restarts, more keep a user waiting after a mere loss."""
LONGEST_S = 10.0
"""A sixth of the time for which a server keeps a session; less would have many clients ask a dead
one."""


def backoff(chance: Random) -> Iterator[float]:
    """Seconds to wait before each next attempt, without end: doubling, then about 10 s.

    Chance takes or adds up to half of each, which keeps the many clients of a restarted server from
    coming at once. `server/page/backoff.js` has the same rules.
    """
    wait_s = FIRST_S
    while True:
        yield wait_s * (0.5 + chance.random())
        wait_s = min(LONGEST_S, wait_s * 2)
