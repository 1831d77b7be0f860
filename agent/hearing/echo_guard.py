"""The agent's own voice in the microphone: how much of what is heard it explains.

A microphone without echo cancellation hears the loudspeaker, later, weaker and coloured by the
room. Powers in 16 bands are compared, not waveforms: they survive an unknown delay that changes
with every response, and a loudspeaker that distorts. The delay is where the two vary together;
how much weaker each band arrives is what it mostly was of late; whatever is louder than that is
somebody else.
"""

from dataclasses import dataclass, replace

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES
from agent.hearing.buffer import FRAME_SAMPLES, SPEECH, DetectedFrame
from agent.hearing.loudspeaker import BANDS, HOP, Bands, BandsReader, Loudspeaker, hop_at

_FRAME_HOPS = FRAME_SAMPLES // HOP
_DELAYS = 60
"""0.64 s is the longest delay that is looked for: an echo may be half a second late."""
_WINDOW = 64
"""Hops that are compared at once, 0.7 s: fewer are alike by chance, more are slow to notice that
the delay has changed."""
_FEWEST = 16
"""Hops without which nothing is compared."""
_ACTIVE = -5.5
"""Logarithm of the power from which a band counts as playing: 15 dB above silence."""
_MARGIN = 0.8
"""An echo may be 8 dB louder than expected; more would swallow quiet speech over it."""
_RECENT = 9
"""Hops that a frame is judged by, 96 ms: three frames, so that one loud hop decides nothing."""
_LOUD = 2.5
"""Only what is less than 25 dB below the loudest of them says whose sound it is."""
_CREEP_S = 1e-5
"""A frame, 0.3 ms a second: two clocks that differ by 300 ppm are followed."""
_OFF_S = 1.0
"""A microphone that sent nothing for so long was off; a network that stalls catches up sooner."""
_LEARNING = 0.1
"""Of what is heard now, once the echo is known: half of it is forgotten after seven frames."""
_USUAL_QUANTILE = 0.5
"""Somebody else speaks for less than half of the time that is compared."""
_KNOWN_BY_SPEECH, _KNOWN_BY_SILENCE = 20, 16
"""So many frames of speech, or of silence at a stretch, heard over the agent tell what its echo is.

Less speech would not: whatever begins after the agent did is, at first, like its echo. Less silence
would not: an echo may be half a second late.
"""
_SURE, _UNSURE = 0.5, 0.3
"""Likeness of what is played and heard, from which the guard is believed whole, and not at all."""
_DUCKED, _DUCKS_WITHIN = 0.6, 5
"""A client that ducks lowers its volume by 6 dB at least, within 50 ms."""


@dataclass(slots=True)
class _Recorded:
    """When sound was recorded: it may be late, never early, so the least delay so far tells."""

    samples: int = 0
    anchor: float = float("-inf")
    """When the first sample was recorded, by the least delay."""
    at: float = float("-inf")
    """When the latest frame came."""

    def add(self, samples: int, now: float) -> bool:
        """Take a frame that comes now; return whether the microphone had been off."""
        self.samples += samples
        began_at = now - self.samples / RATE
        was_off = now - self.at > _OFF_S
        before = began_at if was_off else self.anchor
        self.at, self.anchor = now, min(before + _CREEP_S, began_at)
        return was_off

    @property
    def last_hop(self) -> int:
        """The hop of the clock in which the latest sample was recorded."""
        return hop_at(self.anchor + self.samples / RATE)


@dataclass(slots=True)
class _Familiarity:
    """Whether enough was heard over the agent to know what its echo is."""

    speech: int = 0
    silence: int = 0
    is_known: bool = False

    def count(self, is_speech: bool) -> None:
        self.speech += is_speech
        self.silence = 0 if is_speech else self.silence + 1
        enough = self.speech >= _KNOWN_BY_SPEECH or self.silence >= _KNOWN_BY_SILENCE
        self.is_known = self.is_known or enough


