"""The verdict that a turn is over: how much silence it takes, after what was said and by whom.

The figures come from recorded ends and pauses; docs/turn-taking.md has them, and what each costs.
"""

from dataclasses import dataclass
from typing import Literal

from agent.hearing.prosody import Ending

Eagerness = Literal["low", "medium", "high", "auto"]

_FADED_DB = 14.0
_RISES_OCTAVES = 0.4
_FEWEST_SPOKEN_MS = 500
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
    this_turn_ms: float = 0.0
    """The longest of the turn that goes on."""

    def resumed(self, after_ms: int) -> "Pausing":
        paused_ms = float(after_ms)
        longest_ms = max(paused_ms, _REMEMBERED * self.longest_ms)
        return Pausing(longest_ms, max(paused_ms, self.this_turn_ms))

    def new_turn(self) -> "Pausing":
        return Pausing(self.longest_ms)


def longest_wait_ms(eagerness: Eagerness) -> int:
    """The silence after which a turn is over, whatever it ended with."""
    return _WAITS[eagerness].most


def silence_wanted_ms(ending: Ending, pausing: Pausing, eagerness: Eagerness) -> int:
    """Return the silence after which the turn is over."""
    waits = _WAITS[eagerness]
    if _sounds_finished(ending):
        # Who has just paused for long in this turn thinks aloud, however it sounds.
        return max(waits.finished, min(waits.unclear, int(_ROOM * pausing.this_turn_ms)))
    sounds = waits.unfinished if ending.flat_ms >= _DRAWN_OUT_MS else waits.unclear
    return min(waits.most, max(sounds, int(_ROOM * pausing.longest_ms)))


def _sounds_finished(ending: Ending) -> bool:
    """Whether the voice died away, and not after a first word or in the middle of a rise."""
    return (
        ending.fade_db >= _FADED_DB
        and ending.fall_octaves > -_RISES_OCTAVES
        and ending.spoken_ms >= _FEWEST_SPOKEN_MS
    )
