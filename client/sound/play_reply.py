"""Plays the sound of one reply as it comes."""

import asyncio

import numpy as np

from agent.audio import RATE
from client.sound.devices import Loudspeaker
from client.sound.portaudio import find_portaudio

TICK_S = 0.01
"""Longer could miss the moment when the loudspeaker runs dry, shorter wakes a processor in vain."""
TAIL_S = 0.1
"""Sound systems hold a little more than they say; it is heard before the loudspeaker is let go."""


class ReplyPlayer:
    """The loudspeaker, and what waits for it.

    Raises:
        DeviceError: If there is none.
    """

    def __init__(self) -> None:
        self._loudspeaker = Loudspeaker(find_portaudio("output"))
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()

    def push(self, pcm: bytes) -> None:
        self._waiting.put_nowait(pcm)

    def end(self) -> None:
        self._waiting.put_nowait(b"")

    async def play(self) -> None:
        """Play all that is pushed, until `end` and the last sample has been heard."""
        try:
            self._loudspeaker.start()
            while pcm := await self._waiting.get():
                sound = np.frombuffer(pcm, np.int16)
                while len(sound):
                    room = max(0, self._loudspeaker.room)
                    self._loudspeaker.write(sound[:room])
                    sound = sound[room:]
                    await asyncio.sleep(TICK_S)
            self._loudspeaker.finish()
            await asyncio.sleep(self._loudspeaker.delay_samples / RATE + TAIL_S)
        finally:
            self._loudspeaker.close()
