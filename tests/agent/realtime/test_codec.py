"""Formats of sound on the wire: cut anywhere, and exactly as long as what they stand for."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from agent.audio import RATE
from agent.g711 import A_LAW, U_LAW, Law
from agent.realtime.codec import Decoder, Encoder, decoded
from agent.realtime.config import AudioFormat, PcmaFormat, PcmFormat, PcmuFormat

FORMATS = [PcmuFormat(), PcmaFormat()]


@pytest.mark.parametrize(
    ("law", "byte", "sample"),
    [
        (U_LAW, 0x00, -32124),
        (U_LAW, 0x80, 32124),
        (U_LAW, 0xFF, 0),
        (U_LAW, 0xEF, 132),
        (A_LAW, 0x2A, -32256),
        (A_LAW, 0xAA, 32256),
        (A_LAW, 0xD5, 8),
        (A_LAW, 0x55, -8),
    ],
)
def test_bytes_stand_for_the_samples_of_the_recommendation(law: Law, byte: int, sample: int):
    assert np.frombuffer(law.decode(bytes([byte])), "<i2").tolist() == [sample]


@pytest.mark.parametrize("law", [U_LAW, A_LAW])
def test_what_was_decoded_encodes_to_the_same_sound(law: Law):
    every = law.decode(bytes(range(256)))
    assert law.decode(law.encode(every)) == every


@pytest.mark.parametrize("law", [U_LAW, A_LAW])
def test_every_sample_becomes_the_nearest_there_is(law: Law):
    samples = np.arange(-(2**15), 2**15, 7, dtype=np.int32)
    known = np.frombuffer(law.decode(bytes(range(256))), "<i2").astype(np.int32)
    found = np.frombuffer(law.decode(law.encode(samples.astype("<i2").tobytes())), "<i2")
    nearest = np.abs(samples[:, np.newaxis] - known).min(axis=1)
    assert (np.abs(samples - found) <= nearest + 1).all()


@pytest.mark.parametrize(("format", "byte"), [(PcmuFormat(), b"\xff"), (PcmaFormat(), b"\xd5")])
def test_digital_silence_is_the_byte_that_telephony_sends_for_it(format: AudioFormat, byte: bytes):
    assert set(Encoder(format).encode(bytes(9_600))) == set(byte)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_samples_may_be_cut_anywhere(data: bytes, cuts: list[int]):
    decoder = Decoder(PcmFormat())
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [decoder.decode(data[a:b]) for a, b in itertools.pairwise(places)]
    assert all(len(part) % 2 == 0 for part in parts)
    assert b"".join(parts) == data[: len(data) // 2 * 2]


def test_a_cleared_buffer_begins_at_a_whole_sample():
    decoder = Decoder(PcmFormat())
    decoder.decode(b"\x01")
    decoder.realign()
    assert decoder.decode(b"\x02\x00") == b"\x02\x00"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("chunk", [1, 479, 480, 11_520])
def test_encoded_sound_lasts_exactly_as_long(format: AudioFormat, chunk: int):
    pcm = tone(0.5)[: chunk * 2 * max(1, 12_000 // chunk)]
    encoder = Encoder(format)
    sent = [encoder.encode(pcm[i : i + chunk * 2]) for i in range(0, len(pcm), chunk * 2)]
    size = len(b"".join(sent)) + len(encoder.finish())
    assert abs(size - len(pcm) / 2 / 3) <= 1


@pytest.mark.parametrize("format", FORMATS)
def test_a_tone_survives_the_way_through_telephony(format: AudioFormat):
    pcm = tone(0.5)
    encoder = Encoder(format)
    back = decoded(encoder.encode(pcm) + encoder.finish(), format)
    assert abs(len(back) - len(pcm)) <= 6
    before = np.frombuffer(pcm, "<i2")[2_400:9_600].astype(float)
    after = np.frombuffer(back, "<i2")[2_400:9_600].astype(float)
    assert np.sqrt(np.mean((before - after) ** 2)) < 0.05 * np.sqrt(np.mean(before**2))


def tone(duration_s: float) -> bytes:
    time = np.arange(int(duration_s * RATE)) / RATE
    return (8_000 * np.sin(2 * math.pi * 440 * time)).astype("<i2").tobytes()
