"""Recordings that are spoken: how loud each part is, and where the speech in it ends."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, Samples, read_wav, samples_in, wav
from agent.errors import AudioError

LARGEST_BYTES = 1 << 30
"""More than an hour of stereo at 48 kHz."""


def read(path: Path) -> Samples:
    """Read a WAV file as mono at 24 kHz.

    Raises:
        AudioError: If it can't be read; it names the file.
    """
    try:
        return np.frombuffer(read_wav(whole(path)), np.int16)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error


def whole(path: Path, largest_bytes: int = LARGEST_BYTES) -> bytes:
    """Read a file, or a pipe to its end.

    Raises:
        AudioError: If it can't be read or is too large; it does not name the file.
    """
    try:
        with path.open("rb") as file:
            found = file.read(largest_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AudioError(reason) from error
    if len(found) > largest_bytes:
        raise AudioError(f"larger than {largest_bytes >> 20} MiB")
    return found


FRAME_SAMPLES = samples_in(20)
"""To this the end of speech is known; shorter ones would cost more and end between periods."""
FRAME_S = FRAME_SAMPLES / RATE

QUIET_DB = -45.0
"""Relative to the loudest frame: what a recording without noise falls below after speech."""


def level(frame: Samples) -> float:
    """Root mean square of a frame, from 0.0 to 1.0."""
    if not len(frame):
        return 0.0
    sound = frame.astype(np.float32)
    return math.sqrt(float(np.dot(sound, sound)) / len(sound)) / 2**15


def end_of_speech(sound: Samples) -> int:
    """Where speech ends in a recording, in samples.

    That is the end of the last 20 ms frame whose energy is within 45 dB of the loudest one's;
    0 if the recording is silent.
    """
    starts = range(0, len(sound), FRAME_SAMPLES)
    levels = [level(sound[start : start + FRAME_SAMPLES]) for start in starts]
    last = last_loud(levels, QUIET_DB)
    return 0 if last is None else min((last + 1) * FRAME_SAMPLES, len(sound))


def stereo(left: bytes | bytearray, right: bytes | bytearray) -> bytes:
    """Make a WAV file of two mono recordings that began together."""
    sides = np.zeros((max(len(left), len(right)) // SAMPLE_BYTES, 2), np.int16)
    for side, pcm in enumerate((left, right)):
        sides[: len(pcm) // SAMPLE_BYTES, side] = np.frombuffer(pcm, np.int16)
    return wav(sides.tobytes(), channels=2)


def last_loud(levels: list[float], below_db: float) -> int | None:
    """The last of some levels that is within so many dB of the loudest; `None` in silence."""
    floor = max(levels, default=0.0) * 10 ** (below_db / 20)
    loud = [number for number, found in enumerate(levels) if found > 0 and found >= floor]
    return loud[-1] if loud else None


class Clip(NamedTuple):
    """A recording that is to be spoken."""

    name: str
    sound: Samples
    speech_s: float
    """Where its speech ends; see `end_of_speech`."""

    @classmethod
    def read(cls, path: Path) -> "Clip":
        """Read a WAV file.

        Raises:
            AudioError: If it can't be read, or is silent; it names the file.
        """
        sound = read(path)
        end = end_of_speech(sound)
        if not end:
            raise AudioError(f"{path}: only silence")
        return cls(path.name, sound, end / RATE)
