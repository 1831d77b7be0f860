"""Microphone and loudspeaker: mono PCM16 at 24 kHz, through PortAudio.

PortAudio calls back on a thread of its own that must never wait. A callback only copies
between PortAudio's buffer and a ring that was allocated before; no lock, no resampling, no
Python object that outlives it. All else happens where `read` and `write` are called.
"""

import importlib
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple, Protocol, cast

import numpy as np

from agent.audio import RATE, Resampler, Samples, samples_in
from agent.errors import AgentError
from client.ring import Ring

BLOCK_MS = 20
AHEAD_SAMPLES = samples_in(40)
"""How much may wait between the jitter buffer and the loudspeaker: little, so that an
interruption is heard at once."""

OTHER_RATE = 48_000
"""For devices that refuse 24 kHz."""


class DeviceError(AgentError):
    """There is no microphone or loudspeaker, or it can't be opened."""


class Names(NamedTuple):
    """Which devices to use: parts of their names; `None` for the system's default."""

    input: str | None = None
    output: str | None = None


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

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> object: ...
    def _terminate(self) -> None: ...
    def _initialize(self) -> None: ...
    def RawInputStream(self, **options: object) -> _Stream: ...  # noqa: N802
    def RawOutputStream(self, **options: object) -> _Stream: ...  # noqa: N802


class Edges:
    """Keeps a ring that runs dry, and comes back, from clicking."""

    def __init__(self, fade_samples: int):
        self._rising = np.linspace(0, 1, fade_samples, dtype=np.float32)
        self._dry = False
        self._last = 0

    def shape(self, out: Samples, filled: int) -> None:
        """Fade in what comes after a gap, and glide to silence where `filled` samples end."""
        size = len(self._rising)
        if self._dry and filled:
            count = min(size, filled)
            out[:count] = out[:count] * self._rising[:count]
        out[filled:] = 0
        if filled:
            self._last = int(out[filled - 1])
        if filled < len(out) and self._last:
            count = min(size, len(out) - filled)
            out[filled : filled + count] = self._last * self._rising[::-1][:count]
            self._last = int(out[-1])
        self._dry = filled < len(out)


class Microphone:
    """What the user says, in chunks of any length."""

    def __init__(self, portaudio: PortAudio, name: str | None = None):
        self._ring = Ring(OTHER_RATE * 2)
        self._stream, rate = _open(portaudio, portaudio.RawInputStream, self._arrived, name)
        self._resampler = Resampler(rate, RATE)
        self._chunk = np.zeros(OTHER_RATE * 2, np.int16)
        self.overflows = 0
        self.calls = 0
        """Of PortAudio, so far; a device that went away stops calling."""

    @property
    def delay_samples(self) -> int:
        """From the ear of the microphone to `read`."""
        return round(self._stream.latency * RATE)

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        self._stream.close()

    def read(self) -> bytes:
        """Everything that was said since the last call."""
        count = self._ring.read_into(self._chunk)
        return self._resampler.push(self._chunk[:count].tobytes())

    def _arrived(self, buffer: memoryview, frames: int, _time: object, status: _Status) -> None:
        self.calls += 1
        written = self._ring.write(np.frombuffer(buffer, np.int16))
        if status.input_overflow or written < frames:
            self.overflows += 1


class Loudspeaker:
    """What the user hears; holds at most 40 ms that were not handed to the system yet."""

    def __init__(self, portaudio: PortAudio, name: str | None = None):
        self._ring = Ring(OTHER_RATE)
        self._played = Ring(OTHER_RATE * 2)
        self._stream, rate = _open(portaudio, portaudio.RawOutputStream, self._wanted, name)
        self._factor = rate // RATE
        self._resampler = Resampler(RATE, rate)
        self._back = Resampler(rate, RATE)
        self._chunk = np.zeros(OTHER_RATE * 2, np.int16)
        self._edges = Edges(samples_in(5, rate))
        self.underflows = 0
        self.calls = 0
        """Of PortAudio, so far; a device that went away stops calling."""

    @property
    def room(self) -> int:
        """Samples that `write` takes now."""
        return AHEAD_SAMPLES - len(self._ring) // self._factor

    @property
    def delay_samples(self) -> int:
        """Samples that were written and have not reached the ear."""
        return len(self._ring) // self._factor + self.latency_samples

    @property
    def latency_samples(self) -> int:
        """From PortAudio's call to the ear."""
        return round(self._stream.latency * RATE)

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

    def played(self) -> Samples:
        """What PortAudio took since the last call, silence included: the echo's source."""
        count = self._played.read_into(self._chunk)
        return np.frombuffer(self._back.push(self._chunk[:count].tobytes()), np.int16)

    def _wanted(self, buffer: memoryview, frames: int, _time: object, status: _Status) -> None:
        self.calls += 1
        out = np.frombuffer(buffer, np.int16)
        filled = self._ring.read_into(out)
        self._edges.shape(out, filled)
        self._played.write(out)
        if status.output_underflow or filled < frames:
            self.underflows += 1


def _open(
    portaudio: PortAudio,
    kind: Callable[..., _Stream],
    callback: Callable[[memoryview, int, object, _Status], None],
    name: str | None,
) -> tuple[_Stream, int]:
    """Open a stream of 20 ms blocks at 24 kHz, else at 48 kHz."""
    refused = ""
    for rate in (RATE, OTHER_RATE):
        try:
            stream = kind(
                device=name,
                samplerate=rate,
                blocksize=samples_in(BLOCK_MS, rate),
                channels=1,
                dtype="int16",
                latency="low",
                callback=callback,
            )
        except (portaudio.PortAudioError, ValueError) as error:
            refused = str(error)
        else:
            return stream, rate
    what = repr(name) if name else "the sound device"
    raise DeviceError(f"{what} refuses mono at 24 and at 48 kHz: {refused}")


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
    for kind, title in (("input", "microphone"), ("output", "loudspeaker")):
        if kinds and kind not in kinds:
            continue
        try:
            portaudio.query_devices(None, kind)
        except (portaudio.PortAudioError, ValueError) as error:
            raise DeviceError(f"no {title} was found") from error
    return portaudio


def look_again(portaudio: PortAudio) -> None:
    """Have PortAudio notice what was plugged in or out; no stream may be open."""
    with no_native_messages():
        # A sound system that is being started anew may refuse either; opening says so then.
        with suppress(portaudio.PortAudioError):
            portaudio._terminate()  # pyright: ignore[reportPrivateUsage]
        with suppress(portaudio.PortAudioError):
            portaudio._initialize()  # pyright: ignore[reportPrivateUsage]


@contextmanager
def open_devices(
    portaudio: PortAudio, names: Names | None = None
) -> Generator[tuple[Microphone, Loudspeaker]]:
    """A microphone and a loudspeaker, running.

    Raises:
        DeviceError: If one of them can't be opened.
    """
    input_name, output_name = names or Names()
    with ExitStack() as opened:
        try:
            with no_native_messages():
                microphone = Microphone(portaudio, input_name)
                opened.callback(microphone.close)
                loudspeaker = Loudspeaker(portaudio, output_name)
                opened.callback(loudspeaker.close)
                microphone.start()
                loudspeaker.start()
        except portaudio.PortAudioError as error:
            raise DeviceError(f"the sound device does not start: {error}") from error
        yield microphone, loudspeaker


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
