"""Playout on virtual time: few gaps in a bad network, no clicks, ducking to the sample."""

from random import Random
from statistics import median
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio import RATE, Samples, samples_in
from client.jitter import JitterBuffer
from client.loudness import RAMP_SAMPLES, Loudness

FRAME_MS = 20
ANSWER_MS = 1440
TURNS = 1000


class Played(NamedTuple):
    delay_ms: int
    """From the arrival of an answer's first sound to its start."""
    longest_gap_ms: int


def arrivals_ms(chunk_ms: int, rtf: float, chance: Random) -> list[float]:
    """When each chunk of an answer comes in: 5 % of them late, and what follows waits for it."""
    times: list[float] = []
    for number in range(ANSWER_MS // chunk_ms):
        late_ms = chance.uniform(0, 300) if chance.random() < 0.05 else 0.0
        made_ms = (number + 1) * chunk_ms * rtf
        times.append(max([made_ms + late_ms, *times[-1:]]))
    return times


def play(jitter: JitterBuffer, item_id: str, chunk_ms: int, arrive_ms: list[float]) -> Played:
    """Play one answer to its end, a frame every 20 ms."""
    chunk = np.full(samples_in(chunk_ms), 1000, np.int16)
    frame = np.zeros(samples_in(FRAME_MS), np.int16)
    waiting, gap, longest, started, now = arrive_ms[:], 0, 0, None, 0
    while waiting or not jitter.idle:
        now += FRAME_MS
        while waiting and waiting[0] <= now:
            waiting.pop(0)
            jitter.push(item_id, chunk)
            if not waiting:
                jitter.complete(item_id)
        if jitter.pull(frame):
            started = now if started is None else started
            longest, gap = max(longest, gap), 0
        elif started is not None:
            gap += FRAME_MS
    assert started is not None
    return Played(started - round(arrive_ms[0]), longest)


@pytest.mark.parametrize(("chunk_ms", "rtf"), [(480, 0.5), (20, 0.5), (60, 0.5), (100, 0.5)])
def test_late_chunks_are_seldom_heard_and_cost_little_delay(chunk_ms: int, rtf: float):
    chance = Random(chunk_ms)
    jitter = JitterBuffer()
    turns = [
        play(jitter, f"item_{number}", chunk_ms, arrivals_ms(chunk_ms, rtf, chance))
        for number in range(TURNS)
    ]
    heard = sum(turn.longest_gap_ms > 100 for turn in turns) / TURNS
    assert heard < 0.01
    assert median(turn.delay_ms for turn in turns) < 120


def test_without_a_wait_the_same_network_would_be_heard(monkeypatch: pytest.MonkeyPatch):
    """That the figures above are owed to the buffer, not to a network that is too good."""
    monkeypatch.setattr("client.jitter.LEAST_WAIT_SAMPLES", samples_in(20))
    monkeypatch.setattr("client.jitter.MOST_WAIT_SAMPLES", samples_in(20))
    chance, jitter = Random(20), JitterBuffer()
    turns = [play(jitter, f"i{n}", 20, arrivals_ms(20, 0.5, chance)) for n in range(TURNS)]
    assert sum(turn.longest_gap_ms > 100 for turn in turns) / TURNS > 0.02


def sine(samples: int, hertz: float = 220.0) -> Samples:
    return (16000 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.int16)


def click_dbfs(sound: Samples) -> float:
    """The loudest sample of what lies above 4 kHz, where a voice this low has nothing."""
    spectrum = np.fft.rfft(sound.astype(np.float64))
    spectrum[: int(4000 * len(sound) / RATE)] = 0
    return 20 * float(np.log10(np.abs(np.fft.irfft(spectrum)).max() / 2**15 + 1e-9))


@given(st.integers(0, 4000), st.sampled_from(["flush", "hold", "dry"]))
def test_a_cut_at_any_moment_does_not_click(moment: int, how: str):
    jitter = JitterBuffer()
    jitter.push("item", sine(RATE if how != "dry" else samples_in(200) + moment))
    out = np.zeros(RATE, np.int16)
    jitter.pull(out[: samples_in(200) + moment])
    if how == "flush":
        jitter.flush()
    elif how == "hold":
        jitter.hold()
    jitter.pull(out[samples_in(200) + moment : 18000])
    jitter.go_on()
    jitter.pull(out[18000:])
    # Taper the end of the recording, which is a cut of the test's own.
    out[-4800:] = out[-4800:] * np.hanning(9600)[4800:]
    assert click_dbfs(out) < -40


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60), st.data())
def test_ducking_scales_and_never_moves_a_sample(frames: list[int], data: st.DataObject):
    loudness = Loudness(-15.0)
    sound = np.full(sum(frames), 10000, np.int16)
    start = 0
    for count in frames:
        if data.draw(st.booleans()):
            (loudness.restore if loudness.ducked else loudness.duck)()
        loudness.shape(sound[start : start + count])
        start += count
    steps = np.abs(np.diff(np.concatenate([[10000], sound]).astype(int)))
    assert steps.max() <= 10000 / RAMP_SAMPLES + 1
    assert sound.min() >= round(10000 * 10 ** (-15 / 20))


def test_ducking_is_as_quiet_as_asked_and_restores_every_sample():
    loudness = Loudness(-20.0)
    loudness.duck()
    ducked = np.full(2 * RAMP_SAMPLES, 10000, np.int16)
    loudness.shape(ducked)
    assert (ducked[RAMP_SAMPLES:] == 1000).all()
    loudness.restore()
    sound = np.arange(2 * RAMP_SAMPLES, dtype=np.int16)
    loudness.shape(sound)
    assert sound[RAMP_SAMPLES:].tolist() == list(range(RAMP_SAMPLES, 2 * RAMP_SAMPLES))
