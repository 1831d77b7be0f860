"""How many sessions each worker has, where all of them can read it without asking."""

import mmap
import os
import struct
from pathlib import Path

from agent.workers import Place

_SLOT = struct.Struct("=II")


class Counts:
    """A file in memory with a slot for each worker, which only that one writes."""

    def __init__(self, place: Place, folder: Path):
        self._at = place.number * _SLOT.size
        size = place.of * _SLOT.size
        file = os.open(folder / "counts", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, size)
            self._slots = mmap.mmap(file, size)
        finally:
            os.close(file)
        # What a worker had that ended here before.
        self.note(0, 0)

    def note(self, sessions: int, stuck: int) -> None:
        """Say how many this worker has, and how many of them are stuck."""
        _SLOT.pack_into(self._slots, self._at, sessions, stuck)

    def total(self) -> tuple[int, int]:
        """The same of all workers."""
        pairs = list(_SLOT.iter_unpack(self._slots[:]))
        return sum(each for each, _ in pairs), sum(each for _, each in pairs)
