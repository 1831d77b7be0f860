"""Recorded sounds over the agent's voice, through the real detector, on virtual time."""

import numpy as np
import pytest

from agent.audio import RATE
from agent.realtime import server_events as events
from agent.realtime.client_events import Playout
from agent.realtime.config import ServerVad
from tests.drivers.scene import Scene, clip, conversation, noisy, silence

QUESTION_S = clip("weather_question.wav").size / RATE
OVER_IT_S = 0.5 + QUESTION_S + 2.5
"""When the sound begins: the agent has been speaking for more than a second."""

INTERRUPTIONS = [
    *("hi_how_are_you.wav", "weather_question.wav", "LJ001-0002.wav", "LJ001-0004.wav"),
    *("LJ001-0008.wav", "complete_real_1.wav", "complete_synthetic_2.wav", "help_me.wav"),
]
BACKCHANNELS = ["backchannel_synthetic_2.wav", "yes.wav"]
NOISES = ["car_horn.wav", "dog_bark.wav", "ringing_phone.wav"]


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_a_real_interruption_takes_the_floor(name: str):
    scene = conversation(clip(name))
    assert scene.interrupted
    [held, *_] = scene.times(events.Held)
    [_, announced, *_] = scene.times(events.SpeechStarted)
    assert held < announced
    assert not [at for at in scene.times(events.AudioDelta) if announced < at < announced + 0.5]


@pytest.mark.parametrize("name", BACKCHANNELS)
def test_a_backchannel_is_talked_through(name: str):
    scene = conversation(clip(name))
    assert not scene.interrupted
    assert len(scene.times(events.Ducked)) == len(scene.times(events.Restored)) >= 1


@pytest.mark.parametrize("ducks", [True, False])
@pytest.mark.parametrize("words", ["Stop!", "No, no.", "Hold on...", "等等。等一下。"])
def test_a_word_that_says_so_stops_the_agent_once_it_is_read(words: str, ducks: bool):
    scene = conversation(clip("no.wav"), ducks=ducks, words=words)
    [_, started] = scene.all(events.SpeechStarted)
    [_, stopped] = scene.all(events.SpeechStopped)
    assert OVER_IT_S * 1000 - 450 < started.audio_start_ms < OVER_IT_S * 1000
    assert started.item_id == stopped.item_id
    assert stopped.audio_end_ms > OVER_IT_S * 1000 + 300
    done = [e.response.status for e in scene.all(events.ResponseDone)]
    assert done == ["cancelled"]
    # The word is a turn of its own, and answered.
    [*_, question, cut, word] = scene.asks[-1].messages
    assert [question.role, cut.role, word.role] == ["user", "assistant", "user"]
    assert 0.3 < len(word.pcm) / 2 / RATE < 1.5
    assert scene.times(events.AudioDelta)[-1] > scene.times(events.SpeechStopped)[-1]


def test_a_quiet_word_that_was_over_at_once_is_a_turn_too():
    scene = conversation(clip("no.wav", -34.0), words="Stop!")
    assert scene.interrupted
    assert [each.role for each in scene.asks[-1].messages][-3:] == ["user", "assistant", "user"]
    assert len(scene.asks[-1].messages[-1].pcm) / 2 / RATE < 1.5


@pytest.mark.parametrize("words", ["Yes.", "Stop by the shop.", ""])
def test_other_words_as_short_are_talked_through(words: str):
    assert not conversation(clip("no.wav"), words=words).interrupted


def test_a_word_that_is_read_too_late_stops_nothing():
    sound = np.concatenate((clip("no.wav"), silence(2.0)))
    assert conversation(sound, words="Stop!", reads_in_s=1.8).interrupted
    assert not conversation(sound, words="Stop!", reads_in_s=2.2).interrupted


@pytest.mark.parametrize("name", ["yes.wav", "weather_question.wav"])
def test_server_vad_lets_every_voice_interrupt_at_once(name: str):
    scene = conversation(clip(name), detection=ServerVad())
    assert scene.interrupted
    [_, announced, *_] = scene.times(events.SpeechStarted)
    assert announced < OVER_IT_S + 0.2


@pytest.mark.parametrize("name", NOISES)
def test_a_noise_is_talked_through(name: str):
    assert not conversation(clip(name)).interrupted


def test_talk_in_the_background_is_talked_through():
    scene = conversation(clip("people_talking.wav", -33.0))
    assert not scene.interrupted


def test_speech_is_announced_with_its_true_onset():
    scene = conversation(clip("weather_question.wav"))
    [_, started] = scene.all(events.SpeechStarted)
    assert OVER_IT_S * 1000 - 450 < started.audio_start_ms < OVER_IT_S * 1000 - 200


def test_a_client_that_cannot_duck_is_told_of_interruptions_only():
    yielded = conversation(clip("weather_question.wav"), ducks=False)
    assert yielded.interrupted
    passed = conversation(clip("backchannel_synthetic_2.wav"), ducks=False)
    assert not passed.interrupted
    for scene in (yielded, passed):
        assert not scene.times(events.Ducked) + scene.times(events.Held)
        assert not scene.times(events.Restored)


def test_no_before_what_is_not_wanted_interrupts_with_its_first_word():
    word, rest = clip("no.wav")[: int(0.5 * RATE)], clip("weather_question.wav")
    scene = conversation(np.concatenate((word, silence(0.3), rest)))
    started = scene.all(events.SpeechStarted)
    assert len(started) == 2
    assert started[1].audio_start_ms < OVER_IT_S * 1000


def test_what_was_not_heard_is_not_in_the_next_prompt():
    scene = conversation(clip("weather_question.wav"))
    [held, *_] = scene.times(events.Held)
    first_sound = scene.times(events.AudioDelta)[0]
    *_, answer, _ = scene.asks[-1].messages
    assert len(answer.pcm) / 2 / RATE == pytest.approx(held - first_sound, abs=0.002)


def test_what_the_client_reports_as_played_is_what_was_heard():
    scene = Scene()
    scene.play(noisy(np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.5)))))
    [item_id, *_] = [e.item_id for e in scene.all(events.AudioDelta)]
    scene.session.receive(Playout(item_id=item_id, audio_end_samples=RATE // 2), scene.now)
    reported_at = scene.now
    scene.play(noisy(np.concatenate((clip("weather_question.wav"), silence(1.5)))))
    held = scene.times(events.Held)[0]
    *_, answer, _ = scene.asks[-1].messages
    assert len(answer.pcm) / 2 / RATE == pytest.approx(0.5 + held - reported_at, abs=0.002)


def test_a_client_may_forbid_interruptions():
    scene = Scene(ServerVad(interrupt_response=False))
    question = np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.5)))
    scene.play(question).play(clip("weather_question.wav")).play(silence(8.0))
    assert not scene.times(events.Ducked)
    done = [e.response.status for e in scene.all(events.ResponseDone)]
    assert done[0] == "completed"
    assert len(scene.asks) == 2


def test_a_short_answer_that_comes_early_is_a_turn():
    scene = Scene(reply_s=2.4)
    scene.play(np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.0))))
    playout_ends_at = scene.times(events.AudioDelta)[0] + 2.4
    scene.play(silence(playout_ends_at - 0.2 - scene.now)).play(clip("yes.wav")).play(silence(2.0))
    assert scene.interrupted
    assert len(scene.times(events.Committed)) == 2
