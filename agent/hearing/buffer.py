"""The input audio buffer: what the microphone sent and no turn has taken yet."""

from agent.audio import RATE, SAMPLE_BYTES
from agent.errors import ProtocolError
from agent.realtime.codec import Decoder
from agent.realtime.config import AudioFormat


class InputAudio:
    """Mono PCM16 at 24 kHz, addressed by the count of samples ever received."""

    def __init__(self, format: AudioFormat) -> None:
        self._format = format
        self._decoder = Decoder(format)
        self._pcm = bytearray()
        self._first = 0
        self._untaken = 0

    @property
    def first(self) -> int:
        """The first sample that is still here."""
        return self._first

    @property
    def received(self) -> int:
        """Samples ever received."""
        return self._first + len(self._pcm) // SAMPLE_BYTES

    @property
    def untaken(self) -> int:
        """The first sample that is still here and that no turn has taken."""
        return max(self._first, self._untaken)

    def change(self, format: AudioFormat) -> None:
        """What comes from now on is in another format."""
        if format != self._format:
            self._format, self._decoder = format, Decoder(format)

    def append(self, data: bytes, longest_s: int) -> bytes:
        """Add bytes in the format and return the samples that they complete: one may be split.

        Raises:
            ProtocolError: If the buffer would hold more than that; nothing is added then.
        """
        samples = self._decoder.push(data)
        if len(self._pcm) + len(samples) > longest_s * RATE * SAMPLE_BYTES:
            message = f"The input audio buffer is full ({longest_s} s). Commit or clear it."
            raise ProtocolError(message, code="input_audio_buffer_full", param="audio")
        return self._add(samples)

    def finish(self) -> None:
        """Add what the decoder still held back, a few samples: a stream ends here."""
        self._add(self._decoder.finish())

    def _add(self, data: bytes) -> bytes:
        known = self.received
        self._pcm += data
        return self.cut(known, self.received)

    def cut(self, start: int, end: int) -> bytes:
        """The samples from `start` to `end`, as far as they are still here."""
        first = max(0, start - self._first) * SAMPLE_BYTES
        return bytes(self._pcm[first : max(0, end - self._first) * SAMPLE_BYTES])

    def take_before(self, sample: int) -> None:
        """A turn has everything before a sample; it stays here for the padding of the next."""
        self._untaken = sample

    def clear(self) -> None:
        """Forget everything, half a sample included."""
        self._decoder.realign()
        self.drop_before(self.received)

    def drop_before(self, sample: int) -> None:
        """Forget everything before a sample."""
        samples = min(max(0, sample - self._first), len(self._pcm) // SAMPLE_BYTES)
        del self._pcm[: samples * SAMPLE_BYTES]
        self._first += samples
