"""PortAudio, through the package `sounddevice`: found, and the part of it that is used."""

import importlib
from contextlib import suppress
from typing import NamedTuple, Protocol, cast

from agent.errors import AgentError


class DeviceError(AgentError):
    """There is no microphone or loudspeaker, or it can't be opened."""


class Names(NamedTuple):
    """Which devices to use: parts of their names; `None` for the system's default."""

    input: str | None = None
    output: str | None = None


class Stream(Protocol):
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
    def RawInputStream(self, **options: object) -> Stream: ...  # noqa: N802
    def RawOutputStream(self, **options: object) -> Stream: ...  # noqa: N802


def find_portaudio(*kinds: str) -> PortAudio:
    """Load PortAudio and make sure that there is something to talk into and to hear with.

    Args:
        kinds: `"input"`, `"output"`; without any, both.

    Raises:
        DeviceError: If the library, the microphone or the loudspeaker is missing.
    """
    try:
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
    # A sound system that is being started anew may refuse either; opening says so then.
    with suppress(portaudio.PortAudioError):
        portaudio._terminate()  # pyright: ignore[reportPrivateUsage]
    with suppress(portaudio.PortAudioError):
        portaudio._initialize()  # pyright: ignore[reportPrivateUsage]


SILENT_DEVICE_S = 2.5
"""A device that has not called for so long went away; after an underrun, PulseAudio's may need
1.9 s to go on by itself."""

STARTING_S = 5.0
"""Devices may take as long until they call for the first time."""

STALL_S = 0.5
"""A pause of this program that says nothing about devices."""


class CallbackWatch:
    """Of one device; times are those of any clock, in seconds."""

    def __init__(self, began: float):
        self._began = self._looked = began
        self._calls = 0
        self.seen = began
        """When it called last."""

    def has_ended(self, now: float, calls: int) -> bool:
        """Look at how often a device has called, at short intervals."""
        stalled, self._looked = now - self._looked > STALL_S, now
        if calls != self._calls or stalled:
            self._calls, self.seen = calls, now
        return now - self.seen > (SILENT_DEVICE_S if now - self._began > STARTING_S else STARTING_S)
