"""What the chunks of a reply hold: text with noise in it, and sound in several wrappings.

Servers of different versions put a WAV header into every audio chunk, into the first or into
none, may send the very last chunk twice, and leave special tokens and filler dots in the text.
"""

import base64
import binascii

from agent import riff
from agent.audio import RATE, SAMPLE_BYTES, Resampler
from agent.errors import AudioError, ModelError
from agent.model.mimo import MIMO

LONGEST_OPENING = 64
"""Characters of a special token, all but the last."""


class TextFilter:
    """Takes special tokens and filler dots out of text, wherever the chunks are cut.

    Only what may yet turn out to be noise waits for the next chunk.
    """

    def __init__(self) -> None:
        self._held = ""

    def filter(self, text: str) -> str:
        raw = self._held + text
        undecided = MIMO.opening.search(raw, max(0, len(raw) - LONGEST_OPENING))
        cut = undecided.start() if undecided else len(raw.rstrip(MIMO.filler))
        # A long row is noise, however much longer it gets.
        is_long = undecided is None and len(raw) - cut > MIMO.most_filler
        self._held = MIMO.filler * MIMO.most_filler if is_long else raw[cut:]
        return MIMO.noise.sub("", raw[:cut])

    def finish(self) -> str:
        rest, self._held = MIMO.noise.sub("", self._held), ""
        return rest


class SoundReader:
    """Turns the base64 of audio chunks into one stream of mono PCM16 at 24 kHz."""

    def __init__(self) -> None:
        self._rate: int = RATE
        self._resampler = Resampler(RATE, RATE)
        self._odd = b""
        self._last = ""
        self._repeated = b""

    def decode(self, content: str) -> bytes:
        """Return the sound that is certain by now.

        A chunk that equals the one before it waits: if none follows, it was the last one sent
        twice. Any later chunk, even an empty one, proves that it is sound of its own.

        Raises:
            ModelError: If it isn't base64, or a WAV file of anything but mono PCM16.
        """
        certain, self._repeated = self._repeated, b""
        if content and content == self._last:
            self._repeated = self._decode(content)
            return certain
        self._last = content
        return certain + self._decode(content)

    def finish(self) -> bytes:
        """Return what the change of rate still held back."""
        return self._resampler.finish()

    def _decode(self, content: str) -> bytes:
        try:
            sound = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            message = f"an audio chunk is not base64: {error}"
            raise ModelError(message, code="model_bad_audio") from error
        tail = b""
        if riff.is_wav(sound):
            rate, sound = _strip_header(sound)
            if rate != self._rate:
                tail = self._resampler.finish()
                self._rate, self._resampler = rate, Resampler(rate, RATE)
        sound = self._odd + sound
        whole = len(sound) // 2 * 2
        self._odd = sound[whole:]
        return tail + self._resampler.resample(sound[:whole])


def _strip_header(file: bytes) -> tuple[int, bytes]:
    """Return rate and samples of a WAV file."""
    try:
        wave = riff.parse(file)
    except AudioError as error:
        raise ModelError(f"an audio chunk is {error}", code="model_bad_audio") from error
    if (wave.form, wave.width, wave.channels) != (riff.Form.PCM, SAMPLE_BYTES, 1):
        bits = f"{8 * wave.width}-bit {wave.form.name}"
        found = f"{wave.channels} channels, {bits}, {wave.rate} Hz"
        raise ModelError(f"audio is not mono PCM16: {found}", code="model_bad_audio")
    return wave.rate, bytes(wave.data)
