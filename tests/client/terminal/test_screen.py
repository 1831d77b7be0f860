"""The live screen, in a terminal without a glass: keys in, pictures out."""

import os
import pty
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from agent.errors import AgentError
from tests.client.test_talk import Peer, begun, ended, server
from tests.drivers.processes import ROOT, command
from tests.drivers.virtual_audio import is_installed, virtual_audio

pytest.importorskip("textual", reason="the extra `screen` is not installed")

from textual.pilot import Pilot

from tests.drivers.shown import Shown

SLOW_TO_LOAD = """
import sys, threading
from pathlib import Path

here = Path(__file__).parent
while not (here / "may_load").exists():
    threading.Event().wait(0.01)
sys.path.remove(str(here))
del sys.modules["textual"]
import textual
"""

pytestmark = pytest.mark.system


def test_captions_levels_latency_connection_and_keys_are_on_the_screen():
    async def look(_pilot: "Pilot[None]") -> None:
        picture = shown.picture()
        for words in (
            "● Speak to interrupt",
            "microphone muted",
            "connected",
            "The headset isn't there.",
            "  you Is this ws://box?",
            "agent It is.",
            "answered in 1.04 s",
            "endpointing 580  model 450 of 610  playout 10 ms",
            "m mute",
            "q quit",
        ):
            assert words in picture, f"{words!r} is not in\n{picture}"

    shown = Shown()
    shown.run(look)
    assert shown.background.failure is None


def test_every_key_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def press(pilot: "Pilot[None]") -> None:
        await pilot.press(
            "m", "p", "space", "i", "t", "h", "i", "q", "enter", "v", "a", "enter", "s"
        )
        await pilot.press("v")
        await shown.until(pilot, "Name of a voice: anna, default")
        await pilot.press("escape")
        while len(shown.script.told) < 6:
            await pilot.pause(0.01)

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    shown = Shown()
    shown.run(press)
    assert shown.script.told == ["mute", "push-to-talk", "push", "interrupt", "say hiq", "voice a"]
    [saved] = tmp_path.glob("mimo-live/conversations/conversation-*.txt")
    assert "user  Is this ws://box?" in saved.read_text()
    assert saved.with_suffix(".wav").read_bytes().startswith(b"RIFF")


def test_a_conversation_that_fails_closes_the_screen_and_leaves_its_reason():
    async def fail(_pilot: "Pilot[None]") -> None:
        shown.script.failure = AgentError("the server is full")
        shown.background.do(shown.script.end())
        shown.background.join()

    shown = Shown()
    shown.run(fail)
    assert str(shown.background.failure) == "the server is full"


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_the_user_is_heard_while_the_screen_still_loads(tmp_path: Path):

    def script(peer: Peer) -> None:
        peer.send({"type": "session.created", "session": {}})
        while not peer.sent("input_audio_buffer.append"):
            peer.receive()
        process.terminate()
        (tmp_path / "may_load").touch()
        peer.listen_on()

    (tmp_path / "textual.py").write_text(SLOW_TO_LOAD)
    with virtual_audio() as card, server(script) as (url, peers):
        parent, child = pty.openpty()
        environment = card.environment | {"PYTHONPATH": str(tmp_path), "TERM": "xterm"}
        words = command("talk", "--url", url)
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=child, stdout=child, stderr=child
        )
        os.close(child)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(parent)
    assert peers[0].sent("input_audio_buffer.append")


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_talk_shows_the_screen_in_a_terminal_and_leaves_it_clean():
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(begun(1), *ended(1, "Good morning."))
        peer.listen_on()

    with virtual_audio() as card, server(script) as (url, _):
        parent, child = pty.openpty()
        environment = card.environment | {"TERM": "xterm-256color"}
        words = command("talk", "--url", url)
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=child, stdout=child, stderr=child
        )
        os.close(child)
        watchdog = threading.Timer(40, process.send_signal, [signal.SIGKILL])
        watchdog.start()
        output = b""
        while b"Good morning." not in output:
            output += os.read(parent, 65536)
        os.write(parent, b"q")
        rest = b""
        while b"\x1b[?1049l" not in rest:
            rest += os.read(parent, 65536)
        assert process.wait(20) == 0
        watchdog.cancel()
        os.close(parent)
