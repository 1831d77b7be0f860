"""The verdict that a turn is over: how much silence it takes, after what was said and by whom.

The figures come from recorded ends and pauses; docs/turn-taking.md has them, and what each costs.
"""

from dataclasses import dataclass
from typing import Literal

from agent.prosody import Ending

Eagerness = Literal["low", "medium", "high", "auto"]

_FALLEN_OCTAVES = 0.24
_DRAWN_OUT_MS = 240
_REMEMBERED = 0.85
_ROOM = 1.2


@dataclass(frozen=True, slots=True)
class _Waits:
    """Silence after an end that sounds finished, one that may be, and one that doesn't; in ms."""

    finished: int
    unclear: int
    unfinished: int
    most: int


_WAITS: dict[Eagerness, _Waits] = {
    "high": _Waits(320, 480, 960, 2_000),
    "medium": _Waits(384, 704, 1_600, 4_000),
    "auto": _Waits(384, 704, 1_600, 4_000),
    "low": _Waits(704, 1_280, 3_200, 8_000),
}


@dataclass(frozen=True, slots=True)
class Pausing:
    """How long one speaker pauses within turns, learnt from pauses after which they went on."""

    longest_ms: float = 0.0
    """The longest of late; it fades with each shorter one."""

    def resumed(self, after_ms: int) -> "Pausing":
        return Pausing(max(float(after_ms), _REMEMBERED * self.longest_ms))


def longest_wait_ms(eagerness: Eagerness) -> int:
    """The silence after which a turn is over, whatever it ended with."""
    return _WAITS[eagerness].most


def silence_wanted_ms(ending: Ending, pausing: Pausing, eagerness: Eagerness) -> int:
    """Return the silence after which the turn is over."""
    waits = _WAITS[eagerness]
    if ending.fall_octaves >= _FALLEN_OCTAVES:
        return waits.finished
    sounds = waits.unfinished if ending.flat_ms >= _DRAWN_OUT_MS else waits.unclear
    return min(waits.most, max(sounds, int(_ROOM * pausing.longest_ms)))
