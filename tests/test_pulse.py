"""Devices that stand still or go away, seen from outside, and what libraries say meanwhile."""

import os
import signal
import subprocess
import sys

import pytest

from client.pulse import SILENT_DEVICE_S, STARTING_S, Pulse
from tests.processes import ROOT
from tests.virtual_audio import is_installed, virtual_audio

STUMBLES = """
import sys
import time

import numpy as np

from client.devices import open_devices
from client.native import unheard_libraries
from client.portaudio import find_portaudio

SILENCE = np.zeros(480, np.int16)

with unheard_libraries(), open_devices(find_portaudio()) as (microphone, loudspeaker):
    for calls, word in ((50, "running"), (100, "still running")):
        while loudspeaker.calls < calls:
            microphone.read()
            while loudspeaker.room >= len(SILENCE):
                loudspeaker.write(SILENCE)
            time.sleep(0.005)
        print(word, flush=True)
    print("Python's own words are heard", file=sys.stderr)
"""


def watch(pulse: Pulse, since: float, until: float) -> None:
    """Look every 20 ms at a device that calls."""
    for step in range(round(since * 50), round(until * 50)):
        assert not pulse.has_ended(step / 50, step + 1)


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("worked_s", "patience_s"), [(0.0, STARTING_S), (STARTING_S, SILENT_DEVICE_S)]
)
def test_a_device_that_stops_calling_has_ended(worked_s: float, patience_s: float):
    pulse = Pulse(0.0)
    watch(pulse, 0.0, worked_s)
    calls = round(worked_s * 50)
    ended = [step for step in range(1_000) if pulse.has_ended(worked_s + step / 50, calls)]
    assert ended[0] / 50 == pytest.approx(patience_s, abs=0.05)


@pytest.mark.realtime
def test_a_pause_of_the_program_is_no_fault_of_a_device():
    pulse = Pulse(0.0)
    watch(pulse, 0.0, 6.0)
    assert not pulse.has_ended(20.0, 300)
    watch(pulse, 20.0, 21.0)


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_no_library_says_a_word_at_an_underrun():
    """Of a program that stood still for 0.3 s."""
    words = [sys.executable, "-c", STUMBLES]
    with (
        virtual_audio() as card,
        subprocess.Popen(
            words,
            env=card.environment,
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
        ran, messages = program.communicate(timeout=30)
    assert ran == "still running\n"
    assert messages == "Python's own words are heard\n"
