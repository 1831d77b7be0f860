"""Between mono at 24 kHz and the rate and channels of a device.

`arrived` and `fill` are called on PortAudio's thread, which must never wait: they only copy
between PortAudio's buffer and a ring that was allocated before; no lock, no resampling, no
Python object that outlives them. All else happens on the caller's side.
"""

from typing import NamedTuple

import numpy as np

from agent.audio import RATE, Resampler, Samples, samples_in
from client.sound.ring import Ring

BLOCK_MS = 20
"""Less wakes the processor more often, more is heard later."""
RING_S = 2
"""What a microphone may hold while nobody reads."""

AHEAD_SAMPLES = samples_in(40)
"""How much may wait between the jitter buffer and the loudspeaker: little, so that an
interruption is heard at once."""

EDGE_MS = 5
"""Less would click, more would swallow the first sound of a word."""


class Form(NamedTuple):
    """How a device takes or gives its sound, as PCM16."""

    rate: int
    channels: int

    @property
    def block(self) -> int:
        """Frames of one call."""
        return samples_in(BLOCK_MS, self.rate)


class Edges:
    """Keeps a ring that runs dry, and comes back, from clicking."""

    def __init__(self, fade_samples: int):
        self._rising = np.linspace(0, 1, fade_samples, dtype=np.float32)
        self._dry = False
        self._last = 0

    def shape(self, out: Samples, filled: int) -> None:
        """Fade in what comes after a gap, and glide to silence where `filled` samples end."""
        size = len(self._rising)
        if self._dry and filled:
            count = min(size, filled)
            out[:count] = out[:count] * self._rising[:count]
        out[filled:] = 0
        if filled:
            self._last = int(out[filled - 1])
        if filled < len(out) and self._last:
            count = min(size, len(out) - filled)
            out[filled : filled + count] = self._last * self._rising[::-1][:count]
            self._last = int(out[-1])
        self._dry = filled < len(out)


class FromDevice:
    """What a microphone gave, until it is read."""

    def __init__(self, form: Form):
        self._channels = form.channels
        self._ring = Ring(form.rate * form.channels * RING_S)
        self._chunk = np.zeros(form.rate * form.channels * RING_S, np.int16)
        self._resampler = Resampler(form.rate, RATE)

    @property
    def held_samples(self) -> int:
        """Samples that came and are not read yet, as those after them still shape them."""
        return self._resampler.held_samples

    def arrived(self, samples: Samples) -> None:
        """Take interleaved frames, as many as there is room for."""
        self._ring.write(samples)

    def read(self) -> bytes:
        """Everything since the last call: the average of all channels, at 24 kHz."""
        samples = self._chunk[: self._ring.read_into(self._chunk)]
        return self._resampler.resample(mixed(samples, self._channels).tobytes())


class ToDevice:
    """What a loudspeaker is to play, until it does."""

    def __init__(self, form: Form):
        self._form = form
        self._ring = Ring(form.rate)
        self._played = Ring(form.rate * RING_S)
        self._mono = np.zeros(form.block, np.int16)
        self._chunk = np.zeros(form.rate * RING_S, np.int16)
        self._resampler = Resampler(RATE, form.rate)
        self._back = Resampler(form.rate, RATE)
        self._edges = Edges(samples_in(EDGE_MS, form.rate))

    @property
    def room(self) -> int:
        """Samples that `write` takes now."""
        return AHEAD_SAMPLES - self._in_ring

    @property
    def waiting_samples(self) -> int:
        """Samples that were written, and not handed over."""
        return self._in_ring + self._resampler.held_samples * RATE // self._form.rate

    @property
    def held_samples(self) -> int:
        """Samples that were handed over, and that `played` can't tell yet."""
        return self._back.held_samples

    @property
    def _in_ring(self) -> int:
        return len(self._ring) * RATE // self._form.rate

    def write(self, sound: Samples) -> None:
        """Play next; the caller keeps to `room`."""
        self._ring.write(np.frombuffer(self._resampler.resample(sound.tobytes()), np.int16))

    def finish(self) -> None:
        """Have the last samples played, too; nothing can be written afterwards."""
        self._ring.write(np.frombuffer(self._resampler.finish(), np.int16))

    def played(self) -> Samples:
        """What was handed over since the last call, silence included: the echo's source."""
        count = self._played.read_into(self._chunk)
        return np.frombuffer(self._back.resample(self._chunk[:count].tobytes()), np.int16)

    def fill(self, out: Samples) -> bool:
        """Fill interleaved frames, the same in each channel; return whether there were enough."""
        frames = len(out) // self._form.channels
        mono = self._mono[:frames]
        filled = self._ring.read_into(mono)
        self._edges.shape(mono, filled)
        out.reshape(frames, -1)[:] = mono[:, np.newaxis]
        self._played.write(mono)
        return filled == frames


def mixed(samples: Samples, channels: int) -> Samples:
    """The average of interleaved channels."""
    if channels == 1:
        return samples
    return np.rint(samples.reshape(-1, channels).mean(axis=1)).astype(np.int16)
