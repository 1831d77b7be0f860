"""The jitter buffer: every sample once and in order, exact positions, no clicks."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, strategies as st

from agent.audio import Samples, samples_in
from client.dialogue.jitter import FADE_SAMPLES, Heard, JitterBuffer
from client.dialogue.wait import LEAST_WAIT_SAMPLES

FRAME = samples_in(20)
ENOUGH = 7 * LEAST_WAIT_SAMPLES // 2
"""One chunk of so much sound plays at once."""


def tone(samples: int, value: int = 1000) -> Samples:
    return np.full(samples, value, np.int16)


def ramp(samples: int, start: int = 1) -> Samples:
    return np.arange(start, start + samples, dtype=np.int16)


def pull(jitter: JitterBuffer, samples: int = FRAME) -> Samples:
    out = np.full(samples, 12345, np.int16)
    jitter.pull(out)
    return out


def test_an_empty_buffer_is_silent():
    assert not pull(JitterBuffer()).any()


def test_a_short_item_plays_at_once_when_it_is_complete():
    jitter = JitterBuffer()
    jitter.add("item", tone(FRAME))
    assert not pull(jitter).any()
    jitter.complete("item")
    assert pull(jitter).all()
    assert not jitter.idle
    pull(jitter)
    assert jitter.idle


def test_after_the_fade_in_the_sound_is_unchanged():
    jitter = JitterBuffer()
    jitter.add("item", ramp(ENOUGH))
    heard = pull(jitter, ENOUGH)
    assert (heard[FADE_SAMPLES:] == ramp(ENOUGH)[FADE_SAMPLES:]).all()
    assert heard[0] == 0
    assert (heard[:FADE_SAMPLES] <= ramp(FADE_SAMPLES)).all()


def test_running_dry_glides_to_silence_and_resumes_with_nothing_lost():
    jitter = JitterBuffer()
    jitter.add("item", tone(ENOUGH))
    pull(jitter, ENOUGH)
    gap = pull(jitter)
    assert 980 <= gap[0] < 1000
    assert (np.diff(gap) <= 0).all()
    assert not gap[FADE_SAMPLES:].any()
    assert jitter.played("item") == ENOUGH

    jitter.add("item", ramp(4 * ENOUGH))
    resumed = pull(jitter, 4 * ENOUGH)
    assert (resumed[FADE_SAMPLES:] == ramp(4 * ENOUGH)[FADE_SAMPLES:]).all()
    # That was an underrun: the next item waits longer by half of it, and no less for this one.
    jitter.complete("item")
    pull(jitter)
    longer = 7 * (LEAST_WAIT_SAMPLES + FRAME // 2) // 2
    jitter.add("next", tone(longer - 2))
    assert not pull(jitter, 1).any()
    jitter.flush()
    jitter.add("later", tone(longer))
    assert pull(jitter).any()


def test_held_sound_glides_to_silence_and_goes_on_with_the_very_next_sample():
    jitter = JitterBuffer()
    jitter.add("item", ramp(2 * ENOUGH))
    pull(jitter, 500)
    jitter.hold()
    held = pull(jitter, 2000)
    assert not held[FADE_SAMPLES:].any()
    assert not jitter.idle
    assert jitter.played("item") == 500
    jitter.resume()
    heard = pull(jitter, ENOUGH)
    assert heard[FADE_SAMPLES:].tolist() == ramp(ENOUGH, 501)[FADE_SAMPLES:].tolist()
    # That was no underrun: the next item waits no longer.
    jitter.complete("item")
    pull(jitter, ENOUGH)
    jitter.add("next", tone(ENOUGH))
    assert pull(jitter).any()


def test_items_follow_each_other_without_a_gap_or_a_fade():
    jitter = JitterBuffer()
    jitter.add("one", tone(ENOUGH, 500))
    jitter.complete("one")
    jitter.add("two", tone(ENOUGH, 700))
    heard = pull(jitter, 2 * ENOUGH)
    assert (heard[FADE_SAMPLES:ENOUGH] == 500).all()
    assert (heard[ENOUGH:] == 700).all()
    assert (jitter.played("one"), jitter.played("two")) == (ENOUGH, ENOUGH)


def test_a_flush_tells_what_was_heard_of_each_item_and_leaves_a_glide_only():
    jitter = JitterBuffer()
    jitter.add("one", tone(ENOUGH))
    jitter.add("two", tone(ENOUGH))
    pull(jitter, 700)
    assert jitter.flush() == [Heard("one", 700), Heard("two", 0)]
    assert jitter.idle
    rest = pull(jitter)
    assert (np.diff(rest) <= 0).all()
    assert not rest[FADE_SAMPLES:].any()


def test_a_flush_counts_what_the_loudspeaker_still_held_as_unheard():
    jitter = JitterBuffer()
    jitter.add("one", tone(ENOUGH))
    jitter.complete("one")
    pull(jitter, ENOUGH + 300)
    assert jitter.flush(delay_samples=800) == [Heard("one", ENOUGH - 500)]
    assert jitter.flush(delay_samples=300) == []


def test_a_flush_includes_an_item_that_ran_dry_but_was_to_go_on():
    jitter = JitterBuffer()
    jitter.add("one", tone(ENOUGH))
    pull(jitter, 2 * ENOUGH)
    assert jitter.flush() == [Heard("one", ENOUGH)]


def test_hours_of_items_are_not_remembered():
    jitter = JitterBuffer()
    for number in range(1000):
        jitter.add(f"item_{number}", tone(10))
        jitter.complete(f"item_{number}")
        pull(jitter)
    assert jitter.played("item_0") == 0
    assert jitter.played("item_999") == 10


@dataclass
class Run:
    """A jitter buffer driven by a script of pushes (> 0), pulls (< 0) and completions (0)."""

    jitter: JitterBuffer = field(default_factory=JitterBuffer)
    pushed: int = 0
    item: int = 0
    pieces: list[Samples] = field(default_factory=list[Samples])
    sound: list[Samples] = field(default_factory=list[Samples])

    def do(self, step: int, make: int | None = None) -> None:
        if step > 0:
            piece = ramp(step, 1000 + self.pushed) if make is None else tone(step, make)
            self.jitter.add(f"item_{self.item}", piece)
            self.pushed += step
        elif step < 0:
            out = np.full(-step, 999, np.int16)
            self.sound.append(out[: self.jitter.pull(out)])
            self.pieces.append(out)
        else:
            self.jitter.complete(f"item_{self.item}")
            self.item += 1

    def drain(self) -> None:
        self.do(0)
        while not self.jitter.idle:
            self.do(-FRAME)


STEPS = st.lists(st.integers(-700, 700), max_size=40)


@given(STEPS)
def test_every_sample_comes_out_once_and_in_order(steps: list[int]):
    run = Run()
    for step in steps:
        run.do(step)
    run.drain()
    heard = np.concatenate([np.zeros(0, np.int16), *run.sound])
    sent = ramp(run.pushed, 1000)
    assert len(heard) == len(sent)
    # Samples under a fade are scaled down; all others are what was sent, at their place.
    faded = heard != sent
    starts = sum(1 for before, after in zip([False, *faded], faded, strict=False) if after > before)
    assert faded.sum() <= FADE_SAMPLES * max(starts, 1) * 2
    assert (heard[~faded] == sent[~faded]).all()
    assert not faded.any() or run.pushed > 0


@given(STEPS)
def test_positions_add_up_to_what_was_pulled(steps: list[int]):
    run = Run()
    for step in steps:
        run.do(step)
    played = sum(run.jitter.played(f"item_{number}") for number in range(run.item + 1))
    assert played == sum(map(len, run.sound))
    assert played + run.jitter.buffered == run.pushed


@given(STEPS, st.integers(0, 2000))
def test_a_flush_leaves_nothing_and_hears_no_more_than_was_played(steps: list[int], delay: int):
    run = Run()
    for step in steps:
        run.do(step)
    for item_id, samples in run.jitter.flush(delay):
        assert 0 <= samples <= run.jitter.played(item_id)
    assert run.jitter.idle
    run.do(-FRAME)
    run.do(-FRAME)
    assert not run.sound[-2].size
    assert not run.pieces[-1].any()


@given(STEPS, st.lists(st.integers(0, 39), max_size=4), st.integers(-32768, 32767))
def test_no_jump_is_larger_than_a_fade_allows(steps: list[int], flushes: list[int], value: int):
    run = Run()
    for number, step in enumerate(steps):
        run.do(step, make=value)
        if number in flushes:
            run.jitter.flush()
    heard = np.concatenate([np.zeros(1, np.int16), *run.pieces]).astype(np.int64)
    assert np.abs(np.diff(heard)).max(initial=0) <= abs(value) / FADE_SAMPLES + 2
    assert np.abs(heard).max() <= abs(value)
