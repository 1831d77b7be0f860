"""Rings, the stand-in for a microphone, and real streams over a virtual sound card."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio import RATE, Samples, read_wav, samples_in, wav
from client.devices import Edges
from client.latency import FRAME_SAMPLES, Clip
from client.ring import Ring
from client.voice import Voice
from tests.virtual_audio import VirtualAudio, is_installed, virtual_audio

ROOT = Path(__file__).parent.parent
SECOND = np.arange(RATE) / RATE

needs_pulseaudio = pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")

ECHO = """
import sys, time
import numpy as np
from client.devices import find_portaudio, open_devices

with open_devices(find_portaudio()) as (microphone, loudspeaker):
    print("ready", flush=True)
    waiting = np.zeros(0, np.int16)
    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        waiting = np.concatenate([waiting, np.frombuffer(microphone.read(), np.int16)])
        count = min(len(waiting), loudspeaker.room)
        loudspeaker.write(waiting[:count])
        waiting = waiting[count:]
        time.sleep(0.005)
    print("lost", microphone.overflows, flush=True)
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


@given(st.lists(st.tuples(st.integers(480, 960), st.floats(0, 1)), max_size=20))
def test_a_ring_that_runs_dry_does_not_click(calls: list[tuple[int, float]]):
    edges, pieces = Edges(240), [np.zeros(1, np.int16)]
    # Playing begins after silence, which the jitter buffer fades in.
    edges.shape(np.zeros(480, np.int16), 0)
    for size, share in calls:
        out = np.full(size, 12000, np.int16)
        edges.shape(out, round(size * share) if share < 0.5 else size)
        pieces.append(out)
    assert np.abs(np.diff(np.concatenate(pieces).astype(int))).max(initial=0) <= 12000 / 200 + 60


def test_a_voice_sends_silence_then_the_clip_then_silence_again():
    sent: list[bytes] = []

    async def speak() -> Voice:
        enough = asyncio.Event()

        async def append(pcm: bytes) -> None:
            sent.append(pcm)
            if len(sent) == 2:
                voice.say(Clip("one", np.full(700, 5, np.int16), 0.025))
            if len(sent) == 5:
                enough.set()

        voice = Voice(append, asyncio.get_running_loop().time())
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
def test_what_is_said_into_the_microphone_comes_out_of_the_loudspeaker(tmp_path: Path):
    """A program that plays what it hears, as a process of its own: both devices at once."""
    said, heard = tmp_path / "said.wav", tmp_path / "heard.wav"
    said.write_bytes(wav(tone(440).tobytes()))
    with virtual_audio() as card, card.ear(heard), _echo(card) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        assert card.say(said).wait(20) == 0
        assert echo.stdout.readline() == "lost 0\n"
        assert echo.wait(10) == 0
    sound = np.frombuffer(read_wav(heard.read_bytes()), np.int16).astype(float)
    loud = np.flatnonzero(np.abs(sound) > 2000)
    assert loud.size, "nothing was heard"
    assert loud[-1] - loud[0] == pytest.approx(RATE, rel=0.2)
    middle = sound[(loud[0] + loud[-1]) // 2 :][: samples_in(200)]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(440, abs=10)


def _echo(card: VirtualAudio) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", ECHO, "3"]
    return subprocess.Popen(
        words, env=card.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


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
    assert "mimo-live talk --wav question.wav" in ran.stdout
    assert "http://127.0.0.1:8080/" in ran.stdout
