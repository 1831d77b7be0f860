"""Playout on virtual time: few gaps in a bad network, no clicks, ducking to the sample."""

from collections.abc import Callable, Iterator
from random import Random
from statistics import median
from typing import NamedTuple, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st
from playwright.sync_api import sync_playwright

from agent.audio import RATE, Samples, samples_in
from client.dialogue.ducking import DUCK_DB, DUCK_SAMPLES, RESTORE_SAMPLES, DuckingGain
from client.dialogue.jitter import JitterBuffer
from tests.drivers.page import CHROMIUM, SHELL
from tests.drivers.scripted_server import ScriptedServer

FRAME_MS = 20
ANSWER_MS = 1440
TURNS = 1000


class Played(NamedTuple):
    delay_ms: int
    """From the arrival of an answer's first sound to its start."""
    longest_gap_ms: int


Calls = list[tuple[int, list[list[float]]]]
"""For each length of chunks: when those of turn after turn arrive."""


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
            jitter.add(item_id, chunk)
            if not waiting:
                jitter.complete(item_id)
        if jitter.pull(frame):
            started = now if started is None else started
            longest, gap = max(longest, gap), 0
        elif started is not None:
            gap += FRAME_MS
    assert started is not None
    return Played(started - round(arrive_ms[0]), longest)


def play_in_terminal(calls: Calls) -> Iterator[list[Played]]:
    for chunk_ms, turns in calls:
        jitter = JitterBuffer()
        yield [play(jitter, f"item_{n}", chunk_ms, arrive_ms) for n, arrive_ms in enumerate(turns)]


PLAY = """
async (calls) => {
  // One sample a millisecond: the worklet counts everything in samples.
  globalThis.sampleRate = 1000;
  globalThis.AudioWorkletProcessor = class { port = { postMessage() {} }; };
  const kind = new Promise((resolve) => { globalThis.registerProcessor = (_, it) => resolve(it); });
  await import("/page/playout.js");
  const Playout = await kind;
  return calls.map(([chunkMs, turns]) => {
    const playout = new Playout();
    return turns.map((arriveMs, turn) => play(playout, `item_${turn}`, chunkMs, arriveMs));
  });

  function play(playout, item, chunkMs, arriveMs) {
    const order = (data) => playout.port.onmessage({ data });
    const out = new Float32Array(8);
    let started, gap = 0, longest = 0, arrived = 0, silent = 0;
    for (let now = 8; arrived < arriveMs.length || silent < 20; now += 8) {
      while (arriveMs[arrived] <= now) {
        order({ type: "chunk", item, pcm: new Int16Array(chunkMs).fill(1000) });
        if (++arrived === arriveMs.length) order({ type: "complete", item });
      }
      playout.process([], [[out]]);
      const sounds = out.some((sample) => sample !== 0);
      if (sounds) {
        started ??= now;
        longest = Math.max(longest, gap);
      }
      silent = sounds ? 0 : silent + 8;
      gap = started === undefined ? 0 : silent;
    }
    return [started - arriveMs[0], longest];
  }
}
"""


def play_in_page(calls: Calls) -> Iterator[list[Played]]:
    server = ScriptedServer()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=SHELL)
            page = browser.new_page()
            page.goto(server.url)
            played = cast(list[list[list[int]]], page.evaluate(PLAY, calls))
            browser.close()
    finally:
        server.stop()
    for turns in played:
        yield [Played(*turn) for turn in turns]


@pytest.mark.system
@pytest.mark.parametrize("play_all", [play_in_terminal, play_in_page])
def test_late_chunks_are_seldom_heard_and_cost_little_delay(
    play_all: Callable[[Calls], Iterator[list[Played]]],
):
    if play_all is play_in_page and CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    calls = [
        (chunk_ms, [arrivals_ms(chunk_ms, 0.5, Random(1000 * chunk_ms + n)) for n in range(TURNS)])
        for chunk_ms in (480, 240, 120, 60, 20)
    ]
    for (chunk_ms, _), turns in zip(calls, play_all(calls), strict=True):
        heard = sum(turn.longest_gap_ms > 100 for turn in turns) / TURNS
        delay_ms = median(turn.delay_ms for turn in turns)
        assert (heard < 0.01, delay_ms < 120) == (True, True), (chunk_ms, heard, delay_ms)


def test_without_a_wait_the_same_network_would_be_heard(monkeypatch: pytest.MonkeyPatch):
    """That the figures above are owed to the buffer, not to a network that is too good."""
    monkeypatch.setattr("client.dialogue.wait.LEAST_WAIT_SAMPLES", samples_in(20))
    monkeypatch.setattr("client.dialogue.wait.MOST_WAIT_SAMPLES", samples_in(20))
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
    jitter.add("item", sine(RATE if how != "dry" else samples_in(200) + moment))
    out = np.zeros(RATE, np.int16)
    jitter.pull(out[: samples_in(200) + moment])
    if how == "flush":
        jitter.flush()
    elif how == "hold":
        jitter.hold()
    jitter.pull(out[samples_in(200) + moment : 18000])
    jitter.resume()
    jitter.pull(out[18000:])
    # Taper the end of the recording, which is a cut of the test's own.
    out[-4800:] = out[-4800:] * np.hanning(9600)[4800:]
    assert click_dbfs(out) < -40


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60), st.data())
def test_ducking_scales_and_never_moves_a_sample(frames: list[int], data: st.DataObject):
    loudness = DuckingGain(DUCK_DB)
    sound = np.full(sum(frames), 10000, np.int16)
    start = 0
    for count in frames:
        if data.draw(st.booleans()):
            (loudness.restore if loudness.ducked else loudness.duck)()
        loudness.shape(sound[start : start + count])
        start += count
    steps = np.abs(np.diff(np.concatenate([[10000], sound]).astype(int)))
    assert steps.max() <= 10000 / DUCK_SAMPLES + 1
    assert sound.min() >= round(10000 * 10 ** (DUCK_DB / 20))


def test_ducking_is_as_quiet_as_asked_and_restores_every_sample():
    loudness = DuckingGain(-20.0)
    loudness.duck()
    ducked = np.full(2 * DUCK_SAMPLES, 10000, np.int16)
    loudness.shape(ducked)
    assert (ducked[DUCK_SAMPLES:] == 1000).all()
    loudness.restore()
    sound = np.arange(2 * RESTORE_SAMPLES, dtype=np.int16)
    loudness.shape(sound)
    assert sound[RESTORE_SAMPLES:].tolist() == list(range(RESTORE_SAMPLES, 2 * RESTORE_SAMPLES))
