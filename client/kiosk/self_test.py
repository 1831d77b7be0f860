"""Plays a sweep through the loudspeaker and listens for it with the microphone."""

import asyncio

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, Samples, samples_in
from agent.errors import AgentError

SWEEP_S = 0.6
"""Longer is found in more noise, and heard by more visitors."""
FROM_HZ, TO_HZ = 400, 3000
"""What small loudspeakers and microphones both carry."""
AMPLITUDE = 0.3
"""Louder annoys and distorts, quieter is lost in a noisy hall."""
FADE_SAMPLES = samples_in(20)
"""Without it, the sweep would begin and end with a click."""
LISTEN_SAMPLES = samples_in(1500)
"""How long to listen: the sweep, and the way through buffers, room and echo."""

TIMEOUT_S = 8.0
"""Devices may take seconds to open; longer only delays saying that they don't work."""
LEAST_LIKENESS = 0.15
"""Noise alone reaches 0.07; a sweep in an echoing hall 0.3."""


class UnheardError(AgentError):
    """The microphone does not hear the loudspeaker."""


def sweep() -> Samples:
    """A tone that rises evenly, faded in and out over 20 ms."""
    at = np.arange(round(SWEEP_S * RATE)) / RATE
    cycles = FROM_HZ * at + (TO_HZ - FROM_HZ) * at**2 / (2 * SWEEP_S)
    edges = np.minimum(np.arange(len(at)), np.arange(len(at))[::-1]) / FADE_SAMPLES
    tone = AMPLITUDE * np.minimum(1, edges) * np.sin(2 * np.pi * cycles)
    return np.rint(32_767 * tone).astype(np.int16)


def likeness(heard: Samples, wanted: Samples) -> float:
    """The largest correlation at any delay, from 0.0 to 1.0."""
    found, pattern = heard.astype(np.float64), wanted.astype(np.float64)
    size = len(found) + len(pattern)
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(pattern, size))
    products = np.fft.irfft(spectrum, size)[: len(found) - len(pattern) + 1]
    energy = _energies(found, len(pattern))
    # One more than nothing: silence is like nothing.
    return float(np.max(np.abs(products) / np.sqrt(np.sum(pattern**2) * energy + 1)))


def _energies(sound: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    """The energy of each stretch of that length."""
    summed = np.concatenate([[0.0], np.cumsum(sound**2)])
    return summed[length:] - summed[:-length]


class SelfTest:
    """What the ends serve while they are tested; see `client.sound.duplex.Listener`."""

    def __init__(self) -> None:
        self._played = sweep()
        self._waiting = self._played
        self._heard = bytearray()
        self._full = asyncio.Event()

    async def verdict(self) -> None:
        """Wait until the sweep was heard.

        Raises:
            UnheardError: If it was not.
        """
        try:
            await asyncio.wait_for(self._full.wait(), TIMEOUT_S)
            sound = np.frombuffer(bytes(self._heard), np.int16)
            if likeness(sound, self._played) >= LEAST_LIKENESS:
                return
        except TimeoutError:
            pass
        raise UnheardError(
            "the microphone does not hear the loudspeaker; both have to be plugged in, "
            "switched on and not muted"
        )

    def ready(self, safe: bool) -> None: ...

    async def hear(self, pcm: bytes, loudness: float) -> None:
        self._heard += pcm
        if len(self._heard) >= 2 * LISTEN_SAMPLES:
            self._full.set()

    async def play(self, out: Samples) -> None:
        # Not before there is somebody to hear it.
        count = min(len(out), len(self._waiting)) if self._heard else 0
        out[:count], self._waiting = self._waiting[:count], self._waiting[count:]
        out[count:] = 0
