"""Sound from the microphone as it is kept and measured: the input audio buffer, frames, levels.

Sound enters once: bytes of the wire's format become samples of the buffer, and each 32 ms of them
is cut out once, when the probability that it is speech is known.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, floats, samples_in
from agent.conversation.items import Item, Spoken
from agent.errors import ProtocolError
from agent.realtime.codec import Decoder, samples_of
from agent.realtime.config import AudioFormat

FRAME_MS = 32
"""What voice activity detectors judge at once; Silero takes nothing else."""
FRAME_SAMPLES = samples_in(FRAME_MS)
ONSET_FRAMES = 4
"""Those in which an onset is noticed: more would let the agent talk longer into it."""


@dataclass(frozen=True, slots=True)
class DetectedFrame:
    """32 ms of the microphone, mono PCM16 at 24 kHz."""

    pcm: bytes
    """Empty if the sound was dropped before it was judged."""
    probability: float
    """That it is speech, 0.0 to 1.0."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The measures of 32 ms."""

    probability: float
    """That it is speech, 0.0 to 1.0."""
    level_db: float
    """Power, in dB of full scale."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the user said in one turn: mono PCM16 at 24 kHz, prefix padding included."""

    item_id: str
    pcm: bytes

    def item(self) -> Item:
        return Item(self.item_id, "user", [Spoken(self.pcm)])


