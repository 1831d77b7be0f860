"""Live conversations through a virtual sound card, with a scripted server."""

import json
import signal
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.audio import RATE, Samples, read_wav
from tests.client.test_talk import Peer, audio, begun, ended, server, words
from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT, command
from tests.drivers.virtual_audio import VirtualAudio, is_installed, virtual_audio

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed"),
]

LOUD = 12000


class Talking:
    """`mimo-live talk --json` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]"):
        self._process = process

    def wait_for(self, **wanted: object) -> dict[str, Any]:
        """Return the next event that has these fields."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if all(event.get(name) == value for name, value in wanted.items()):
                return event
        raise AssertionError(f"no {wanted} came")


@contextmanager
def talk(card: VirtualAudio, url: str, *options: str) -> Generator[Talking]:
    words = command("talk", "--url", url, "--json", *options)
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env=card.environment, stdout=pipe, text=True) as process:
        try:
            yield Talking(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
    assert process.returncode == 0


def heard(file: Path) -> Samples:
    return np.frombuffer(read_wav(file.read_bytes()), np.int16)


def click_dbfs(sound: Samples) -> float:
    """The loudest of what lies above 4 kHz, where a constant has nothing."""
    spectrum = np.fft.rfft(sound.astype(np.float64))
    spectrum[: int(4000 * len(sound) / RATE)] = 0
    return 20 * float(np.log10(np.abs(np.fft.irfft(spectrum)).max() / 2**15 + 1e-9))


def test_an_interruption_is_heard_at_once_and_does_not_click(tmp_path: Path):
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(begun(1), words(1, "Cut "), audio(1, LOUD, RATE // 100))
        peer.send(words(1, "off."), audio(1, LOUD, 20 * RATE))
        while not peer.sent("x_mimo.playout") and len(peer.sent("input_audio_buffer.append")) < 60:
            peer.receive()
        peer.send({"type": "input_audio_buffer.speech_started", "item_id": "said_1"})
        for _ in range(50):
            peer.receive()
        peer.send(*ended(1, "Cut off.", status="cancelled"), begun(2), *ended(2, "Next."))
        peer.listen_on()

    file = tmp_path / "heard.wav"
    with (
        server(script) as (url, peers),
        virtual_audio() as card,
        card.ear(file),
        talk(card, url) as talking,
    ):
        talking.wait_for(event="caption", text="Cut")
        cut = talking.wait_for(event="interrupted")
        talking.wait_for(event="caption", text="Next.")
    sound = heard(file)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > LOUD // 2)
    lasted_ms = (loud[-1] - loud[0]) * 1000 // RATE
    # What the client reports is what came out of the loudspeaker, but for what was on its way.
    assert abs(lasted_ms - cut["audio_end_ms"]) < 400
    assert click_dbfs(sound) < -40
    [truncated] = peers[0].sent("conversation.item.truncate")
    assert truncated["audio_end_ms"] == cut["audio_end_ms"]


def test_leaving_while_the_agent_speaks_does_not_click(tmp_path: Path):
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(begun(1), audio(1, LOUD, 20 * RATE))
        while not peer.sent("x_mimo.playout") and len(peer.sent("input_audio_buffer.append")) < 60:
            peer.receive()
        peer.listen_on()

    file = tmp_path / "heard.wav"
    with server(script) as (url, _), virtual_audio() as card, card.ear(file):
        with talk(card, url) as talking:
            talking.wait_for(event="state", state="speaking")
            talking.wait_for(event="error")
        # The ear goes on for a moment.
        assert card.say(DATA / "LJ001-0002.wav").wait(20) == 0
    sound = heard(file)
    loud = np.flatnonzero(np.abs(sound.astype(int)) > LOUD // 2)
    assert RATE < len(loud) < 19 * RATE
    assert loud[-1] < len(sound) - RATE // 5
    # Only the end counts: a busy machine may run dry before.
    steps = np.abs(np.diff(sound[loud[-1] - RATE // 20 :].astype(int)))
    assert steps.max() < LOUD / 10


def test_a_loudspeaker_that_is_unplugged_is_replaced_by_the_default_one(tmp_path: Path):
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(begun(1), audio(1, LOUD, 8 * RATE))
        # The one that will be unplugged needs time to be heard.
        while len(peer.sent("input_audio_buffer.append")) < 100:
            peer.receive()
        kind = "conversation.item.input_audio_transcription.completed"
        peer.send({"type": kind, "item_id": "said_1", "transcript": "Unplug it."})
        peer.send(*ended(1, "Eight seconds."))
        peer.listen_on()

    file = tmp_path / "heard.wav"
    with (
        server(script) as (url, _),
        virtual_audio() as card,
        card.ear(file),
        ExitStack() as plug,
    ):
        card.plug_in("headset", plug.enter_context(virtual_audio()))
        with talk(card, url, "--output", "headset") as talking:
            talking.wait_for(event="caption", text="Unplug it.")
            plug.close()
            gone = "The loudspeaker went away; using the default devices."
            talking.wait_for(event="error", message=gone)
            talking.wait_for(event="caption", text="Eight seconds.")
    sound = heard(file)
    rest_s = np.count_nonzero(np.abs(sound.astype(int)) > LOUD // 2) / RATE
    assert 0.2 < rest_s < 8
