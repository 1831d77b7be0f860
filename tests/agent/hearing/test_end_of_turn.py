"""The end of a turn: how long to wait, after which end, and for whom."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from agent.audio import RATE
from agent.hearing.end_of_turn import (
    Eagerness,
    Ending,
    Pausing,
    ending,
    longest_wait_ms,
    silence_wanted_ms,
)
from agent.realtime import server_events as events
from agent.realtime.config import SemanticVad, ServerVad
from tests.drivers.scene import Scene, clip, noisy, silence
from tests.drivers.virtual_call import FIRST_S

FADED = Ending(fade_db=20.0, spoken_ms=1_000)
UNCLEAR, DRAWN_OUT = Ending(flat_ms=20, spoken_ms=1_000), Ending(flat_ms=400, spoken_ms=1_000)
QUESTION = np.concatenate((silence(0.5), clip("weather_question.wav"), silence(2.5)))


def voice(pitch_hz: npt.NDArray[np.float64]) -> bytes:
    """A buzz whose pitch follows the given track, one value a sample at 24 kHz."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE
    buzz = sum(np.sin(n * phase) / n for n in range(1, 8))
    return (np.asarray(buzz) * 4_000).astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("end", "eagerness", "expected"),
    [
        (FADED, "auto", 384),
        (replace(FADED, spoken_ms=400), "auto", 704),
        (replace(FADED, fall_octaves=-0.5), "auto", 704),
        (UNCLEAR, "auto", 704),
        (DRAWN_OUT, "auto", 1_600),
        (UNCLEAR, "high", 480),
        (UNCLEAR, "low", 1_280),
    ],
)
def test_an_end_that_sounds_finished_takes_the_least_silence(
    end: Ending, eagerness: Eagerness, expected: int
):
    assert silence_wanted_ms(end, Pausing(), eagerness) == expected


def test_who_pauses_for_long_is_waited_for_but_not_for_ever():
    slow = Pausing().resumed(900)
    assert silence_wanted_ms(UNCLEAR, slow, "auto") == 1_080
    assert silence_wanted_ms(FADED, slow.new_turn(), "auto") == 384
    assert silence_wanted_ms(UNCLEAR, Pausing().resumed(60_000), "auto") == 4_000
    assert [longest_wait_ms(each) for each in ("low", "medium", "high")] == [8_000, 4_000, 2_000]


def test_who_has_just_paused_in_this_turn_is_waited_for_however_it_sounds():
    assert silence_wanted_ms(FADED, Pausing().resumed(500), "auto") == 600
    assert silence_wanted_ms(FADED, Pausing().resumed(900), "auto") == 704


def test_long_pauses_are_forgotten_gradually():
    after = Pausing().resumed(1_000)
    for _ in range(5):
        after = after.resumed(200)
    assert 200 < after.longest_ms < 500


