"""Figures: what is judged of a call, from what was audible and what was in the recordings."""

from dataclasses import replace

import numpy as np
import pytest

from agent.audio import RATE, samples_in
from client.evaluation.figures import (
    early_starts,
    false_cutoffs,
    figures,
    latency,
    talked_through,
    underruns,
    yield_latency_ms,
    yielded,
)
from client.evaluation.recordings import Labelled
from client.evaluation.report import table
from client.evaluation.scenarios import Kind, Overlay, Scenario, Span
from client.evaluation.simulated_phone import Happened, Run, Take
from client.evaluation.vad_benchmark import Detected, vad_figures

SECOND = RATE
SILENCE = np.zeros(SECOND, np.int16)
SPEECH_END = SECOND


def call(kind: Kind, *runs: Run, overlay_at: int | None = None, cut: str = "") -> Take:
    overlay = None if overlay_at is None else Overlay(SILENCE, 0, onset=samples_in(100))
    scenario = Scenario("a call", kind, SILENCE, SPEECH_END, overlay=overlay)
    take = Take(scenario, runs=list(runs), overlay_at=overlay_at)
    take.cut = {cut: 0} if cut else {}
    return take


def event(at: int, kind: str, **fields: object) -> Happened:
    return Happened(at, {"type": kind, **fields})


def committed(at: int) -> Happened:
    return event(at, "input_audio_buffer.committed")


def delta(at: int, response_id: str = "resp_1") -> Happened:
    return event(at, "response.output_audio.delta", response_id=response_id)


ANSWER = Run("item", 2 * SECOND, SECOND)


def test_the_parts_of_a_latency_add_up_to_the_whole():
    take = call("turn", Run("item", SPEECH_END + samples_in(700), SECOND))
    take.round_trip_ms = 10.0
    take.events = [committed(SPEECH_END + samples_in(400)), delta(SPEECH_END + samples_in(650))]
    turn = latency(take)
    assert turn is not None
    assert turn.voice_to_voice_ms == 700
    assert (turn.endpointing_ms, turn.transport_ms) == (390, 10)
    assert (turn.model_ms, turn.playout_ms) == (250, 50)


def test_a_reply_that_was_cut_yielded_at_its_last_audible_sample():
    take = call("interruption", ANSWER, overlay_at=ANSWER.end - samples_in(300), cut="item")
    assert yielded(take)
    assert yield_latency_ms(take) == 200


def test_a_reply_that_was_over_before_the_interruption_is_not_judged():
    take = call("interruption", ANSWER, overlay_at=ANSWER.end + 1)
    assert yielded(take) is None
    assert figures([take])["yield_rate"] is None


def test_a_gap_of_more_than_100_ms_is_no_talking_through():
    after = Run("item", ANSWER.end + samples_in(100), SECOND)
    at = ANSWER.start + samples_in(100)
    assert talked_through(call("noise", ANSWER, after, overlay_at=at))
    late = replace(after, start=after.start + 1)
    take = call("noise", ANSWER, late, overlay_at=at)
    assert underruns(take) == 1
    assert not talked_through(take)


def test_a_hold_that_is_restored_is_talking_through_and_one_that_is_not_is_yielding():
    later = Run("item", ANSWER.end + samples_in(400), SECOND)
    at = ANSWER.end - samples_in(200)
    take = call("backchannel", ANSWER, later, overlay_at=at)
    take.holds = [Span(ANSWER.end, later.start)]
    assert talked_through(take)
    assert figures([take])["hold_p50_ms"] == 400
    stopped = call("interruption", ANSWER, overlay_at=at, cut="item")
    stopped.holds = [Span(ANSWER.end, later.start)]
    assert yield_latency_ms(stopped) == 100
    assert figures([stopped])["hold_p50_ms"] is None


@pytest.mark.parametrize(
    ("at", "cut"), [(0.9, False), (1.1, True), (1.6, True), (2.0, False)], ids=str
)
def test_a_verdict_in_a_pause_is_a_false_cutoff(at: float, cut: bool):
    pause = Span(SECOND, SECOND + samples_in(600))
    scenario = Scenario("a call", "pause", SILENCE, 3 * SECOND, (pause,), 600)
    take = Take(scenario, events=[committed(int(at * RATE))])
    assert false_cutoffs(take) == [cut]


def test_sound_of_a_response_that_is_done_counts_as_late():
    take = call("interruption", ANSWER, overlay_at=ANSWER.start, cut="item")
    done = event(5, "response.done", response={"id": "resp_1", "status": "cancelled"})
    take.events = [committed(1), delta(2), done, delta(6), delta(7, "resp_2")]
    assert figures([take])["audio_after_interruption"] == 1
    assert figures([take])["audible_before_verdict"] == 0


def test_a_call_that_failed_does_not_count():
    take = call("turn")
    take.problem = "the server ended the call"
    assert figures([take])["response_rate"] is None


def test_requests_before_the_verdict_are_early_and_in_vain_if_closed_before_it():
    take = call("turn", ANSWER)
    take.began_s, take.said = 100.0, bytearray(4 * SECOND * 2)
    take.events = [committed(2 * SECOND)]
    in_vain = {"began_at": 100.5, "ended": "closed", "ended_at": 101.0}
    used = {"began_at": 101.7, "ended": "finished", "ended_at": 103.0}
    at_the_verdict = {"began_at": 102.0, "ended": "finished", "ended_at": 103.0}
    of_another_call = {"began_at": 99.0, "ended": "closed", "ended_at": 99.5}
    found = early_starts([take], [in_vain, used, at_the_verdict, of_another_call])
    assert found == {"early_starts_used": 0.5, "early_starts_wasted": 0.5}


def test_detection_is_scored_against_labels():
    clip = Labelled("a clip", np.zeros(4 * SECOND, np.int16), ((1.0, 2.0),))
    found = vad_figures([Detected(clip, ((1100.0, 2100.0),))])
    assert found == {
        "vad_precision": 0.9,
        "vad_recall": 0.9,
        "vad_onset_delay_p50_ms": 100,
        "vad_offset_delay_p50_ms": 100,
    }


def test_the_table_says_which_bars_are_missed():
    found = {"voice_to_voice_p50_ms": 551.0, "yield_rate": 0.98, "vad_recall": None}
    rows = [line.split() for line in table(found).splitlines()]
    assert rows == [
        ["voice_to_voice_p50_ms", "551", "≤", "550", "MISSED"],
        ["yield_rate", "0.98", "≥", "0.98", "met"],
        ["vad_recall", "-"],
    ]
