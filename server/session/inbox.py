"""What a session has yet to take, in order; it holds up who fills it while it is full."""

import asyncio
import math
from collections import deque

from agent.trace.inputs import DeadlinePassed, Input


class Inbox:
    """A queue whose one taker waits until a deadline, or until it is woken.

    The alarm for the deadline is kept from one wait to the next: deadlines move with every frame,
    and hardly ever pass.

    Args:
        most: How many may wait.
    """

    def __init__(self, most: int):
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._waiting: deque[Input] = deque()
        self._has_room = asyncio.Event()
        self._is_woken = False
        self._taker: asyncio.Future[None] | None = None
        self._deadline = math.inf
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether the taker waits, and nothing for it: what comes could be taken on the spot."""
        has_news = self._is_woken or self._waiting
        return self._taker is not None and not self._taker.done() and not has_news

    async def put(self, taken: Input) -> None:
        while len(self._waiting) >= self._most:
            self._has_room.clear()
            await self._has_room.wait()
        self.put_now(taken)

    def put_now(self, taken: Input) -> None:
        """The same, with room or without."""
        self._waiting.append(taken)
        self._stir()

    def wake(self) -> None:
        """Let the taker look at what it has from elsewhere, now or when it comes back."""
        self._is_woken = True
        self._stir()

    def _stir(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    async def get(self, deadline: float | None) -> Input | None:
        """Return the next input; `DeadlinePassed` where none has come by then, on the loop's clock;
        None if the taker was woken for something else."""
        if not self._waiting and not self._is_woken:
            await self._wait(deadline)
        if self._waiting:
            self._has_room.set()
            return self._waiting.popleft()
        if self._is_woken:
            self._is_woken = False
            return None
        return DeadlinePassed() if self._loop.time() >= self._deadline else None

    async def _wait(self, deadline: float | None) -> None:
        self.move_deadline(deadline)
        self._taker = self._loop.create_future()
        try:
            await self._taker
        finally:
            self._taker = None

    def move_deadline(self, deadline: float | None) -> None:
        """Wait until then, and no longer until the deadline before."""
        self._deadline = math.inf if deadline is None else deadline
        if deadline is not None and (self._alarm is None or deadline < self._alarm.when()):
            self.close()
            self._alarm = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self._loop.time() >= self._deadline:
            self._stir()
        elif self._deadline < math.inf:
            self._alarm = self._loop.call_at(self._deadline, self._ring)

    def close(self) -> None:
        """Wait for no deadline any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
