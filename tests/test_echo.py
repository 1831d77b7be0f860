"""The agent's own voice in the microphone: it never interrupts, and the user still does."""

import numpy as np
import numpy.typing as npt
import pytest

from agent import ducking, events, floor
from agent.audio import RATE
from agent.echo import EchoGuard
from agent.endpointing import FRAME_SAMPLES
from tests.scene import Scene, clip, noisy, pcm16, silence

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


def explained(heard: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How much of each frame is explained by `VOICE`, sent twice as fast as it plays."""
    guard, voice, found = EchoGuard(), pcm16(VOICE), list[float]()
    pcm = pcm16(heard)
    for index, start in enumerate(range(0, len(pcm) - 2 * FRAME_SAMPLES + 1, 2 * FRAME_SAMPLES)):
        now = 5.0 + index * FRAME_S
        sent = voice[start * 2 : start * 2 + 4 * FRAME_SAMPLES]
        if sent:
            guard.play(sent, now)
        found.append(guard.explain(pcm[start : start + 2 * FRAME_SAMPLES], now + FRAME_S))
    return np.array(found)


def test_an_echo_is_explained():
    share = explained(noisy(room(VOICE), -60.0))
    spoken = share[20 : int(VOICE.size / FRAME_SAMPLES)]
    assert np.quantile(spoken, 0.05) > 0.6


def test_another_voice_is_not():
    other = np.concatenate([clip(f"LJ001-00{n}.wav") for n in ("02", "08", "13")])
    assert np.quantile(explained(noisy(other))[26:], 0.9) < 0.2


def test_until_delay_and_level_are_known_every_sound_may_be_the_agents():
    share = explained(noisy(clip("LJ001-0002.wav")))
    assert set(share[2:18]) == {1.0}
    assert share[26:40].max() < 0.5


@pytest.mark.parametrize("action", [floor.Duck("resp_1"), floor.Hold("resp_1")])
def test_while_a_client_is_quieter_less_is_explained(action: floor.Action):
    pcm, found = pcm16(noisy(room(VOICE), -60.0)), list[float]()
    guard, size = EchoGuard(), 2 * FRAME_SAMPLES
    guard.play(pcm16(VOICE), 5.0)
    for index in range(150):
        now = 5.0 + (index + 1) * FRAME_S
        if index == 120:
            guard.follow(action, now - 0.3)
        found.append(guard.explain(pcm[index * size : (index + 1) * size], now))
    assert np.mean(found[100:120]) > np.mean(found[125:150]) + 0.1


def test_without_the_agents_voice_nothing_is_compared():
    guard = EchoGuard()
    assert [guard.explain(bytes(1536), n * FRAME_S) for n in range(10)] == [0.0] * 10


def in_a_room(guard: bool, over_it: npt.NDArray[np.float64]) -> Scene:
    echo = pcm16(room(VOICE))
    scene = Scene(says=pcm16(VOICE), echo=echo, guard=guard, reply_s=9.6)
    return scene.play(QUESTION).play(noisy(np.concatenate((silence(2.0), over_it, silence(4.0)))))


def test_without_the_guard_the_agent_interrupts_itself():
    assert in_a_room(False, silence(1.0)).interrupted


def test_with_the_guard_it_does_not():
    scene = in_a_room(True, silence(1.0))
    assert not scene.interrupted
    assert not scene.times(ducking.Ducked)


def test_and_the_user_still_can():
    scene = in_a_room(True, clip("hi_how_are_you.wav", -15.0))
    assert len(scene.times(events.SpeechStarted)) == 2
