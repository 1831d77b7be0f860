"""Turns in time: when the user stopped speaking, and the latency of each answer with its parts.

The clock is the caller's; all times are seconds on it. The end of speech is measured in
the sound itself, never taken from the server that is being measured.
"""

from collections import deque
from dataclasses import dataclass

from client.sound.clip import last_loud

NOISY_DB = -25.0
"""Relative to the loudest frame of an utterance: the room around a microphone is never silent."""

FRAMES_BEFORE = 100
"""Two seconds: more than a server takes to notice speech and say so."""
MOST_FRAMES = 3000
"""A minute: of a longer utterance, the beginning tells nothing about the end."""


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
        last = last_loud([loudness for _, loudness in self._frames], NOISY_DB)
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
