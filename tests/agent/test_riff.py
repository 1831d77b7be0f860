"""WAV files of every form, as programs and streams write them, and files that are none."""

import io
import struct
import wave
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from agent import g711
from agent.audio import RATE, read_wav, wav
from agent.errors import AudioError
from client.sound import clip

SAMPLES = [0, 1, -1, 256, -256, 20_000, -20_000, 2**15 - 1, -(2**15)]
PCM = struct.pack("<9h", *SAMPLES)
PCM_8 = bytes((sample >> 8) + 128 for sample in SAMPLES)
PCM_24 = b"".join((sample << 8).to_bytes(3, "little", signed=True) for sample in SAMPLES)
PCM_32 = struct.pack("<9i", *(sample << 16 for sample in SAMPLES))
FLOATS = [sample / 2**15 for sample in SAMPLES]
SUFFIX = struct.pack("<HHH8B", 0, 0, 0x10, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71)
UNKNOWN = 2**32 - 1


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    size = len(body) if size is None else size
    return name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    return chunk(name, b"WAVE" + b"".join(chunks), size)


def form(
    kind: int,
    bits: int,
    channels: int = 1,
    *,
    rate: int = RATE,
    width: int = 0,
    more: bytes = b"",
) -> bytes:
    frame = channels * (width or bits // 8)
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)
    return chunk(b"fmt ", head + more)


def extensible(sub_form: int, bits: int, channels: int = 1, suffix: bytes = SUFFIX) -> bytes:
    more = struct.pack("<HHIH", 22, bits, (1 << min(channels, 18)) - 1, sub_form) + suffix
    return form(0xFFFE, bits, channels, more=more)


GOOD = form(1, 16)
SOUND = chunk(b"data", PCM)
LIST = chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0\0")
BEXT = chunk(b"bext", bytes(602))
FACT = chunk(b"fact", struct.pack("<I", len(SAMPLES)))
DS64 = chunk(b"ds64", struct.pack("<QQQI", 0, len(PCM), len(SAMPLES), 0))

WHOLE = {
    "16 bits": riff(GOOD, SOUND),
    "24 bits": riff(form(1, 24), chunk(b"data", PCM_24)),
    "32 bits": riff(form(1, 32), chunk(b"data", PCM_32)),
    "16 bits in four bytes": riff(form(1, 16, width=4), chunk(b"data", PCM_32)),
    "20 bits": riff(form(1, 20, width=3), chunk(b"data", PCM_24)),
    "floats": riff(form(3, 32), FACT, chunk(b"data", struct.pack("<9f", *FLOATS))),
    "doubles": riff(form(3, 64), FACT, chunk(b"data", struct.pack("<9d", *FLOATS))),
    "extensible": riff(extensible(1, 16), SOUND),
    "extensible, 24 bits": riff(extensible(1, 24), chunk(b"data", PCM_24)),
    "extensible floats": riff(extensible(3, 32), chunk(b"data", struct.pack("<9f", *FLOATS))),
    "no frame size": riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 0, 0, 16)), SOUND),
    "other chunks before": riff(chunk(b"JUNK", bytes(28)), GOOD, BEXT, LIST, FACT, SOUND),
    "other chunks after": riff(GOOD, SOUND, LIST, BEXT),
    "an odd chunk": riff(GOOD, chunk(b"LIST", b"odd"), SOUND),
    "an odd chunk that is not filled up": riff(GOOD, chunk(b"LIST", b"odd")[:-1], SOUND),
    "the format last": riff(SOUND, GOOD),
    "rubbish after": riff(GOOD, SOUND) + b"TAG\0rubbish",
    "a stream, sizes zero": riff(GOOD, chunk(b"data", PCM, 0), size=0),
    "a stream, the size of no sound": riff(GOOD, chunk(b"data", PCM, 0), size=36),
    "a stream, sizes unknown": riff(GOOD, LIST, chunk(b"data", PCM, UNKNOWN), size=UNKNOWN),
    "a stream, sizes of 2 GiB": riff(GOOD, chunk(b"data", PCM, 2**31 - 36), size=2**31 - 1),
    "RF64": riff(DS64, GOOD, chunk(b"data", PCM, UNKNOWN), LIST, size=UNKNOWN, name=b"RF64"),
    "BW64 as a stream": riff(
        chunk(b"ds64", bytes(28)), GOOD, chunk(b"data", PCM, UNKNOWN), size=UNKNOWN, name=b"BW64"
    ),
}


