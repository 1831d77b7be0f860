"""Sound: WAV files of every kind in and out, and streams that may be cut anywhere."""

import io
import struct
import wave
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio import (
    RATE,
    Framer,
    Resampler,
    milliseconds,
    read_wav,
    samples_in,
    seconds,
    wav,
)
from agent.errors import AudioError

SAMPLES = [0, 1, -1, 256, -256, 20_000, -20_000, 2**15 - 1, -(2**15)]
PCM = np.array(SAMPLES, "<i2").tobytes()


def wav_file(frames: bytes, width: int = 2, channels: int = 1, rate: int = RATE) -> bytes:
    """A WAV file as Python's own module writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", ""))
        out.writeframes(frames)
    return file.getvalue()


def widened(samples: list[int], width: int) -> bytes:
    """The samples with more bits, or with 8, which WAV counts from 128."""
    if width == 1:
        return bytes((sample >> 8) + 128 for sample in samples)
    return b"".join((s << 8 * (width - 2)).to_bytes(width, "little", signed=True) for s in samples)


def tone(rate: int, frequency: float = 440.0, duration_s: float = 0.5) -> npt.NDArray[np.int16]:
    time_s = np.arange(int(rate * duration_s)) / rate
    return (10_000 * np.sin(2 * np.pi * frequency * time_s)).astype("<i2")


def test_lengths_are_counted_in_samples():
    assert seconds(bytes(RATE)) == 0.5
    assert milliseconds(768) == 32
    assert samples_in(32) == 768
    assert samples_in(32, 16_000) == 512


@pytest.mark.parametrize("width", [2, 3, 4])
def test_every_width_from_16_bits_on_is_read_exactly(width: int):
    assert read_wav(wav_file(widened(SAMPLES, width), width)) == PCM


def test_8_bits_are_read_as_far_as_they_go():
    expected = np.array([sample >> 8 << 8 for sample in SAMPLES], "<i2").tobytes()
    assert read_wav(wav_file(widened(SAMPLES, 1), 1)) == expected


def test_what_is_written_is_read():
    assert read_wav(wav(PCM)) == PCM


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


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


def form(kind: int, channels: int, rate: int, bits: int) -> bytes:
    width = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits))


GOOD = form(1, 1, RATE, 16)


def test_other_chunks_are_skipped():
    assert read_wav(riff(GOOD, chunk(b"LIST", b"odd"), b"\0", chunk(b"data", PCM))) == PCM


def test_a_file_that_was_cut_short_gives_what_is_there():
    assert read_wav(wav(PCM)[:-5]) == PCM[:-6]


def test_an_empty_file_has_no_sound():
    assert read_wav(wav(b"")) == b""


BROKEN = {
    "nothing": b"",
    "text": b"not a sound at all, but long enough to be one in all respects",
    "only a header": wav(PCM)[:20],
    "no format": riff(chunk(b"data", PCM)),
    "no data": riff(GOOD),
    "floats": riff(form(3, 1, RATE, 32), chunk(b"data", PCM)),
    "a-law": riff(form(6, 1, 8_000, 8), chunk(b"data", PCM)),
    "40 bits": riff(form(1, 1, RATE, 40), chunk(b"data", PCM)),
    "no bits": riff(form(1, 1, RATE, 0), chunk(b"data", PCM)),
    "no channels": riff(form(1, 0, RATE, 16), chunk(b"data", PCM)),
    "no rate": riff(form(1, 1, 0, 16), chunk(b"data", PCM)),
    "an impossible rate": riff(form(1, 1, 2**30, 16), chunk(b"data", PCM)),
    "big-endian": b"RIFX" + wav(PCM)[4:],
    "a format cut short": riff(chunk(b"fmt ", b"\1\0\1"), chunk(b"data", PCM)),
}


@pytest.mark.parametrize("file", BROKEN.values(), ids=BROKEN)
def test_what_is_no_wav_file_is_refused(file: bytes):
    with pytest.raises(AudioError):
        read_wav(file)


@given(st.integers(0, 60), st.binary(max_size=6), st.integers(0, 60))
def test_a_damaged_file_is_read_or_refused(place: int, bytes_put: bytes, length: int):
    file = wav(PCM)
    damaged = file[:place] + bytes_put + file[place + len(bytes_put) :]
    for each in (damaged, damaged[:length]):
        with suppress(AudioError):
            assert len(read_wav(each)) % 2 == 0


@settings(deadline=None)
@given(
    st.sampled_from([(24_000, 16_000), (48_000, 24_000), (44_100, 24_000), (24_000, 24_000)]),
    st.lists(st.integers(0, 3_000), max_size=12),
)
def test_a_stream_is_resampled_alike_however_it_is_cut(rates: tuple[int, int], cuts: list[int]):
    pcm = tone(rates[0], duration_s=0.2).tobytes()
    whole, pieces = Resampler(*rates), Resampler(*rates)
    expected = whole.push(pcm) + whole.finish()
    found, rest = b"", pcm
    for samples in cuts:
        found += pieces.push(rest[: 2 * samples])
        rest = rest[2 * samples :]
    assert found + pieces.push(rest) + pieces.finish() == expected
    assert abs(len(expected) / 2 - len(pcm) / 2 * rates[1] / rates[0]) <= 2


def test_a_resampled_stream_holds_little_back():
    resampler = Resampler(RATE, 16_000)
    ready = sum(len(resampler.push(bytes(2 * 480))) // 2 for _ in range(50))
    assert 16_000 - ready < samples_in(25, 16_000)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 32))
def test_frames_are_of_one_size_and_nothing_is_lost(chunks: list[bytes], size: int):
    framer = Framer(size)
    frames = [frame for each in chunks for frame in framer.push(each)]
    stream = b"".join(chunks)
    assert all(len(frame) == size for frame in frames)
    assert b"".join(frames) == stream[: len(stream) // size * size]


def test_a_cleared_framer_begins_anew():
    framer = Framer(4)
    assert list(framer.push(b"abcdef")) == [b"abcd"]
    framer.clear()
    assert list(framer.push(b"ghij")) == [b"ghij"]
