"""Which devices are used, push-to-talk in a terminal, and the check of the microphone."""

import io
from pathlib import Path

import numpy as np
import pytest

from agent.audio import samples_in
from client.sound.device_choice import DeviceChoice, list_devices, remembered_file, select
from client.sound.microphone_check import MicrophoneCheck
from client.sound.portaudio import DeviceError, Names, PortAudio
from client.terminal.lines import Terminal
from client.terminal.push_to_talk import PushToTalk


class Machine:
    """Stands in for PortAudio's list of devices, found by a part of their names."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *inputs: str, outputs: tuple[str, ...] = ()):
        self.devices = [
            *({"name": name, "max_input_channels": 1, "max_output_channels": 0} for name in inputs),
            *(
                {"name": name, "max_input_channels": 0, "max_output_channels": 2}
                for name in outputs
            ),
        ]

    def query_devices(self, device: str | None = None, kind: str | None = None) -> object:
        if kind is None:
            return self.devices
        fitting = [each for each in self.devices if each[f"max_{kind}_channels"]]
        if device is None:
            return fitting[0]
        found = [each for each in fitting if device in str(each["name"])]
        if len(found) != 1:
            raise ValueError(f"{len(found)} devices match")
        return found[0]

    RawInputStream = RawOutputStream = _terminate = _initialize = None


def machine(*inputs: str, outputs: tuple[str, ...] = ("speakers",)) -> PortAudio:
    return Machine(*inputs, outputs=outputs)  # pyright: ignore[reportReturnType]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_devices_are_listed_with_what_they_are_good_for():
    listed = list_devices(machine("built-in", "USB headset"))
    assert listed.splitlines() == [
        "built-in: microphone (default)",
        "USB headset: microphone",
        "speakers: loudspeaker (default)",
    ]


def test_nothing_chosen_means_the_default_devices_and_writes_no_file():
    assert select(machine("built-in"), Names()) == DeviceChoice(Names(), [])
    assert not remembered_file().exists()


def test_a_chosen_device_is_remembered():
    both = machine("built-in", "USB headset")
    select(both, Names(input="headset"))
    assert select(both, Names()).names == Names(input="headset")
    assert select(both, Names(input="built")).names == Names(input="built")


def test_a_remembered_device_that_is_gone_falls_back_and_says_so_and_is_not_forgotten():
    select(machine("built-in", "USB headset"), Names("headset", "speakers"))
    names, complaints = select(machine("built-in"), Names())
    assert names == Names(None, "speakers")
    assert complaints == ["The microphone 'headset' isn't there; using the default."]
    assert select(machine("built-in", "USB headset"), Names()).names.input == "headset"


def test_a_device_asked_for_that_is_not_there_is_refused_with_the_names_of_those_that_are():
    with pytest.raises(DeviceError, match=r"no loudspeaker 'telly'.*choose from: speakers"):
        select(machine("built-in"), Names(output="telly"))


@pytest.mark.parametrize("content", [b"", b"no json", b'{"input": 3}'])
def test_a_file_that_cannot_be_read_is_as_none(content: bytes):
    remembered_file().parent.mkdir()
    remembered_file().write_bytes(content)
    assert select(machine("built-in"), Names()) == DeviceChoice(Names(), [])


def drive(push: PushToTalk, *presses: float, until: float) -> float | None:
    """Press at these times; return when the microphone closed."""
    for tick in range(round(until * 100)):
        now = tick / 100
        if any(abs(now - press) < 0.001 for press in presses):
            push.press(now)
        was_open = push.open
        push.tick(now)
        if was_open and not push.open:
            return now
    return None


def test_a_tap_opens_the_microphone_and_the_next_tap_closes_it():
    assert drive(PushToTalk(), 1.0, until=10) is None
    closed = drive(PushToTalk(), 1.0, 4.0, until=10)
    assert closed == pytest.approx(4.13, abs=0.011)


def test_a_key_held_down_closes_the_microphone_soon_after_it_is_let_go():
    repeats = [1.5 + 0.03 * number for number in range(60)]
    closed = drive(PushToTalk(), 1.0, *repeats, until=10)
    assert closed == pytest.approx(repeats[-1] + 0.31, abs=0.011)


@pytest.mark.parametrize(
    ("level", "advice"),
    [(0, "muted"), (10, "very quiet"), (1000, None), (32767, "too loud")],
)
def test_the_microphone_is_judged_once_after_three_seconds(level: int, advice: str | None):
    said = io.StringIO()
    check = MicrophoneCheck(Terminal(said, said))
    frame = np.resize(np.array([level, -level], np.int16), samples_in(20))
    for _ in range(149):
        check.add(frame)
    assert not said.getvalue()
    for _ in range(151):
        check.add(frame)
    found = said.getvalue().splitlines()
    assert [advice is not None and advice in each for each in found] == [True] * bool(advice)
