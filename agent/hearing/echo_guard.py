"""The agent's own voice in the microphone: how much of what is heard it explains.

A microphone without echo cancellation hears the loudspeaker, later, weaker and coloured by the
room. Powers in 16 bands are compared, not waveforms: they survive an unknown delay that changes
with every response, and a loudspeaker that distorts. The delay is where the two vary together;
how much weaker each band arrives is what it mostly was of late; whatever is louder than that is
somebody else.
"""

from collections import deque
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, SAMPLE_BYTES, seconds
from agent.floor import states as floor
from agent.hearing.buffer import DetectedFrame
from agent.model.output import Sound

Bands = npt.NDArray[np.float32]

_HOP = 256
_FRAME_HOPS = 3
_FFT = 512
_HOP_S = _HOP / RATE
_BANDS = 16
_WINDOW = 64
_MOST_SENT = 256
_FEWEST = 16
_DELAYS = 60
_FLOOR, _ACTIVE = -7.0, -5.5
_DIES_AWAY = 0.16
_MARGIN = 0.8
_RECENT = 9
_LOUD = 2.5
_CREEP_S = 1e-5
_OFF_S = 1.0
"""A microphone that sent nothing for so long was off; a network that stalls catches up sooner."""
_LEARNING = 0.1
_USUAL_QUANTILE = 0.5
_KNOWN_BY_SPEECH, _KNOWN_BY_SILENCE = 20, 16
"""So many frames of speech, or of silence at a stretch, heard over the agent tell what its echo is.

Less speech would not: whatever begins after the agent did is, at first, like its echo. Less silence
would not: an echo may be half a second late.
"""
_SPEECH = 0.5
_SURE, _UNSURE = 0.5, 0.3
_DUCKED, _DUCKS_WITHIN = 0.6, 5
"""A client that ducks lowers its volume by 6 dB at least, within 50 ms."""


def _filters() -> Bands:
    """Which of the 257 bins belongs to which band, from 150 to 6000 Hz; shape (257, 16)."""
    edges = np.geomspace(150.0, 6_000.0, _BANDS + 1)
    hertz = np.fft.rfftfreq(_FFT, 1 / RATE)[:, None]
    return ((hertz >= edges[:-1]) & (hertz < edges[1:])).astype(np.float32)


_FILTERS = _filters()
_HANN = np.hanning(_FFT).astype(np.float32)


def _samples(pcm: bytes) -> Bands:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(2**15)


