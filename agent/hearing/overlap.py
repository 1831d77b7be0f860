"""A sound of the user's over the agent's voice: does it take the floor, or is it a mere "mm-hm"?

In the first quarter of a second nothing in the sound itself tells "yeah" from "yeah, but": that
was measured (docs/turn-taking.md). What does tell is whether it goes on. So it is judged by how
long it lasts, how loud it is beside the user's usual voice, and how it ends; and a sound that was
passed counts again if another follows soon: "no", and then what the user doesn't want. One that
was passed and goes on, as talk in the background does, is ignored until it is silent or comes near.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

from agent.floor import states as floor
from agent.hearing.buffer import FRAME_MS, ONSET_FRAMES, SPEECH, Frame, Utterance, voice_level_db

_SILENT = 0.35
"""Less probable, it is a gap: as far below `SPEECH` as an utterance may fall before it pauses."""
SILENT_FRAMES = 3
"""So much silence ends a sound; fewer would cut it in two at a stop consonant."""
HELD_SILENT_FRAMES = 8
"""While the agent is held, so much silence ends a sound: after a word, more may come."""
_FADED_DB = 12.0
"""Below its loudest it is fading: less would take a soft syllable for the end, more miss it."""
_GONE_DB = 25.0
"""Below its loudest it is gone, whatever a detector that remembers speech still says."""
_EMPHATIC_DB = 9.0
"""A calm word alone is up to 4 dB louder than a whole turn, and who says it varies by 3 dB."""
_EMPHATIC_MS = 224
"""A shout must be a word: less would let a cough stop the agent, more only delays it."""
_ASIDE_DB = -10.0
"""Below the user's usual level others talk, or they talk to others: the agent goes on. Nearer to
it, soft interruptions would be missed."""
_SUSTAINED_MS = 128
"""After this the agent is held. Less would hold it for coughs, more let it talk into the user."""
_ENOUGH_MS = 608
"""Less lets "mm-hm" stop the agent, more interrupts later: docs/turn-taking.md has the table."""
_LATEST_MS = 700
"""A sound still undecided is passed; one that is over interrupts with as much speech."""
_LATEST_HELD_MS = 1_056
"""The same while the agent is silent: room for "help … me", and a longer stop for nothing."""
_SOME_SPEECH = 0.6
"""Mean probability of a sound that lasts; more would miss speech in noise."""
_SURE_SPEECH = 0.75
"""Of one judged early, by less of it; less would let noise hold the agent."""


def loudness(frames: Sequence[Frame], usual_db: float | None) -> float:
    """The level beside the user's usual one, in dB; 0 as long as that isn't known."""
    return 0.0 if usual_db is None else voice_level_db(frames) - usual_db


def spoken_ms(frames: Sequence[Frame]) -> int:
    """How long somebody spoke in the frames, gaps not counted."""
    audible = max(frame.level_db for frame in frames) - _GONE_DB
    spoken = (f.probability >= SPEECH and f.level_db > audible for f in frames)
    return sum(spoken) * FRAME_MS


def has_ended(frames: Sequence[Frame], silent_frames: int = SILENT_FRAMES) -> bool:
    """Whether the sound is over: about 100 ms without speech, or as long as is asked for."""
    if len(frames) < silent_frames:
        return False
    audible = max(frame.level_db for frame in frames) - _GONE_DB
    last = frames[-silent_frames:]
    return all(frame.probability < _SILENT or frame.level_db < audible for frame in last)


def is_sustained(frames: Sequence[Frame], usual_db: float | None) -> bool:
    """Whether it has gone on for long enough, at a user's level, to stop and listen."""
    return (
        len(frames) * FRAME_MS >= _SUSTAINED_MS
        and _certainty(frames) >= _SURE_SPEECH
        and loudness(frames, usual_db) > _ASIDE_DB
        and not has_ended(frames)
        and not _fading(frames)
    )


def judge(
    frames: Sequence[Frame], usual_db: float | None, so_far_ms: int, held: bool = False
) -> bool | None:
    """Judge the sound so far.

    Args:
        frames: From its beginning on, or from that of the sound shortly before it.
        usual_db: The user's usual level, if it is known.
        so_far_ms: How long this sound has lasted.
        held: Whether the agent is silent meanwhile, so that there is time.

    Returns:
        Whether it takes the floor; `None` until that is known, after 700 ms at the latest,
        or 1056 ms while the agent is held.
    """
    if has_ended(frames, HELD_SILENT_FRAMES if held else SILENT_FRAMES):
        return judge_ended(frames, usual_db)
    latest_ms = _LATEST_HELD_MS if held else _LATEST_MS
    loud = loudness(frames, usual_db)
    if loud >= _EMPHATIC_DB and so_far_ms >= _EMPHATIC_MS and _certainty(frames) >= _SURE_SPEECH:
        return True
    if loud <= _ASIDE_DB:
        return False if so_far_ms >= latest_ms else None
    if spoken_ms(frames) >= _ENOUGH_MS and not _fading(frames):
        return _certainty(frames) >= _SOME_SPEECH
    return False if so_far_ms >= latest_ms else None


