"""WAV files of every common form, taken apart and decoded to mono.

A reader of our own: Python's `wave` knows integers only, libsndfile is under the LGPL, and what
else there is gives up on the sizes that streams write. No size in a file is believed: sound ends
where the file does, and all is checked before anything is decoded.

Source:
    "Multimedia Programming Interface and Data Specifications 1.0" (1991) and `mmreg.h` for the
    forms, EBU Tech 3306 for files over 4 GiB (RF64).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from agent import g711
from agent.errors import AudioError

LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
"""Beyond both it is a broken file: lower, a short one would become hours of sound."""

MOST_CHUNKS = 1_000
"""Before a file's sound: files have a dozen, and an attacker's a million."""

_EXTENSIBLE = 0xFFFE
"""`WAVE_FORMAT_EXTENSIBLE`: the form is in the long name that follows."""
_SUB_FORM = bytes.fromhex("000000001000800000aa00389b71")
"""How the long name of a form ends that has a short one, too."""

_UNREAD = {2: "Microsoft ADPCM", 0x11: "IMA ADPCM", 0x31: "GSM 6.10", 0x50: "MPEG", 0x55: "MP3"}

_BEGINNINGS = {
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"\xff\xfb": "an MP3 file",
    b"\xff\xf3": "an MP3 file",
    b"\xff\xf2": "an MP3 file",
    b"\xff\xf1": "an AAC file",
    b"\xff\xf9": "an AAC file",
    b"FORM": "an AIFF file",
    b"caff": "a CAF file",
    b".snd": "an AU file",
    b"riff": "a Wave64 file",
    b"RIFX": "a big-endian WAV file",
    b"#!AMR": "an AMR file",
    b"\x1aE\xdf\xa3": "a WebM or Matroska file",
}


class Form(IntEnum):
    """What a sample is."""

    PCM = 1
    FLOAT = 3
    A_LAW = 6
    U_LAW = 7


WIDTHS = {Form.PCM: (1, 2, 3, 4), Form.FLOAT: (4, 8), Form.A_LAW: (1,), Form.U_LAW: (1,)}
"""Bytes a sample may have."""

READ = "supported are 8 to 32-bit PCM, 32 and 64-bit float, A-law and mu-law"


@dataclass(frozen=True, slots=True)
class Wave:
    """A file's sound as it is stored."""

    form: Form
    width: int
    """Bytes of a sample."""
    channels: int
    rate: int
    data: memoryview
    """Of a file that was cut short, the last frame may be, too."""

    @property
    def frames(self) -> int:
        return len(self.data) // (self.width * self.channels)


def is_wav(file: bytes) -> bool:
    return file[:4] in {b"RIFF", b"RF64", b"BW64"} and file[8:12] == b"WAVE"


def parse(file: bytes) -> Wave:
    """Find the sound of a WAV file.

    Raises:
        AudioError: If it is none, or holds sound in a form that isn't read.
    """
    if not is_wav(file):
        raise AudioError(f"not a WAV file: {_what(file)}")
    found: dict[bytes, memoryview] = {}
    for count, (name, body) in enumerate(_chunks(file)):
        if count == MOST_CHUNKS:
            break
        found.setdefault(name, body)
        if b"fmt " in found and b"data" in found:
            form, width, channels, rate = _format(bytes(found[b"fmt "][:40]))
            return Wave(form, width, channels, rate, found[b"data"])
    missing = "data" if b"fmt " in found else "fmt"
    raise AudioError(f"a WAV file without a {missing!r} chunk: it is truncated or damaged")


def mono(wave: Wave) -> npt.NDArray[np.float32]:
    """Decode to numbers from -1 to 1, the average of all channels."""
    raw = wave.data[: wave.frames * wave.channels * wave.width]
    match wave.form, wave.width:
        case Form.PCM, 1:
            samples, silence, full = np.frombuffer(raw, np.uint8), 2**7, 2**7
        case Form.PCM, 3:
            # Three bytes become the upper three of a four-byte integer.
            padded = np.zeros((len(raw) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            samples, silence, full = padded.view("<i4"), 0, 2**31
        case Form.PCM, width:
            samples, silence, full = np.frombuffer(raw, f"<i{width}"), 0, 2 ** (8 * width - 1)
        case Form.FLOAT, width:
            samples, silence, full = np.frombuffer(raw, f"<f{width}"), 0, 1
        case law, _:
            code = g711.A_LAW if law is Form.A_LAW else g711.U_LAW
            samples, silence, full = np.frombuffer(code.decode(bytes(raw)), "<i2"), 0, 2**15
    # A file of floats may hold anything, infinities too.
    with np.errstate(invalid="ignore", over="ignore"):
        mixed = samples.reshape(wave.frames, wave.channels).mean(axis=1, dtype=np.float64)
    sound = np.clip((np.nan_to_num(mixed) - silence) / full, -1, 1)
    return sound.astype(np.float32)


def _chunks(file: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Every chunk's name and body; the last may be shorter than it says."""
    view, position = memoryview(file), 12
    large_size = None
    while position + 8 <= len(file):
        name, size = struct.unpack_from("<4sI", file, position)
        position += 8
        if name == b"ds64" and position + 16 <= len(file):
            large_size = int.from_bytes(view[position + 8 : position + 16], "little")
        if name == b"data":
            if size == 2**32 - 1 and large_size is not None:
                size = large_size or len(file)
            # Written before the sound was there, and never again.
            elif size == 0 and _size(file) != len(file) - 8:
                size = len(file)
        yield name, view[position : position + size]
        position += size
        # Some writers forget to fill up an odd chunk; no name begins with a zero.
        if size % 2 and file[position : position + 1] == b"\0":
            position += 1


def _size(file: bytes) -> int:
    """What the file says that it holds."""
    return int.from_bytes(file[4:8], "little")


def _format(chunk: bytes) -> tuple[Form, int, int, int]:
    """Return form, bytes a sample, channels and rate."""
    if len(chunk) < 16:
        raise AudioError(f"a WAV file whose 'fmt' chunk is {len(chunk)} bytes long, not 16")
    number, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", chunk)
    if number == _EXTENSIBLE:
        if chunk[26:] != _SUB_FORM:
            raise AudioError(f"a WAV file in sub-format {chunk[24:].hex() or 'none'}; {READ}")
        number = int.from_bytes(chunk[24:26], "little")
    if number not in WIDTHS:
        raise AudioError(f"a WAV file in {_UNREAD.get(number, f'format {number:#x}')}; {READ}")
    form = Form(number)
    if not channels:
        raise AudioError("a WAV file without channels")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        limits = f"supported are {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        raise AudioError(f"a WAV file at {rate} Hz; {limits}")
    # 20 bits, say, lie in the upper part of three or four bytes.
    least = (bits + 7) // 8
    width = frame // channels if frame % channels == 0 and frame >= least * channels else least
    if not bits or width not in WIDTHS[form]:
        raise AudioError(f"a WAV file in {bits}-bit {form.name.replace('_', '-')}; {READ}")
    return form, width, channels, rate


def _what(file: bytes) -> str:
    """Say what a file is instead, and what can be done about it."""
    if not file:
        return "it is empty"
    kind = next((kind for begin, kind in _BEGINNINGS.items() if file.startswith(begin)), None)
    kind = "an MP4 or M4A file" if file[4:8] == b"ftyp" else kind
    if kind is None:
        return f"it begins with {file[:12]!r}"
    return f"it is {kind} (ffmpeg -i FILE FILE.wav converts it)"
