"""The documents' pictures of terminal and kiosk, taken anew: `python -m tests.drivers.pictures`."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from textual.pilot import Pilot

from client.live import Live, LiveOptions
from client.recording import Recording
from client.sound.duplex import Duplex
from client.sound.portaudio import Names, find_portaudio
from client.terminal.background import Background
from client.terminal.screen import LiveScreen
from client.terminal.screen_state import ScreenState
from tests.drivers.model_client import DATA
from tests.drivers.page import chromium
from tests.drivers.processes import ROOT, start_model, start_server
from tests.drivers.virtual_audio import VirtualAudio, virtual_audio

IMAGES = ROOT / "docs" / "images"
CONFIG = (ROOT / "configs" / "kiosk.toml").read_text(encoding="utf-8")


def take_kiosk(folder: Path, url: str) -> None:
    """The kiosk, waiting for a visitor."""
    address = f"http{url.removeprefix('ws')}/kiosk"
    with chromium(folder, is_unattended=True) as browser, browser.page(address) as talk:
        talk.page.locator('body[data-screen="attract"]').wait_for(state="attached")
        talk.page.screenshot(path=IMAGES / "kiosk.png")


async def take_terminal(card: VirtualAudio, url: str) -> None:
    """The live screen, while the second answer is played."""
    os.environ.update(card.environment)
    screen_state, recording = ScreenState(), Recording(time.monotonic())
    duplex = Duplex(find_portaudio(), Names(), headphones=False, view=screen_state)
    talk = Background(Live(duplex, LiveOptions(None, -15.0, None), screen_state, recording), url)
    screen = LiveScreen(talk, screen_state, recording)
    talk.start()
    async with screen.run_test(size=(100, 22)) as pilot:
        for question in ("weather_question.wav", "hi_how_are_you.wav"):
            await _until("Listening…", screen, pilot)
            await asyncio.to_thread(card.say(DATA / question).wait)
            await _until("Speak to interrupt", screen, pilot)
        await pilot.pause(1.0)
        (IMAGES / "talk.svg").write_text(screen.export_screenshot(title="mimo-live talk"))
    talk.end()
    talk.join()


async def _until(words: str, screen: LiveScreen, pilot: Pilot[None]) -> None:
    async with asyncio.timeout(30):
        while words.replace(" ", "&#160;") not in screen.export_screenshot():
            await pilot.pause(0.1)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, start_model() as model, virtual_audio() as card:
        folder = Path(name)
        # The browser's microphone does not hear its loudspeaker.
        config = folder / "kiosk.toml"
        config.write_text(CONFIG.replace("self_test = true", "self_test = false"))
        with start_server(model, "--config", str(config)) as url:
            take_kiosk(folder, url)
            asyncio.run(take_terminal(card, url))


if __name__ == "__main__":
    main()
