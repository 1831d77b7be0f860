"""Judging a sound over the agent's voice, from its frames alone."""

import pytest

from agent.floor import states as floor
from agent.hearing.overlap import Frame, OverlapSound, is_sustained, judge, judge_ended

VOICE, GAP = Frame(0.95, -22.0), Frame(0.1, -60.0)
FAR, LOUD, FADING = Frame(0.95, -36.0), Frame(0.95, -12.0), Frame(0.9, -38.0)
CLEAR = Frame(0.95, -15.0)
USUAL_DB = -22.0

CASES: list[tuple[str, list[Frame], int, bool | None]] = [
    ("at first nobody can tell", [VOICE] * 10, 320, None),
    ("one that goes on interrupts", [VOICE] * 19, 608, True),
    ("a short one that has ended passes", [VOICE] * 9 + [GAP] * 3, 384, False),
    ("one that fades may be ending", [VOICE] * 16 + [FADING] * 4, 640, None),
    ("at 700 ms it is decided", [VOICE] * 16 + [FADING] * 6, 704, False),
    ("talk far away never interrupts", [FAR] * 22, 704, False),
    ("nor does it when it has ended", [FAR] * 30 + [GAP] * 3, 600, False),
    ("a cry interrupts early", [LOUD] * 7, 224, True),
    ("even one that was short", [LOUD] * 5 + [GAP] * 3, 256, True),
    ("a short word, clearly spoken, is no cry", [CLEAR] * 8 + [GAP] * 3, 352, False),
    ("noise that may be speech doesn't", [Frame(0.4, -22.0)] * 22, 704, False),
    ("a second sound counts with the first", [VOICE] * 9 + [GAP] * 8 + [VOICE] * 10, 320, True),
]


@pytest.mark.parametrize(
    ("frames", "so_far_ms", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_sound_is_judged(frames: list[Frame], so_far_ms: int, expected: bool | None):
    assert judge(frames, USUAL_DB, so_far_ms) is expected


def test_while_the_agent_is_held_a_word_may_be_followed_by_another():
    word = [VOICE] * 8
    assert judge(word + [GAP] * 3, USUAL_DB, 352) is False
    assert judge(word + [GAP] * 7, USUAL_DB, 480, held=True) is None
    assert judge(word + [GAP] * 8, USUAL_DB, 512, held=True) is False
    late = word + [GAP] * 6 + [VOICE] * 8
    assert judge(late, USUAL_DB, 704) is False
    assert judge(late, USUAL_DB, 704, held=True) is None
    assert judge(late, USUAL_DB, 1_056, held=True) is False


def test_what_sounds_between_two_words_says_nothing_about_either():
    echo, sound = Frame(0.0, VOICE.level_db + 6), OverlapSound()
    for between in ([], [echo] * 12):
        for frame in between + [VOICE] * 4:
            sound.add(frame)
        sound.begin(0)
        for _ in range(6):
            sound.add(VOICE)
        if not between:
            assert not isinstance(sound.judge(USUAL_DB), floor.OverlapInterrupts)
            sound.pass_over(is_open=False)
    assert isinstance(sound.judge(USUAL_DB), floor.OverlapInterrupts)


def test_without_knowing_the_user_no_level_counts_against_a_sound():
    assert judge([FAR] * 19, None, 608) is True
    assert judge([FAR] * 19, USUAL_DB, 608) is None


def test_a_word_is_sustained_after_128_ms_and_a_click_never():
    assert [is_sustained([VOICE] * n, USUAL_DB) for n in (3, 4)] == [False, True]
    assert not is_sustained([VOICE] * 4 + [GAP] * 4, USUAL_DB)
    assert not is_sustained([FAR] * 8, USUAL_DB)


def test_a_sound_that_has_to_be_judged_at_its_end_interrupts_if_it_was_long():
    assert not judge_ended([VOICE] * 20, USUAL_DB)
    assert judge_ended([VOICE] * 22, USUAL_DB)
