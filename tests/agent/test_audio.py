"""Sound: files in and out, and streams that may be cut anywhere. For WAV, see test_riff.py."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import (
    RATE,
    Resampler,
    floats,
    milliseconds,
    pcm16,
    read_wav,
    samples_in,
    seconds,
    wav,
)

SAMPLES = [0, 1, -1, 256, -256, 20_000, -20_000, 2**15 - 1, -(2**15)]
PCM = np.array(SAMPLES, "<i2").tobytes()


def tone(rate: int, frequency: float = 440.0, duration_s: float = 0.5) -> npt.NDArray[np.int16]:
    time_s = np.arange(int(rate * duration_s)) / rate
    return (10_000 * np.sin(2 * np.pi * frequency * time_s)).astype("<i2")


def test_lengths_are_counted_in_samples():
    assert seconds(bytes(RATE)) == 0.5
    assert milliseconds(768) == 32
    assert samples_in(32) == 768
    assert samples_in(32, 16_000) == 512


def test_what_is_written_is_read():
    assert read_wav(wav(PCM)) == PCM


def test_numbers_become_the_samples_that_they_were_and_clip_beyond_full_scale():
    assert pcm16(floats(PCM)) == PCM
    loud = np.array([1.5, -1.5, 0.6 / 2**15])
    assert pcm16(loud) == np.array([2**15 - 1, -(2**15), 1], "<i2").tobytes()


def test_channels_are_averaged():
    left, right = [100, -300, 2**15 - 1], [300, -100, 2**15 - 1]
    both = np.array([left, right], "<i2").T.tobytes()
    assert read_wav(wav(both, channels=2)) == np.array([200, -200, 2**15 - 1], "<i2").tobytes()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_every_rate_becomes_the_protocols_and_keeps_its_pitch(rate: int):
    sound = np.frombuffer(read_wav(wav(tone(rate).tobytes(), rate)), "<i2")
    assert abs(len(sound) - RATE // 2) <= 2
    middle = slice(RATE // 10, -RATE // 10)
    assert np.abs(sound[middle] - tone(RATE)[: len(sound)][middle].astype(np.int32)).max() < 200


@settings(deadline=None)
@given(
    st.sampled_from([(24_000, 16_000), (48_000, 24_000), (44_100, 24_000), (24_000, 24_000)]),
    st.lists(st.integers(0, 3_000), max_size=12),
)
def test_a_stream_is_resampled_alike_however_it_is_cut(rates: tuple[int, int], cuts: list[int]):
    pcm = tone(rates[0], duration_s=0.2).tobytes()
    whole, pieces = Resampler(*rates), Resampler(*rates)
    expected = whole.resample(pcm) + whole.finish()
    found, rest = b"", pcm
    for samples in cuts:
        found += pieces.resample(rest[: 2 * samples])
        rest = rest[2 * samples :]
    assert found + pieces.resample(rest) + pieces.finish() == expected
    assert abs(len(expected) / 2 - len(pcm) / 2 * rates[1] / rates[0]) <= 2


def test_a_resampled_stream_holds_little_back():
    resampler = Resampler(RATE, 16_000)
    ready = sum(len(resampler.resample(bytes(2 * 480))) // 2 for _ in range(50))
    assert 16_000 - ready < samples_in(25, 16_000)
