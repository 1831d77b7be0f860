"""The live screen, in a terminal without a glass: keys in, pictures out."""

import asyncio
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.errors import AgentError
from client.background import Background
from client.board import Board
from client.latency import Latency
from client.recording import Recording
from client.view import Status, View
from tests.processes import ROOT, command
from tests.test_client_talk import Peer, begun, ended, server
from tests.virtual_audio import is_installed, virtual_audio

pytest.importorskip("textual", reason="the extra `screen` is not installed")

from textual.pilot import Pilot

from client.screen import LiveScreen

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


class Script:
    """A conversation that shows things, and notes what it is told to do."""

    def __init__(self, view: View):
        self.view = view
        self.told: list[str] = []
        self.failure: AgentError | None = None
        self.heard = asyncio.Event()

    async def run(self, url: str) -> None:
        self.view.connection("")
        self.view.caption("user", f"Is this {url}?")
        self.view.partial("agent", "It is. Anything else?")
        self.view.turn(1, None, Latency(1040, 580, 450, 10, 610))
        self.view.status(Status("speaking", 0.1, 0.1, spoken=0.2, muted=True))
        await self.heard.wait()
        if self.failure is not None:
            raise self.failure

    async def mute(self) -> None:
        self.told.append("mute")

    async def toggle_push_to_talk(self) -> None:
        self.told.append("push-to-talk")

    async def push(self) -> None:
        self.told.append("push")

    async def interrupt(self) -> None:
        self.told.append("interrupt")

    async def say(self, text: str) -> None:
        self.told.append(f"say {text}")

    async def use_voice(self, name: str) -> None:
        self.told.append(f"voice {name}")

    async def end(self) -> None:
        self.heard.set()


class Shown:
    """The screen of a `Script`."""

    def __init__(self) -> None:
        board = Board()
        board.problem("The headset isn't there.")
        self.script = Script(board)
        self.background = Background(self.script, "ws://box")
        self.screen = LiveScreen(self.background, board, Recording(0.0))

    def run(self, use: Callable[["Pilot[None]"], Awaitable[None]]) -> None:
        async def show() -> None:
            self.background.start()
            async with self.screen.run_test(size=(100, 24)) as pilot:
                while "Is this" not in self.picture():
                    await pilot.pause(0.01)
                await use(pilot)
            self.background.end()
            self.background.join()

        asyncio.run(show())

    def picture(self) -> str:
        """What is on the screen, as text."""
        lines = self.screen.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
        return "\n".join(strip.text for strip in lines)


def test_captions_levels_latency_connection_and_keys_are_on_the_screen():
    async def look(_pilot: "Pilot[None]") -> None:
        picture = shown.picture()
        for words in (
            "● speaking",
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
        assert "Anything" not in picture

    shown = Shown()
    shown.run(look)
    assert shown.background.failure is None


def test_every_key_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def press(pilot: "Pilot[None]") -> None:
        await pilot.press(
            "m", "p", "space", "i", "t", "h", "i", "q", "enter", "v", "a", "enter", "s"
        )
        await pilot.press("t", "escape")
        while len(shown.script.told) < 6:
            await pilot.pause(0.01)

    monkeypatch.chdir(tmp_path)
    shown = Shown()
    shown.run(press)
    assert shown.script.told == ["mute", "push-to-talk", "push", "interrupt", "say hiq", "voice a"]
    [saved] = tmp_path.glob("conversation-*.txt")
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
