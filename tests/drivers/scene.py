"""A call with a recorded microphone through the real detector, and a model that answers on time.

Nothing waits, so a minute takes a second.
"""

from functools import cache
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, SAMPLE_BYTES, pcm16, read_wav, rounded
from agent.hearing.buffer import FRAME_SAMPLES
from agent.policy import Patience, Policy
from agent.realtime import server_events as events
from agent.realtime.client_events import InputAudioAppend
from agent.realtime.config import SemanticVad, TurnDetection
from agent.trace.inputs import Judged
from server.vad import Silero
from tests.drivers.virtual_call import FRAME_S, Call, own_client, reply

DATA = Path(__file__).parents[1] / "data"
Pcm = npt.NDArray[np.float64]


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


class Scene(Call):
    """One call of a client like ours.

    Args:
        says: What the agent says, PCM16 at 24 kHz; then silence until `reply_s`, which cuts it.
        echo: What comes of the agent's voice into the microphone, from its first sound on.
        words: What the recogniser makes of a sound that was passed over.
    """

    def __init__(
        self,
        detection: TurnDetection | None = None,
        *,
        ducks: bool = True,
        guard: bool = True,
        cancels_echoes: bool = False,
        reply_s: float = 8.0,
        says: bytes = b"",
        echo: bytes = b"",
        words: str = "",
        reads_in_s: float = 0.4,
    ):
        self._vad, self._voice = Silero(), echo
        size = round(reply_s * RATE) * SAMPLE_BYTES
        said = reply(says[:size].ljust(size, b"\0"))
        super().__init__(
            own_client(detection or SemanticVad(), ducks, cancels_echoes=cancels_echoes),
            Policy(Patience(30.0, 10.0), 160, 300_000, echo_guard=guard),
            now=0.0,
            replies=lambda _: said,
            words=[words],
            reads_in_s=reads_in_s,
        )

    def play(self, sound: Pcm) -> "Scene":
        """Let the microphone hear a sound."""
        pcm = pcm16(sound)
        size = FRAME_SAMPLES * 2
        for start in range(0, len(pcm), size):
            self.wait(FRAME_S)
            self._hear(_sum(pcm[start : start + size], self._echo(self.now)))
        return self

    def _echo(self, end: float) -> bytes:
        """What the loudspeaker adds to the frame that ends now."""
        if not self.times(events.AudioDelta):
            return b""
        late_s = self._audible_s(end - FRAME_S) - self.times(events.AudioDelta)[0]
        start = max(0, int(late_s * RATE))
        return self._voice[start * 2 :][: FRAME_SAMPLES * 2]

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
        judged = self.session.append(InputAudioAppend(audio=pcm))
        for probability in self._vad.probabilities(judged):
            self.take(Judged(probability))

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
    scene = Scene(detection, ducks=ducks, reply_s=reply_s, words=words, reads_in_s=reads_in_s)
    scene.play(noisy(np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.5)))))
    assert scene.times(events.AudioDelta), "the agent doesn't speak"
    return scene.play(noisy(np.concatenate((sound, silence(1.5)))))
