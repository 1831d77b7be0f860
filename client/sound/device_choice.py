"""Which microphone and loudspeaker to use: listed, chosen by name, remembered, and given up."""

import os
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from client.sound.portaudio import DeviceError, Names, PortAudio

KINDS = (("input", "microphone"), ("output", "loudspeaker"))


class Device(msgspec.Struct):
    """A sound device as PortAudio describes it."""

    name: str
    max_input_channels: int
    max_output_channels: int

    def has(self, kind: str) -> bool:
        return (self.max_input_channels if kind == "input" else self.max_output_channels) > 0


class DeviceChoice(NamedTuple):
    names: Names
    complaints: list[str]
    """What was remembered and isn't there; one sentence each."""


def list_devices(portaudio: PortAudio) -> str:
    """One line for each device, with what it is good for."""
    defaults = [_default(portaudio, kind) for kind, _ in KINDS]
    lines: list[str] = []
    for device in _devices(portaudio):
        uses = [
            f"{title} (default)" if device.name == default else title
            for (kind, title), default in zip(KINDS, defaults, strict=True)
            if device.has(kind)
        ]
        lines.append(f"{device.name}: {', '.join(uses)}")
    return "\n".join(lines) or "no sound devices"


def select(portaudio: PortAudio, wished: Names) -> DeviceChoice:
    """Choose devices: those wished for, else those remembered, else the system's.

    What was wished for is remembered.

    Raises:
        DeviceError: If there is no such device as was wished for, or more than one.
    """
    for (kind, title), name in zip(KINDS, wished, strict=True):
        if name is not None and (reason := _missing(portaudio, name, kind)):
            known = ", ".join(each.name for each in _devices(portaudio) if each.has(kind))
            raise DeviceError(f"no {title} {name!r} ({reason}); choose from: {known or 'none'}")
    remembered = _read()
    names = Names(wished.input or remembered.input, wished.output or remembered.output)
    if names != remembered:
        _write(names)
    found, complaints = Names(), list[str]()
    for (kind, title), name in zip(KINDS, names, strict=True):
        if name is None:
            continue
        if _missing(portaudio, name, kind):
            complaints.append(f"The {title} {name!r} isn't there; using the default.")
        else:
            found = found._replace(**{kind: name})
    return DeviceChoice(found, complaints)


def remembered_file() -> Path:
    """Where the choice is kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "mimo-live" / "devices.json"


def _missing(portaudio: PortAudio, name: str, kind: str) -> str | None:
    """Why a device can't be chosen by this name; `None` if it can."""
    try:
        portaudio.query_devices(name, kind)
    except (portaudio.PortAudioError, ValueError) as error:
        return str(error).partition("\n")[0]
    return None


def _devices(portaudio: PortAudio) -> list[Device]:
    found = cast(list[dict[str, object]], portaudio.query_devices())
    return [msgspec.convert(each, Device) for each in found]


def _default(portaudio: PortAudio, kind: str) -> str:
    try:
        return msgspec.convert(portaudio.query_devices(None, kind), Device).name
    except (portaudio.PortAudioError, ValueError):
        return ""


def _read() -> Names:
    try:
        return msgspec.json.decode(remembered_file().read_bytes(), type=Names)
    except (OSError, msgspec.DecodeError):
        return Names()


def _write(names: Names) -> None:
    file = remembered_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(names))
    except OSError:
        # A home that can't be written to is no reason not to talk.
        return
