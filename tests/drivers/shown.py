"""The live screen, in a terminal without a glass."""

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from agent.errors import AgentError
from client.dialogue.latency import Latency
from client.recording import Recording
from client.terminal.background import Background
from client.terminal.meter import BARS
from client.terminal.screen import LiveScreen
from client.terminal.screen_state import ScreenState
from client.terminal.view import Status, View


class Script:
    """A conversation that shows things, and notes what it is told to do."""

    def __init__(self, view: View):
        self.view = view
        self.told: list[str] = []
        self.voices = ["anna", "default"]
        self.failure: AgentError | None = None
        self.heard = asyncio.Event()

    async def run(self, url: str) -> None:
        self.view.connection("")
        self.view.caption("user", f"Is this {url}?")
        self.view.turn(1, None, Latency(1040, 580, 450, 10, 610))
        self.view.status(Status("speaking", 0.1, 0.1, saying="It is.", muted=True))
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
        self.screen_state = screen_state = ScreenState()
        screen_state.problem("The headset isn't there.")
        self.script = Script(screen_state)
        self.background = Background(self.script, "ws://box")
        self.screen = LiveScreen(self.background, screen_state, Recording(0.0))

    def run(
        self, use: Callable[["Pilot[None]"], Awaitable[None]], size: tuple[int, int] = (100, 24)
    ) -> None:
        async def show() -> None:
            self.background.start()
            async with self.screen.run_test(size=size) as pilot:
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

    def words(self) -> str:
        """All that is on the screen but its bars, in one line with single blanks."""
        return " ".join(self.picture().translate(dict.fromkeys(map(ord, BARS[1:]))).split())

    async def until(self, pilot: "Pilot[None]", *expected: str) -> None:
        """Wait until all this is on the screen."""
        async with asyncio.timeout(10):
            while not all(each in self.words() for each in expected):
                await pilot.pause(0.01)
