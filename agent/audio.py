"""Sound as bytes, samples and seconds: mono PCM16, little-endian, 24 kHz unless said otherwise."""

import io
import wave
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soxr

from agent.errors import AudioError

RATE = 24_000
"""Samples a second of the OpenAI Realtime protocol and of MiMo-Audio."""

SAMPLE_BYTES = 2

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


def read_wav(file: bytes, rate: int = RATE) -> bytes:
    """Decode a WAV file of 8, 16, 24 or 32-bit PCM to mono PCM16 at `rate`.

    Channels are averaged.

    Raises:
        AudioError: If it is no WAV file, holds no PCM, or names an impossible rate.
    """
    try:
        with wave.open(io.BytesIO(file)) as source:
            width, channels = source.getsampwidth(), source.getnchannels()
            found_rate = source.getframerate()
            raw = source.readframes(source.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:
        raise AudioError(f"not a PCM WAV file: {error}") from error
    if not 1_000 <= found_rate <= 384_000:
        raise AudioError(f"a WAV file of {found_rate} samples a second; 1000 to 384000 are read")

    frames = len(raw) // (width * channels)
    scaled = _to_float(raw[: frames * width * channels], width).reshape(frames, channels)
    mono = scaled.mean(axis=1)
    if found_rate != rate:
        mono = soxr.resample(mono, found_rate, rate)
    return _to_pcm16(mono)


def _to_float(raw: bytes, width: int) -> npt.NDArray[np.float64]:
    match width:
        case 1:
            return np.frombuffer(raw, np.uint8).astype(np.float64) / 128 - 1
        case 2:
            return np.frombuffer(raw, "<i2").astype(np.float64) / 2**15
        case 3:
            # Three bytes become the upper three of a four-byte integer.
            padded = np.zeros((len(raw) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            return padded.view("<i4").reshape(-1).astype(np.float64) / 2**31
        case 4:
            return np.frombuffer(raw, "<i4").astype(np.float64) / 2**31
        case _:
            raise AudioError(f"a WAV file with {width * 8} bits a sample; 8, 16, 24, 32 are read")


def _to_pcm16(sound: npt.NDArray[np.floating]) -> bytes:
    return np.clip(np.rint(sound * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes()


class Resampler:
    """Changes the rate of a stream; frames may have any length and any cut.

    Holds back about 20 ms that later samples still shape; `finish` returns them.
    """

    def __init__(self, from_rate: int, to_rate: int):
        self._same = from_rate == to_rate
        # In integers it would add noise that depends on where the stream is cut.
        self._stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")

    def push(self, pcm: bytes) -> bytes:
        """Take whole samples, return those that are ready (possibly none)."""
        if self._same:
            return pcm
        sound = np.frombuffer(pcm, "<i2").astype(np.float32) / 2**15
        return _to_pcm16(self._stream.resample_chunk(sound))

    def finish(self) -> bytes:
        """Return the last samples; the stream can't be used afterwards."""
        if self._same:
            return b""
        return _to_pcm16(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))


class Framer:
    """Cuts a stream of bytes into frames of equal size; what is left over waits for more."""

    def __init__(self, frame_bytes: int):
        self._frame_bytes = frame_bytes
        self._rest = bytearray()

    def push(self, chunk: bytes) -> Iterator[bytes]:
        self._rest += chunk
        whole = len(self._rest) // self._frame_bytes * self._frame_bytes
        ready = bytes(self._rest[:whole])
        del self._rest[:whole]
        for start in range(0, whole, self._frame_bytes):
            yield ready[start : start + self._frame_bytes]

    def clear(self) -> None:
        self._rest.clear()