def _bands(sound: Bands) -> Bands:
    """The logarithm of the power in each band, for every hop but the first; shape (hops, 16)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * _HANN, axis=1)) ** 2 / _FFT
    return np.log10(power.astype(np.float32) @ _FILTERS + 10**_FLOOR)


class EchoGuard:
    """Compares one microphone with what its client plays."""

    def __init__(self) -> None:
        self._playing = _Playing()
        self._sent: deque[tuple[bytes, int]] = deque(maxlen=_MOST_SENT)
        self._heard = np.zeros((0, _BANDS), np.float32)
        self._tail = np.zeros(_HOP, np.float32)
        self._received = 0
        self._anchor = self._received_at = float("-inf")
        self._likeness = np.zeros(_DELAYS, np.float32)
        self._sounding = self._quiet = 0
        self._known = False
        self._put_off: list[DetectedFrame] = []
        self._gain = np.zeros(_BANDS, np.float32)
        self._ends_at = 0.0
        self._held_at: float | None = None
        self._ducked_at: float | None = None

    def take_action(self, action: floor.Action, now: float) -> None:
        """Take what is done about the agent's voice."""
        match action:
            case floor.Deliver(output=Sound(pcm)):
                self.play(pcm, now)
            case floor.Duck():
                self._ducked_at = now
            case floor.Hold():
                self._held_at = now
            case floor.Restore():
                self._settle()
                self._release(now)
            case floor.CutItem():
                self._settle()
                self._playing.cut(_hop(now if self._held_at is None else self._held_at))
                self._ends_at, self._ducked_at, self._held_at = now, None, None
            case _:
                pass

    def _release(self, now: float) -> None:
        """The client plays on, at full volume."""
        if self._held_at is not None:
            self._playing.delay(_hop(self._held_at), _hop(now) - _hop(self._held_at))
            self._ends_at += now - self._held_at
        self._ducked_at = self._held_at = None

    def play(self, pcm: bytes, now: float) -> None:
        """Sound of the agent, PCM16 at 24 kHz, was sent: it plays after what was sent before."""
        at = max(now, self._ends_at)
        self._ends_at = at + seconds(pcm)
        self._sent.append((pcm, _hop(at)))

    def _settle(self) -> None:
        """Take in what was sent: it is put off, so that sending never waits for it."""
        while self._sent:
            self._playing.add(*self._sent.popleft())

    @property
    def _weight(self) -> float:
        """Of what is heard now, beside what was heard before."""
        return _LEARNING if self._known else 1.0

    def explain(self, frame: DetectedFrame, now: float) -> list[DetectedFrame]:
        """Take the next frame of the microphone.

        Returns:
            This frame and all that were put off, each with the probability that somebody else
            speaks; none until the echo is known, 0.64 to 1.3 s after the agent's first sound.
        """
        self._put_off.append(frame)
        self._received += len(frame.pcm) // SAMPLE_BYTES
        sent_at = now - self._received / RATE
        if now - self._received_at > _OFF_S:
            self._anchor, self._heard = sent_at, self._heard[:0]
        self._received_at = now
        # Sound may be late, never early: the least delay so far tells when it was recorded.
        self._anchor = min(self._anchor + _CREEP_S, sent_at)
        last = _hop(self._anchor + self._received / RATE)
        self._settle()
        if self._playing.is_over(last - _DELAYS - _WINDOW):
            return self._trust_latest()
        sound = np.concatenate((self._tail, _samples(frame.pcm)))
        if sound.size < _FFT:
            return self._trust_latest()
        self._tail = sound[-_HOP:]
        self._heard = np.concatenate((self._heard, _bands(sound)))[-_WINDOW:]
        return self._compare(last, frame.probability)

    def let_go(self) -> list[DetectedFrame]:
        """Put nothing off any more: what was heard in doubt was the agent."""
        doubtful, self._put_off = self._put_off, []
        return [replace(frame, probability=0.0) for frame in doubtful]

    def _trust_latest(self) -> list[DetectedFrame]:
        """Nothing plays any more: the latest frame is somebody else, if it is speech."""
        latest = self._put_off.pop()
        return [*self.let_go(), latest]

    def _compare(self, last: int, probability: float) -> list[DetectedFrame]:
        count = len(self._heard)
        begin = last - count - _DELAYS + 2
        played = self._playing.between(begin, last + 1)
        if self._held_at is not None:
            played[max(0, _hop(self._held_at) - begin) :] = _FLOOR
        if played.max() < _ACTIVE:
            return self._trust_latest()
        self._count(probability >= _SPEECH)
        if count < _FEWEST:
            return []
        delay = self._delay(played)
        first = _DELAYS - 1 - delay
        echo = played[first : first + count]
        if self._ducked_at is None:
            self._learn_gain(echo)
        # Until delay and level are known, no sound is told from the agent's own.
        if not self._known:
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

    def _count(self, sounds: bool) -> None:
        self._sounding += sounds
        self._quiet = 0 if sounds else self._quiet + 1
        self._known |= self._sounding >= _KNOWN_BY_SPEECH or self._quiet >= _KNOWN_BY_SILENCE

    def _delay(self, played: Bands) -> int:
        """Where the two vary together, by all that was heard so far."""
        count = len(self._heard)
        here = self._heard - self._heard.mean(axis=0)
        windows = np.lib.stride_tricks.sliding_window_view(played.reshape(-1), count * _BANDS)
        product = (windows[::_BANDS] @ here.reshape(-1))[::-1]
        sums = _sums(played, count)
        spread = (_sums(played * played, count) - sums * sums / count).sum(axis=1)[::-1]
        # What hardly varies is like anything.
        size = np.sqrt((float((here * here).sum()) + count) * (np.maximum(spread, 0) + count))
        self._likeness += self._weight * (product / size - self._likeness)
        return int(self._likeness.argmax())

    def _share(self, echo: Bands, end: int, back: int) -> float:
        """How much of a frame, so many frames ago, is as the echo is expected."""
        until = len(echo) - back * _FRAME_HOPS
        if until <= 0:
            return 1.0
        recent = slice(max(0, until - _RECENT), until)
        expected = echo[recent] + self._gain + _MARGIN
        if self._ducked_at is not None:
            ducked = end - _hop(self._ducked_at) - _DUCKS_WITHIN
            expected[max(0, _RECENT - max(0, ducked)) :] -= _DUCKED
        heard = self._heard[recent]
        loud = heard > heard.max() - _LOUD
        return float((heard <= expected)[loud].mean())

    def _learn_gain(self, echo: Bands) -> None:
        """How much weaker each band mostly arrives; somebody else is heard for a while only."""
        active = echo > _ACTIVE
        counts = active.sum(axis=0)
        ordered = np.sort(np.where(active, self._heard - echo, np.inf), axis=0)
        usual = ordered[(counts * _USUAL_QUANTILE).astype(int), np.arange(_BANDS)]
        known = counts >= _FEWEST
        self._gain[known] += self._weight * (usual[known] - self._gain[known])


