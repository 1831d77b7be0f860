"""A conversation on virtual time: a recorded microphone, a model that answers on time, a session.

Sound goes through the real detector, 32 ms at a time; nothing waits, so a minute takes a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, pcm16, read_wav, rounded, samples_in
from agent.commands import AbortModel, AskModel, Command, Overhear, Send
from agent.hearing.buffer import FRAME_SAMPLES
from agent.model.output import Ended, Output, Sound
from agent.policy import Patience, Policy
from agent.realtime import server_events as events
from agent.realtime.client_events import InputAudioAppend
from agent.realtime.config import (
    SemanticVad,
    TurnDetection,
)
from agent.realtime.server_events import ServerEvent
from agent.session import Session
from server.vad import Silero
from tests.drivers.virtual_call import own_client

DATA = Path(__file__).parents[1] / "data"
Pcm = npt.NDArray[np.float64]
CHUNK = Sound(bytes(samples_in(480) * 2))


@cache
def clip(name: str, level_db: float = -23.0) -> Pcm:
    """A recording at 24 kHz, from its first to its last sound, with its voice at a level."""
    sound = np.frombuffer(read_wav((DATA / name).read_bytes()), "<i2") / 2**15
    audible = np.flatnonzero(np.abs(sound) > np.abs(sound).max() / 30)
    return at_level(sound[audible[0] : audible[-1]], level_db)


def at_level(sound: Pcm, level_db: float) -> Pcm:
    power = (sound[: sound.size // 768 * 768].reshape(-1, 768) ** 2).mean(axis=1)
    loud = power[power > power.max() / 10**0.8]
    return sound * np.sqrt(10 ** (level_db / 10) / loud.mean())


def silence(seconds: float) -> Pcm:
    return np.zeros(int(seconds * RATE))


def noisy(sound: Pcm, level_db: float = -70.0) -> Pcm:
    """As a microphone in a quiet room has it: no silence is without any noise."""
    return sound + np.random.default_rng(0).normal(0, 10 ** (level_db / 20), sound.size)


def _sum(one: bytes, other: bytes) -> bytes:
    total = np.frombuffer(one, "<i2").astype(np.int32)
    total[: len(other) // 2] += np.frombuffer(other, "<i2")[: total.size]
    return rounded(total).tobytes()


@dataclass
class Scene:
    """One session; `first_s` after a request comes sound, faster than it plays, until `reply_s`."""

    detection: TurnDetection = field(default_factory=SemanticVad)
    first_s: float = 0.3
    reply_s: float = 8.0
    early_start_ms: int = 160
    ducks: bool = True
    says: bytes = b""
    """What the agent says instead of silence: PCM16 at 24 kHz."""
    echo: bytes | None = None
    """What comes of the agent's voice into the microphone, from its first sound on."""
    guard: bool = True
    words: str = ""
    """What the recogniser makes of a sound that was passed over."""
    reads_in_s: float = 0.4
    told: list[tuple[float, ServerEvent]] = field(default_factory=list[tuple[float, ServerEvent]])
    asked: list[AskModel] = field(default_factory=list[AskModel])

    def __post_init__(self) -> None:
        policy = Policy(Patience(30.0, 10.0), self.early_start_ms, 300_000, echo_guard=self.guard)
        self._ids = 0
        self.session = Session(own_client(self.detection, self.ducks), policy, self._new_id)
        self._vad = Silero()
        self._due: list[tuple[float, str, Output | str]] = []
        self._aborted: set[str] = set()
        self.now = 0.0

    def _new_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}_{self._ids}"

    def play(self, sound: Pcm) -> "Scene":
        """Let the microphone hear a sound."""
        pcm = pcm16(sound)
        size = FRAME_SAMPLES * 2
        for start in range(0, len(pcm), size):
            self._until(self.now + FRAME_SAMPLES / RATE)
            self._hear(_sum(pcm[start : start + size], self._echo(self.now)))
        return self

    def _echo(self, end: float) -> bytes:
        """What the loudspeaker adds to the frame that ends now."""
        if self.echo is None or not self.times(events.AudioDelta):
            return b""
        late_s = self._audible_s(end - FRAME_SAMPLES / RATE) - self.times(events.AudioDelta)[0]
        start = max(0, int(late_s * RATE))
        return self.echo[start * 2 :][: FRAME_SAMPLES * 2]

    def _audible_s(self, now: float) -> float:
        """The time less that for which the client held the agent's voice."""
        holds = zip_longest(self.times(events.Held), self._released(), fillvalue=now)
        return now - sum(max(0.0, released - held) for held, released in holds)

    def _released(self) -> list[float]:
        """When each hold was over: at the first restoration or announcement after it."""
        over = self.times(events.Restored) + self.times(events.SpeechStarted)
        after = [[at for at in over if at >= held] for held in self.times(events.Held)]
        return [min(each) for each in after if each]

    def _hear(self, pcm: bytes) -> None:
        event = InputAudioAppend(audio=pcm)
        for probability in self._vad.probabilities(self.session.append(event)):
            self._perform(self.session.judge_next_frame(probability, self.now))

    def _until(self, end: float) -> None:
        while True:
            output_at = min((due for due, _, _ in self._due), default=end + 1)
            deadline = self.session.deadline
            next_at = min(output_at, end + 1 if deadline is None else deadline)
            if next_at > end:
                break
            self.now = max(self.now, next_at)
            if output_at <= next_at:
                self._deliver()
            else:
                self._perform(self.session.pass_deadline(self.now))
        self.now = end

    def _deliver(self) -> None:
        due, response_id, output = min(self._due, key=lambda each: each[0])
        self._due.remove((due, response_id, output))
        if isinstance(output, str):
            self._perform(self.session.overheard(response_id, output, self.now))
        elif response_id not in self._aborted:
            self._perform(self.session.from_model(response_id, output, self.now))

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(event):
                    self.told.append((self.now, event))
                case AskModel(response_id):
                    self.asked.append(replace(command))
                    self._due += self._reply(response_id)
                case AbortModel(response_id):
                    self._aborted.add(response_id)
                case Overhear(item_id):
                    self._due.append((self.now + self.reads_in_s, item_id, self.words))
                case _:
                    pass

    def _reply(self, response_id: str) -> Iterator[tuple[float, str, Output]]:
        chunks = round(self.reply_s / 0.48)
        for index in range(chunks):
            chunk = self.says[index * len(CHUNK.pcm) :][: len(CHUNK.pcm)] or CHUNK.pcm
            yield self.now + self.first_s + 0.2 * index, response_id, Sound(chunk)
        yield self.now + self.first_s + 0.2 * chunks, response_id, Ended()

    def times(self, kind: type[ServerEvent]) -> list[float]:
        """When the client was told of events of a kind."""
        return [at for at, event in self.told if isinstance(event, kind)]

    @property
    def interrupted(self) -> bool:
        return len(self.times(events.SpeechStarted)) > 1


def conversation(
    sound: Pcm,
    *,
    ducks: bool = True,
    reply_s: float = 8.0,
    detection: TurnDetection | None = None,
    words: str = "",
    reads_in_s: float = 0.4,
) -> Scene:
    """The user asks something; 1.5 s into the answer a sound begins."""
    scene = Scene(
        detection or SemanticVad(), ducks=ducks, reply_s=reply_s, words=words, reads_in_s=reads_in_s
    )
    scene.play(noisy(np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.5)))))
    assert scene.times(events.AudioDelta), "the agent doesn't speak"
    return scene.play(noisy(np.concatenate((sound, silence(1.5)))))
