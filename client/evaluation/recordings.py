"""The recordings that a simulated caller speaks from, found by folder or by name.

Speech is brought to one level, so that "15 dB below the user" means the same for all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.audio import RATE, Samples, rounded, samples_in
from agent.errors import AudioError
from client.sound.clip import level, read

SHIPPED = Path(__file__).parents[2] / "tests" / "data"
SPEECH_DB = -23.0
"""Level of the louder half of speech, relative to full scale."""

END_DB = -35.0
"""What falls below, relative to the loudest frame, is no more heard as speech."""

FINISHED = ("weather_question", "hello_world", "hi_how_are_you", "help_me", "LJ001-0002",
            "LJ001-0008", "LJ001-0013", "complete_*")  # fmt: skip
SENTENCES = ("LJ001-0004", "LJ001-0006")
IN_TWO_FILES = ("LJ001-0006", "LJ001-0008")
MONOLOGUES = ("asr-reference", "asr-reference-short")
WORDS = ("yes", "no", "hello")
BACKCHANNELS = ("yes", "backchannel_*")
NOISES = ("dog_bark", "ringing_phone", "car_horn")
TALK = ("people_talking", "dialogue", "sample", "tst00")
NEAR = ("weather_question",)
REF = "__ref"
ROOM_MS, ROOM_DELAY_MS, ROOM_DB = 250, 40, -8.0
"""A made-up echo: how long it lasts, how late it begins, and its level beside speech."""
_SHORTEST_S, _LONGEST_S = 0.25, 0.8
"""Of segments in meetings: shorter ones are hardly words, longer ones are turns."""
_FRAME = samples_in(10)
"""To this the ends of a sound are known."""
_SILENCE = samples_in(200)
"""Longer than the stops within a word, shorter than from one word to the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Sound with the name of its file."""

    name: str
    sound: Samples

    @property
    def speech_end(self) -> int:
        """Sample at which its speech ends."""
        return loud_part(self.sound)[1]


@dataclass(frozen=True, slots=True, eq=False)
class Echo:
    """What a loudspeaker played, and the microphone's echo of it, aligned."""

    name: str
    spoken: Path
    """The file that the agent has to speak."""
    reference: Samples
    echo: Samples
    near: Samples
    """Somebody who speaks there at the same time, without the echo."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Speech whose beginnings and ends were marked by hand."""

    name: str
    sound: Samples
    speech_s: tuple[tuple[float, float], ...]


class Library:
    """All recordings in a folder and the folders in it; what is missing is left out."""

    def __init__(self, folder: Path):
        found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".wav")
        self._files = {path.stem: path for path in found}
        if not self._files:
            raise AudioError(f"{folder}: no WAV files in this folder or its subfolders")

    def speech(self, names: tuple[str, ...]) -> list[Recording]:
        """Recordings of somebody speaking, at the level of all speech."""
        return [Recording(each.name, levelled(each.sound)) for each in self.sounds(names)]

    def sounds(self, names: tuple[str, ...]) -> list[Recording]:
        found = [
            path for name in names for stem, path in self._files.items() if Path(stem).match(name)
        ]
        return [Recording(path.stem, read(path)) for path in dict.fromkeys(found)]

    def asides(self) -> list[Recording]:
        """Short remarks from labelled dialogues, made while nobody else spoke."""
        return [
            Recording(
                f"{stem}_{start_s:g}", levelled(_cut(read(self._files[stem]), start_s, end_s))
            )
            for path in sorted({each.parent for each in self._files.values()})
            for labels in sorted(path.glob("*.rttm"))
            for stem, start_s, end_s in _alone(labels.read_text())
            if stem in self._files
        ]

    def echoes(self) -> list[Echo]:
        """Echoes as they were recorded; where there are none, those of a room made up."""
        recorded = [_recorded(path) for path in self._files.values() if path.stem.endswith(REF)]
        if recorded:
            return recorded
        near = next(iter(self.speech(NEAR)), None)
        spoken = [self._files[name] for name in SENTENCES if name in self._files]
        return [_made_up(path, near.sound) for path in spoken] if near is not None else []

    def labelled(self) -> list[Labelled]:
        return [
            Labelled(stem, read(path), tuple(_labels(path.with_suffix(".scv").read_text())))
            for stem, path in self._files.items()
            if path.with_suffix(".scv").exists()
        ]