def _hop(time: float) -> int:
    return round(time / _HOP_S)


def _sums(values: Bands, count: int) -> Bands:
    """Sums over every `count` neighbours along the first axis."""
    running = np.concatenate((np.zeros((1, _BANDS)), np.cumsum(values, axis=0, dtype=np.float64)))
    return (running[count:] - running[:-count]).astype(np.float32)


class _Playing:
    """What plays when, in hops of the clock; each sound dies away as in a room."""

    def __init__(self) -> None:
        self._first = 0
        self._bands = np.zeros((0, _BANDS), np.float32)
        self._tail = np.zeros(_HOP, np.float32)

    def add(self, pcm: bytes, at: int) -> None:
        end = self._first + len(self._bands)
        if at > end + 1:
            # After a gap nothing of what was before is heard any more.
            self._first, self._bands = at - _DELAYS, np.full((_DELAYS, _BANDS), _FLOOR, np.float32)
            self._tail = np.zeros(_HOP, np.float32)
        sound = np.concatenate((self._tail, _samples(pcm)))
        whole = sound.size // _HOP * _HOP
        self._tail = sound[whole - _HOP :]
        if whole < _FFT:
            return
        bands = _bands(sound[:whole])
        before = self._bands[-1] if len(self._bands) else bands[0]
        for row in bands:
            before = np.maximum(row, before - _DIES_AWAY)
            row[:] = before
        self._bands = np.concatenate((self._bands, bands))

    def cut(self, at: int) -> None:
        self._bands = self._bands[: max(0, at - self._first)]

    def delay(self, at: int, by: int) -> None:
        """What would play from a hop on plays later; silence comes before it."""
        place = min(len(self._bands), max(0, at - self._first))
        silence = np.full((max(0, by), _BANDS), _FLOOR, np.float32)
        self._bands = np.concatenate((self._bands[:place], silence, self._bands[place:]))

    def is_over(self, before: int) -> bool:
        """Whether everything was played before a hop; forgets what was."""
        gone = min(len(self._bands), max(0, before - self._first))
        if gone > _WINDOW or gone == len(self._bands):
            self._bands, self._first = self._bands[gone:], self._first + gone
        return not len(self._bands)

    def between(self, first: int, end: int) -> Bands:
        """The bands from one hop to another, silent where nothing plays."""
        found = np.full((end - first, _BANDS), _FLOOR, np.float32)
        begin, stop = max(first, self._first), min(end, self._first + len(self._bands))
        if begin < stop:
            found[begin - first : stop - first] = self._bands[
                begin - self._first : stop - self._first
            ]
        return found
