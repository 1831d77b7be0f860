"""Scenarios: what a simulated caller says and what sounds around it, mixed from recordings.

Pure: the same recordings and seed give the same scenarios, sample by sample. Each begins with
a turn of the user; in most, something then sounds while the agent answers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Literal

import numpy as np

from agent.audio import RATE, Samples, rounded, samples_in
from client.evaluation import recordings
from client.evaluation.recordings import (
    Echo,
    Library,
    Recording,
    levelled,
    loud_part,
    until_silence,
)
from client.sound.clip import level

Kind = Literal["turn", "word", "pause", "interruption", "backchannel", "noise", "side_talk", "echo"]

PAUSES_MS = (300, 600, 1000)
"""The bar is for the middle one; the others show how it goes on to both sides."""
NOISE_DB = (-15.0, -6.0, 0.0)
"""Beside speech: from faint to as loud as the user."""
SIDE_TALK_DB = (-15.0, -20.0)
"""Beside speech, for people a few metres away; nearer ones can't be told from the user."""
BEFORE_S, AFTER_S, EXCERPTS = 2.5, 1.5, 2
"""Of a monologue, so much around so many of its gaps."""
INTERRUPTION_S = 2.2
"""An interruption lasts no longer, so that it ends before the reply would."""
SIDE_TALK_S = 2.5
"""Longer than any sound is judged."""
EARLIEST_MS, LATEST_MS = 500, 2000
"""How far into the answer something sounds."""

_FRAME = samples_in(10)
"""To this gaps are known; shorter ones would lie between the periods of a deep voice."""
_LEAD = samples_in(200)
"""Silence before speech, as a microphone has it: a detector begins with it."""
_OVER_FLOOR, _UNDER_TOP = 2.8, 0.03
"""What is silent: 9 dB over the quietest, or 30 dB under the loudest parts."""
_SHORTEST_GAP = 6
"""Frames: a shorter silence belongs to a consonant."""
_LONGEST_GAP = samples_in(450)
"""Longer ones may be ends of sentences, where an answer would be right."""
_MARGIN = samples_in(300)
"""What is so near to an end of the recording is the silence around it."""
_APART = samples_in(800)
"""Nobody hesitates at every word: gaps nearer to the one before are left alone."""


