"""How much memory what clients sent may take: for each session, and for all of them together.

What is added is counted, and what a session holds is measured only where the count says that it
might be too much: most of what comes is soon dropped.
"""

import asyncio
from collections.abc import Callable

from agent.errors import ProtocolError
from agent.realtime import client_events as protocol
from agent.trace.inputs import Input

MEASURED_EVERY_S = 1.0
"""All sessions together, where they hold too much: more often takes longer than they send."""

SESSION_FULL, SERVER_FULL = "session_too_large", "server_too_full"


class Budget:
    """What all sessions may hold, in bytes.

    Args:
        most_each: What one of them may hold.
        most: What all of them may hold.
    """

    def __init__(self, most_each: int, most: int):
        self.most_each = most_each
        self.most = most
        self._shares: dict[Share, None] = {}
        self._counted = 0
        self._measured_at = 0.0

    def open(self, measure: Callable[[], int]) -> "Share":
        share = Share(self, measure)
        self._shares[share] = None
        return share

    def close(self, share: "Share") -> None:
        if share in self._shares:
            del self._shares[share]
            self.count(-share.counted)

    def count(self, size: int) -> None:
        self._counted += size

    def has_room(self, size: int) -> bool:
        """Whether all together may hold so much more."""
        now = asyncio.get_running_loop().time()
        if self._counted + size > self.most and now - self._measured_at >= MEASURED_EVERY_S:
            self._measured_at = now
            for share in self._shares:
                share.measure()
        return self._counted + size <= self.most


class Share:
    """What one session holds.

    Args:
        measure: Tells how much that is.
    """

    def __init__(self, budget: Budget, measure: Callable[[], int]):
        self._budget = budget
        self._measure = measure
        self.counted = 0

    def measure(self) -> None:
        before, self.counted = self.counted, self._measure()
        self._budget.count(self.counted - before)

    def take(self, size: int) -> None:
        """Count what is about to be added.

        Raises:
            ProtocolError: If it is too much; it must not be added then.
        """
        self.check(size)
        self.counted += size
        self._budget.count(size)

    def check(self, size: int) -> None:
        """Raise what `take` would."""
        budget = self._budget
        if self.counted + size > budget.most_each:
            self.measure()
        if self.counted + size > budget.most_each:
            message = f"The session holds {self.counted} bytes of sound and text, and may hold "
            message += f"{budget.most_each}. Delete items, or clear the input audio buffer."
            raise ProtocolError(message, code=SESSION_FULL)
        if not budget.has_room(size):
            message = f"The sessions of this server hold {budget.most} bytes, which is its limit. "
            raise ProtocolError(f"{message}Try again later.", code=SERVER_FULL)

    def affordable(self, taken: Input) -> Input:
        """The same, its size counted, or why there is no room for it."""
        if isinstance(taken, protocol.ItemCreate):
            try:
                self.take(protocol.MOST_BYTES)
            except ProtocolError as error:
                error.event_id = taken.event_id
                return error
        return taken

    def close(self) -> None:
        """The session is over, and holds nothing any more."""
        self._budget.close(self)


AMPLE = Budget(2**62, 2**62)
"""No limit that is ever reached: for a session that stands alone."""
