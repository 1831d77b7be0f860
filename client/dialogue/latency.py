"""Turns in time: who speaks, what is owed, and the latency of each answer with its parts.

The clock is the caller's; all times are seconds on it. The end of speech is measured in
the sound itself, never taken from the server that is being measured.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, Samples, samples_in, wav
from agent.errors import AudioError
from client.sound.sound_file import read

FRAME_SAMPLES = samples_in(20)
"""To this the end of speech is known; shorter ones would cost more and end between periods."""
FRAME_S = FRAME_SAMPLES / RATE

QUIET_DB = -45.0
"""Relative to the loudest frame: what a recording without noise falls below after speech."""

NOISY_DB = -25.0
"""The same for a live microphone, whose room is never silent."""

CAPTION_S = 2.0
"""A transcript that is later than this isn't waited for: a server may not write any."""
FRAMES_BEFORE = 100
"""Two seconds: more than a server takes to notice speech and say so."""
MOST_FRAMES = 3000
"""A minute: of a longer utterance, the beginning tells nothing about the end."""


def level(frame: Samples) -> float:
    """Root mean square of a frame, from 0.0 to 1.0."""
    if not len(frame):
        return 0.0
    sound = frame.astype(np.float32)
    return math.sqrt(float(np.dot(sound, sound)) / len(sound)) / 2**15


def end_of_speech(sound: Samples) -> int:
    """Where speech ends in a recording, in samples.

    That is the end of the last 20 ms frame whose energy is within 45 dB of the loudest one's;
    0 if the recording is silent.
    """
    starts = range(0, len(sound), FRAME_SAMPLES)
    levels = [level(sound[start : start + FRAME_SAMPLES]) for start in starts]
    last = _last_loud(levels, QUIET_DB)
    return 0 if last is None else min((last + 1) * FRAME_SAMPLES, len(sound))


def stereo(left: bytes | bytearray, right: bytes | bytearray) -> bytes:
    """Make a WAV file of two mono recordings that began together."""
    sides = np.zeros((max(len(left), len(right)) // SAMPLE_BYTES, 2), np.int16)
    for side, pcm in enumerate((left, right)):
        sides[: len(pcm) // SAMPLE_BYTES, side] = np.frombuffer(pcm, np.int16)
    return wav(sides.tobytes(), channels=2)


def _last_loud(levels: list[float], below_db: float) -> int | None:
    floor = max(levels, default=0.0) * 10 ** (below_db / 20)
    loud = [number for number, found in enumerate(levels) if found > 0 and found >= floor]
    return loud[-1] if loud else None


class Clip(NamedTuple):
    """A recording that is to be spoken."""

    name: str
    sound: Samples
    speech_s: float
    """Where its speech ends; see `end_of_speech`."""

    @classmethod
    def read(cls, path: Path) -> "Clip":
        """Read a WAV file.

        Raises:
            AudioError: If it can't be read, or is silent; it names the file.
        """
        sound = read(path)
        end = end_of_speech(sound)
        if not end:
            raise AudioError(f"{path}: only silence")
        return cls(path.name, sound, end / RATE)


class LiveSpeech:
    """Tells when the user stopped speaking, from the levels of the current utterance."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, float]] = deque(maxlen=MOST_FRAMES)

    def add(self, ended_at: float, loudness: float, user_speaks: bool) -> None:
        self._frames.append((ended_at, loudness))
        # The server notices speech late and says so later: some frames before belong to it.
        while not user_speaks and len(self._frames) > FRAMES_BEFORE:
            self._frames.popleft()

    @property
    def has_heard(self) -> bool:
        """Whether there was a frame."""
        return bool(self._frames)

    def ended_at(self) -> float:
        """When the latest loud frame ended; there must have been a frame."""
        last = _last_loud([loudness for _, loudness in self._frames], NOISY_DB)
        return self._frames[-1 if last is None else last][0]


class SentSound:
    """When each moment of the sound that was sent to a server was caught by the microphone."""

    def __init__(self) -> None:
        self._sent_s = self._ended_at = 0.0

    def add(self, ended_at: float, duration_s: float) -> None:
        self._sent_s += duration_s
        self._ended_at = ended_at

    def caught_at(self, position_ms: int) -> float:
        """When what is so many milliseconds into the sound was caught."""
        return self._ended_at - self._sent_s + position_ms / 1000


@dataclass
class Turn:
    """When the steps of one turn happened; `None` for what has not happened."""

    speech_ended_at: float
    committed_at: float
    """The server's word that the utterance is over came in."""
    item_id: str | None = None
    """The answer's item, known with its first audio."""
    first_audio_at: float | None = None
    heard_at: float | None = None
    """The first sample of the answer reached the ear, as far as its way there is known."""
    reply_ms: int | None = None

    def latency(self) -> "Latency | None":
        if self.first_audio_at is None or self.heard_at is None:
            return None
        # Moments are rounded, not the times between them: so the parts add up to the whole.
        moments = (self.committed_at, self.first_audio_at, self.heard_at)
        decided, sounded, heard = (_ms(each - self.speech_ended_at) for each in moments)
        return Latency(
            voice_to_voice_ms=heard,
            endpointing_ms=decided,
            model_ms=sounded - decided,
            playout_ms=heard - sounded,
            reply_ms=self.reply_ms,
        )


@dataclass
class Floor:
    """Who speaks and what is owed, as far as the server's events say."""

    user_speaks: bool = False
    answer_due: bool = False
    turn: Turn | None = None
    cancelled: set[str] = field(default_factory=set[str])
    """Responses and items of which nothing more is to be played."""
    uncaptioned: set[str] = field(default_factory=set[str])
    """What the user said and no caption came for yet."""
    failure: str | None = None
    """The server's latest complaint."""
    changed_at: float = 0.0

    def expect_answer(self, now: float) -> None:
        """The user wrote: an answer is due from now on."""
        self.answer_due, self.changed_at = True, now
        self.turn = Turn(now, now)

    def is_settled(self, now: float) -> bool:
        """Nobody speaks and nothing is owed; a late caption is waited for, but not forever."""
        captioned = not self.uncaptioned or now > self.changed_at + CAPTION_S
        return captioned and not self.answer_due and not self.user_speaks

    def missing(self, timeout_s: float) -> str:
        """Say what has not come, when it was waited for in vain."""
        if self.turn is None:
            what = "the end of the speech was not" if self.user_speaks else "no speech was"
            what = f"{what} noticed by the server"
        else:
            what = "the answer did not end" if self.turn.heard_at else "no sound came"
        return f"{what} within {timeout_s:g} s" + (f" ({self.failure})" if self.failure else "")


@dataclass(frozen=True, slots=True)
class Latency:
    """From the end of the user's speech to the first sound of the answer.

    Endpointing is negative when the server ended the turn before the recording's last sound.
    """

    voice_to_voice_ms: int
    endpointing_ms: int
    model_ms: int
    playout_ms: int
    reply_ms: int | None = None
    """From the request to the first sound, if it is known; more than was waited for if the request
    was made in a pause."""

    @property
    def parts(self) -> dict[str, str]:
        """What it is made of, in milliseconds as words."""
        prepared = self.reply_ms is not None and self.reply_ms > self.model_ms
        whole = f" of {self.reply_ms}" if prepared else ""
        return {
            "endpointing": f"{self.endpointing_ms}",
            "model": f"{self.model_ms}{whole}",
            "playout": f"{self.playout_ms}",
        }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