def test_a_falling_pitch_is_heard():
    falling = np.concatenate((np.full(RATE, 200.0), np.linspace(200, 130, RATE // 2)))
    assert 0.4 < ending(voice(falling)).fall_octaves < 0.7
    rising = np.concatenate((np.full(RATE, 200.0), np.linspace(200, 300, RATE // 2)))
    assert ending(voice(rising)).fall_octaves < -0.2


def test_a_voice_that_dies_away_is_heard_and_one_that_is_cut_is_not():
    loud = np.frombuffer(voice(np.full(RATE, 150.0)), "<i2").astype(np.float64)
    tail = loud[: RATE // 5] * 10 ** (-np.arange(RATE // 5) / (RATE // 5) * 30 / 20)
    dies = np.concatenate((loud, tail, silence(0.2))).astype("<i2").tobytes()
    cut = np.concatenate((loud, silence(0.2))).astype("<i2").tobytes()
    assert ending(dies).fade_db > 14
    assert ending(cut).fade_db < 6
    assert ending(cut).spoken_ms == pytest.approx(1_000, abs=20)


def test_a_rumble_has_no_pitch():
    rumble = (8_000 * np.sin(2 * np.pi * 15 * np.arange(RATE) / RATE)).astype("<i2").tobytes()
    assert ending(rumble) == Ending()


def test_a_filled_pause_is_heard():
    moving = 180 + 60 * np.sin(np.arange(RATE) / RATE * 2 * np.pi * 3)
    assert ending(voice(np.concatenate((moving, np.full(RATE // 2, 150.0))))).flat_ms > 400
    assert ending(voice(moving)).flat_ms < 100


def test_without_a_voice_nothing_is_claimed():
    noise = np.random.default_rng(0).normal(0, 3_000, RATE).astype("<i2").tobytes()
    for pcm in (b"", bytes(10), bytes(RATE), noise):
        assert ending(pcm) == Ending()


def test_a_finished_question_is_answered_sooner_than_silence_alone_would_allow():
    semantic = Scene(SemanticVad()).play(noisy(QUESTION))
    by_silence = Scene(ServerVad(silence_duration_ms=700)).play(noisy(QUESTION))
    ends_at = QUESTION.size / RATE - 2.5
    [stopped] = semantic.times(events.SpeechStopped)
    assert stopped - ends_at < 0.5
    assert by_silence.times(events.SpeechStopped)[0] > stopped + 0.2
    assert semantic.times(events.AudioDelta)[0] - ends_at < 0.55


def test_server_vad_waits_exactly_as_asked():
    scene = Scene(ServerVad(silence_duration_ms=800)).play(noisy(QUESTION))
    ends_at = QUESTION.size / RATE - 2.5
    assert scene.times(events.SpeechStopped)[0] - ends_at == pytest.approx(0.8, abs=0.064)


def test_a_pause_in_a_sentence_is_waited_out_and_its_early_reply_dropped_unheard():
    sentence = clip("LJ001-0004.wav")
    paused = np.concatenate((sentence[:68_000], silence(0.45), sentence[68_000:], silence(2.0)))
    scene = Scene(SemanticVad()).play(noisy(np.concatenate((silence(0.5), paused))))
    assert len(scene.times(events.SpeechStarted)) == len(scene.times(events.SpeechStopped)) == 1
    assert len(scene.asks) > 1
    assert scene.times(events.AudioDelta)[0] >= scene.times(events.SpeechStopped)[0]


def test_early_starts_are_counted():
    sentence = clip("LJ001-0004.wav")
    scene = Scene(SemanticVad()).play(noisy(np.concatenate((sentence, silence(2.0)))))
    tally = scene.session.early_starts
    assert tally.used == 1
    assert tally.wasted == len(scene.asks) - 1 > 0


def test_no_reply_is_prepared_while_others_wait_for_the_model():
    scene = Scene(SemanticVad())
    scene.session.model_busy = True
    scene.play(noisy(QUESTION))
    [stopped] = scene.times(events.SpeechStopped)
    assert len(scene.asks) == 1
    assert scene.times(events.AudioDelta)[0] == pytest.approx(stopped + FIRST_S)


def test_a_client_that_answers_itself_gets_no_early_reply():
    scene = Scene(SemanticVad(create_response=False)).play(noisy(QUESTION))
    assert scene.times(events.Committed)
    assert not scene.asks


@pytest.mark.parametrize("detection", [SemanticVad(), ServerVad()])
@pytest.mark.parametrize("name", ["yes.wav", "no.wav", "hello.wav", "help_me.wav"])
@pytest.mark.parametrize("noise_db", [-70.0, -50.0])
def test_a_short_word_is_caught_whole(
    name: str, noise_db: float, detection: SemanticVad | ServerVad
):
    word = np.concatenate((silence(1.0), clip(name), silence(2.0)))
    scene = Scene(detection).play(noisy(word, noise_db))
    started = scene.all(events.SpeechStarted)
    assert started[0].audio_start_ms < 1_000
    assert scene.times(events.Committed)
    # What is left of the recording interrupts the answer only where every sound is to.
    assert len(started) == 1 or isinstance(detection, ServerVad)