@dataclass(frozen=True, slots=True)
class Span:
    """From one sample up to another."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """A sound that begins while the agent answers."""

    sound: Samples
    after_ms: int
    """Counted from the first audible sample of the answer."""
    onset: int
    """Sample of the sound at which it is first loud."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """What one call is made of."""

    name: str
    kind: Kind
    opening: Samples
    """What the user says first."""
    speech_end: int
    """Sample of the opening at which its speech ends: the turn is over."""
    pauses: tuple[Span, ...] = ()
    """Silences inside the turn."""
    pause_ms: int = 0
    overlay: Overlay | None = None
    echo: Echo | None = None
    """The room returns what the agent says as this echo, as far as it was played."""


def scenarios(library: Library, seed: int) -> list[Scenario]:
    """Mix all scenarios that the recordings allow, kinds taking turns so that a few show all."""
    random = Random(seed)
    makers = (_turns, _pauses, _interruptions, _backchannels, _noises, _side_talk, _echoes, _words)
    return [each for make in makers for each in make(library, random)]


def quick(all_of_them: list[Scenario], each: int = 2) -> list[Scenario]:
    """Keep a few of each kind, and of each length of pause."""
    kept: dict[tuple[str, int], list[Scenario]] = {}
    for scenario in all_of_them:
        group = kept.setdefault((scenario.kind, scenario.pause_ms), [])
        if len(group) < (each if not scenario.pause_ms else 1):
            group.append(scenario)
    return [scenario for group in kept.values() for scenario in group]


def _turns(library: Library, _: Random) -> Iterator[Scenario]:
    for said in library.speech(recordings.FINISHED):
        yield _spoken(f"turn/{said.name}", "turn", said)


def _words(library: Library, _: Random) -> Iterator[Scenario]:
    for said in library.speech(recordings.WORDS):
        word = replace(said, sound=until_silence(said.sound))
        yield _spoken(f"word/{said.name}", "word", word)


def _spoken(name: str, kind: Kind, said: Recording) -> Scenario:
    return Scenario(name, kind, _after_silence(said.sound), _LEAD + said.speech_end)


def _after_silence(sound: Samples) -> Samples:
    return np.concatenate((np.zeros(_LEAD, np.int16), sound))


def _pauses(library: Library, random: Random) -> Iterator[Scenario]:
    sentences = list(_sentences(library, random))
    for pause_ms in PAUSES_MS:
        for said, gaps in sentences:
            sound, pauses = paused(said.sound, gaps, pause_ms, random)
            end = len(sound) - len(said.sound) + said.speech_end
            name = f"pause/{pause_ms}/{said.name}"
            shifted = tuple(Span(each.start + _LEAD, each.end + _LEAD) for each in pauses)
            yield Scenario(name, "pause", _after_silence(sound), _LEAD + end, shifted, pause_ms)


def _sentences(library: Library, random: Random) -> Iterator[tuple[Recording, list[Span]]]:
    """Sentences with the places in them where a speaker might think."""
    for said in library.speech(recordings.SENTENCES):
        yield said, _apart(natural_gaps(said.sound))
    first, then = (library.speech((name,)) for name in recordings.IN_TWO_FILES)
    if first and then:
        before = first[0].sound[: first[0].speech_end][-int(BEFORE_S * RATE) :]
        after = then[0].sound[loud_part(then[0].sound)[0] :]
        sound, joint = np.concatenate((before, after)), len(before)
        gap = Span(joint, joint + 1)
        yield Recording(f"{first[0].name}+{then[0].name}", sound), [gap]
    for said in library.speech(recordings.MONOLOGUES):
        excerpts = list(_excerpts(said))
        yield from random.sample(excerpts, min(EXCERPTS, len(excerpts)))


def _excerpts(said: Recording) -> Iterator[tuple[Recording, list[Span]]]:
    """Parts of a monologue around a natural gap, without an end of a sentence in them."""
    found = silences(said.sound)
    ends = [each for each in found if each.end - each.start > _LONGEST_GAP]
    for gap in found:
        start, end = gap.start - int(BEFORE_S * RATE), gap.end + int(AFTER_S * RATE)
        whole = start >= 0 and end <= len(said.sound)
        if whole and gap not in ends and not any(e.start < end and start < e.end for e in ends):
            excerpt = Recording(f"{said.name}_{start / RATE:.1f}", said.sound[start:end])
            yield excerpt, [Span(gap.start - start, gap.end - start)]


def _apart(gaps: list[Span]) -> list[Span]:
    """Leave out gaps that follow another one within 0.8 s."""
    return gaps[:1] + [gap for last, gap in pairwise(gaps) if gap.start - last.end > _APART]


def natural_gaps(sound: Samples) -> list[Span]:
    """Where a speaker is silent for a moment, 60 to 450 ms, between stretches of speech."""
    return [gap for gap in silences(sound) if gap.end - gap.start <= _LONGEST_GAP]


def silences(sound: Samples) -> list[Span]:
    """Stretches of at least 60 ms that are as quiet as the recording gets, but for its ends."""
    count = len(sound) // _FRAME
    levels = np.array([level(sound[n * _FRAME : (n + 1) * _FRAME]) for n in range(count)])
    smooth = np.sqrt(np.convolve(np.square(levels), np.full(3, 1 / 3), "same"))
    floor, top = np.percentile(smooth, (5, 95))
    loud = np.flatnonzero(smooth > min(max(floor * _OVER_FLOOR, top * _UNDER_TOP), top / 4))
    return [
        Span(int(before + 1) * _FRAME, int(after) * _FRAME)
        for before, after in pairwise(loud)
        if after - before > _SHORTEST_GAP
        and before * _FRAME > _MARGIN
        and after * _FRAME < len(sound) - _MARGIN
    ]


def paused(
    sound: Samples, gaps: list[Span], pause_ms: int, random: Random
) -> tuple[Samples, list[Span]]:
    """Make each gap `pause_ms` long; return the sound and where the pauses are in it.

    The pause is filled with noise as quiet as the recording itself is in its gaps.
    """
    generator = np.random.default_rng(random.getrandbits(32))
    parts: list[Samples] = []
    pauses: list[Span] = []
    at = taken = 0
    for gap in gaps:
        before, inside = sound[taken : gap.start], sound[gap.start : gap.end]
        missing = max(0, samples_in(pause_ms) - len(inside))
        hiss = generator.normal(0, level(inside) * 2**15, missing)
        half = len(inside) // 2
        parts += [before, inside[:half], rounded(hiss), inside[half:]]
        start = at + len(before)
        pauses.append(Span(start, start + len(inside) + missing))
        at, taken = pauses[-1].end, gap.end
    return np.concatenate((*parts, sound[taken:])), pauses


def _asked(library: Library) -> Scenario:
    """The short question that most calls begin with."""
    questions = library.speech(("hello_world", "hi_how_are_you")) or library.speech(("*",))
    return _spoken("", "turn", questions[0])


def _during_the_answer(
    asked: Scenario, kind: Kind, name: str, sound: Samples, random: Random
) -> Scenario:
    onset = loud_part(sound)[0]
    overlay = Overlay(sound, random.randrange(EARLIEST_MS, LATEST_MS), onset)
    return replace(asked, name=f"{kind}/{name}", kind=kind, overlay=overlay)


def _interruptions(library: Library, random: Random) -> Iterator[Scenario]:
    asked = _asked(library)
    names = (*recordings.FINISHED, "LJ001-0004", "LJ001-0006")
    for said in library.speech(names):
        sound = said.sound[: int(INTERRUPTION_S * RATE)]
        yield _during_the_answer(asked, "interruption", said.name, sound, random)


def _backchannels(library: Library, random: Random) -> Iterator[Scenario]:
    asked = _asked(library)
    for said in [*library.speech(recordings.BACKCHANNELS), *library.asides()]:
        yield _during_the_answer(asked, "backchannel", said.name, said.sound, random)


def _noises(library: Library, random: Random) -> Iterator[Scenario]:
    asked = _asked(library)
    for level_db in NOISE_DB:
        for noise in library.sounds(recordings.NOISES):
            sound = _at(level_db, noise.sound[: int(INTERRUPTION_S * RATE)])
            name = f"{noise.name}_{level_db:+.0f}dB"
            yield _during_the_answer(asked, "noise", name, sound, random)


def _side_talk(library: Library, random: Random) -> Iterator[Scenario]:
    asked = _asked(library)
    for level_db in SIDE_TALK_DB:
        for talk in library.sounds(recordings.TALK):
            most = max(1, len(talk.sound) - int(SIDE_TALK_S * RATE))
            sound = _at(level_db, talk.sound[random.randrange(most) :][: int(SIDE_TALK_S * RATE)])
            name = f"{talk.name}_{level_db:+.0f}dB"
            yield _during_the_answer(asked, "side_talk", name, sound, random)


def _at(level_db: float, sound: Samples) -> Samples:
    return levelled(sound, recordings.SPEECH_DB + level_db)


def _echoes(library: Library, random: Random) -> Iterator[Scenario]:
    """The agent hears itself, at first alone, then with somebody who interrupts."""
    asked = _asked(library)
    for echo in library.echoes():
        yield replace(asked, name=f"echo/{echo.name}", kind="echo", echo=echo)
    for echo in library.echoes():
        sound = echo.near[loud_part(echo.near)[0] :][: int(INTERRUPTION_S * RATE)]
        scenario = _during_the_answer(asked, "interruption", echo.name, sound, random)
        yield replace(scenario, name=f"interruption/echo_{echo.name}", echo=echo)


def named(names: list[str]) -> Callable[[Scenario], bool]:
    """Match scenarios by the beginning of their names, for example `pause/600`."""
    return lambda scenario: any(scenario.name.startswith(name) for name in names)
