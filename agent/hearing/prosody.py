"""The shape of an utterance's end: does the voice die away, or is one sound being drawn out?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.audio import RATE

Sound = npt.NDArray[np.float32]

LOOKED_AT_S = 1.5
"""How much of the end is looked at."""

_RATE = 8_000
_HOP = 80
_WINDOW = 320
_FFT = 1024
_LOWEST_HZ, _HIGHEST_HZ = 60, 400
_VOICED = 0.6
_PREFER_SHORT = 0.001
_AUDIBLE_DB = 25.0
_OCTAVE_SLIP = 0.7
_FEWEST = 6
_FLAT_OCTAVES = 0.04
_HOP_MS = 1000 * _HOP // _RATE
_LAST_FRAMES = 10
_QUIET_FRAMES = 6
_OVER_QUIET_DB = 6.0
_FADES_DB = 30.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What an utterance ended with."""

    fall_octaves: float = 0.0
    """How far the last 60 ms of voice lie below the median pitch; negative where they rise."""
    flat_ms: int = 0
    """How long the last voice has kept its pitch, as "um…" does."""
    fade_db: float = 0.0
    """How far its last 100 ms lie below the loud parts."""
    spoken_ms: int = 0
    """How long something was said, at most 1.5 s: gaps and silence don't count."""


def ending(pcm: bytes) -> Ending:
    """Look at mono PCM16 at 24 kHz; a millisecond or two for 1.5 s of it."""
    sound = _decimated(pcm)
    voice = _pitch(sound)
    if voice.size < _FEWEST:
        return Ending()
    middle = float(np.median(voice))
    fall = middle - float(np.median(voice[-_FEWEST:]))
    levels = _levels(sound)
    spoken = int((levels > levels.max() - _AUDIBLE_DB).sum())
    return Ending(fall, _flat(voice) * _HOP_MS, _fade(levels), spoken * _HOP_MS)


def _decimated(pcm: bytes) -> Sound:
    """The last part of the sound at 8 kHz; what folds over from above is weak."""
    step = RATE // _RATE
    sound = np.frombuffer(pcm, "<i2")[-int(LOOKED_AT_S * RATE) :].astype(np.float32) / 2**15
    return sound[: sound.size // step * step].reshape(-1, step).mean(axis=1)


def _pitch(sound: Sound) -> Sound:
    """The pitch of the voiced frames, 10 ms apart, in octaves over 1 Hz.

    The period is the shortest lag at which a frame is much like itself; one that slipped by an
    octave against the rest is put back.
    """
    if sound.size < _WINDOW:
        return np.zeros(0, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = 10 * np.log10((frames * frames).mean(axis=1) + 1e-10)
    window = np.hanning(_WINDOW).astype(np.float32)
    likeness = _autocorrelation(frames * window) / _autocorrelation(window[np.newaxis])
    shortest, longest = _RATE // _HIGHEST_HZ, _RATE // _LOWEST_HZ
    preferred = likeness[:, shortest:longest] - _PREFER_SHORT * np.arange(longest - shortest)
    lags = shortest + preferred.argmax(axis=1)
    rows = np.arange(lags.size, dtype=np.intp)
    # What is most like itself at the shortest lag is a rumble without a pitch of its own.
    periodic = (likeness[rows, lags] > _VOICED) & (lags > shortest)
    voiced = periodic & (power > power.max() - _AUDIBLE_DB)
    octaves = np.log2(_RATE / _between(likeness, rows, lags))[voiced].astype(np.float32)
    if octaves.size:
        octaves = octaves - np.rint(_slips(octaves - np.median(octaves)))
    return octaves.astype(np.float32)


def _levels(sound: Sound) -> Sound:
    """The power of each 10 ms, in dB of full scale."""
    frames = sound[sound.size % _HOP :].reshape(-1, _HOP)
    return 10 * np.log10((frames * frames).mean(axis=1) + 1e-10)


def _fade(levels: Sound) -> float:
    """How far the last frames above the noise, which is what the sound ends with, have sunk."""
    top = float(levels.max())
    audible = max(top - _FADES_DB, float(levels[-_QUIET_FRAMES:].mean()) + _OVER_QUIET_DB)
    heard = np.flatnonzero(levels > audible)
    if not heard.size:
        return 0.0
    end = int(heard[-1]) + 1
    loud = float(np.percentile(levels[levels > top - _AUDIBLE_DB], 75))
    return loud - float(levels[max(0, end - _LAST_FRAMES) : end].mean())


def _autocorrelation(frames: Sound) -> Sound:
    spectrum = np.abs(np.fft.rfft(frames, _FFT, axis=1)) ** 2
    likeness = np.fft.irfft(spectrum, axis=1)[:, : _RATE // _LOWEST_HZ + 2]
    return (likeness / (likeness[:, :1] + 1e-9)).astype(np.float32)


def _between(likeness: Sound, rows: npt.NDArray[np.intp], lags: npt.NDArray[np.intp]) -> Sound:
    """The lag of the peak between samples: the top of the parabola through three of them."""
    before, top, after = (likeness[rows, lags + shift] for shift in (-1, 0, 1))
    bend = before - 2 * top + after
    shift = np.where(np.abs(bend) > 1e-6, (before - after) / (2 * bend + 1e-12), 0.0)
    return (lags + np.clip(shift, -0.5, 0.5)).astype(np.float32)


def _slips(off: Sound) -> Sound:
    return np.where(np.abs(off) > _OCTAVE_SLIP, np.clip(off, -1.0, 1.0), 0.0)


def _flat(voice: Sound) -> int:
    """How many of the last frames keep within a quarter of a semitone of the one before."""
    moving = np.flatnonzero(np.abs(np.diff(voice)) > _FLAT_OCTAVES)
    return voice.size - 1 - (int(moving[-1]) + 1 if moving.size else 0)