class InputAudio:
    """What the microphone sent and no turn has taken yet.

    Mono PCM16 at 24 kHz, addressed by the count of samples ever received.
    """

    def __init__(self, format: AudioFormat) -> None:
        self._format: AudioFormat = format
        self._decoder = Decoder(format)
        self._pcm = bytearray()
        self._first = 0
        self._untaken = 0
        self._judged = 0
        self._held_from: int | None = None

    @property
    def held_bytes(self) -> int:
        return len(self._pcm)

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
        self.check_room(data, longest_s)
        samples = self._decoder.decode(data)
        self._pcm += samples
        return samples

    def check_room(self, data: bytes, longest_s: int) -> None:
        """Raise what `append` would, before anything is decoded."""
        held = len(self._pcm) // SAMPLE_BYTES
        if held + samples_of(data, self._format) > longest_s * RATE:
            message = f"The input audio buffer is full ({longest_s} s). Commit or clear it."
            raise ProtocolError(message, code="input_audio_buffer_full", param="audio")

    def flush_decoder(self) -> None:
        """Add what the decoder still held back, a few samples: a stream ends here."""
        self._pcm += self._decoder.finish()

    def next_frame(self) -> bytes:
        """The first 32 ms that no probability was known of so far."""
        start = self._judged
        self._judged += FRAME_SAMPLES
        return self.cut(start, self._judged)

    def skip_unjudged(self) -> None:
        """What has come so far is never judged: turn detection begins here."""
        self._judged = self.received

    def cut(self, start: int, end: int) -> bytes:
        """The samples from `start` to `end`, as far as they are still here."""
        first = max(0, start - self._first) * SAMPLE_BYTES
        return bytes(self._pcm[first : max(0, end - self._first) * SAMPLE_BYTES])

    def mark_taken(self, sample: int) -> None:
        """A turn has everything before a sample; it stays here for the padding of the next."""
        self._untaken = sample

    def clear(self) -> None:
        """Forget everything, half a sample included."""
        self._decoder.realign()
        self._first = self.received
        self._pcm.clear()

    def hold(self) -> None:
        """From here on only `clear` forgets anything, until `release`."""
        self._held_from = self.received

    def release(self) -> int:
        """Hold nothing any more; return where that began, or where we are if nothing was held."""
        held_from, self._held_from = self._held_from, None
        return self.received if held_from is None else held_from

    def drop_before(self, sample: int) -> None:
        """Forget everything before a sample, but nothing that is held."""
        sample = sample if self._held_from is None else min(sample, self._held_from)
        samples = min(max(0, sample - self._first), len(self._pcm) // SAMPLE_BYTES)
        del self._pcm[: samples * SAMPLE_BYTES]
        self._first += samples


# --- levels ---------------------------------------------------------------------------------

SPEECH = 0.5
"""A probability from here on counts as speech, whatever threshold ends a turn."""
SILENCE_DB = -120.0
"""No sound at all: the level of a 16-bit sample's last bit is -90 dB."""
_GAP_DB = 30.0
"""So far below the loudest of an utterance it is a gap; less would cut off soft last syllables."""
_PEAK_FALLS_DB = 0.05
"""A frame, 1.6 dB a second: one shout must not make gaps of all that follows."""
_REMEMBERED_FRAMES = 400
"""12.8 s of a turn are enough to tell how loud its voice is."""
_LEARNT = 0.3
"""Of the latest turn's level: after three turns two thirds of the usual level are theirs."""
_LOUD_DB = 8.0
"""Less than this below the peak is the voice itself, and not the gaps in it."""
_REACH_FRAMES = 20
"""640 ms: a first word that the detector doubted; more would reach back into what was before it."""
_REACH_DB = 20.0
"""A first syllable may be so much weaker; more, and the noise before the word would count too."""
REACH_MS = _REACH_FRAMES * FRAME_MS
"""How far before its onset a word may have begun."""


def level_db(pcm: bytes) -> float:
    """The power of mono PCM16, in dB of full scale."""
    if not pcm:
        return SILENCE_DB
    sound = np.frombuffer(pcm, "<i2").astype(np.float32)
    return 10 * math.log10(float(np.dot(sound, sound)) / sound.size / 2**30 + 1e-12)


def voice_level_db(frames: Sequence[Frame]) -> float:
    """How loud the voice in the frames is, the gaps in it not counted; in dB of full scale."""
    peak = max(frame.level_db for frame in frames)
    loud = [frame.level_db for frame in frames if frame.level_db > peak - _LOUD_DB]
    return sum(loud) / len(loud)


class VoiceLevel:
    """Measures the frames of one microphone, and learns how loud its user usually is."""

    def __init__(self) -> None:
        self._utterance: deque[Frame] = deque(maxlen=_REMEMBERED_FRAMES)
        self._lately: deque[float] = deque(maxlen=_REACH_FRAMES + ONSET_FRAMES)
        self._peak_db = SILENCE_DB
        self.usual_db: float | None = None
        """The level in the user's turns so far, once there was one."""

    def measure(self, frame: DetectedFrame, is_speaking: bool) -> Frame:
        """Measure the next frame, in an open utterance or outside of one.

        A detector remembers speech for 100 ms; sound that is far below the voice is a gap in it
        at once.
        """
        level, probability = level_db(frame.pcm), frame.probability
        self._lately.append(level)
        if not is_speaking:
            self._utterance.clear()
            self._peak_db = SILENCE_DB
        if level < self._peak_db - _GAP_DB:
            probability = 0.0
        if probability >= SPEECH:
            self._peak_db = max(self._peak_db - _PEAK_FALLS_DB, level)
        measured = Frame(probability, level)
        self._utterance.append(measured)
        return measured

    def reach_back_ms(self) -> int:
        """How long before an onset noticed just now its word was audible already.

        A detector may be unsure of the first syllable; the sound itself goes back without a gap.
        """
        before = [*[SILENCE_DB] * ONSET_FRAMES, *self._lately][:-ONSET_FRAMES]
        audible = max(list(self._lately)[-ONSET_FRAMES:]) - _REACH_DB
        count = 0
        while count < len(before) and before[-1 - count] > audible:
            count += 1
        return count * FRAME_MS

    def learn_usual(self) -> None:
        """The utterance was a turn: this is how the user speaks."""
        level = voice_level_db(self._utterance)
        usual = level if self.usual_db is None else self.usual_db
        self.usual_db = usual + _LEARNT * (level - usual)


_HOP = samples_in(10)
"""10 ms: longer ones tell the end of a voice less exactly, shorter ones fall between periods."""
_GONE_DB = 35.0
"""Farther below its loudest a voice counts as gone."""
_NOISE_HOPS = 8
"""The last 80 ms are taken for noise."""
_OVER_NOISE_DB = 4.0
"""What is hardly louder may be the noise alone."""


def end_of_voice(pcm: bytes) -> int:
    """Sample at which a voice sinks into the noise that mono PCM16 ends with; its end if none
    stands out."""
    count = len(pcm) // SAMPLE_BYTES
    frames = floats(pcm)[: count // _HOP * _HOP]
    if not frames.size:
        return count
    levels = 10 * np.log10((frames.reshape(-1, _HOP) ** 2).mean(axis=1) + 1e-12)
    noise = float(levels[-_NOISE_HOPS:].mean())
    audible = np.flatnonzero(levels > max(float(levels.max()) - _GONE_DB, noise + _OVER_NOISE_DB))
    return (int(audible[-1]) + 1) * _HOP if audible.size else count
