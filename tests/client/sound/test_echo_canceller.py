"""Echo cancellation: the agent's voice goes, the user's stays, whatever the devices do."""

import os
from pathlib import Path

import numpy as np
import pytest

from agent.audio import RATE, Samples, read_wav, samples_in
from client.sound.echo_canceller import EchoCanceller, Processor, find_processor

DATA = Path(__file__).parents[2] / "data"
RECORDED = Path(os.environ.get("MIMO_LIVE_AUDIO", "../shared/audio")) / "echo"
"""Recordings that can't be shipped; tested where they are there."""

BLOCK = samples_in(20)
FIRST = samples_in(1000)
"""Until here the canceller is still learning the room."""


@pytest.fixture
def processor() -> Processor:
    found = find_processor()
    if found is None:
        pytest.skip("pywebrtc-audio is not installed")
    return found


def speech(*names: str) -> Samples:
    return np.concatenate(
        [np.frombuffer(read_wav((DATA / f"{name}.wav").read_bytes()), np.int16) for name in names]
    )


def echo_of(played: Samples, delay_ms: int, loudness: float = 0.3) -> Samples:
    """What a microphone records of it in a room: late, and reverberating for 0.3 s."""
    chance = np.random.default_rng(7)
    tail = samples_in(300)
    room = chance.standard_normal(tail) * np.exp(-6.9 * np.arange(tail) / tail) * 0.1
    room[0] = 1.0
    size = len(played) + samples_in(delay_ms) + tail
    heard = np.fft.irfft(np.fft.rfft(played, 2 * size) * np.fft.rfft(room, 2 * size), 2 * size)
    late = np.concatenate([np.zeros(samples_in(delay_ms)), heard])[: len(played)]
    return (late * loudness).astype(np.int16)


def clean(processor: Processor, recorded: Samples, played: Samples, delay_ms: int = 0) -> Samples:
    """Run a conversation through the canceller, a block of 20 ms at a time."""
    canceller = EchoCanceller(processor)
    blocks = [
        canceller.clean(
            recorded[start : start + BLOCK].tobytes(),
            played[start : start + BLOCK],
            samples_in(delay_ms),
        )
        for start in range(0, len(recorded) // BLOCK * BLOCK, BLOCK)
    ]
    return np.frombuffer(b"".join(blocks), np.int16)


def gone_db(before: Samples, after: Samples) -> float:
    """How much quieter it got."""
    energies = [float(np.mean(np.square(each.astype(np.float64)))) for each in (before, after)]
    return 10 * float(np.log10(energies[0] / (energies[1] + 1e-9)))


@pytest.mark.parametrize("delay_ms", [30, 120])
def test_the_echo_of_the_agents_voice_is_gone(processor: Processor, delay_ms: int):
    played = speech("LJ001-0002", "LJ001-0004", "LJ001-0006")
    recorded = echo_of(played, delay_ms)
    left = clean(processor, recorded, played, delay_ms)
    assert len(left) == len(recorded) // BLOCK * BLOCK
    assert gone_db(recorded[FIRST : len(left)], left[FIRST:]) > 20


def test_the_user_is_still_heard_between_the_agents_sentences(processor: Processor):
    pause = np.zeros(3 * RATE, np.int16)
    played = np.concatenate([speech("LJ001-0002"), pause, speech("LJ001-0004")])
    said = np.zeros(len(played), np.int16)
    start = len(speech("LJ001-0002")) + samples_in(600)
    question = speech("weather_question")[: 2 * RATE]
    said[start : start + len(question)] = question
    left = clean(processor, echo_of(played, 40) + said, played, 40)
    where = slice(start, start + len(question))
    # It may well be louder: quiet voices are raised.
    assert gone_db(said[where], left[where]) < 3


def test_a_loudspeaker_whose_clock_is_fast_is_followed(processor: Processor):
    played = speech("LJ001-0002", "LJ001-0004", "LJ001-0006")
    recorded = echo_of(played, 40)
    canceller = EchoCanceller(processor)
    left: list[bytes] = []
    for number, start in enumerate(range(0, len(recorded) - BLOCK, BLOCK)):
        # One sample in 4800: 200 ppm, as far apart as two cheap crystals get.
        block = played[start : start + BLOCK + (number % 10 == 0)]
        left.append(canceller.clean(recorded[start : start + BLOCK].tobytes(), block, 960))
    sound = np.frombuffer(b"".join(left), np.int16)
    assert gone_db(recorded[FIRST : len(sound)], sound[FIRST:]) > 20


def test_what_was_played_is_trimmed_when_it_falls_behind_and_the_delay_follows():
    class Unchanged:
        stream_delay_ms = 0

        def process(self, near: Samples, far: Samples) -> Samples:
            assert len(near) == len(far)
            return near

    processor = Unchanged()
    canceller = EchoCanceller(processor)
    block = np.zeros(BLOCK, np.int16)
    canceller.clean(block.tobytes(), block, samples_in(50))
    assert processor.stream_delay_ms == 50
    canceller.clean(block.tobytes(), np.zeros(BLOCK + samples_in(35), np.int16), samples_in(50))
    assert processor.stream_delay_ms == 15
    canceller.clean(block.tobytes(), np.zeros(BLOCK + samples_in(10), np.int16), samples_in(50))
    assert processor.stream_delay_ms == 30


def test_silence_that_was_never_played_is_filled_in_and_odd_blocks_wait(processor: Processor):
    canceller = EchoCanceller(processor)
    nothing = np.zeros(0, np.int16)
    assert canceller.clean(bytes(2 * 239), nothing, 0) == b""
    assert len(canceller.clean(bytes(2 * 242), nothing, 0)) == 2 * 480
    assert len(canceller.clean(bytes(2 * 239), nothing, 0)) == 2 * 240


@pytest.mark.parametrize("take", sorted(RECORDED.glob("*__mic.wav")), ids=lambda path: path.name)
def test_recorded_rooms(processor: Processor, take: Path):
    """Real recordings, where both also talk at once; judged where only the agent is heard."""
    recorded, played, said = (
        np.frombuffer(read_wav(Path(str(take).replace("mic", kind)).read_bytes()), np.int16)
        for kind in ("mic", "ref", "gt")
    )
    size = min(map(len, (recorded, played, said))) // BLOCK * BLOCK
    left = clean(processor, recorded[:size], played[:size])
    before, after = (each[:size].reshape(-1, BLOCK) for each in (recorded, left))
    loudness = [
        np.sqrt(np.mean(np.square(each[:size].reshape(-1, BLOCK).astype(np.float64)), axis=1))
        for each in (said, played)
    ]
    alone = (loudness[0] < 60) & (loudness[1] > 300)
    if alone.sum() < 25:
        pytest.skip("both talk all the time")
    assert gone_db(before[alone], after[alone]) > 20
