"""How loud the agent is: quieter while the user may be interrupting, in smooth ramps."""

import numpy as np

from agent.audio import Samples, samples_in

DUCK_DB = -15.0
"""Loudness while ducked, relative to full: still understood, and far below the user's voice."""

DUCK_SAMPLES = samples_in(40)
"""From full to ducked: within the 50 ms that the server's echo guard allows, without a click."""

RESTORE_SAMPLES = samples_in(200)
"""And back, more slowly: after a cough the voice returns, and doesn't jump out."""


class DuckingGain:
    """Scales sound in place; never delays it, so nothing is skipped or repeated.

    `server/page/playout.js` has the same rules.

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
        way = np.arange(1, len(out) + 1, dtype=np.float32) * (1.0 - self._quiet)
        if self._gain < self._target:
            gains = np.minimum(self._gain + way / RESTORE_SAMPLES, self._target)
        else:
            gains = np.maximum(self._gain - way / DUCK_SAMPLES, self._target)
        out[:] = np.rint(out * gains)
        if len(out):
            self._gain = float(gains[-1])
