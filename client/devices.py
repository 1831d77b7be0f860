"""Microphone and loudspeaker: mono PCM16 at 24 kHz, through PortAudio.

PortAudio calls back on a thread of its own that must never wait. A callback only copies
between PortAudio's buffer and a ring that was allocated before; no lock, no resampling, no
Python object that outlives it. All else happens where `read` and `write` are called.
"""

import asyncio
import importlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Protocol, cast

import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, Resampler, Samples, samples_in
from agent.errors import AgentError
from client.latency import FRAME_S, FRAME_SAMPLES, Clip

BLOCK_MS = 20
AHEAD_SAMPLES = samples_in(40)
"""How much may wait between the jitter buffer and the loudspeaker: little, so that an
interruption is heard at once."""

OTHER_RATE = 48_000
"""For devices that refuse 24 kHz."""


class DeviceError(AgentError):
    """There is no microphone or loudspeaker, or it can't be opened."""


class Ring:
    """A ring of samples for one writer and one reader on two threads.

    Each side moves only its own counter, after it has copied; so neither needs a lock.
    """

    def __init__(self, capacity: int):
        self._samples = np.zeros(capacity, np.int16)
        self._written = 0
        self._read = 0

    def __len__(self) -> int:
        return self._written - self._read

    def write(self, samples: Samples) -> int:
        """Append as many as there is room for; return how many."""
        count = min(len(samples), len(self._samples) - len(self))
        start = self._written % len(self._samples)
        first = min(count, len(self._samples) - start)
        self._samples[start : start + first] = samples[:first]
        self._samples[: count - first] = samples[first:count]
        self._written += count
        return count

    def read_into(self, out: Samples) -> int:
        """Move the oldest samples into `out`, as many as there are; return how many."""
        count = min(len(out), len(self))
        start = self._read % len(self._samples)
        first = min(count, len(self._samples) - start)
        out[:first] = self._samples[start : start + first]
        out[first:count] = self._samples[: count - first]
        self._read += count
        return count


class _Status(Protocol):
    """PortAudio's word on what went wrong since the callback before."""

    @property
    def input_overflow(self) -> bool: ...
    @property
    def output_underflow(self) -> bool: ...


class _Stream(Protocol):
    @property
    def latency(self) -> float: ...
    def start(self) -> None: ...
    def close(self) -> None: ...


class PortAudio(Protocol):
    """The part of `sounddevice` that is used here."""

    PortAudioError: type[Exception]

    def query_devices(self, device: int | None, kind: str) -> object: ...
    def RawInputStream(self, **options: object) -> _Stream: ...  # noqa: N802
    def RawOutputStream(self, **options: object) -> _Stream: ...  # noqa: N802


class Microphone:
    """What the user says, in chunks of any length."""

    def __init__(self, portaudio: PortAudio):
        self._ring = Ring(OTHER_RATE * 2)
        self._stream, rate = _open(portaudio, portaudio.RawInputStream, self._arrived)
        self._resampler = Resampler(rate, RATE)
        self._chunk = np.zeros(OTHER_RATE * 2, np.int16)
        self.overflows = 0

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        self._stream.close()

    def read(self) -> bytes:
        """Everything that was said since the last call."""
        count = self._ring.read_into(self._chunk)
        return self._resampler.push(self._chunk[:count].tobytes())

    def _arrived(self, buffer: memoryview, frames: int, _time: object, status: _Status) -> None:
        written = self._ring.write(np.frombuffer(buffer, np.int16))
        if status.input_overflow or written < frames:
            self.overflows += 1


class Loudspeaker:
    """What the user hears; holds at most 40 ms that were not handed to the system yet."""

    def __init__(self, portaudio: PortAudio):
        self._ring = Ring(OTHER_RATE)
        self._stream, rate = _open(portaudio, portaudio.RawOutputStream, self._wanted)
        self._factor = rate // RATE
        self._resampler = Resampler(RATE, rate)
        self.underflows = 0

    @property
    def room(self) -> int:
        """Samples that `write` takes now."""
        return AHEAD_SAMPLES - len(self._ring) // self._factor

    @property
    def delay_samples(self) -> int:
        """Samples that were written and have not reached the ear."""
        return len(self._ring) // self._factor + round(self._stream.latency * RATE)

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        self._stream.close()

    def write(self, sound: Samples) -> None:
        """Play next; the caller keeps to `room`."""
        if self._factor == 1:
            self._ring.write(sound)
        else:
            self._ring.write(np.frombuffer(self._resampler.push(sound.tobytes()), np.int16))

    def _wanted(self, buffer: memoryview, frames: int, _time: object, status: _Status) -> None:
        out = np.frombuffer(buffer, np.int16)
        filled = self._ring.read_into(out)
        out[filled:] = 0
        if status.output_underflow or filled < frames:
            self.underflows += 1


