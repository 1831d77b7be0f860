"""The simulated caller's mouth and ears: what is heard, what is said, and when."""

import base64
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from agent.audio import RATE, Samples, samples_in
from client.dialogue.jitter import FADE_SAMPLES
from client.evaluation.recordings import Echo
from client.evaluation.scenarios import Overlay, Scenario
from client.evaluation.simulated_phone import DUCKED, Event, SimulatedPhone, Take
from client.sound.clip import FRAME_SAMPLES

QUESTION = np.full(samples_in(100), 1_000, np.int16)
ASKED = Scenario("a call", "turn", QUESTION, len(QUESTION))


def delta(sound: Samples) -> Event:
    pcm = base64.b64encode(sound.tobytes()).decode()
    return {"type": "response.output_audio.delta", "item_id": "item_1", "delta": pcm}


def listen(phone: SimulatedPhone, first: int, frames: int) -> tuple[Samples, Samples]:
    """Let frames pass; return what was spoken and what was heard in them."""
    heard = len(phone.take.heard)
    said = b"".join(phone.frame((first + n) * FRAME_SAMPLES) for n in range(frames))
    return np.frombuffer(said, np.int16), np.frombuffer(phone.take.heard[heard:], np.int16)


def tone(length_ms: int, value: int = 8_000) -> Samples:
    return np.full(samples_in(length_ms), value, np.int16)


def test_the_question_is_spoken_first_then_silence():
    said, heard = listen(SimulatedPhone(Take(ASKED)), 0, 10)
    assert np.array_equal(said[: len(QUESTION)], QUESTION)
    assert not said[len(QUESTION) :].any()
    assert not heard.any()


def test_an_interrupted_answer_falls_silent_and_its_heard_part_is_told():
    phone = SimulatedPhone(Take(ASKED))
    phone.receive(delta(tone(1_000)), 0)
    listen(phone, 0, 10)
    told = phone.receive({"type": "input_audio_buffer.speech_started"}, 10 * FRAME_SAMPLES)
    assert told == [
        {
            "type": "conversation.item.truncate",
            "item_id": "item_1",
            "content_index": 0,
            "audio_end_ms": 200,
        }
    ]
    phone.receive(delta(tone(1_000)), 10 * FRAME_SAMPLES)
    _, heard = listen(phone, 10, 5)
    assert not heard[FADE_SAMPLES:].any()
    (run,) = phone.take.runs
    assert (run.start, run.count) == (0, 10 * FRAME_SAMPLES)


def test_a_ducked_answer_is_quieter_until_it_is_restored_and_nothing_is_lost():
    phone = SimulatedPhone(Take(ASKED))
    phone.receive(delta(tone(1_000)), 0)
    listen(phone, 0, 5)
    phone.receive({"type": "x_mimo.duck"}, 0)
    _, ducked = listen(phone, 5, 5)
    assert set(ducked) == {8_000 * DUCKED}
    phone.receive({"type": "x_mimo.restore"}, 0)
    _, restored = listen(phone, 10, 5)
    assert set(restored) == {8_000}
    assert [(run.count, run.gain) for run in phone.take.runs] == [
        (5 * FRAME_SAMPLES, 1.0),
        (5 * FRAME_SAMPLES, DUCKED),
        (5 * FRAME_SAMPLES, 1.0),
    ]
    assert all(a.end == b.start for a, b in pairwise(phone.take.runs))


def test_a_held_answer_goes_on_from_the_sample_where_it_stopped():
    phone = SimulatedPhone(Take(ASKED))
    rising = np.arange(1, samples_in(1_000) + 1, dtype=np.int16)
    phone.receive(delta(rising), 0)
    listen(phone, 0, 5)
    phone.receive({"type": "x_mimo.hold"}, 0)
    _, held = listen(phone, 5, 5)
    assert not held.any()
    phone.receive({"type": "x_mimo.restore"}, 0)
    _, restored = listen(phone, 10, 5)
    assert np.array_equal(restored, rising[5 * FRAME_SAMPLES : 10 * FRAME_SAMPLES])
    assert [(run.start, run.count) for run in phone.take.runs] == [
        (0, 5 * FRAME_SAMPLES),
        (10 * FRAME_SAMPLES, 5 * FRAME_SAMPLES),
    ]


def test_a_held_answer_that_is_interrupted_makes_no_more_sound():
    phone = SimulatedPhone(Take(ASKED))
    phone.receive(delta(tone(1_000)), 0)
    listen(phone, 0, 5)
    phone.receive({"type": "x_mimo.hold"}, 0)
    listen(phone, 5, 5)
    phone.receive({"type": "input_audio_buffer.speech_started"}, 0)
    _, after = listen(phone, 10, 5)
    assert not after.any()


def test_an_overlay_begins_at_the_exact_sample_of_the_answer():
    sound = tone(50, 3_000)
    phone = SimulatedPhone(Take(replace(ASKED, overlay=Overlay(sound, 133, 0))))
    phone.receive(delta(tone(1_000)), 0)
    said, _ = listen(phone, 0, 30)
    start = samples_in(133)
    assert phone.take.overlay_at == start
    assert np.array_equal(said[start : start + len(sound)], sound)
    assert not said[start + len(sound) :].any()


def test_the_room_returns_the_echo_of_what_was_played_and_no_more():
    echo = np.arange(1, RATE + 1, dtype=np.int16)
    room = Echo("room", Path("room.wav"), tone(1_000), echo, tone(1_000))
    phone = SimulatedPhone(Take(replace(ASKED, kind="echo", echo=room, opening=QUESTION[:0])))
    phone.receive(delta(tone(400)), 0)
    said, _ = listen(phone, 0, 25)
    assert np.array_equal(said[: samples_in(400)], echo[: samples_in(400)])
    assert not said[samples_in(400) :].any()
    phone.receive(delta(tone(400)), 0)
    later, _ = listen(phone, 25, 5)
    assert np.array_equal(later, echo[samples_in(400) : samples_in(500)])


def test_what_was_played_is_reported_every_200_ms_while_something_plays():
    phone = SimulatedPhone(Take(ASKED), reports=True)
    phone.receive(delta(tone(500)), 0)
    reports: list[Event] = []
    for n in range(40):
        reports += phone.report(n * FRAME_SAMPLES)
        phone.frame(n * FRAME_SAMPLES)
    assert [each["audio_end_samples"] for each in reports] == [samples_in(200), samples_in(400)]
    assert {each["item_id"] for each in reports} == {"item_1"}


def test_the_echo_of_a_ducked_voice_is_as_much_quieter():
    echo = np.full(RATE, 4_000, np.int16)
    room = Echo("room", Path("room.wav"), tone(1_000), echo, tone(1_000))
    phone = SimulatedPhone(Take(replace(ASKED, kind="echo", echo=room, opening=QUESTION[:0])))
    phone.receive(delta(tone(400)), 0)
    phone.receive({"type": "x_mimo.duck"}, 0)
    said, _ = listen(phone, 0, 5)
    assert set(said) == {4_000 * DUCKED}