@pytest.mark.parametrize("file", WHOLE.values(), ids=WHOLE)
def test_a_file_of_16_bits_or_more_is_read_exactly(file: bytes):
    assert read_wav(file) == PCM


def test_8_bits_are_read_as_far_as_they_go():
    expected = struct.pack("<9h", *(sample >> 8 << 8 for sample in SAMPLES))
    assert read_wav(riff(form(1, 8), chunk(b"data", PCM_8))) == expected


@pytest.mark.parametrize(("kind", "law"), [(6, g711.A_LAW), (7, g711.U_LAW)])
def test_telephone_sound_is_read_as_the_protocol_reads_it(kind: int, law: g711.Law):
    code = bytes(range(256))
    for head in (form(kind, 8), extensible(kind, 8), form(kind, 8, more=b"\0\0")):
        assert read_wav(riff(head, FACT, chunk(b"data", code))) == law.decode(code)


def test_telephone_sound_has_the_values_of_the_recommendation():
    # The ends and the middle of G.711's tables 1a and 2a, scaled to 16 bits.
    a_law = riff(form(6, 8), chunk(b"data", bytes([0xAA, 0x2A, 0xD5, 0x55])))
    u_law = riff(form(7, 8), chunk(b"data", bytes([0x80, 0x00, 0xFF, 0x7F])))
    assert struct.unpack("<4h", read_wav(a_law)) == (32_256, -32_256, 8, -8)
    assert struct.unpack("<4h", read_wav(u_law)) == (32_124, -32_124, 0, 0)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 300])
def test_any_number_of_channels_becomes_their_average(channels: int):
    frames = np.array(SAMPLES, "<i2")[:, None] + np.zeros(channels, "<i2")
    frames[:, 0] //= 2
    expected = np.rint(frames.mean(axis=1)).astype("<i2").tobytes()
    # There are names for 18 places of loudspeakers.
    for head in (form(1, 16, channels), extensible(1, 16, channels)):
        assert read_wav(riff(head, chunk(b"data", frames.tobytes()))) == expected


def test_floats_that_are_too_loud_or_no_numbers_are_no_accident():
    odd = [2.0, -1e300, float("inf"), float("-inf"), float("nan"), 0.5]
    expected = struct.pack("<6h", 32_767, -32_768, 32_767, -32_768, 0, 16_384)
    assert read_wav(riff(form(3, 64), chunk(b"data", struct.pack("<6d", *odd)))) == expected


def test_what_pythons_own_module_writes_is_read():
    for width, frames in ((2, PCM), (3, PCM_24), (4, PCM_32)):
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setparams((1, width, RATE, 0, "NONE", ""))
            out.writeframes(frames)
        assert read_wav(file.getvalue()) == PCM


def test_a_file_that_was_cut_short_gives_what_is_there():
    assert read_wav(wav(PCM)[:-5]) == PCM[:-6]


@pytest.mark.parametrize("file", [wav(b""), riff(GOOD, chunk(b"data", b""), LIST)])
def test_an_empty_file_has_no_sound(file: bytes):
    assert read_wav(file) == b""


