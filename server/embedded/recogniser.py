"""Speech to text with Whisper: sound in, English words out, one clip at a time.

Whisper was made for windows of 30 s. A short clip is given a short window instead, which
costs a fifth of the time and no accuracy; a result that repeats itself is done again in full,
and counts as unintelligible if it still does.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

import ctranslate2
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from agent.audio import floats
from server.embedded.weights import RecogniserWeights

RATE = 16_000
"""Samples a second that the recogniser hears."""

Sound = npt.NDArray[np.float32]

_FFT, _HOP, _MELS = 400, 160, 80
"""Whisper's features, as it was trained with them: 25 ms every 10 ms, in 80 bands."""
_WINDOW_S = 30.0
"""What Whisper was trained on; nothing longer fits."""
_LONGEST_PIECE_S = 28.0
"""A window less the silence after it."""
_SHORTEST_WINDOW_S = 8.0
"""A shorter one would cost less, and have to be done again in full more often."""
_MARGIN_S = 1.5
"""Silence after the words, without which Whisper may leave out the last ones."""
_TOKENS, _TOKENS_PER_S = 16, 7
"""At the least, and for each second: more than anybody says, so that a repetition ends here."""
_LOOPING = 2.4
"""Compressed to less than 1 : 2.4 a text repeats itself: Whisper's own threshold."""
_SILENCE_PEAK = 0.003
"""-50 dB: in quieter sound Whisper hears words that nobody said."""
_NOT_SPEECH = 0.4
"""Where it is less likely, unsure words are kept, too. Whisper's own is 0.6: less drops more of
what nobody said, and of what was said softly."""
_UNSURE_LOGPROB = -0.7
"""Mean logarithm of the probability of a token; Whisper's own is -1.0."""
_TAG = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|[♪♫]")


class _Result(Protocol):
    sequences_ids: Sequence[list[int]]
    scores: Sequence[float]
    no_speech_prob: float


class _Views(Protocol):
    def from_array(self, array: Sound, /) -> object: ...


class _Whisper(Protocol):
    def generate(
        self,
        features: object,
        prompts: Sequence[Sequence[int]],
        /,
        *,
        beam_size: int,
        max_length: int,
        suppress_tokens: Sequence[int],
        return_scores: bool,
        return_no_speech_prob: bool,
    ) -> Sequence[_Result]: ...


class _Models(Protocol):
    def Whisper(  # noqa: N802
        self,
        name: str,
        /,
        *,
        device: str,
        compute_type: str,
        intra_threads: int,
        files: Mapping[str, bytes],
    ) -> _Whisper: ...


class _Runtime(Protocol):
    """The part of CTranslate2 that is used; it has no types of its own."""

    models: _Models
    StorageView: _Views


_ctranslate2 = cast(_Runtime, ctranslate2)


class Recogniser:
    """Whisper base on `threads` threads. Not to be called from two threads at once."""

    def __init__(self, weights: RecogniserWeights, threads: int):
        self._tokenizer = Tokenizer.from_buffer(weights.tokenizer)
        self._model = _ctranslate2.models.Whisper(
            "whisper-base",
            device="cpu",
            compute_type="int8",
            intra_threads=threads,
            files={
                "model.bin": weights.model,
                "config.json": weights.config,
                "vocabulary.txt": weights.vocabulary,
            },
        )
        names = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
        self._prompt = [self._token(name) for name in names]
        self._suppressed = cast(list[int], json.loads(weights.config)["suppress_ids"])
        self._filters = _mel_filters()

    def transcribe(self, pcm: bytes, unwanted: Callable[[], bool]) -> str:
        """Return the words in mono PCM16 at 16 kHz, or `""` where nobody says any.

        Gives up between pieces of at most 28 s once `unwanted` returns True.
        """
        words = [self._piece(piece) for piece in _pieces(floats(pcm)) if not unwanted()]
        return " ".join(filter(None, words))

    def _token(self, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        assert token is not None, name
        return token

    def _piece(self, sound: Sound) -> str:
        if sound.size < RATE // 20 or float(np.abs(sound).max()) < _SILENCE_PEAK:
            return ""
        length_s = sound.size / RATE
        text = self._window(sound, min(_WINDOW_S, max(_SHORTEST_WINDOW_S, length_s + _MARGIN_S)))
        if _compression(text) > _LOOPING:
            text = self._window(sound, _WINDOW_S)
        return "" if _compression(text) > _LOOPING else text

    def _window(self, sound: Sound, window_s: float) -> str:
        features = log_mel(sound, round(window_s * RATE), self._filters)
        [result] = self._model.generate(
            _ctranslate2.StorageView.from_array(features[np.newaxis]),
            [self._prompt],
            beam_size=1,
            max_length=len(self._prompt) + _TOKENS + math.ceil(_TOKENS_PER_S * sound.size / RATE),
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        if result.no_speech_prob > _NOT_SPEECH and result.scores[0] < _UNSURE_LOGPROB:
            return ""
        text = " ".join(_TAG.sub(" ", self._tokenizer.decode(result.sequences_ids[0])).split())
        return text if any(map(str.isalnum, text)) else ""


def log_mel(sound: Sound, samples: int, filters: Sound) -> Sound:
    """Return Whisper's features of `sound`, followed by silence up to `samples`.

    Returns:
        Shape (80, samples // 160): log10 of the power in each mel band, the loudest 8 decades,
        scaled to about -1 to 1.
    """
    padded = np.zeros(samples, np.float32)
    padded[: sound.size] = sound[:samples]
    padded = np.pad(padded, _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][: samples // _HOP]
    hann = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    logs = np.log10(np.maximum(power.astype(np.float32) @ filters.T, 1e-10))
    logs = np.maximum(logs, logs.max() - 8.0)
    return np.ascontiguousarray(((logs + 4.0) / 4.0).T.astype(np.float32))


def _mel_filters() -> Sound:
    """Return 80 triangular filters of equal area over 0 to 8 kHz; shape (80, 201).

    Slaney's scale: linear up to 1 kHz, logarithmic above.
    """
    knee, step = 15.0, math.log(6.4) / 27
    top = knee + math.log((RATE / 2) / 1000) / step
    mels = np.linspace(0.0, top, _MELS + 2)
    hertz = np.where(mels < knee, mels * (200 / 3), 1000 * np.exp(step * (mels - knee)))
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    low, centre, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


def _pieces(sound: Sound) -> list[Sound]:
    """Cut at the quietest tenth of a second in the last 8 s of each piece of up to 28 s."""
    longest, searched, tenth = round(_LONGEST_PIECE_S * RATE), 8 * RATE, RATE // 10
    pieces: list[Sound] = []
    while sound.size > longest:
        tail = sound[longest - searched : longest]
        energy = (tail.reshape(-1, tenth) ** 2).sum(axis=1)
        cut = longest - searched + int(energy.argmin()) * tenth + tenth // 2
        pieces.append(sound[:cut])
        sound = sound[cut:]
    return [*pieces, sound]


def _compression(text: str) -> float:
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
