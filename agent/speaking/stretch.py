"""Speech made faster or slower without changing its pitch.

Source:
    WSOLA, as in W. Verhelst and M. Roelands, "An overlap-add technique based on waveform
    similarity (WSOLA) for high quality time-scale modification of speech", ICASSP 1993: frames
    are taken at one pace and laid down at another, each where it continues the one before best.
"""

import numpy as np
import numpy.typing as npt

from agent.audio import rounded

HOP = 480
"""Samples between frames as they are laid down: 20 ms at 24 kHz. A frame is two of them."""
SEARCH = 240
"""How far a frame may be moved to fit: half a period of the deepest voice and some more."""

Floats = npt.NDArray[np.float64]
_RISE = np.sin(np.linspace(0, np.pi / 2, HOP, endpoint=False)) ** 2
"""With the same falling it adds up to one, so nothing gets louder where frames overlap."""


class Stretcher:
    """Changes the speed of a stream of mono PCM16 at 24 kHz that may be cut anywhere."""

    def __init__(self, speed: float):
        self._speed = speed
        self._heard: Floats = np.zeros(0)
        self._first = 0
        self._received = 0
        self._frames = 0
        self._follows = 0
        self._falling: Floats | None = None

    def stretch(self, pcm: bytes) -> bytes:
        """Take whole samples, return those that are ready (possibly none)."""
        self._received += len(pcm) // 2
        self._heard = np.concatenate((self._heard, np.frombuffer(pcm, "<i2").astype(np.float64)))
        ready: list[Floats] = []
        while max(self._target + SEARCH, self._follows) + 2 * HOP <= self._first + len(self._heard):
            ready.append(self._next())
        return rounded(np.concatenate(ready)).tobytes() if ready else b""

    def finish(self) -> bytes:
        """Return the last samples, so that all of them last as long as they should."""
        missing = round(self._received / self._speed) - self._frames * HOP
        received, rest = self._received, b""
        while len(rest) < missing * 2:
            rest += self.stretch(bytes(4 * HOP))
        self._received = received
        return rest[: missing * 2]

    @property
    def _target(self) -> int:
        return round(self._frames * HOP * self._speed)

    def _next(self) -> Floats:
        """Lay down one frame; return what no later frame will change."""
        place = self._target if self._falling is None else self._best_place()
        frame = self._heard[place - self._first :][: 2 * HOP]
        fading = frame[:HOP] * (1 - _RISE) if self._falling is None else self._falling
        self._falling = frame[HOP:] * (1 - _RISE)
        self._follows = place + HOP
        self._frames += 1
        done = max(0, min(self._target - SEARCH, self._follows) - self._first)
        ready = fading + frame[:HOP] * _RISE
        self._heard, self._first = self._heard[done:], self._first + done
        return ready

    def _best_place(self) -> int:
        """Where near the target the sound is most like what follows the last frame."""
        start = max(self._target - SEARCH, self._first)
        near = self._heard[start - self._first : self._target + SEARCH + HOP - self._first]
        wanted = self._heard[self._follows - self._first :][:HOP]
        loudness = np.concatenate(([0.0], np.cumsum(near**2)))
        energy = loudness[HOP:] - loudness[:-HOP]
        likeness = np.correlate(near, wanted) / np.sqrt(energy + 1.0)
        return start + int(likeness.argmax())
