"""The input audio buffer: what the microphone sent and no turn has taken yet."""

from agent.audio import RATE, SAMPLE_BYTES
from agent.errors import ProtocolError

LONGEST_S = 600
"""What the model server takes in one clip."""


class InputAudio:
    """Mono PCM16 at 24 kHz, addressed by the count of samples ever received."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._first = 0

    @property
    def received(self) -> int:
        """Samples ever received."""
        return self._first + len(self._pcm) // SAMPLE_BYTES

    def append(self, data: bytes) -> bytes:
        """Add bytes and return the samples that they complete: one may be split over two calls.

        Raises:
            ProtocolError: If the buffer is full; nothing is added then.
        """
        if len(self._pcm) + len(data) > LONGEST_S * RATE * SAMPLE_BYTES:
            message = f"The input audio buffer holds {LONGEST_S} s at most: commit or clear it."
            raise ProtocolError(message, code="input_audio_buffer_full", param="audio")
        known = self.received
        self._pcm += data
        return self.cut(known, self.received)

    def cut(self, start: int, end: int) -> bytes:
        """The samples from `start` to `end`, as far as they are still here."""
        first = max(0, start - self._first) * SAMPLE_BYTES
        return bytes(self._pcm[first : max(0, end - self._first) * SAMPLE_BYTES])

    def drop_before(self, sample: int) -> None:
        """Forget everything before a sample."""
        samples = min(max(0, sample - self._first), len(self._pcm) // SAMPLE_BYTES)
        del self._pcm[: samples * SAMPLE_BYTES]
        self._first += samples
