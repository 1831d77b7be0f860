"""Whether somebody is there: judged by how loud the room is, and by how long nothing has happened.

No clock and no sound; the numbers are those of the kiosk page, for chunks of 20 ms.
"""

import math
from collections import deque

FIRST_FLOOR = 0.01
"""Where the noise of the room is thought to be at first: -40 dB."""

LEAST_LOUDNESS = 0.005
"""Nothing quieter than -46 dB is speech to a visitor's microphone."""

ABOVE = 4
"""Speech is 12 dB above the room."""

RISE = 10 ** (1 / 20 / 50)
"""The room is as loud as its quietest moments; it is believed to get louder by 1 dB a second."""

FALL = 0.13
"""Of the way to a quieter moment: less would learn the room late, more believe one gap."""
CHUNKS, LOUD_CHUNKS = 19, 13
"""A door bangs for less: most of 0.4 s has to be loud."""


class Presence:
    """Tells from the loudness of a room whether somebody began to speak."""

    def __init__(self) -> None:
        self._floor = FIRST_FLOOR
        self._loud: deque[bool] = deque(maxlen=CHUNKS)

    def hear(self, loudness: float) -> bool:
        """Take the root mean square of the next 20 ms; return whether somebody speaks."""
        self._loud.append(loudness > max(LEAST_LOUDNESS, ABOVE * self._floor))
        if loudness < self._floor:
            self._floor += FALL * (loudness - self._floor)
        else:
            self._floor *= RISE
        return sum(self._loud) >= LOUD_CHUNKS

    def forget(self) -> None:
        """What was heard so far counts no more; how loud the room is does."""
        self._loud.clear()


class Idle:
    """How long nobody has used the kiosk.

    Args:
        idle_s: Before the countdown.
        countdown_s: From there to the end.
        now: The time, as for the methods.
    """

    def __init__(self, idle_s: float, countdown_s: float, now: float):
        self._idle_s = idle_s
        self._countdown_s = countdown_s
        self._active_at = now

    def active(self, now: float) -> None:
        self._active_at = now

    def left_s(self, now: float) -> int | None:
        """Whole seconds that are left, 0 at the end; `None` while nothing is counted."""
        over_s = now - self._active_at - self._idle_s
        return None if over_s < 0 else max(0, math.ceil(self._countdown_s - over_s))
