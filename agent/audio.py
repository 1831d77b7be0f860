"""Sound as bytes, samples and seconds: mono PCM16, little-endian, 24 kHz unless said otherwise."""

import io
import wave

import numpy as np
import numpy.typing as npt
import soxr

from agent import riff
from agent.errors import AudioError

RATE = 24_000
"""Samples a second of the OpenAI Realtime protocol and of MiMo-Audio."""

SAMPLE_BYTES = 2
"""PCM16."""

LONGEST_S = 3_600.0
"""Of a file: decoded, an hour takes half a gigabyte, whatever its size was."""

Samples = npt.NDArray[np.int16]


def seconds(pcm: bytes | bytearray, rate: int = RATE) -> float:
    return len(pcm) / (SAMPLE_BYTES * rate)


def milliseconds(samples: int, rate: int = RATE) -> int:
    return samples * 1000 // rate


def samples_in(milliseconds: int, rate: int = RATE) -> int:
    return milliseconds * rate // 1000


def wav(pcm: bytes | bytearray, rate: int = RATE, channels: int = 1) -> bytes:
    """Wrap PCM16 into a WAV file; several channels come interleaved."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(SAMPLE_BYTES)
        out.setframerate(rate)
        out.writeframes(bytes(pcm))
    return file.getvalue()


def read_wav(file: bytes, rate: int = RATE, longest_s: float = LONGEST_S) -> bytes:
    """Decode a WAV file of any common form (`agent.riff`) to mono PCM16 at `rate`.

    Channels are averaged.

    Raises:
        AudioError: If it is no WAV file, is too long, or holds sound in a form that isn't read.
    """
    wave = riff.parse(file)
    if wave.frames > longest_s * wave.rate:
        found_s = wave.frames / wave.rate
        raise AudioError(f"{found_s:.1f} s of sound; the limit is {longest_s:g} s")
    sound = riff.mono(wave)
    if wave.rate != rate:
        sound = soxr.resample(sound, wave.rate, rate)
    return pcm16(sound)


def floats(pcm: bytes) -> npt.NDArray[np.float32]:
    """PCM16 as numbers from -1.0 to 1.0."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(2**15)


def pcm16(sound: npt.NDArray[np.floating]) -> bytes:
    """The reverse of `floats`; what is louder than full scale is clipped."""
    return rounded(sound * 2**15).tobytes()


def rounded(sound: npt.NDArray[np.number]) -> Samples:
    """Round to whole samples, clipped to their range."""
    return np.clip(np.rint(sound), -(2**15), 2**15 - 1).astype("<i2")


class Resampler:
    """Changes the rate of a stream; frames may have any length and any cut.

    Holds back 20 to 35 ms that later samples still shape; `finish` returns them.
    """

    def __init__(self, from_rate: int, to_rate: int):
        self._same = from_rate == to_rate
        self._from_rate, self._to_rate = from_rate, to_rate
        self._taken = self._given = 0
        # In integers it would add noise that depends on where the stream is cut.
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")

    @property
    def held_samples(self) -> int:
        """How much is held back now, in samples of the rate it changes to."""
        return max(0, self._taken * self._to_rate // self._from_rate - self._given)

    def resample(self, pcm: bytes) -> bytes:
        """Take whole samples, return those that are ready (possibly none)."""
        if self._same:
            return pcm
        ready = self._stream.resample_chunk(floats(pcm))
        self._taken += len(pcm) // SAMPLE_BYTES
        self._given += len(ready)
        return pcm16(ready)

    def finish(self) -> bytes:
        """Return the last samples; the stream can't be used afterwards."""
        if self._same:
            return b""
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._given += len(rest)
        return pcm16(rest)
