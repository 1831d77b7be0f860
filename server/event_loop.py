"""The server's event loop, which reads its clients together.

Each sends fifty frames of sound a second, and to be woken costs more than a frame does, on virtual
machines above all.
"""

import asyncio
import errno
import logging
import selectors
import socket
import time
from collections import ChainMap
from collections.abc import Mapping
from selectors import EVENT_READ, SelectorKey
from typing import Any, cast

log = logging.getLogger(__name__)

QUEUED = 128
"""Connections that the system holds until they are taken; more would wait for a stalled server."""

_BEAT_S = 0.016
"""Between two looks at the clients: longer saves little, and what they send waits half of it."""
_FEW = 2
"""So many clients are read at once: there is nobody to read them with."""

Ready = list[tuple[SelectorKey, int]]


class PatientSelector(selectors.BaseSelector):
    """An epoll, within it one for what may wait, which is looked at once a beat.

    Whoever waits to write does not wait for the beat.
    """

    def __init__(self) -> None:
        self._urgent = selectors.EpollSelector()
        self._patient = selectors.EpollSelector()
        self._deferred: set[object] = set()
        self._looks_at = 0.0
        """When the patient are looked at again; they wake nobody before."""
        self._gate = self._urgent.register(self._patient.fileno(), EVENT_READ)
        self._is_open = True

    def defer(self, file: int) -> None:
        """Let what is read from a file wait, as long as it is registered.

        One that isn't, as its reader is paused, stays urgent: nothing would say when its number
        becomes another file's.
        """
        if key := self._urgent.get_map().get(file):
            self._deferred.add(file)
            self.modify(file, key.events, key.data)

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._urgent.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = self._where(fileobj).unregister(fileobj)
        self._deferred.discard(fileobj)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        before, after = self._where(fileobj), self._home(fileobj, events)
        if before is after:
            return before.modify(fileobj, events, data)
        before.unregister(fileobj)
        return after.register(fileobj, events, data)

    def get_map(self) -> Mapping[Any, SelectorKey]:
        maps = [self._urgent.get_map(), self._patient.get_map()]
        return ChainMap(*cast(Any, maps))

    def get_key(self, fileobj: Any) -> SelectorKey:
        return self._where(fileobj).get_key(fileobj)

    def close(self) -> None:
        self._urgent.close()
        self._patient.close()

    def select(self, timeout: float | None = None) -> Ready:
        if not self._is_open:
            left_s = self._looks_at - time.monotonic()
            if left_s > 0:
                return self._urgent.select(left_s if timeout is None else min(timeout, left_s))
            self._gate = self._urgent.register(self._patient.fileno(), EVENT_READ)
            self._is_open = True
        ready = self._urgent.select(timeout)
        if not any(key is self._gate for key, _ in ready):
            return ready
        if len(self._deferred) > _FEW:
            self._urgent.unregister(self._patient.fileno())
            self._is_open = False
            self._looks_at = time.monotonic() + _BEAT_S
        return [each for each in ready if each[0] is not self._gate] + self._patient.select(0)

    def _home(self, fileobj: Any, events: int) -> selectors.EpollSelector:
        is_patient = events == EVENT_READ and fileobj in self._deferred
        return self._patient if is_patient else self._urgent

    def _where(self, fileobj: Any) -> selectors.EpollSelector:
        is_patient = fileobj in self._deferred and fileobj in self._patient.get_map()
        return self._patient if is_patient else self._urgent


class PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that reads some of its sockets together."""

    def __init__(self) -> None:
        self._patience = PatientSelector()
        super().__init__(self._patience)

    def read_together(self, transport: asyncio.BaseTransport) -> None:
        """Read what comes over it a little later, with what comes over others."""
        self._patience.defer(transport.get_extra_info("socket").fileno())

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen, and take one connection at a time: asyncio takes as many as may wait before it
        looks at one of them, and where files run out it fails as many times in a row."""
        queued = options.pop("backlog", QUEUED)
        server = await super().create_server(*arguments, **options, backlog=1)
        for each in server.sockets:
            with socket.fromfd(each.fileno(), each.family, each.type) as listening:
                listening.listen(queued)
        return server

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what happened; that no more files may be open is no fault in the code."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            log.error("%s: %s (ulimit -n)", context["message"], error.strerror)
            return
        super().call_exception_handler(context)


def event_loop() -> asyncio.AbstractEventLoop:
    """Make the server's event loop; where there is no epoll, each client is read by itself."""
    return PatientLoop() if hasattr(selectors, "EpollSelector") else asyncio.new_event_loop()
