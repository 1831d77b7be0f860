"""How loud the agent is: quieter while the user may be interrupting, in smooth ramps."""

import numpy as np

from agent.audio import Samples, samples_in

RAMP_SAMPLES = samples_in(40)
"""From full to ducked or back: fast for an ear, far too slow to click."""


class DuckingGain:
    """Scales sound in place; never delays it, so nothing is skipped or repeated.

    Args:
        duck_db: Loudness while ducked, relative to full; 0 or less.
    """

    def __init__(self, duck_db: float):
        self._quiet = 10 ** (min(duck_db, 0.0) / 20)
        self._target = self._gain = 1.0

    @property
    def ducked(self) -> bool:
        return self._target < 1.0

    def duck(self) -> None:
        self._target = self._quiet

    def restore(self) -> None:
        self._target = 1.0

    def shape(self, out: Samples) -> None:
        """Scale the next samples; at full loudness they stay exactly as they are."""
        if self._gain == self._target == 1.0:
            return
        step = (1.0 - self._quiet) / RAMP_SAMPLES
        way = np.arange(1, len(out) + 1, dtype=np.float32) * step
        if self._gain < self._target:
            gains = np.minimum(self._gain + way, self._target)
        else:
            gains = np.maximum(self._gain - way, self._target)
        out[:] = np.rint(out * gains)
        if len(out):
            self._gain = float(gains[-1])