BROKEN = {
    "nothing": (b"", "it is empty"),
    "text": (b"not a sound at all, but long", "not a WAV file: it begins with b'not a sound '"),
    "only a header": (wav(PCM)[:20], "without a 'data' chunk: it is truncated"),
    "no format": (riff(SOUND), "without a 'fmt' chunk"),
    "no data": (riff(GOOD), "without a 'data' chunk"),
    "40 bits": (riff(form(1, 40), SOUND), "40-bit PCM; supported are 8 to 32-bit PCM"),
    "half floats": (riff(form(3, 16), SOUND), "16-bit FLOAT"),
    "no bits": (riff(form(1, 0), SOUND), "0-bit PCM"),
    "no channels": (riff(form(1, 16, 0), SOUND), "without channels"),
    "no rate": (riff(form(1, 16, rate=0), SOUND), "0 Hz; supported are 1000 to 384000 Hz"),
    "an impossible rate": (riff(form(1, 16, rate=2**30), SOUND), "1073741824 Hz"),
    "ADPCM": (
        riff(form(0x11, 4), SOUND),
        "a WAV file in IMA ADPCM; supported are 8 to 32-bit PCM, 32",
    ),
    "MP3 inside": (riff(form(0x55, 0), SOUND), "a WAV file in MP3"),
    "unknown": (riff(form(0x7A21, 16), SOUND), "a WAV file in format 0x7a21"),
    "another sub-format": (
        riff(extensible(1, 16, suffix=b"\0\0\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0"), SOUND),
        "sub-format 01000000",
    ),
    "no sub-format": (riff(form(0xFFFE, 16), SOUND), "sub-format none"),
    "a format cut short": (riff(chunk(b"fmt ", b"\1\0\1"), SOUND), "is 3 bytes long, not 16"),
    "many chunks": (riff(*[chunk(b"note", b"")] * 2_000, GOOD, SOUND), "without a 'fmt' chunk"),
    "big-endian": (b"RIFX" + wav(PCM)[4:], "it is a big-endian WAV file"),
    "FLAC": (b"fLaC\0\0\0\x22", "it is a FLAC file (ffmpeg -i FILE FILE.wav converts it)"),
    "MP3": (b"\xff\xfb\x90\x64" + bytes(400), "it is an MP3 file"),
    "MP3 with a title": (b"ID3\4" + bytes(400), "it is an MP3 file"),
    "Ogg": (b"OggS\0\2" + bytes(40), "it is an Ogg file"),
    "M4A": (b"\0\0\0\x1cftypM4A " + bytes(40), "it is an MP4 or M4A file"),
    "AIFF": (b"FORM\0\0\0\x40AIFF", "it is an AIFF file"),
}


@pytest.mark.parametrize(("file", "words"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_named(file: bytes, words: str):
    with pytest.raises(AudioError) as refused:
        read_wav(file)
    assert words in str(refused.value)


def test_a_file_is_too_long_before_it_is_decoded():
    # A few bytes are hours once they are brought to another rate.
    file = riff(form(1, 8, rate=1_000), chunk(b"data", bytes(3_601_000)))
    with pytest.raises(AudioError, match=r"3601\.0 s of sound; the limit is 3600 s"):
        read_wav(file)
    with pytest.raises(AudioError, match=r"1\.5 s of sound; the limit is 1 s"):
        read_wav(wav(bytes(3 * RATE)), longest_s=1)


def test_a_file_that_is_refused_is_named(tmp_path: Path):
    path = tmp_path / "question.wav"
    path.write_bytes(b"fLaC")
    with pytest.raises(AudioError, match=r"question\.wav: not a WAV file: it is a FLAC file"):
        clip.read(path)
    with pytest.raises(AudioError, match=r"none\.wav: No such file or directory$"):
        clip.read(tmp_path / "none.wav")


@given(
    st.sampled_from([wav(PCM), *WHOLE.values()]),
    st.integers(0, 90),
    st.binary(max_size=6),
    st.integers(0, 90),
)
def test_a_damaged_file_is_read_or_refused(file: bytes, place: int, put: bytes, length: int):
    damaged = file[:place] + put + file[place + len(put) :]
    for each in (damaged, damaged[:length]):
        with suppress(AudioError):
            assert len(read_wav(each)) % 2 == 0
