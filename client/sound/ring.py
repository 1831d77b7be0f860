"""A ring of samples between a sound callback, which must never wait, and the rest."""

import numpy as np

from agent.audio import Samples


class Ring:
    """A ring of samples for one writer and one reader on two threads.

    Each side moves only its own counter, after it has copied; so neither needs a lock.
    """

    def __init__(self, capacity: int):
        self._samples = np.zeros(capacity, np.int16)
        self._written = 0
        self._read = 0

    def __len__(self) -> int:
        return self._written - self._read

    def write(self, samples: Samples) -> int:
        """Append as many as there is room for; return how many."""
        count = min(len(samples), len(self._samples) - len(self))
        start = self._written % len(self._samples)
        first = min(count, len(self._samples) - start)
        self._samples[start : start + first] = samples[:first]
        self._samples[: count - first] = samples[first:count]
        self._written += count
        return count

    def read_into(self, out: Samples) -> int:
        """Move the oldest samples into `out`, as many as there are; return how many."""
        count = min(len(out), len(self))
        start = self._read % len(self._samples)
        first = min(count, len(self._samples) - start)
        out[:first] = self._samples[start : start + first]
        out[first:count] = self._samples[: count - first]
        self._read += count
        return count
