"""Small pictures of numbers in text: level meters and sparklines."""

import math
from collections.abc import Iterable

BARS = " ▁▂▃▄▅▆▇█"
FLOOR_DB = -60.0
"""Quieter shows nothing: lower, and the noise of any room would light the meter."""


def share(loudness: float) -> float:
    """Where a root mean square from 0.0 to 1.0 lies between -60 and 0 dB."""
    decibels = 20 * math.log10(loudness) if loudness > 0 else FLOOR_DB
    return max(0.0, min(1.0, 1 - decibels / FLOOR_DB))


def meter(loudness: float, cells: int) -> str:
    """A bar of so many cells; the last lit one rises in eighths."""
    lit, eighths = divmod(round(share(loudness) * cells * 8), 8)
    return (BARS[8] * lit + BARS[eighths]).ljust(cells)[:cells]


def sparkline(values: Iterable[float]) -> str:
    """One bar for each value, from nothing up to the largest."""
    values = list(values)
    most = max(values, default=0.0) or 1.0
    return "".join(BARS[max(1, round(8 * max(0.0, value) / most))] for value in values)
