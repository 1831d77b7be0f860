"""What was said and heard in a conversation, kept in memory until it is saved, and where to."""

import os
import threading
import wave
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, SAMPLE_BYTES, Samples, samples_in
from agent.errors import AgentError

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


class SaveError(AgentError):
    """A file that was to be written can't be; names it, and says why."""


def new_conversation(now: datetime) -> Path:
    """Return the path of a conversation that is saved now, without its ending.

    It lies in a folder of the user's own, which no working tree has and nobody else can read.

    Raises:
        OSError: If that folder can't be made.
    """
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".local" / "share"
    folder = base / "mimo-live" / "conversations"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"conversation-{now:%Y-%m-%d-%H%M%S}"


def check_writable(path: Path | None) -> None:
    """Find out now what would fail when there is something to lose; leaves no file behind.

    Raises:
        SaveError: If no file can be written there.
    """
    if path is None or path.is_fifo():
        return
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise SaveError(f"can't write to {path}: {error.strerror}") from error
