"""A sound of the user's over the agent's voice: does it take the floor, or is it a mere "mm-hm"?

In the first quarter of a second nothing in the sound itself tells "yeah" from "yeah, but": that
was measured (docs/turn-taking.md). What does tell is whether it goes on. So it is judged by how
long it lasts, how loud it is beside the user's usual voice, and how it ends; and a sound that was
passed counts again if another follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FRAME_MS = 32

_SPEECH = 0.5
_SILENT = 0.35
SILENT_FRAMES = 3
HELD_SILENT_FRAMES = 8
"""While the agent is held, so much silence ends a sound: after a word, more may come."""
_FADED_DB = 12.0
_GONE_DB = 25.0
_EMPHATIC_DB = 9.0
"""A calm word alone is up to 4 dB louder than a whole turn, and who says it varies by 3 dB."""
_EMPHATIC_MS = 224
_ASIDE_DB = -10.0
_SUSTAINED_MS = 128
_ENOUGH_MS = 608
_LATEST_MS = 700
_LATEST_HELD_MS = 1_056
_SOME_SPEECH = 0.6
_SURE_SPEECH = 0.75


@dataclass(frozen=True, slots=True)
class Frame:
    """What was heard in 32 ms."""

    probability: float
    """That it is speech, 0.0 to 1.0."""
    level_db: float
    """Power, in dB of full scale."""


def level(frames: Sequence[Frame]) -> float:
    """How loud the voice in the frames is, the gaps in it not counted; in dB of full scale."""
    peak = max(frame.level_db for frame in frames)
    loud = [frame.level_db for frame in frames if frame.level_db > peak - 8.0]
    return sum(loud) / len(loud)


def loudness(frames: Sequence[Frame], usual_db: float | None) -> float:
    """The level beside the user's usual one, in dB; 0 as long as that isn't known."""
    return 0.0 if usual_db is None else level(frames) - usual_db


def spoken_ms(frames: Sequence[Frame]) -> int:
    """How long somebody spoke in the frames, gaps not counted."""
    audible = max(frame.level_db for frame in frames) - _GONE_DB
    spoken = (f.probability >= _SPEECH and f.level_db > audible for f in frames)
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
        Whether it takes the floor; `None` until that can be told, after 700 ms at the latest,
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
