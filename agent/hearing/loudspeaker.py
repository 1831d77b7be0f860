"""What a client's loudspeaker plays when, as the echo guard has to know it: powers in bands."""

from collections import deque

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, floats, seconds
from agent.floor import states as floor
from agent.model.output import Sound

Bands = npt.NDArray[np.float32]

HOP = 256
"""10.7 ms: three are a frame of the microphone, and a delay is found to half of one."""
_FFT = 512
"""Two hops: longer would tell bands apart better, and an echo's delay worse."""
BANDS = 16
"""Enough to tell one voice from another; more would cost time and vary with the room."""
FLOOR = -7.0
"""Logarithm of a power that nobody hears, -70 dB of full scale: what digital silence counts as."""
_ROOM_HOPS = 60
"""0.64 s: after so much silence nothing of what was played before is heard any more."""
_DIES_AWAY = 0.16
"""A hop: what was played sounds on in a room, 150 dB a second quieter; less would hide speech."""
_MOST_SENT = 256
"""Pieces of sound that wait to be taken in; of more, the oldest are forgotten."""


def _filters() -> Bands:
    """What a bin's square is of the power in a band, from 150 to 6000 Hz; shape (257, 16)."""
    edges = np.geomspace(150.0, 6_000.0, BANDS + 1)
    hertz = np.fft.rfftfreq(_FFT, 1 / RATE)[:, None]
    return ((hertz >= edges[:-1]) & (hertz < edges[1:])).astype(np.float32) / np.float32(_FFT)


_FILTERS = _filters()
_HANN = np.hanning(_FFT).astype(np.float32)


def hop_at(time: float) -> int:
    """The hop of the clock that a time in seconds falls into."""
    return round(time * RATE / HOP)


class BandsReader:
    """The bands of a stream of sound, whose pieces are whole hops or wait for the next."""

    def __init__(self) -> None:
        self._tail = np.zeros(HOP, np.float32)

    def read(self, pcm: bytes) -> Bands:
        """The logarithm of the power in each band for every hop of mono PCM16 at 24 kHz.

        Returns:
            Shape (hops, 16); none if the sound is shorter than a hop.
        """
        sound = np.concatenate((self._tail, floats(pcm)))
        whole = sound.size // HOP * HOP
        self._tail = sound[whole - HOP :]
        if whole < _FFT:
            return np.zeros((0, BANDS), np.float32)
        hops = sound[:whole].reshape(-1, HOP)
        frames = np.concatenate((hops[:-1], hops[1:]), axis=1)
        bins = np.fft.rfft(frames * _HANN, axis=1)
        power = bins.real * bins.real + bins.imag * bins.imag
        return np.log10(power.astype(np.float32) @ _FILTERS + 10**FLOOR)


class Loudspeaker:
    """Follows what is sent, held and cut; times are hops of the clock."""

    def __init__(self) -> None:
        self._sent: deque[tuple[bytes, int]] = deque(maxlen=_MOST_SENT)
        self._first = 0
        self._bands = np.zeros((0, BANDS), np.float32)
        self._reader = BandsReader()
        self._ends_at = 0.0
        self._held_at: float | None = None
        self.ducked_at: float | None = None
        """When the client was asked to lower its volume, if it still does."""

    def apply_action(self, action: floor.Action, now: float) -> None:
        """Take what is done about the agent's voice."""
        match action:
            case floor.Deliver(output=Sound(pcm)):
                self.play(pcm, now)
            case floor.Duck():
                self.ducked_at = now
            case floor.Hold():
                self._held_at = now
            case floor.Restore():
                self._play_on(now)
            case floor.CutItem():
                self._take_in_sent()
                end = hop_at(now if self._held_at is None else self._held_at)
                self._bands = self._bands[: max(0, end - self._first)]
                self._ends_at, self.ducked_at, self._held_at = now, None, None
            case _:
                pass

    def play(self, pcm: bytes, now: float) -> None:
        """Sound of the agent, PCM16 at 24 kHz, was sent: it plays after what was sent before."""
        at = max(now, self._ends_at)
        self._ends_at = at + seconds(pcm)
        self._sent.append((pcm, hop_at(at)))

    def _play_on(self, now: float) -> None:
        """At full volume; what was held comes later, and silence before it."""
        self._take_in_sent()
        if (held_at := self._held_at) is not None:
            place = min(len(self._bands), max(0, hop_at(held_at) - self._first))
            silence = np.full((max(0, hop_at(now) - hop_at(held_at)), BANDS), FLOOR, np.float32)
            self._bands = np.concatenate((self._bands[:place], silence, self._bands[place:]))
            self._ends_at += now - held_at
        self.ducked_at = self._held_at = None

    def _take_in_sent(self) -> None:
        """It is put off, so that sending never waits for it."""
        while self._sent:
            self._add(*self._sent.popleft())

    def _add(self, pcm: bytes, at: int) -> None:
        if at > self._first + len(self._bands) + 1:
            self._first = at - _ROOM_HOPS
            self._bands = np.full((_ROOM_HOPS, BANDS), FLOOR, np.float32)
            self._reader = BandsReader()
        bands = self._reader.read(pcm)
        if not len(bands):
            return
        before = self._bands[-1] if len(self._bands) else bands[0]
        for row in bands:
            before = np.maximum(row, before - _DIES_AWAY)
            row[:] = before
        self._bands = np.concatenate((self._bands, bands))

    def has_played_all(self, before: int, kept: int) -> bool:
        """Whether everything was played before a hop.

        Args:
            kept: What was played is forgotten once it is more than so many hops.
        """
        self._take_in_sent()
        gone = min(len(self._bands), max(0, before - self._first))
        if gone > kept or gone == len(self._bands):
            self._bands, self._first = self._bands[gone:], self._first + gone
        return not len(self._bands)

    def between(self, first: int, end: int) -> Bands:
        """The bands from one hop to another, silent where nothing plays."""
        found = np.full((end - first, BANDS), FLOOR, np.float32)
        begin, stop = max(first, self._first), min(end, self._first + len(self._bands))
        if begin < stop:
            found[begin - first : stop - first] = self._bands[
                begin - self._first : stop - self._first
            ]
        if self._held_at is not None:
            found[max(0, hop_at(self._held_at) - first) :] = FLOOR
        return found
