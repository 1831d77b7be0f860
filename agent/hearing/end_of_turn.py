"""When a turn is over: how the last words ended, how this speaker pauses, and so how long to wait.

Three parts, each read by the next: `ending` looks at the sound of the last words (does the voice
die away, or is one sound being drawn out?), `silence_wanted_ms` says how much silence such an end
takes from such a speaker, and `EndOfTurnWait` keeps the limits that hold now. The figures come from
recorded ends and pauses; docs/turn-taking.md has them, and what each costs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent import limits
from agent.audio import RATE, SAMPLE_BYTES, floats, milliseconds, samples_in
from agent.hearing import endpointing
from agent.hearing.endpointing import Limits
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection

Sound = npt.NDArray[np.float32]

_LOOKED_AT_BYTES = samples_in(1_500) * SAMPLE_BYTES
"""So much of the end is looked at."""

_RATE = 8_000
"""Twenty samples for a period of the highest pitch; more would only take longer."""
_HOP = 80
"""10 ms: fewer samples would only take longer, more would miss how a pitch moves."""
_WINDOW = 320
"""40 ms hold two periods of the lowest pitch; a longer one blurs a pitch that moves."""
_FFT = 1024
"""At least the window and the longest lag, or the correlation would wrap around."""
_LOWEST_HZ, _HIGHEST_HZ = 60, 400
"""The pitch of speech; the wider the range, the more often another octave is found."""
_VOICED = 0.6
"""Likeness to itself a period later: less would take hiss for voice, more lose hoarse ones."""
_PREFER_SHORT = 0.001
"""A lag, so that of two alike the period wins, not its double; more would favour overtones."""
_AUDIBLE_DB = 25.0
"""Farther below the loudest it is not speech: less would drop soft syllables, more count noise."""
_OCTAVE_SLIP = 0.7
"""Farther than this from the median it is a slip; intonation stays nearer."""
_FEWEST = 6
"""Voiced frames: fewer let one slip decide, more reach back before the fall."""
_FLAT_OCTAVES = 0.04
"""Half a semitone a frame: less would break an "um" in two, more would take speech for one."""
_HOP_MS = milliseconds(_HOP, _RATE)
_LAST_FRAMES = 10
"""100 ms: fewer are a sound within a syllable, more the syllables before."""
_QUIET_FRAMES = 6
"""Taken for the noise; more would reach from the shortest pause into the voice."""
_OVER_QUIET_DB = 6.0
"""The end of a voice is so much above the noise, which itself varies by some dB."""
_FADES_DB = 30.0
"""Here a voice is over even without noise; more would take its echo in the room for it."""


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
    sound = floats(pcm[-_LOOKED_AT_BYTES:])
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
    """How many of the last frames keep within half a semitone of the one before."""
    moving = np.flatnonzero(np.abs(np.diff(voice)) > _FLAT_OCTAVES)
    return voice.size - 1 - (int(moving[-1]) + 1 if moving.size else 0)


Eagerness = Literal["low", "medium", "high", "auto"]

_FADED_DB = 14.0
"""Less cuts off more pauses, more answers fewer ends at once: docs/turn-taking.md has the table."""
_RISES_OCTAVES = 0.4
"""Nearly five semitones: less would make lively speakers wait, more answer into a question."""
_FEWEST_SPOKEN_MS = 500
"""A single word is no sentence; more would make short answers wait."""
_DRAWN_OUT_MS = 240
"""Less would take long vowels for an "um", more would miss short ones."""
_REMEMBERED = 0.85
"""Of the longest pause, with each shorter one: half of it is forgotten after four."""
_ROOM = 1.2
"""Pauses vary: less would cut off the next one, more makes everybody wait for the slow."""


@dataclass(frozen=True, slots=True)
class _Waits:
    """Silence after an end that sounds finished, one that may be, and one that doesn't; in ms."""

    finished: int
    unclear: int
    unfinished: int
    most: int


_WAITS: dict[Eagerness, _Waits] = {
    "high": _Waits(320, 480, 960, 2_000),
    "medium": _Waits(384, 704, 1_600, 4_000),
    "auto": _Waits(384, 704, 1_600, 4_000),
    "low": _Waits(704, 1_280, 3_200, 8_000),
}
"""Shorter ones answer sooner and cut off more pauses; 768 instead of 704 ms would save 1 %."""