def _open(
    portaudio: PortAudio,
    kind: Callable[..., _Stream],
    callback: Callable[[memoryview, int, object, _Status], None],
) -> tuple[_Stream, int]:
    """Open a stream of 20 ms blocks at 24 kHz, else at 48 kHz."""
    refused = ""
    for rate in (RATE, OTHER_RATE):
        try:
            stream = kind(
                samplerate=rate,
                blocksize=samples_in(BLOCK_MS, rate),
                channels=1,
                dtype="int16",
                latency="low",
                callback=callback,
            )
        except portaudio.PortAudioError as error:
            refused = str(error)
        else:
            return stream, rate
    raise DeviceError(f"the sound device refuses mono at 24 and at 48 kHz: {refused}")


def find_portaudio(*kinds: str) -> PortAudio:
    """Load PortAudio and make sure that there is something to talk into and to hear with.

    Args:
        kinds: `"input"`, `"output"`; without any, both.

    Raises:
        DeviceError: If the library, the microphone or the loudspeaker is missing.
    """
    try:
        with no_native_messages():
            portaudio = cast(PortAudio, importlib.import_module("sounddevice"))
    except OSError as error:
        raise DeviceError("the PortAudio library is missing (Debian: libportaudio2)") from error
    for kind, name in (("input", "microphone"), ("output", "loudspeaker")):
        if kinds and kind not in kinds:
            continue
        try:
            portaudio.query_devices(None, kind)
        except (portaudio.PortAudioError, ValueError) as error:
            raise DeviceError(f"no {name} was found") from error
    return portaudio


@contextmanager
def open_devices(portaudio: PortAudio) -> Generator[tuple[Microphone, Loudspeaker]]:
    """The default microphone and loudspeaker, running.

    Raises:
        DeviceError: If one of them can't be opened.
    """
    with no_native_messages():
        microphone = Microphone(portaudio)
        try:
            loudspeaker = Loudspeaker(portaudio)
        except DeviceError:
            microphone.close()
            raise
    try:
        microphone.start()
        loudspeaker.start()
        yield microphone, loudspeaker
    except portaudio.PortAudioError as error:
        raise DeviceError(f"the sound device stopped: {error}") from error
    finally:
        loudspeaker.close()
        microphone.close()


async def ticks(began: float, period_s: float = FRAME_S) -> AsyncIterator[int]:
    """Count periods since `began`, on the running loop's clock; catches up when late."""
    clock = asyncio.get_running_loop().time
    for tick in itertools.count():
        await asyncio.sleep(max(0.0, began + tick * period_s - clock()))
        yield tick


class Voice:
    """Takes the microphone's place: speaks recordings in real time, and silence otherwise."""

    def __init__(self, append: Callable[[bytes], Awaitable[None]], began: float):
        self._append = append
        self._waiting = np.zeros(0, np.int16)
        self._speech_s: float | None = None
        self.began = began
        self.speech_ended_at = began
        """When the latest recording's speech ends, which may be yet to come."""
        self.said = bytearray()
        """All that was sent, silence included, from `began` on."""

    @property
    def silent(self) -> bool:
        return not len(self._waiting)

    def say(self, clip: Clip) -> None:
        self._waiting = clip.sound
        self._speech_s = clip.speech_s

    async def speak(self) -> None:
        """Send a frame whenever one has been spoken, as a microphone does: at its end."""
        async for tick in ticks(self.began):
            if tick == 0:
                continue
            if self._speech_s is not None:
                self.speech_ended_at = self.began + (tick - 1) * FRAME_S + self._speech_s
                self._speech_s = None
            spoken = self._waiting[:FRAME_SAMPLES]
            self._waiting = self._waiting[FRAME_SAMPLES:]
            frame = spoken.tobytes().ljust(FRAME_SAMPLES * SAMPLE_BYTES, b"\0")
            self.said += frame
            await self._append(frame)


@contextmanager
def no_native_messages() -> Generator[None]:
    """Keep sound libraries, which write to file descriptor 2, from covering our own words."""
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
