"""A prompt is read in a step of its own, one at a time.

Stock reads it beside the steps of replies that are under way: the matrix products then have another
shape, and with it other roundings, so that a reply depended on who else is served; and stock mixes
up the codes of the requests in such a step.
"""

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Protocol

from server.gpu.fast.shapes import Request


class _Queue(Protocol):
    def __iter__(self) -> Iterator[Request]: ...
    def __len__(self) -> int: ...
    def add_request(self, request: Request) -> None: ...
    def remove_requests(self, requests: Iterable[Request]) -> None: ...


class _Planned(Protocol):
    total_num_scheduled_tokens: int


class _Scheduler(Protocol):
    waiting: _Queue
    running: list[Request]
    max_num_running_reqs: int
    has_given_way: bool
    """Ours: the waiting prompt could not be read alone, so the others go first."""

    schedule: Callable[..., _Planned]


def patch(module: ModuleType) -> None:
    """Show the scheduler a new request without those under way, and those without the new one."""
    scheduler: type[_Scheduler] = module.OmniARScheduler
    stock = scheduler.schedule

    def schedule(self: _Scheduler, *args: object, **kwargs: object) -> _Planned:
        is_new = bool(self.waiting) and len(self.running) < self.max_num_running_reqs
        has_others = bool(self.running) or len(self.waiting) > 1
        if not (is_new and has_others) or self.has_given_way:
            self.has_given_way = False
            return stock(self, *args, **kwargs)
        running, self.running = self.running, []
        later = [*self.waiting][1:]
        self.waiting.remove_requests(later)
        try:
            planned = stock(self, *args, **kwargs)
        finally:
            self.running = running + self.running
            for request in later:
                self.waiting.add_request(request)
        # No memory for its prompt, say.
        self.has_given_way = not planned.total_num_scheduled_tokens
        return planned

    scheduler.schedule = schedule
    scheduler.has_given_way = False
