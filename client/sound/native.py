"""Keeps what C libraries write to descriptor 2 from the terminal.

ALSA, PulseAudio, JACK and PortAudio write there whenever they like, from threads of their own, and
each has another way to turn that off, or none.
"""

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def unheard_libraries() -> Generator[None]:
    """Leave standard error to Python alone, until the block ends."""
    before = sys.stderr, sys.__stderr__
    kept = os.dup(2)
    encoding = sys.stderr.encoding if _is_descriptor_2(sys.stderr) else "utf-8"
    ours = open(os.dup(2), "w", 1, encoding, "replace")  # noqa: SIM115 - for the whole block
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    if _is_descriptor_2(sys.stderr):
        sys.stderr = ours
    sys.__stderr__ = ours
    try:
        yield
    finally:
        ours.flush()
        sys.stderr, sys.__stderr__ = before  # pyright: ignore[reportConstantRedefinition]
        os.dup2(kept, 2)
        os.close(kept)
        ours.close()


def _is_descriptor_2(stream: object) -> bool:
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == 2
    except OSError:
        return False