@dataclass(frozen=True, slots=True)
class Pausing:
    """How long one speaker pauses within turns, learnt from pauses after which they went on."""

    longest_ms: float = 0.0
    """The longest of late; it fades with each shorter one."""
    this_turn_ms: float = 0.0
    """The longest of the turn that goes on."""

    def resumed(self, after_ms: int) -> "Pausing":
        paused_ms = float(after_ms)
        longest_ms = max(paused_ms, _REMEMBERED * self.longest_ms)
        return Pausing(longest_ms, max(paused_ms, self.this_turn_ms))

    def new_turn(self) -> "Pausing":
        return Pausing(self.longest_ms)


def longest_wait_ms(eagerness: Eagerness) -> int:
    """The silence after which a turn is over, whatever it ended with."""
    return _WAITS[eagerness].most


def silence_wanted_ms(ending: Ending, pausing: Pausing, eagerness: Eagerness) -> int:
    """Return the silence after which the turn is over."""
    waits = _WAITS[eagerness]
    if _sounds_finished(ending):
        # Who has just paused for long in this turn thinks aloud, however it sounds.
        return max(waits.finished, min(waits.unclear, int(_ROOM * pausing.this_turn_ms)))
    sounds = waits.unfinished if ending.flat_ms >= _DRAWN_OUT_MS else waits.unclear
    return min(waits.most, max(sounds, int(_ROOM * pausing.longest_ms)))


def _sounds_finished(ending: Ending) -> bool:
    """Whether the voice died away, and not after a first word or in the middle of a rise."""
    return (
        ending.fade_db >= _FADED_DB
        and ending.fall_octaves > -_RISES_OCTAVES
        and ending.spoken_ms >= _FEWEST_SPOKEN_MS
    )


_PAUSE_MS = 160
"""Where no reply is prepared, an end is looked at after this; gaps within words are shorter."""
_SOON_MS = 2_000
"""A turn after this is a new thought; more would take quick answers for pauses."""


def _limits(detection: TurnDetection, early_start_ms: int, longest_ms: int) -> Limits:
    match detection:
        case ServerVad(threshold=threshold, prefix_padding_ms=padding_ms):
            silence_ms = detection.silence_duration_ms
            pause_ms = early_start_ms or silence_ms
        case SemanticVad(eagerness=eagerness):
            threshold, padding_ms = 0.5, 300
            silence_ms, pause_ms = longest_wait_ms(eagerness), early_start_ms or _PAUSE_MS
    longest_ms = min(longest_ms, limits.TURN_S * 1_000)
    return endpointing.limits(threshold, padding_ms, pause_ms, silence_ms, longest_ms)


class EndOfTurnWait:
    """Waits for the ends of one speaker's turns."""

    def __init__(self, detection: TurnDetection, early_start_ms: int, longest_ms: int):
        self.detection = detection
        self._asked = _limits(detection, early_start_ms, longest_ms)
        self._pausing = Pausing()
        self.prepares_reply = early_start_ms > 0 and detection.create_response
        """Whether a reply is prepared in a pause."""
        self.limits = self._asked
        self._silent_since: int | None = None

    def turn_started(self, at: int) -> None:
        """A turn begins at a sample; one so soon after another shows that it was only a pause."""
        self._pausing = self._pausing.new_turn()
        if self._silent_since is not None:
            silence_ms = milliseconds(at - self._silent_since)
            if silence_ms < _SOON_MS:
                self.resumed(silence_ms)
        self._silent_since = None

    def turn_ended(self, at: int) -> None:
        """A turn is over, which was decided at a sample."""
        self._silent_since = at - self.limits.silence
        self.limits = self._asked

    def paused(self, pcm: bytes) -> None:
        """The speaker has paused after saying this: mono PCM16 at 24 kHz, the pause included."""
        if isinstance(self.detection, SemanticVad):
            wanted_ms = silence_wanted_ms(ending(pcm), self._pausing, self.detection.eagerness)
            self.limits = replace(self._asked, silence=samples_in(wanted_ms))

    def resumed(self, silence_ms: int) -> None:
        """The speaker went on after all."""
        self._pausing = self._pausing.resumed(silence_ms)
        self.limits = self._asked
