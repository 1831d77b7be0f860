"""Conversations with recorded speech on virtual time: what the agent should do, and does.

The caller, its recordings and the judgement are those of `mimo-live eval`; here they meet the
core without a clock, so every decision is exact.
"""

from functools import cache
from random import Random
from typing import get_args

import numpy as np
import pytest

from agent.audio import RATE, Samples, samples_in
from client.evaluation.figures import (
    answered,
    false_cutoffs,
    latency,
    talked_through,
    yield_latency_ms,
    yielded,
)
from client.evaluation.recordings import SHIPPED, Library
from client.evaluation.scenarios import Kind, Span, natural_gaps, paused, quick, scenarios
from client.evaluation.simulated_phone import Take
from tests.drivers.simulated_call import SimulatedCall

ALL = {each.name: each for each in scenarios(Library(SHIPPED), seed=1)}


def names(prefix: str) -> list[str]:
    found = [name for name in ALL if name.startswith(prefix)]
    assert found, prefix
    return found


@cache
def take(name: str) -> Take:
    return SimulatedCall(ALL[name]).hold()


@pytest.mark.parametrize("name", names("turn/"))
def test_a_finished_turn_is_answered_within_900_ms(name: str):
    turn = latency(take(name))
    assert turn is not None
    assert turn.voice_to_voice_ms <= 900


@pytest.mark.parametrize("name", names("word/"))
def test_a_short_word_is_answered(name: str):
    assert answered(take(name))


@pytest.mark.parametrize("name", names("pause/300/"))
def test_a_short_pause_ends_no_turn(name: str):
    cuts = false_cutoffs(take(name))
    assert cuts
    assert not any(cuts)


@pytest.mark.parametrize("name", [n for n in names("interruption/") if "echo" not in n])
def test_an_interruption_is_yielded_to_within_a_second(name: str):
    found = take(name)
    assert yielded(found)
    delay_ms = yield_latency_ms(found)
    assert delay_ms is not None
    assert 0 <= delay_ms <= 1_000


@pytest.mark.parametrize("name", names("noise/dog_bark_-15dB") + names("noise/ringing_phone_-15dB"))
def test_a_faint_noise_is_talked_through(name: str):
    assert talked_through(take(name))


def test_nothing_is_answered_twice_and_no_dead_response_is_heard():
    for name in [each.name for each in quick(list(ALL.values()))]:
        events = [each.event for each in take(name).events]
        created = [e["response"]["id"] for e in events if e["type"] == "response.created"]
        assert len(created) == len(set(created))


def test_the_same_seed_mixes_the_same_scenarios():
    again = scenarios(Library(SHIPPED), seed=1)
    assert [each.name for each in again] == list(ALL)
    for each in again:
        assert np.array_equal(each.opening, ALL[each.name].opening)
    other = scenarios(Library(SHIPPED), seed=2)
    assert [s.overlay.after_ms for s in other if s.overlay] != [
        s.overlay.after_ms for s in again if s.overlay
    ]


def burst(samples: int) -> Samples:
    return np.full(samples, 9_000, np.int16)


def test_a_gap_between_two_words_is_found_and_made_as_long_as_asked():
    word, hush = burst(RATE), np.zeros(samples_in(100), np.int16)
    said = np.concatenate((word, hush, word)).astype(np.int16)
    (gap,) = natural_gaps(said)
    assert RATE <= gap.start < gap.end <= RATE + samples_in(100)
    sound, pauses = paused(said, [gap], 600, Random(1))
    assert pauses == [Span(gap.start, gap.start + samples_in(600))]
    assert np.array_equal(sound[: gap.start], said[: gap.start])
    assert np.array_equal(sound[pauses[0].end :], said[gap.end :])


def test_every_kind_is_there():
    kinds = {each.kind for each in ALL.values()}
    assert kinds == set(get_args(Kind))
