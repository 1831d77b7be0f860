"""The agent's own voice in the microphone: it never interrupts, and the user still does."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from agent.audio import RATE, pcm16
from agent.floor import states as floor
from agent.hearing.buffer import FRAME_SAMPLES, DetectedFrame
from agent.hearing.echo_guard import EchoGuard
from agent.realtime import server_events as events
from tests.drivers.scene import Scene, clip, noisy, silence

VOICE = np.concatenate([clip(f"LJ001-000{n}.wav") for n in (4, 6)])
FRAME_S = FRAME_SAMPLES / RATE
LATE_S = 0.17
QUESTION = noisy(np.concatenate((silence(0.5), clip("weather_question.wav"), silence(1.0))))


def room(sound: npt.NDArray[np.float64], late_s: float = LATE_S) -> npt.NDArray[np.float64]:
    """The sound as it comes back: later, weaker, blurred by half a thousand reflections."""
    random = np.random.default_rng(1)
    taps = random.normal(0, 1, RATE // 5) * np.exp(-np.arange(RATE // 5) / (RATE * 0.05))
    taps[0] = 3.0
    blurred = np.fft.irfft(
        np.fft.rfft(sound, sound.size + taps.size) * np.fft.rfft(taps, sound.size + taps.size)
    )[: sound.size]
    louder = 0.4 * sound.std() / blurred.std()
    return np.concatenate((silence(late_s), np.tanh(blurred * louder * 3) / 3))


SILENT_FRAME = DetectedFrame(bytes(2 * FRAME_SAMPLES), 0.9)


def explained(heard: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of each frame is explained by `VOICE`, sent twice as fast as it plays."""
    guard, voice, found = EchoGuard(), pcm16(VOICE), list[float]()
    pcm = pcm16(heard)
    for index, start in enumerate(range(0, len(pcm) - 2 * FRAME_SAMPLES + 1, 2 * FRAME_SAMPLES)):
        now = 5.0 + index * FRAME_S
        sent = voice[start * 2 : start * 2 + 4 * FRAME_SAMPLES]
        if sent:
            guard.loudspeaker.play(sent, now)
        frame = DetectedFrame(pcm[start : start + 2 * FRAME_SAMPLES], 1.0)
        found += [1.0 - each.probability for each in guard.explain(frame, now + FRAME_S)]
    return np.array(found)


def test_an_echo_is_explained():
    share = explained(noisy(room(VOICE), -60.0))
    spoken = share[20 : int(VOICE.size / FRAME_SAMPLES)]
    assert np.quantile(spoken, 0.05) > 0.6


def test_another_voice_is_not():
    other = np.concatenate([clip(f"LJ001-00{n}.wav") for n in ("02", "08", "13")])
    assert np.quantile(explained(noisy(other))[26:], 0.9) < 0.2


def test_what_begins_with_the_agent_is_put_off_until_it_is_known_whose_it_is():
    guard, pcm, size = EchoGuard(), pcm16(noisy(clip("LJ001-0002.wav"))), 2 * FRAME_SAMPLES
    guard.loudspeaker.play(pcm16(VOICE), 5.0)
    frames = [DetectedFrame(pcm[n * size : (n + 1) * size], 0.9) for n in range(21)]
    found = [guard.explain(frame, 5.0 + (n + 1) * FRAME_S) for n, frame in enumerate(frames)]
    assert [each.pcm for some in found for each in some] == [each.pcm for each in frames]
    assert [len(each) for each in found] == [*[0] * 19, 20, 1]
    assert np.mean([each.probability for each in found[19]]) > 0.6
    assert guard.release_put_off() == []


def test_what_was_put_off_counts_as_the_agents_if_it_is_given_up():
    guard = EchoGuard()
    guard.loudspeaker.play(pcm16(VOICE), 5.0)
    for index in range(5):
        guard.explain(SILENT_FRAME, 5.0 + (index + 1) * FRAME_S)
    assert guard.release_put_off() == [replace(SILENT_FRAME, probability=0.0)] * 5
    assert guard.release_put_off() == []


@pytest.mark.parametrize("action", [floor.Duck("resp_1"), floor.Hold("resp_1")])
def test_while_a_client_is_quieter_less_is_explained(action: floor.Action):
    pcm, found = pcm16(noisy(room(VOICE), -60.0)), list[float]()
    guard, size = EchoGuard(), 2 * FRAME_SAMPLES
    guard.loudspeaker.play(pcm16(VOICE), 5.0)
    for index in range(150):
        now = 5.0 + (index + 1) * FRAME_S
        if index == 120:
            guard.loudspeaker.apply_action(action, now - 0.3)
        frame = DetectedFrame(pcm[index * size : (index + 1) * size], 1.0)
        found += [1 - each.probability for each in guard.explain(frame, now)]
    assert np.mean(found[100:120]) > np.mean(found[125:150]) + 0.1


def test_without_the_agents_voice_nothing_is_compared():
    guard = EchoGuard()
    for n in range(10):
        assert guard.explain(SILENT_FRAME, n * FRAME_S) == [SILENT_FRAME]


def in_a_room(
    guard: bool,
    over_it: npt.NDArray[np.float64],
    late_s: float = LATE_S,
    *,
    cancels_echoes: bool = False,
) -> Scene:
    echo, says = pcm16(room(VOICE, late_s)), pcm16(VOICE)
    scene = Scene(says=says, echo=echo, guard=guard, cancels_echoes=cancels_echoes, reply_s=9.6)
    return scene.play(QUESTION).play(noisy(np.concatenate((silence(2.0), over_it, silence(4.0)))))


def test_without_the_guard_the_agent_interrupts_itself():
    assert in_a_room(False, silence(1.0)).interrupted


def test_the_guard_stays_out_of_it_where_the_client_cancels_echoes():
    # This one says so and doesn't.
    assert in_a_room(True, silence(1.0), cancels_echoes=True).interrupted


@pytest.mark.parametrize("late_s", [LATE_S, 0.4])
def test_with_the_guard_it_does_not(late_s: float):
    scene = in_a_room(True, silence(1.0), late_s)
    assert not scene.interrupted
    assert not scene.times(events.Ducked)


def test_and_the_user_still_can():
    scene = in_a_room(True, clip("hi_how_are_you.wav", -15.0))
    assert len(scene.times(events.SpeechStarted)) == 2


def test_who_interrupts_at_the_agents_first_word_is_heard():
    until_the_answer = QUESTION[: -RATE // 2]
    over_it = noisy(np.concatenate((clip("hi_how_are_you.wav"), silence(1.0))))
    scene = Scene(says=pcm16(VOICE), reply_s=9.6).play(until_the_answer).play(over_it)
    assert scene.times(events.AudioDelta)[0] == pytest.approx(until_the_answer.size / RATE, abs=0.1)
    assert len(scene.times(events.SpeechStarted)) == 2


def test_turn_detection_that_was_switched_off_meanwhile_still_knows_where_words_begin():
    scene = Scene(says=pcm16(VOICE), reply_s=2.4).play(QUESTION)
    for detection in (None, {"type": "semantic_vad"}):
        scene.update(turn_detection=detection)
    scene.play(noisy(silence(5.0)))
    spoken_at = scene.now
    scene.play(noisy(np.concatenate((clip("hi_how_are_you.wav"), silence(1.0)))))
    *_, latest = scene.all(events.SpeechStarted)
    assert latest.audio_start_ms == pytest.approx(1000 * spoken_at - 300, abs=100)
