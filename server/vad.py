"""Voice activity detection: sound in, probabilities of speech out, one for every 32 ms.

Silero judges together the frames of all microphones that were read together: what a frame costs is
mostly the calls.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice

import numpy as np
import webrtcvad

from agent.audio import SAMPLE_BYTES, rounded
from agent.hearing.buffer import FRAME_SAMPLES
from server.silero import CONTEXT, FRAME, Floats, Network

_RATE = 16_000
"""Samples a second, of both detectors."""
_FRAME_BYTES = FRAME_SAMPLES * SAMPLE_BYTES
_SEEN_BYTES = _FRAME_BYTES + SAMPLE_BYTES
"""A frame is interpolated up to the first sample of the next."""
_MOST = 64
"""Frames judged at once: they hold the loop for 2 ms."""
_BEHIND = 2
"""Frames of one microphone that may wait; more, as after a stall, are judged at once, together with
whatever waits of others: a server that is behind must not run the network more often."""


def _at_16_khz(frames: Sequence[bytes]) -> Floats:
    """Resample frames of 769 samples, PCM16 at 24 kHz, by cubic interpolation.

    Returns:
        Whole samples from -32768 to 32767, shape (frames, 512).
    """
    sound = np.frombuffer(b"".join(frames), "<i2").astype(np.float32).reshape(len(frames), -1)
    first, second, third, next_first = (sound[:, at : FRAME_SAMPLES + at : 3] for at in range(4))
    resampled = np.empty((len(frames), FRAME), np.float32)
    resampled[:, ::2] = first
    between = (9 * (second + third) - first - next_first) / 16
    resampled[:, 1::2] = rounded(between)
    return resampled


class VoiceActivityDetector(ABC):
    """Follows one microphone: mono PCM16 at 24 kHz of any length, cut anywhere."""

    def __init__(self) -> None:
        self.on_judged: Callable[[], object] = bool
        """Called when probabilities have become ready after `append` was over."""
        self._sound = bytearray()
        self._ready: list[float] = []

    def append(self, pcm: bytes) -> None:
        """Take sound, which is judged at once or soon."""
        self._cut(pcm)
        self._judge_soon()

    def _cut(self, pcm: bytes) -> None:
        sound = self._sound
        sound += pcm
        while len(sound) >= _SEEN_BYTES:
            self._add(bytes(sound[:_SEEN_BYTES]))
            del sound[:_FRAME_BYTES]

    @abstractmethod
    def _add(self, frame: bytes) -> None:
        """Take 32 ms, and the first sample of the next."""

    def _judge_soon(self) -> None:  # noqa: B027
        """Have judged what waits."""

    def judge_waiting(self) -> None:  # noqa: B027
        """Judge now what would be judged soon."""

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that what comes next is judged at once."""
        return False

    def take(self) -> list[float]:
        """Return the probabilities that are ready and were not returned yet."""
        ready, self._ready = self._ready, []
        return ready

    def probabilities(self, pcm: bytes) -> list[float]:
        """Take sound, judge it now, and return all that is ready."""
        self._cut(pcm)
        self.judge_waiting()
        return self.take()


class WebRtc(VoiceActivityDetector):
    """WebRTC's VAD: takes much noise for speech, and costs next to nothing."""

    _PART = _RATE // 100 * SAMPLE_BYTES

    def __init__(self) -> None:
        super().__init__()
        self._vad = webrtcvad.Vad(2)

    def _add(self, frame: bytes) -> None:
        sound = _at_16_khz([frame]).astype("<i2").tobytes()
        parts = [sound[i : i + self._PART] for i in range(0, 3 * self._PART, self._PART)]
        self._ready.append(sum(self._vad.is_speech(part, _RATE) for part in parts) / len(parts))


class Silero(VoiceActivityDetector):
    """Silero VAD: a small recurrent network, good in noise."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[bytes] = deque()
        """Frames to be judged."""
        self.context = np.zeros(CONTEXT, np.float32)
        """The end of the frame before."""
        self.state = Network.silence(1)
        """What the network remembers."""
        self._failure: Exception | None = None

    def _add(self, frame: bytes) -> None:
        self.waiting.append(frame)

    def _judge_soon(self) -> None:
        if self.waiting:
            _batches().add(self)
        if len(self.waiting) > _BEHIND:
            self.judge_waiting()

    def judge_waiting(self) -> None:
        _batches().judge_waiting(self)

    @property
    def is_behind(self) -> bool:
        return len(self.waiting) >= _BEHIND

    def give(self, probability: float) -> None:
        """Take what the network says of the first frame that waits."""
        self._ready.append(probability)

    def fail(self, error: Exception) -> None:
        """The network could not judge a frame: without it nothing that follows has its place."""
        self._failure = error
        self.waiting.clear()

    def take(self) -> list[float]:
        if self._failure is not None:
            raise self._failure
        return super().take()


class _Batches:
    """Runs the network, for all microphones whose frames wait."""

    def __init__(self) -> None:
        self._network = Network()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Handle | None = None
        """The next run."""
        self._queue: dict[Silero, None] = {}

    def add(self, microphone: Silero) -> None:
        """Judge its first frame with those of others, once all that was read is here."""
        if microphone in self._queue:
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Whatever waited in another one is over with it.
            self._loop, self._next = loop, None
            self._queue.clear()
        if self._next is None:
            self._next = loop.call_soon(self._run, loop)
        self._queue[microphone] = None

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = list(islice(self._queue, _MOST))
        self._next = loop.call_soon(self._run, loop) if len(self._queue) > len(batch) else None
        self._judge_first(batch)

    def judge_waiting(self, microphone: Silero) -> None:
        """Judge all that waits of one, and with each of its frames one of each that is queued."""
        is_queued = microphone in self._queue
        while microphone.waiting:
            others = [each for each in self._queue if is_queued and each is not microphone]
            self._judge_first([microphone, *others[: _MOST - 1]], asked=microphone)

    def _judge_first(self, batch: Sequence[Silero], asked: Silero | None = None) -> None:
        for each in batch:
            self._queue.pop(each, None)
        try:
            self.judge(batch)
        except Exception as error:
            # It ends the sessions that it concerns, which would be deaf from now on.
            for each in batch:
                each.fail(error)
        for each in batch:
            if each is asked:
                continue
            if each.waiting:
                self.add(each)
            each.on_judged()

    def judge(self, batch: Sequence[Silero]) -> None:
        """Judge the first frame that waits of each."""
        if not batch:
            return
        windows = np.empty((len(batch), CONTEXT + FRAME), np.float32)
        windows[:, :CONTEXT] = [each.context for each in batch]
        windows[:, CONTEXT:] = _at_16_khz([each.waiting.popleft() for each in batch]) / 2**15
        state = np.concatenate([each.state for each in batch], axis=1)
        probabilities, states = self._network.judge(windows, state)
        for number, (each, probability) in enumerate(zip(batch, probabilities, strict=True)):
            each.context = windows[number, -CONTEXT:]
            each.state = states[:, number : number + 1]
            each.give(float(probability))


@cache
def _batches() -> _Batches:
    """Those of the process."""
    return _Batches()


def detector(kind: str) -> VoiceActivityDetector:
    """Make a detector of the configured kind."""
    return WebRtc() if kind == "webrtc" else Silero()
