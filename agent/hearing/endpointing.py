"""Endpointing: where utterances begin and end, found in speech probabilities.

Time is counted in samples of the microphone, not read from a clock, so a recording
gives the same utterances at any speed and a stalled network ends nobody's turn.
"""

from collections import deque
from dataclasses import dataclass

from agent.audio import samples_in
from agent.hearing.buffer import FRAME_SAMPLES, ONSET_FRAMES

_HYSTERESIS = 0.15
"""An utterance goes on at so much less probability than it begins at: less would break it at soft
sounds, more would let noise prolong it."""
_SPEECH_FRAMES = 3
"""Of the frames of an onset: one more would miss short words, one fewer would let clicks in."""


@dataclass(frozen=True, slots=True)
class Onset:
    """Speech began; the utterance includes the padding before it."""

    start: int
    """Sample of the microphone at which the utterance begins."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The user has been silent for a short while; the turn may or may not be over."""

    end: int
    """Sample at which the silence was noticed: the utterance holds all before it."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """The user goes on speaking after a pause: one longer utterance."""


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """The silence has lasted long enough: the turn is over."""

    end: int
    """Sample at which the verdict fell, silence included."""


Boundary = Onset | Pause | Resumption | EndOfTurn


@dataclass(frozen=True, slots=True)
class Limits:
    """What decides where an utterance begins and ends; lengths in samples."""

    threshold: float
    prefix_padding: int
    pause: int
    """Silence after which a pause is reported; at or over `silence`, none ever is."""
    silence: int
    longest: int
    """Speech without a break ends a turn after this; padding does not count."""


def limits(
    threshold: float, prefix_padding_ms: int, pause_ms: int, silence_ms: int, longest_ms: int
) -> Limits:
    return Limits(
        threshold,
        samples_in(prefix_padding_ms),
        samples_in(pause_ms),
        samples_in(silence_ms),
        samples_in(longest_ms),
    )


class Endpointer:
    """Finds the boundaries of one microphone's utterances.

    Source:
        Two thresholds 0.15 apart, as `VADIterator` of
        https://github.com/snakers4/silero-vad has them; that speech begins with 3 of 4 frames
        instead of one keeps clicks out and costs 64 ms, which the padding gives back.
    """

    def __init__(self, now: int = 0):
        self._now = now
        self._recent: deque[bool] = deque(maxlen=ONSET_FRAMES)
        self._onset: int | None = None
        self._silent_since = 0
        self._paused = False

    @property
    def now(self) -> int:
        """Samples judged so far."""
        return self._now

    @property
    def speech_end(self) -> int:
        """Sample up to which speech was heard in the open utterance, or the one just ended."""
        return self._silent_since

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance is open, pauses included."""
        return self._onset is not None

    def reset(self) -> None:
        """Forget the open utterance; the count of samples goes on."""
        self._recent.clear()
        self._onset = None
        self._paused = False

    def next_boundary(self, probability: float, limits: Limits) -> Boundary | None:
        """Take the next frame and return the boundary it crossed, if any.

        Args:
            probability: Probability of speech in the next 768 samples at 24 kHz, 0.0 to 1.0.
        """
        self._now += FRAME_SAMPLES
        if self._onset is None:
            return self._wait_for_onset(probability, limits)
        return self._wait_for_end(probability, self._onset, limits)

    def _wait_for_onset(self, probability: float, limits: Limits) -> Onset | None:
        self._recent.append(probability >= limits.threshold)
        if sum(self._recent) < _SPEECH_FRAMES:
            return None
        self._onset = self._now - len(self._recent) * FRAME_SAMPLES
        self._silent_since = self._now
        self._paused = False
        self._recent.clear()
        return Onset(max(0, self._onset - limits.prefix_padding))

    def _wait_for_end(self, probability: float, onset: int, limits: Limits) -> Boundary | None:
        threshold = limits.threshold if self._paused else limits.threshold - _HYSTERESIS
        if probability >= threshold:
            self._silent_since = self._now
            if self._paused:
                self._paused = False
                return Resumption()
        silence = self._now - self._silent_since
        if silence >= limits.silence or self._now - onset >= limits.longest:
            self.reset()
            return EndOfTurn(self._now)
        if silence >= limits.pause and not self._paused:
            self._paused = True
            return Pause(self._now)
        return None
