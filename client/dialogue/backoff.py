"""How long to wait before each attempt to reach a server that is not there."""

from collections.abc import Iterator
from random import Random

FIRST_S = 0.5
"""Less would press a server that restarts, more keep a user waiting after a mere loss."""
LONGEST_S = 30.0
"""How late a server's return is noticed; less would have many clients ask a dead one."""


def backoff(chance: Random) -> Iterator[float]:
    """Seconds to wait before each next attempt, without end: doubling, at most 30 s.

    A random half of each keeps many clients of a restarted server from coming at once.
    """
    longest_s = FIRST_S
    while True:
        yield longest_s * chance.uniform(0.5, 1.0)
        longest_s = min(LONGEST_S, longest_s * 2)
