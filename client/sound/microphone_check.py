"""Listens to the microphone at the start, and says what is wrong with it."""

import numpy as np

from agent.audio import Samples, samples_in
from client.own_command import own_command
from client.terminal.view import View

CHECKED_SAMPLES = samples_in(3000)
"""Longer would tell the user later, shorter would judge by a single cough."""
CLIPPED = 32_700
"""So near to 32 767 that a device which clips a little below it is found, too."""
MOST_CLIPPED = 0.001
"""Share of samples at full scale, from which on speech is distorted."""

QUIET = 33
"""Nothing louder than this, -60 dB, is no microphone in a room."""


class MicrophoneCheck:
    """Judges the first 3 s, which needn't hold speech; after silence, it goes on listening."""

    def __init__(self, view: View):
        self._view = view
        self._heard = 0
        self._clipped = 0
        self._peak = 0

    def add(self, sound: Samples) -> None:
        """Take more sound; say what to do about the microphone, and when that has helped."""
        was_judged, was_silent = self._heard >= CHECKED_SAMPLES, self._is_silent
        if (was_judged and not was_silent) or not len(sound):
            return
        loudness = np.abs(sound.astype(np.int32))
        self._heard += len(sound)
        self._clipped += int(np.count_nonzero(loudness >= CLIPPED))
        self._peak = max(self._peak, int(loudness.max()))
        if was_silent and not self._is_silent:
            self._view.note("The microphone works now.")
        elif not was_judged and self._heard >= CHECKED_SAMPLES and (advice := self._verdict()):
            self._view.problem(advice)

    @property
    def _is_silent(self) -> bool:
        """Nothing was heard in the first 3 s, nor since."""
        return self._heard >= CHECKED_SAMPLES and self._peak < QUIET

    def _verdict(self) -> str | None:
        if not self._peak:
            return f"No sound from the microphone: is it muted, or the wrong one? {_list_devices()}"
        if self._clipped > MOST_CLIPPED * self._heard:
            return "The microphone is too loud and distorts: lower its level or move away from it."
        if self._peak < QUIET:
            quiet = "The microphone is very quiet: raise its level, or choose another one."
            return f"{quiet} {_list_devices()}"
        return None


def _list_devices() -> str:
    return f"To list the devices, run: {own_command()} talk --devices"
