"""Reads files of sound; what can't be read is named, with the reason."""

from pathlib import Path

import numpy as np

from agent.audio import Samples, read_wav
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
