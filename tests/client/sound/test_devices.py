"""Rings, the stand-in for a microphone, and real streams over a virtual sound card."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from agent.audio import RATE, Samples, read_wav, samples_in, wav
from client.clip_player import ClipPlayer
from client.sound.clip import FRAME_SAMPLES, Clip
from client.sound.device_sound import Form
from client.sound.ring import Ring
from tests.drivers.virtual_audio import VirtualAudio, is_installed, strict_devices, virtual_audio

ROOT = Path(__file__).parents[3]
SECOND = np.arange(RATE) / RATE

needs_pulseaudio = pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")

ECHO = """
import asyncio
import sys

import numpy as np

from client.sound.duplex import Duplex
from client.sound.native import unheard_libraries
from client.sound.portaudio import Names, find_portaudio
from client.terminal.lines import Terminal

class Echo:
    def __init__(self):
        self.waiting, self.loud = np.zeros(0, np.int16), 0
        self.done = asyncio.Event()

    def ready(self, safe):
        print("ready", flush=True)

    async def hear(self, pcm, loudness):
        self.waiting = np.concatenate([self.waiting, np.frombuffer(pcm, np.int16)])

    async def play(self, out):
        count = min(len(out), len(self.waiting))
        out[:count], self.waiting = self.waiting[:count], self.waiting[count:]
        out[count:] = 0
        self.loud += np.abs(out).max() > 2000
        # A second has 50 frames.
        if self.loud >= 45 and not out.any():
            self.done.set()

async def run():
    duplex = Duplex(portaudio, Names(), True, Terminal(sys.stdout, sys.stderr, as_json=False))
    duplex.listener = Echo()
    playing = asyncio.create_task(duplex.run())
    await duplex.listener.done.wait()
    playing.cancel()

with unheard_libraries():
    portaudio = find_portaudio()
    asyncio.run(run())
"""


def tone(hertz: float, amplitude: int = 8000) -> Samples:
    return (amplitude * np.sin(2 * np.pi * hertz * SECOND)).astype(np.int16)


@given(st.lists(st.integers(-50, 50), max_size=200))
def test_a_ring_returns_what_went_in_in_order(steps: list[int]):
    ring = Ring(64)
    written: list[int] = []
    read: list[int] = []
    for step in steps:
        if step > 0:
            samples = np.arange(len(written), len(written) + step, dtype=np.int16)
            taken = ring.write(samples)
            assert taken == min(step, 64 - len(written) + len(read))
            written += samples[:taken].tolist()
        else:
            out = np.zeros(-step, np.int16)
            read += out[: ring.read_into(out)].tolist()
        assert len(ring) == len(written) - len(read)
    assert read == written[: len(read)]


def test_a_voice_sends_silence_then_the_clip_then_silence_again():
    sent: list[bytes] = []

    async def speak() -> ClipPlayer:
        enough = asyncio.Event()

        async def append(pcm: bytes) -> None:
            sent.append(pcm)
            if len(sent) == 2:
                voice.say(Clip("one", np.full(700, 5, np.int16), 0.025))
            if len(sent) == 5:
                enough.set()

        voice = ClipPlayer(append, asyncio.get_running_loop().time())
        speaking = asyncio.create_task(voice.speak())
        await enough.wait()
        speaking.cancel()
        return voice

    voice = asyncio.run(speak())
    sound = np.frombuffer(b"".join(sent), np.int16)[: 5 * FRAME_SAMPLES]
    assert np.flatnonzero(sound).tolist() == list(range(2 * FRAME_SAMPLES, 2 * FRAME_SAMPLES + 700))
    assert voice.speech_ended_at == pytest.approx(voice.began + 0.04 + 0.025)
    assert voice.said == b"".join(sent)


@pytest.mark.realtime
@needs_pulseaudio
@pytest.mark.parametrize(
    ("input_form", "output_form"),
    [
        (None, None),
        (Form(44_100, 2), Form(44_100, 2)),
        (Form(16_000, 4), Form(48_000, 6)),
        (Form(8_000, 1), Form(8_000, 1)),
    ],
    ids=["any form", "44.1 kHz stereo", "an array and a surround set", "hands-free"],
)
def test_what_is_said_into_the_microphone_comes_out_of_the_loudspeaker(
    tmp_path: Path, input_form: Form | None, output_form: Form | None
):
    """A program that plays what it hears, as a process of its own: both devices at once."""
    if input_form and output_form:
        strict_devices(tmp_path, input_form, output_form)
    said, heard = tmp_path / "said.wav", tmp_path / "heard.wav"
    said.write_bytes(wav(tone(440).tobytes()))
    with virtual_audio() as card, card.ear(heard), _echo(card, tmp_path) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        assert card.say(said).wait(20) == 0
        assert echo.wait(20) == 0
        assert echo.stdout.read() == ""
    sound = np.frombuffer(read_wav(heard.read_bytes()), np.int16).astype(float)
    loud = np.flatnonzero(np.abs(sound) > 2000)
    assert loud.size, "nothing was heard"
    assert loud[-1] - loud[0] == pytest.approx(RATE, rel=0.2)
    middle = sound[(loud[0] + loud[-1]) // 2 :][: samples_in(200)]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(440, abs=10)
    # As loud as it was said, so all channels have it.
    assert np.quantile(np.abs(sound[loud[0] : loud[-1]]), 0.95) == pytest.approx(8000, rel=0.1)


@pytest.mark.realtime
def test_a_device_that_takes_nothing_is_named_with_all_that_was_tried(tmp_path: Path):
    strict_devices(tmp_path, (11_025, 8), (-1, 3))
    with virtual_audio() as card, _echo(card, tmp_path) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == (
            "the loudspeaker 'default' can't be opened with 1, 2 or 3 channels at 8, 16, 24, 32, "
            "44.1, 48, 96 or 192 kHz: Invalid sample rate; trying again until it works.\n"
        )
        echo.kill()


def _echo(card: VirtualAudio, folder: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", ECHO]
    environment = card.environment | {"PYTHONPATH": str(folder)}
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=pipe, stderr=both, text=True)


@pytest.mark.system
def test_a_machine_without_portaudio_is_told_the_other_ways(tmp_path: Path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    words = [sys.executable, "-m", "client.cli", "talk"]
    ran = subprocess.run(
        words,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert "the PortAudio library is missing" in line
    assert "mimo-live talk --wav tests/data/weather_question.wav" in ran.stdout
    assert "http://127.0.0.1:8080/" in ran.stdout