def judge_ended(frames: Sequence[Frame], usual_db: float | None) -> bool:
    """Judge a sound that is over."""
    loud = loudness(frames, usual_db)
    if loud <= _ASIDE_DB:
        return False
    emphatic = loud >= _EMPHATIC_DB and _certainty(frames) >= _SURE_SPEECH
    return emphatic or spoken_ms(frames) >= _LATEST_MS


def _certainty(frames: Sequence[Frame]) -> float:
    """Mean probability of speech where the voice is loud."""
    peak = max(frame.level_db for frame in frames)
    sure = [frame.probability for frame in frames if frame.level_db > peak - _FADED_DB]
    return sum(sure) / len(sure)


def _fading(frames: Sequence[Frame]) -> bool:
    """Whether the last 100 ms are far below the loudest."""
    peak = max(frame.level_db for frame in frames)
    return max(frame.level_db for frame in frames[-3:]) < peak - _FADED_DB


_TOGETHER_MS = 800
"""So "no … not that one" is one sound; more would add up two "mm-hm"s."""
_READ_WITHIN_MS = 2_000
"""After so long a word stops nothing any more: the agent may be saying something else."""
NEAR_FRAMES = 12
"""A sound that was far away is near once this many frames are at the user's level."""
_LONGEST_FRAMES = 64
"""Two seconds: a sound with the one before it; more would judge by what is long over."""

Judged = floor.OverlapSustained | floor.OverlapInterrupts | floor.OverlapPassed


class OverlapSound:
    """The latest sound over the agent's voice: it is judged, then over, or ignored until it is."""

    def __init__(self) -> None:
        self._phase: Literal["judged", "ignored", "over"] = "over"
        self._recent: deque[Frame] = deque(maxlen=NEAR_FRAMES)
        self._frames: deque[Frame] = deque(maxlen=_LONGEST_FRAMES)
        self._start = 0
        self._so_far_ms = 0
        self._passed_ms = _TOGETHER_MS
        self._is_sustained = False
        self.passed: Utterance | None = None
        """What sounded just now, if it was short and is over."""

    @property
    def is_judged(self) -> bool:
        """Whether it may still turn out to be a turn."""
        return self._phase == "judged"

    @property
    def is_ignored(self) -> bool:
        """Whether it was passed and goes on."""
        return self._phase == "ignored"

    @property
    def is_remembered(self) -> bool:
        """Whether what was passed may still turn out to be the beginning of a turn."""
        return not self.is_judged and self._passed_ms < _TOGETHER_MS

    def add(self, frame: Frame) -> None:
        """Take every frame, whoever speaks."""
        self._recent.append(frame)
        if self.is_judged:
            self._frames.append(frame)
            self._so_far_ms += FRAME_MS
        else:
            self._passed_ms += FRAME_MS
            if self._passed_ms > _READ_WITHIN_MS:
                self.passed = None

    def begin(self, start: int) -> int:
        """A sound began at a sample of the microphone.

        Returns:
            Where the utterance begins, should it be one: here, or with the sound just before.
        """
        self.passed = None
        if not self.is_remembered:
            self._start = start
            self._frames.clear()
        # What sounded between the two, an echo for example, says nothing about either.
        self._frames.extend(list(self._recent)[-ONSET_FRAMES:])
        self._so_far_ms = ONSET_FRAMES * FRAME_MS
        self._phase, self._is_sustained = "judged", False
        return self._start

    def judge(self, usual_db: float | None) -> Judged | None:
        """Judge the sound up to the latest frame."""
        frames = list(self._frames)
        match judge(frames, usual_db, self._so_far_ms, self._is_sustained):
            case True:
                return floor.OverlapInterrupts()
            case False:
                return floor.OverlapPassed()
            case None if not self._is_sustained and is_sustained(frames, usual_db):
                self._is_sustained = True
                return floor.OverlapSustained()
            case None:
                return None

    def takes_floor(self, usual_db: float | None) -> bool:
        """Judge a sound that is over, whatever it still lacks."""
        return judge_ended(list(self._frames), usual_db)

    def pass_over(self, is_open: bool) -> None:
        """It is no turn; one that goes on, its utterance still open, is ignored."""
        self._passed_ms = 0
        self._phase = "ignored" if is_open and not has_ended(list(self._frames)) else "over"

    def end(self) -> None:
        """What was ignored is over."""
        self._phase = "over"

    def forget(self) -> None:
        """It became a turn, or nothing of it matters any more."""
        self._phase, self._passed_ms, self.passed = "over", _TOGETHER_MS, None

    def comes_near(self, usual_db: float | None) -> bool:
        """Whether a sound that was passed for its distance is now at the user's level."""
        return is_sustained(list(self._recent), usual_db)