def loud_part(sound: Samples, below_db: float = END_DB) -> tuple[int, int]:
    """Where a sound begins and ends: its 10 ms frames within 35 dB of the loudest one."""
    loud = _loud(sound, below_db)
    return int(loud[0]) * _FRAME, min(int(loud[-1] + 1) * _FRAME, len(sound))


def until_silence(sound: Samples) -> Samples:
    """A word alone: its recording may go on, after 200 ms of silence, with the breath for more."""
    loud = _loud(sound, END_DB)
    ends = np.flatnonzero(np.diff(loud) * _FRAME > _SILENCE)
    return sound if not len(ends) else sound[: int(loud[ends[0]] + 1) * _FRAME + _SILENCE // 2]


def _loud(sound: Samples, below_db: float) -> npt.NDArray[np.intp]:
    levels = np.array([level(sound[at : at + _FRAME]) for at in range(0, len(sound), _FRAME)])
    return np.flatnonzero(levels >= levels.max() * 10 ** (below_db / 20))


def levelled(sound: Samples, level_db: float = SPEECH_DB) -> Samples:
    """Bring the louder half of a sound to a level relative to full scale."""
    frame = samples_in(20)
    levels = [level(sound[start : start + frame]) for start in range(0, len(sound), frame)]
    loud = np.sort(levels)[len(levels) // 2 :]
    now = float(np.sqrt(np.mean(np.square(loud)))) if len(loud) else 0.0
    return scaled(sound, 10 ** (level_db / 20) / now) if now else sound


def scaled(sound: Samples, factor: float) -> Samples:
    return rounded(sound * factor)


def _cut(sound: Samples, start_s: float, end_s: float) -> Samples:
    return sound[int(start_s * RATE) : int(end_s * RATE)]


def _alone(rttm: str) -> Iterator[tuple[str, float, float]]:
    """Short segments without another one in the same recording at the same time."""
    rows = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER")]
    spans = [(row[1], float(row[3]), float(row[3]) + float(row[4])) for row in rows]
    for span in spans:
        name, start, end = span
        others = (each for each in spans if each is not span and each[0] == name)
        if _SHORTEST_S <= end - start <= _LONGEST_S and not any(
            other_start < end and start < other_end for _, other_start, other_end in others
        ):
            yield span


def _recorded(spoken: Path) -> Echo:
    name = spoken.stem.removesuffix(REF)
    microphone, near = (
        read(spoken.with_stem(f"{name}__{part}")).astype(np.int32) for part in ("mic", "gt")
    )
    length = min(len(microphone), len(near))
    echo = rounded(microphone[:length] - near[:length])
    return Echo(name, spoken, read(spoken), echo, near.astype(np.int16))


def _made_up(spoken: Path, near: Samples) -> Echo:
    """The echo of a small room: noise that dies away, begins late, and is fainter than speech."""
    random = np.random.default_rng(0)
    length = samples_in(ROOM_MS)
    response = random.normal(size=length) * np.exp(-6 * np.arange(length) / length)
    response[: samples_in(ROOM_DELAY_MS)] = 0
    reference = read(spoken)
    size = len(reference) + length
    spectrum = np.fft.rfft(reference, size) * np.fft.rfft(response, size)
    returned = np.fft.irfft(spectrum, size)[: len(reference)]
    gain = 10 ** (ROOM_DB / 20) * np.std(reference) / np.std(returned)
    return Echo(spoken.stem, spoken, reference, rounded(returned * gain), near)


def _labels(scv: str) -> Iterator[tuple[float, float]]:
    """Read `name,start,end,label,start,end,label…`; 1 is speech."""
    fields = scv.strip().split(",")[1:]
    for start, end, label in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
        if label == "1":
            yield float(start), float(end)
