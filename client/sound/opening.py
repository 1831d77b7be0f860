"""Opens a stream in whatever rate and number of channels its device has."""

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from agent.audio import RATE
from client.sound.device_sound import Form
from client.sound.portaudio import DeviceError, PortAudio, Stream

Kind = Literal["input", "output"]
Callback = Callable[[memoryview, int, object, object], None]

RATES = (RATE, 48_000, 44_100, 16_000, 8_000, 32_000, 96_000, 192_000)
"""Ours first, which needs no resampling; then those of sound cards, hands-free sets and studios."""

CHANNELS = (1, 2)
"""Of nearly all devices; arrays have all of theirs or none."""


class _Device(msgspec.Struct):
    name: str
    default_samplerate: float
    max_input_channels: int
    max_output_channels: int


def forms(own_rate: int, most_channels: int) -> Iterator[Form]:
    """All forms worth trying, the best first."""
    # Some drivers don't know their own.
    first = (RATE, 48_000, own_rate) if own_rate > 0 else (RATE, 48_000)
    for rates in (first, RATES):
        for channels in dict.fromkeys((*CHANNELS, most_channels)):
            for rate in dict.fromkeys(rates):
                if channels <= most_channels and (rates is first or rate not in first):
                    yield Form(rate, channels)


class DeviceStream:
    """A device's stream of 20 ms blocks, in the first form that the device takes.

    Raises:
        DeviceError: If there is no such device, or it takes none; tells what was tried.
    """

    def __init__(
        self,
        portaudio: PortAudio,
        kind: Kind,
        name: str | None,
        callback: Callable[[Form], Callback],
    ):
        self._refusals = (portaudio.PortAudioError, ValueError)
        open_stream = portaudio.RawInputStream if kind == "input" else portaudio.RawOutputStream
        title = "microphone" if kind == "input" else "loudspeaker"
        what = f"the {title} {name!r}" if name else f"the {title}"
        try:
            device = msgspec.convert(portaudio.query_devices(name, kind), _Device)
        except self._refusals as error:
            raise DeviceError(f"{what} was not found ({_reason(error)})") from error
        most = device.max_input_channels if kind == "input" else device.max_output_channels
        tried = list(forms(round(device.default_samplerate), most))
        refused = ""
        for form in tried:
            try:
                self._stream: Stream = open_stream(
                    device=name,
                    samplerate=form.rate,
                    blocksize=form.block,
                    channels=form.channels,
                    dtype="int16",
                    latency="low",
                    callback=callback(form),
                )
            except self._refusals as error:
                refused = _reason(error)
            else:
                self.form = form
                return
        shown = what if name else f"{what} {device.name!r}"
        raise DeviceError(f"{shown} can't be opened with {_all(tried)}: {refused}")

    @property
    def latency_samples(self) -> int:
        """Between PortAudio's call and the air, as far as it knows."""
        return round(self._stream.latency * RATE)

    def start(self) -> None:
        """Have the device call.

        Raises:
            DeviceError: If it does not start.
        """
        try:
            self._stream.start()
        except self._refusals as error:
            raise DeviceError(f"the sound device did not start: {_reason(error)}") from error

    def close(self) -> None:
        self._stream.close()


def _reason(error: Exception) -> str:
    """The last part of what PortAudio says, on one line."""
    return str(error).partition("\n")[0].rpartition("Stream: ")[2]


def _all(tried: list[Form]) -> str:
    channels = _listed(sorted({form.channels for form in tried}))
    rates = _listed([rate / 1_000 for rate in sorted({form.rate for form in tried})])
    return f"{channels} channels at {rates} kHz"


def _listed(numbers: list[float] | list[int]) -> str:
    words = [f"{number:g}" for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
