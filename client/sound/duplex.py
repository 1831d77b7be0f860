"""Sound both ways, from the microphone and to the loudspeaker, whichever devices these are.

They may serve several conversations in turn; whom they serve now is their `listener`.
"""

import asyncio
from typing import Protocol

import numpy as np

from agent.audio import Samples
from client.sound.clip import FRAME_SAMPLES, level
from client.sound.devices import Devices, Loudspeaker, Microphone
from client.sound.echo_canceller import EchoCanceller, can_cancel, find_processor
from client.sound.microphone_check import MicrophoneCheck
from client.sound.portaudio import CallbackWatch, Names, PortAudio
from client.terminal.view import View

BLOCK_S, LOOK_S = 0.019, 0.004
"""From one look for sound to the next: as it comes every 20 ms, just before the next is due, and
soon again if it was not there. So it waits 2 ms on average, and a processor is seldom woken."""


class Listener(Protocol):
    """Whom the devices serve."""

    def ready(self, safe: bool) -> None:
        """The devices run; `safe` if the agent won't hear itself."""
        ...

    async def hear(self, pcm: bytes, loudness: float) -> None:
        """Take what the user said since the last call, without the agent's own voice.

        Args:
            pcm: Mono PCM16 at 24 kHz.
            loudness: Its root mean square, from 0.0 to 1.0.
        """
        ...

    async def play(self, out: Samples) -> None:
        """Fill `out`, 20 ms, with what the user is to hear next."""
        ...


class Duplex:
    """Microphone and loudspeaker; all of it on one event loop."""

    def __init__(self, portaudio: PortAudio, names: Names, headphones: bool, view: View):
        self._devices = Devices(portaudio, names, view)
        self._headphones = headphones
        self._check = MicrophoneCheck(view)
        self._frame = np.zeros(FRAME_SAMPLES, np.int16)
        self.listener: Listener | None = None
        self.cleans = True
        """Echoes and noise are taken out, where that is possible."""
        self.alive_at = 0.0
        """When both devices last worked, on the running loop's clock."""
        self.heard = 0.0
        """How loud the microphone is now: a root mean square from 0.0 to 1.0."""

    @property
    def played(self) -> float:
        """How loud the loudspeaker is now, in the same measure."""
        return level(self._frame)

    def delay_samples(self) -> int:
        """How much of what `Listener.play` gave has not reached the ear yet."""
        return self._devices.delay_samples

    @property
    def is_safe(self) -> bool:
        """Whether the agent's own voice is kept out of what `Listener.hear` gets."""
        return self._headphones or can_cancel()

    async def run(self) -> None:
        """Use the chosen devices until cancelled, and others when one goes away."""
        await self._devices.serve(self._pump)

    async def _pump(self, microphone: Microphone, loudspeaker: Loudspeaker) -> str:
        """Move sound until a device stops calling; return which."""
        processor = None if self._headphones else find_processor()
        echo = None if processor is None else EchoCanceller(processor)
        if self.listener is not None:
            self.listener.ready(self.is_safe)
        clock = asyncio.get_running_loop().time
        hearing, playing = CallbackWatch(clock()), CallbackWatch(clock())
        # One loop for both: what wakes a processor costs more than what it then does.
        while True:
            found = await self._hear(microphone, loudspeaker, echo)
            while loudspeaker.room >= FRAME_SAMPLES:
                await self._play()
                loudspeaker.write(self._frame)
            now = clock()
            if hearing.has_ended(now, microphone.calls):
                return "microphone"
            if playing.has_ended(now, loudspeaker.calls):
                return "loudspeaker"
            self.alive_at = max(self.alive_at, min(hearing.seen, playing.seen))
            await asyncio.sleep(BLOCK_S if found else LOOK_S)

    async def _hear(
        self, microphone: Microphone, loudspeaker: Loudspeaker, echo: EchoCanceller | None
    ) -> bool:
        """Pass on what was said since the last call, if something was."""
        recorded = microphone.read()
        if not recorded:
            return False
        self._check.add(np.frombuffer(recorded, np.int16))
        if echo is not None:
            delay = microphone.delay_samples + loudspeaker.echo_samples
            cleaned = echo.clean(recorded, loudspeaker.played(), delay)
            recorded = cleaned if self.cleans else recorded
        self.heard = level(np.frombuffer(recorded, np.int16))
        if self.listener is not None:
            await self.listener.hear(recorded, self.heard)
        return True

    async def _play(self) -> None:
        if self.listener is None:
            self._frame[:] = 0
        else:
            await self.listener.play(self._frame)
