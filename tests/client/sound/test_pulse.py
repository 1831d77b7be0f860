"""Devices that stand still or go away, seen from outside, and what libraries say meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agent.audio import RATE, read_wav
from client.sound.portaudio import SILENT_DEVICE_S, STARTING_S, CallbackWatch
from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT
from tests.drivers.virtual_audio import is_installed, strict_devices, virtual_audio

LOUD = 12_000
WRITTEN_S = 4.0

STUMBLES = f"""
import sys
import time

import numpy as np

from client.sound.devices import open_devices
from client.sound.native import unheard_libraries
from client.sound.portaudio import find_portaudio

FRAME = np.full(480, {LOUD}, np.int16)

with unheard_libraries(), open_devices(find_portaudio()) as (microphone, loudspeaker):
    for frame in range({round(WRITTEN_S * 50)}):
        while loudspeaker.room < len(FRAME):
            microphone.read()
            time.sleep(0.005)
        loudspeaker.write(FRAME)
        if frame == 50:
            print("running", flush=True)
    print("Python's own words are heard", file=sys.stderr)
    time.sleep(0.2)
"""


def watch(pulse: CallbackWatch, since: float, until: float) -> None:
    """Look every 20 ms at a device that calls."""
    for step in range(round(since * 50), round(until * 50)):
        assert not pulse.has_ended(step / 50, step + 1)


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("worked_s", "patience_s"), [(0.0, STARTING_S), (STARTING_S, SILENT_DEVICE_S)]
)
def test_a_device_that_stops_calling_has_ended(worked_s: float, patience_s: float):
    pulse = CallbackWatch(0.0)
    watch(pulse, 0.0, worked_s)
    calls = round(worked_s * 50)
    ended = [step for step in range(1_000) if pulse.has_ended(worked_s + step / 50, calls)]
    assert ended[0] / 50 == pytest.approx(patience_s, abs=0.05)


@pytest.mark.realtime
def test_a_pause_of_the_program_is_no_fault_of_a_device():
    pulse = CallbackWatch(0.0)
    watch(pulse, 0.0, 6.0)
    assert not pulse.has_ended(20.0, 300)
    watch(pulse, 20.0, 21.0)


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_after_an_underrun_sound_goes_on_at_once_and_no_library_says_a_word(tmp_path: Path):
    """Of a program that stood still for 0.3 s; PulseAudio's sink would be 1.9 s late."""
    strict_devices(tmp_path, (16_000, 4), (44_100, 2))
    words = [sys.executable, "-c", STUMBLES]
    file = tmp_path / "heard.wav"
    with (
        virtual_audio() as card,
        card.ear(file),
        subprocess.Popen(
            words,
            env=card.environment | {"PYTHONPATH": str(tmp_path)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == "running\n"
        os.kill(program.pid, signal.SIGSTOP)
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(0.3)
        finally:
            os.kill(program.pid, signal.SIGCONT)
        _, messages = program.communicate(timeout=30)
        # The ear goes on for a moment.
        assert card.say(DATA / "LJ001-0002.wav").wait(20) == 0
    assert messages == "Python's own words are heard\n"
    sound = np.frombuffer(read_wav(file.read_bytes()), np.int16)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > LOUD // 2)
    assert (loud[-1] - loud[0]) / RATE - WRITTEN_S < 0.6
    # Nothing went where nobody hears it.
    assert len(loud) / RATE > WRITTEN_S - 0.2
