"""The formats of sound on the wire, to and from mono PCM16 at 24 kHz."""

from agent import g711
from agent.audio import RATE, SAMPLE_BYTES, Resampler
from agent.g711 import A_LAW, U_LAW, Law
from agent.realtime.config import AudioFormat, PcmaFormat, PcmFormat, PcmuFormat


def _law(format: AudioFormat) -> Law | None:
    match format:
        case PcmFormat():
            return None
        case PcmuFormat():
            return U_LAW
        case PcmaFormat():
            return A_LAW


def samples_of(data: bytes, format: AudioFormat) -> int:
    """How long sound of a format lasts, in samples at 24 kHz."""
    return len(data) // SAMPLE_BYTES if _law(format) is None else len(data) * RATE // g711.RATE


class Decoder:
    """Reads a stream of sound that may be cut anywhere, even inside a sample."""

    def __init__(self, format: AudioFormat):
        self._law = _law(format)
        self._rest = b""
        self._resampler = Resampler(g711.RATE, RATE)

    def decode(self, data: bytes) -> bytes:
        """Take bytes, return the whole samples that are ready."""
        if self._law is not None:
            return self._resampler.resample(self._law.decode(data))
        if not self._rest and len(data) % SAMPLE_BYTES == 0:
            return data
        data = self._rest + data
        whole = len(data) // SAMPLE_BYTES * SAMPLE_BYTES
        self._rest = data[whole:]
        return data[:whole]

    def realign(self) -> None:
        """Begin at a whole sample: half of one is dropped."""
        self._rest = b""

    def finish(self) -> bytes:
        """Return the samples held back, and begin a new stream."""
        if self._law is None:
            return b""
        last, self._resampler = self._resampler.finish(), Resampler(g711.RATE, RATE)
        return last


class Encoder:
    """Writes a stream of sound."""

    def __init__(self, format: AudioFormat):
        self._law = _law(format)
        self._resampler = Resampler(RATE, g711.RATE)

    def encode(self, pcm: bytes) -> bytes:
        return self._law.encode(self._resampler.resample(pcm)) if self._law else pcm

    def finish(self) -> bytes:
        """Return what was held back: with it, the bytes last exactly as long as the samples."""
        return self._law.encode(self._resampler.finish()) if self._law else b""


def decoded(data: bytes, format: AudioFormat) -> bytes:
    """Read a whole clip."""
    decoder = Decoder(format)
    return decoder.decode(data) + decoder.finish()
