"""What the two ends of sound say about their microphone, on a sound card that the test plays."""

import asyncio
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from agent.audio import RATE, Samples
from client.own_command import own_command
from client.sound.duplex import Duplex
from client.sound.portaudio import Names, PortAudio
from client.terminal.lines import Terminal
from client.terminal.view import View

DEVICE = {
    "name": "card",
    "default_samplerate": RATE,
    "max_input_channels": 1,
    "max_output_channels": 1,
}


class Card:
    """Stands in for PortAudio; its microphone gives a second at a time, as loud as it is told."""

    PortAudioError = ValueError

    def __init__(self, *seconds: int):
        self._seconds = iter(seconds)
        self._arrived: Callable[..., None] | None = None
        self.all_heard = asyncio.Event()

    def query_devices(self, _device: object = None, _kind: object = None) -> object:
        return DEVICE

    def RawInputStream(self, **options: Any) -> object:  # noqa: N802
        self._arrived = options["callback"]
        return SimpleNamespace(latency=0.0, start=self._give, close=lambda: None)

    def RawOutputStream(self, **_options: Any) -> object:  # noqa: N802
        return SimpleNamespace(latency=0.0, start=lambda: None, close=lambda: None)

    def _give(self) -> None:
        assert self._arrived is not None
        level = next(self._seconds, None)
        if level is None:
            self.all_heard.set()
        else:
            sound = np.full(RATE, level, np.int16).tobytes()
            self._arrived(memoryview(sound), RATE, None, None)

    # As a listener, it gives the next second once it was heard.
    def ready(self, safe: bool) -> None: ...

    async def hear(self, pcm: bytes, loudness: float) -> None:
        self._give()

    async def play(self, out: Samples) -> None:
        out[:] = 0


def said_of(*seconds: int) -> list[str]:
    """What is said about a microphone that is so loud in each of these seconds."""

    async def listen(view: View) -> None:
        card = Card(*seconds)
        ends = Duplex(cast(PortAudio, card), Names(), True, view)
        ends.listener = card
        running = asyncio.create_task(ends.run())
        await card.all_heard.wait()
        running.cancel()

    shown = io.StringIO()
    asyncio.run(listen(Terminal(shown, shown)))
    return shown.getvalue().splitlines()


def test_a_silent_microphone_is_said_to_work_once_it_is_heard():
    for complaint, level in (("No sound", 0), ("very quiet", 10)):
        said, *more = said_of(*[level] * 5, 1000, 0, 0, 0, 0, 1000)
        assert complaint in said
        assert said.endswith(f"run: {own_command()} talk --devices")
        assert more == ["The microphone works now."]


def test_a_microphone_that_works_is_not_worth_a_word():
    assert said_of(*[1000] * 5) == []
