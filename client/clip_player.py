"""A voice that stands in for the microphone: speaks recordings in real time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np

from agent.audio import SAMPLE_BYTES
from client.sound.clip import FRAME_S, FRAME_SAMPLES, Clip


async def ticks(began: float, period_s: float = FRAME_S) -> AsyncIterator[int]:
    """Count periods since `began`, on the running loop's clock; catches up when late."""
    clock = asyncio.get_running_loop().time
    for tick in itertools.count():
        await asyncio.sleep(max(0.0, began + tick * period_s - clock()))
        yield tick


class ClipPlayer:
    """Takes the microphone's place: speaks recordings in real time, and silence otherwise."""

    def __init__(self, append: Callable[[bytes], Awaitable[None]], began: float):
        self._append = append
        self._waiting = np.zeros(0, np.int16)
        self._speech_s: float | None = None
        self.began = began
        self.speech_ended_at = began
        """When the latest recording's speech ends, which may be yet to come."""
        self.said = bytearray()
        """All that was sent, silence included, from `began` on."""

    @property
    def silent(self) -> bool:
        return not len(self._waiting)

    def say(self, clip: Clip) -> None:
        self._waiting = clip.sound
        self._speech_s = clip.speech_s

    async def speak(self) -> None:
        """Send a frame whenever one has been spoken, as a microphone does: at its end."""
        async for tick in ticks(self.began):
            if tick == 0:
                continue
            if self._speech_s is not None:
                self.speech_ended_at = self.began + (tick - 1) * FRAME_S + self._speech_s
                self._speech_s = None
            spoken = self._waiting[:FRAME_SAMPLES]
            self._waiting = self._waiting[FRAME_SAMPLES:]
            frame = spoken.tobytes().ljust(FRAME_SAMPLES * SAMPLE_BYTES, b"\0")
            self.said += frame
            await self._append(frame)
