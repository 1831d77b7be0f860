"""What was said and heard in a conversation, kept in memory until somebody wants to save it."""

import threading
import wave
from collections import deque
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, SAMPLE_BYTES, Samples, samples_in

KEPT_S = 15 * 60
"""The newest 15 minutes, at most: 86 MB."""

LOOSE_SAMPLES = samples_in(100)
"""How far sound may be from its place on the clock, as chunks come unevenly, until it is moved."""

SIDES = ("user", "agent")


class Recording:
    """Both sides on one axis of time; written by one thread, saved by another.

    Args:
        began: The time of its first sample, on the clock of `add`.
    """

    def __init__(self, began: float):
        self._began = began
        self._next = [0, 0]
        self._seconds: deque[npt.NDArray[np.int16]] = deque()
        self._dropped = 0
        self._lock = threading.Lock()

    def add(self, who: Literal["user", "agent"], sound: Samples, at: float) -> None:
        """Note what one side said from that time on; what is silent needn't be added."""
        side = SIDES.index(who)
        due = max(0, round((at - self._began) * RATE))
        if abs(due - self._next[side]) > LOOSE_SAMPLES:
            self._next[side] = due
        with self._lock:
            while len(sound):
                second, start = divmod(self._next[side], RATE)
                part, sound = sound[: RATE - start], sound[RATE - start :]
                self._next[side] += len(part)
                if (block := self._block(second)) is not None:
                    block[start : start + len(part), side] = part

    def save(self, file: Path) -> None:
        """Write a WAV file, user left, agent right.

        Raises:
            OSError: If it can't be written.
        """
        with self._lock:
            seconds = list(self._seconds)
        with file.open("wb") as out, wave.open(out, "wb") as wav:
            wav.setnchannels(len(SIDES))
            wav.setsampwidth(SAMPLE_BYTES)
            wav.setframerate(RATE)
            # Second by second, so that the other thread is never kept from its sound for long.
            for block in seconds:
                wav.writeframes(block.tobytes())

    def _block(self, second: int) -> npt.NDArray[np.int16] | None:
        """That second, unless it has been dropped already."""
        while second - self._dropped >= len(self._seconds):
            self._seconds.append(np.zeros((RATE, len(SIDES)), np.int16))
            if len(self._seconds) > KEPT_S:
                self._seconds.popleft()
                self._dropped += 1
        return self._seconds[second - self._dropped] if second >= self._dropped else None
