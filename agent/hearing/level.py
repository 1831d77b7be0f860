"""The user's voice: how loud it is, and how loud usually."""

from collections import deque

import numpy as np

from agent.hearing import interruption as overlap
from agent.hearing.interruption import FRAME_MS, Frame

_SPEECH = 0.5
_GAP_DB = 30.0
_PEAK_FALLS_DB = 0.05
_REMEMBERED_FRAMES = 400
_LEARNT = 0.3
_SILENCE_DB = -120.0
_REACH_FRAMES = 20
_ONSET_FRAMES = 4
_REACH_DB = 20.0
REACH_MS = _REACH_FRAMES * FRAME_MS
"""How far before its onset a word may have begun."""


def level_db(pcm: bytes) -> float:
    """The power of mono PCM16, in dB of full scale."""
    if not pcm:
        return _SILENCE_DB
    sound = np.frombuffer(pcm, "<i2").astype(np.float32) / 2**15
    return float(10 * np.log10(np.mean(sound * sound) + 1e-12))


class Voice:
    """Follows the level of one microphone."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=_REMEMBERED_FRAMES)
        self._lately: deque[float] = deque(maxlen=_REACH_FRAMES + _ONSET_FRAMES)
        self._peak_db = _SILENCE_DB
        self.usual_db: float | None = None
        """The level in the user's turns so far, once there was one."""

    def hear(self, probability: float, pcm: bytes, speaking: bool) -> Frame:
        """Take the next frame, and whether an utterance is open.

        A detector remembers speech for 100 ms; sound that is far below the voice is a gap in it
        at once.
        """
        level = level_db(pcm)
        self._lately.append(level)
        if not speaking:
            self._frames.clear()
            self._peak_db = _SILENCE_DB
        if level < self._peak_db - _GAP_DB:
            probability = 0.0
        if probability >= _SPEECH:
            self._peak_db = max(self._peak_db - _PEAK_FALLS_DB, level)
        frame = Frame(probability, level)
        self._frames.append(frame)
        return frame

    def reach_back_ms(self) -> int:
        """How long before an onset noticed just now its word was audible already.

        A detector may be unsure of the first syllable; the sound itself goes back without a gap.
        """
        *before, _, _, _, _ = [*[_SILENCE_DB] * _ONSET_FRAMES, *self._lately]
        audible = max(list(self._lately)[-_ONSET_FRAMES:]) - _REACH_DB
        count = 0
        while count < len(before) and before[-1 - count] > audible:
            count += 1
        return count * FRAME_MS

    def end(self) -> None:
        """The utterance was a turn: this is how the user speaks."""
        level = overlap.level(self._frames)
        usual = level if self.usual_db is None else self.usual_db
        self.usual_db = usual + _LEARNT * (level - usual)
