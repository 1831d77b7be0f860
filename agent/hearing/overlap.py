"""Sounds of the user's over the agent's voice, each followed until it is judged.

One that was passed and goes on, as talk in the background does, is ignored until it is silent or
comes near. One that follows soon after another is judged together with it: "no", and then what
the user doesn't want.
"""

from collections import deque

from agent.conversation.utterance import Utterance
from agent.floor import states as floor
from agent.hearing import interruption as overlap
from agent.hearing.interruption import FRAME_MS, Frame

_TOGETHER_MS = 800
_READ_WITHIN_MS = 2_000
"""After so long a word stops nothing any more: the agent may be saying something else."""
_ONSET_FRAMES = 4
NEAR_FRAMES = 12
"""A sound that was far away is near once this many frames are at the user's level."""
_LONGEST_FRAMES = 64

Judged = floor.OverlapSustained | floor.OverlapInterrupts | floor.OverlapPassed


class Interjection:
    """The latest sound over the agent's voice."""

    def __init__(self) -> None:
        self._recent: deque[Frame] = deque(maxlen=NEAR_FRAMES)
        self._frames: deque[Frame] = deque(maxlen=_LONGEST_FRAMES)
        self._start = 0
        self._so_far_ms = 0
        self._passed_ms = _TOGETHER_MS
        self._sustained = False
        self.open = False
        """Whether it is being judged."""
        self.passed: Utterance | None = None
        """What sounded just now, if it was short and is over."""

    @property
    def remembered(self) -> bool:
        """Whether what was passed may still turn out to be the beginning of a turn."""
        return not self.open and self._passed_ms < _TOGETHER_MS

    def hear(self, frame: Frame) -> None:
        """Take every frame, whoever speaks."""
        self._recent.append(frame)
        if self.open:
            self._frames.append(frame)
            self._so_far_ms += FRAME_MS
        else:
            self._passed_ms += FRAME_MS
            if self._passed_ms > _READ_WITHIN_MS:
                self.passed = None

    @property
    def over(self) -> bool:
        return overlap.has_ended(list(self._frames))

    def begin(self, start: int) -> int:
        """A sound began at a sample of the microphone.

        Returns:
            Where the utterance begins, should it be one: here, or with the sound just before.
        """
        self.passed = None
        if not self.remembered:
            self._start = start
            self._frames.clear()
        # What sounded between the two, an echo for example, says nothing about either.
        self._frames.extend(list(self._recent)[-_ONSET_FRAMES:])
        self._so_far_ms = _ONSET_FRAMES * FRAME_MS
        self.open, self._sustained = True, False
        return self._start

    def judge(self, usual_db: float | None) -> Judged | None:
        """Judge the sound up to the latest frame."""
        frames = list(self._frames)
        match overlap.judge(frames, usual_db, self._so_far_ms, self._sustained):
            case True:
                return floor.OverlapInterrupts()
            case False:
                return floor.OverlapPassed()
            case None if not self._sustained and overlap.is_sustained(frames, usual_db):
                self._sustained = True
                return floor.OverlapSustained()
            case None:
                return None

    def took_floor(self, usual_db: float | None) -> bool:
        """Judge a sound that is over, whatever it still lacks."""
        return overlap.judge_ended(list(self._frames), usual_db)

    def close(self) -> None:
        """It is judged, or of no interest any more."""
        if self.open:
            self.open, self._passed_ms = False, 0

    def forget(self) -> None:
        self.open, self._passed_ms, self.passed = False, _TOGETHER_MS, None

    def comes_near(self, usual_db: float | None) -> bool:
        """Whether a sound that was passed for its distance is now at the user's level."""
        return overlap.is_sustained(list(self._recent), usual_db)