class EchoGuard:
    """Compares one microphone with what its client plays."""

    def __init__(self) -> None:
        self.loudspeaker = Loudspeaker()
        """It has to know what becomes of the agent's voice."""
        self._recorded = _Recorded()
        self._reader = BandsReader()
        self._heard = np.zeros((0, BANDS), np.float32)
        self._likeness = np.zeros(_DELAYS, np.float32)
        self._familiar = _Familiarity()
        self._put_off: list[DetectedFrame] = []
        self._gain = np.zeros(BANDS, np.float32)

    @property
    def _weight(self) -> float:
        """Of what is heard now, beside what was heard before."""
        return _LEARNING if self._familiar.is_known else 1.0

    def explain(self, frame: DetectedFrame, now: float) -> list[DetectedFrame]:
        """Take the next frame of the microphone.

        Returns:
            This frame and all that were put off, each with the probability that somebody else
            speaks; none until the echo is known, 0.64 to 1.3 s after the agent's first sound.
        """
        self._put_off.append(frame)
        if self._recorded.add(len(frame.pcm) // SAMPLE_BYTES, now):
            self._heard = self._heard[:0]
        last = self._recorded.last_hop
        if self.loudspeaker.has_played_all(last - _DELAYS - _WINDOW, kept=_WINDOW):
            return self._trust_latest()
        if not len(bands := self._reader.read(frame.pcm)):
            return self._trust_latest()
        self._heard = np.concatenate((self._heard, bands))[-_WINDOW:]
        return self._compare(last, frame.probability)

    def release_put_off(self) -> list[DetectedFrame]:
        """Put nothing off any more: what was heard in doubt was the agent."""
        doubtful, self._put_off = self._put_off, []
        return [replace(frame, probability=0.0) for frame in doubtful]

    def _trust_latest(self) -> list[DetectedFrame]:
        """Nothing plays any more: the latest frame is somebody else, if it is speech."""
        latest = self._put_off.pop()
        return [*self.release_put_off(), latest]

    def _compare(self, last: int, probability: float) -> list[DetectedFrame]:
        count = len(self._heard)
        begin = last - count - _DELAYS + 2
        played = self.loudspeaker.between(begin, last + 1)
        if played.max() < _ACTIVE:
            return self._trust_latest()
        self._familiar.count(probability >= SPEECH)
        if count < _FEWEST:
            return []
        delay = self._delay(played)
        first = _DELAYS - 1 - delay
        echo = played[first : first + count]
        if self.loudspeaker.ducked_at is None:
            self._learn_gain(echo)
        # Until delay and level are known, no sound is told from the agent's own.
        if not self._familiar.is_known:
            return []
        put_off, self._put_off = self._put_off, []
        trust = (float(self._likeness[delay]) - _UNSURE) / (_SURE - _UNSURE)
        trust = min(1.0, max(0.0, trust))
        return [
            replace(
                each,
                probability=each.probability
                * (1 - trust * self._share(echo, last - delay + 1, len(put_off) - 1 - number)),
            )
            for number, each in enumerate(put_off)
        ]

    def _delay(self, played: Bands) -> int:
        """Where the two vary together, by all that was heard so far."""
        count = len(self._heard)
        here = self._heard - self._heard.sum(axis=0) / count
        product = _products(played, here)
        sums = _sums(played, count)
        squares = _sums((played * played).sum(axis=1), count)
        spread = squares - (sums * sums).sum(axis=1) / count
        # What hardly varies is like anything.
        size = np.sqrt((float((here * here).sum()) + count) * (np.maximum(spread, 0) + count))
        self._likeness += self._weight * ((product / size)[::-1] - self._likeness)
        return int(self._likeness.argmax())

    def _share(self, echo: Bands, end: int, back: int) -> float:
        """How much of a frame, so many frames ago, is as the echo is expected."""
        until = len(echo) - back * _FRAME_HOPS
        if until <= 0:
            return 1.0
        recent = slice(max(0, until - _RECENT), until)
        expected = echo[recent] + self._gain + _MARGIN
        if self.loudspeaker.ducked_at is not None:
            ducked = end - hop_at(self.loudspeaker.ducked_at) - _DUCKS_WITHIN
            expected[max(0, _RECENT - max(0, ducked)) :] -= _DUCKED
        heard = self._heard[recent]
        loud = heard > heard.max() - _LOUD
        return float((heard <= expected)[loud].mean())

    def _learn_gain(self, echo: Bands) -> None:
        """How much weaker each band mostly arrives; somebody else is heard for a while only."""
        active = echo > _ACTIVE
        counts = active.sum(axis=0)
        ordered = np.sort(np.where(active, self._heard - echo, np.inf), axis=0)
        usual = ordered[(counts * _USUAL_QUANTILE).astype(int), np.arange(BANDS)]
        known = counts >= _FEWEST
        self._gain[known] += self._weight * (usual[known] - self._gain[known])


def _products(longer: Bands, shorter: Bands) -> Bands:
    """The sums of the products of a shorter sequence with each stretch of a longer one.

    Returns:
        One for each place where the stretch can begin, in order.
    """
    count, length = len(shorter), len(longer)
    table = np.empty(count * (length + 1), np.float32)
    np.matmul(shorter, longer.T, out=table[: count * length].reshape(count, length))
    # Read as rows that are longer by one, what belongs together stands in one column.
    return table.reshape(count, length + 1)[:, : length - count + 1].sum(axis=0)


def _sums(values: Bands, count: int) -> Bands:
    """Sums over every `count` neighbours along the first axis."""
    running = np.cumsum(values, axis=0, dtype=np.float64)
    running[count:] -= running[:-count]
    return running[count - 1 :].astype(np.float32)
