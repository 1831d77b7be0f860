"""Voice activity detection on recordings: speech is found, silence is not, cuts don't matter."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import RATE, SAMPLE_BYTES, read_wav
from agent.hearing.buffer import FRAME_SAMPLES
from agent.hearing.endpointing import EndOfTurn, Endpointer, Onset, limits
from server import vad
from server.vad import VoiceActivityDetector, detector

DATA = Path(__file__).parents[1] / "data"
NOISES = {"car_horn", "dog_bark", "ringing_phone", "people_talking"}
CLIPS = sorted(file.stem for file in DATA.glob("*.wav") if file.stem not in NOISES)
KINDS = ["silero", "webrtc"]
SECOND = bytes(RATE * SAMPLE_BYTES)
Judged = list[list[float]]
LIMITS = limits(
    threshold=0.5, prefix_padding_ms=300, pause_ms=500, silence_ms=500, longest_ms=60_000
)


def recording(name: str) -> bytes:
    return read_wav((DATA / f"{name}.wav").read_bytes())


def noise(amplitude: float) -> bytes:
    return np.random.default_rng(1).normal(0, amplitude, 2 * RATE).astype("<i2").tobytes()


def share_of_speech(kind: str, pcm: bytes) -> float:
    probabilities = detector(kind).probabilities(pcm)
    return sum(p >= 0.5 for p in probabilities) / len(probabilities)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CLIPS)
def test_recorded_speech_is_one_or_more_whole_turns(kind: str, name: str):
    endpointer = Endpointer()
    judged = detector(kind).probabilities(SECOND + recording(name) + SECOND)
    boundaries = [endpointer.next_boundary(probability, LIMITS) for probability in judged]
    kinds = [type(boundary) for boundary in boundaries if boundary is not None]
    assert kinds == [Onset, EndOfTurn] * (len(kinds) // 2)
    assert kinds


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_a_spoken_sentence_is_speech(kind: str):
    assert share_of_speech(kind, recording("LJ001-0004")) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_a_quiet_room_are_not_speech(kind: str):
    assert share_of_speech(kind, 3 * SECOND) == 0
    assert share_of_speech(kind, noise(200)) < 0.05


def test_the_neural_detector_tells_noise_from_speech():
    assert share_of_speech("silero", noise(3_000)) == 0
    assert share_of_speech("silero", recording("car_horn")) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_of_the_endpointer_is_a_frame_of_the_detector(kind: str):
    probabilities = detector(kind).probabilities(bytes(100 * FRAME_SAMPLES * SAMPLE_BYTES))
    assert 98 <= len(probabilities) <= 100
    assert all(0 <= probability <= 1 for probability in probabilities)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 5_000), max_size=12))
def test_probabilities_do_not_depend_on_how_sound_arrives(kind: str, cuts: list[int]):
    pcm = recording("hello_world")
    expected = detector(kind).probabilities(pcm)
    each, rest, found = detector(kind), pcm, list[float]()
    for samples in cuts:
        found += each.probabilities(rest[: samples * SAMPLE_BYTES])
        rest = rest[samples * SAMPLE_BYTES :]
    assert found + each.probabilities(rest) == expected


def test_microphones_do_not_disturb_each_other():
    speech, silence = recording("hello"), bytes(len(recording("hello")))
    expected = detector("silero").probabilities(speech)
    one, other = detector("silero"), detector("silero")
    found: list[float] = []
    for start in range(0, len(speech), 4_800):
        found += one.probabilities(speech[start : start + 4_800])
        other.probabilities(silence[start : start + 4_800])
    assert found == expected


async def judged(microphones: Sequence[VoiceActivityDetector], clips: Sequence[bytes]) -> Judged:
    """Let microphones hear clips at the same time, 20 ms after 20 ms, and wait for the end."""
    found: Judged = [[] for _ in clips]
    stirred = asyncio.Event()
    for each in microphones:
        each.on_judged = stirred.set
    for start in range(0, max(map(len, clips)), 960):
        for microphone, clip in zip(microphones, clips, strict=True):
            microphone.append(clip[start : start + 960])
        await asyncio.sleep(0)
    expected = [
        max(0, len(clip) - SAMPLE_BYTES) // (FRAME_SAMPLES * SAMPLE_BYTES) for clip in clips
    ]
    while [len(each) for each in found] != expected:
        for each, microphone in zip(found, microphones, strict=True):
            each.extend(microphone.take())
        if [len(each) for each in found] != expected:
            await stirred.wait()
            stirred.clear()
    return found


@pytest.mark.parametrize("count", [1, 7, 70])
def test_microphones_that_are_judged_together_get_what_each_gets_alone(count: int):
    names = itertools.islice(itertools.cycle(["hello", "yes", "car_horn", "no"]), count)
    clips = [recording(name)[number * 100 :] for number, name in enumerate(names)]
    expected = [detector("silero").probabilities(clip) for clip in clips]
    found = asyncio.run(judged([detector("silero") for _ in clips], clips))
    for one, alone in zip(found, expected, strict=True):
        assert one == pytest.approx(alone, abs=1e-5)


def test_what_waits_can_be_judged_at_once_and_is_not_judged_again():
    async def body() -> list[float]:
        microphone = detector("silero")
        microphone.append(speech)
        microphone.judge_waiting()
        found = microphone.take()
        for _ in range(3):
            await asyncio.sleep(0.02)
        return [*found, *microphone.take()]

    speech = recording("hello")
    assert asyncio.run(body()) == detector("silero").probabilities(speech)


def test_sound_that_comes_all_at_once_is_judged_without_waiting_for_others():
    async def body() -> list[float]:
        microphone = detector("silero")
        for start in range(0, len(speech), 960):
            microphone.append(speech[start : start + 960])
        return microphone.take()

    speech = recording("hello")
    expected = detector("silero").probabilities(speech)
    found = asyncio.run(body())
    assert found == expected[: len(found)]
    assert len(expected) - len(found) <= 2


def test_a_server_that_is_behind_judges_microphones_together(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    batches = vad._batches()  # pyright: ignore[reportPrivateUsage]
    judge = batches.judge

    def watched(batch: Sequence[vad.Silero]) -> None:
        sizes.append(len(batch))
        judge(batch)

    async def body() -> list[list[float]]:
        microphones = [detector("silero") for _ in range(8)]
        # The loop gets no time to judge meanwhile.
        for start in range(0, len(speech), FRAME_SAMPLES * SAMPLE_BYTES):
            for each in microphones:
                each.append(speech[start : start + FRAME_SAMPLES * SAMPLE_BYTES])
        for each in microphones:
            each.judge_waiting()
        return [each.take() for each in microphones]

    speech = recording("hello")
    expected = detector("silero").probabilities(speech)
    monkeypatch.setattr(batches, "judge", watched)
    for found in asyncio.run(body()):
        assert found == pytest.approx(expected, abs=1e-5)
    assert sum(sizes) == 8 * len(expected)
    assert len(sizes) < 2 * len(expected)
