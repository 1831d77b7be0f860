"""Sound both ways, microphone and loudspeaker, while devices come and go.

They may serve several conversations in turn; whom they serve now is their `listener`.
"""

import asyncio
from typing import Protocol

import numpy as np

from agent.audio import RATE, Samples
from client.sound.clip import FRAME_SAMPLES, level
from client.sound.devices import Loudspeaker, Microphone, open_devices
from client.sound.echo_canceller import EchoCanceller, find_processor
from client.sound.microphone_check import MicrophoneCheck
from client.sound.portaudio import CallbackWatch, DeviceError, Names, PortAudio, look_again
from client.terminal.view import View

BLOCK_S, LOOK_S = 0.019, 0.004
"""From one look for sound to the next: as it comes every 20 ms, just before the next is due, and
soon again if it was not there. So it waits 2 ms on average, and a processor is seldom woken."""

TAIL_S = 0.05
"""Sound systems hold a little more than they say."""

NO_DEVICE_S = 2.0
"""Between looks for a device when there is none."""


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
        self._portaudio = portaudio
        self._names = names
        self._headphones = headphones
        self._view = view
        self._check = MicrophoneCheck()
        self._loudspeaker: Loudspeaker | None = None
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
        return self._loudspeaker.delay_samples if self._loudspeaker is not None else 0

    async def run(self) -> None:
        """Use the chosen devices until cancelled, and others when one goes away."""
        names, refused = self._names, ""
        while True:
            try:
                with open_devices(self._portaudio, names) as (microphone, loudspeaker):
                    if refused:
                        self._view.note("The sound devices work now.")
                        refused = ""
                    try:
                        gone = await self._pump(microphone, loudspeaker)
                    except asyncio.CancelledError:
                        # What is on its way fades out where it ends; closing would cut it.
                        await asyncio.sleep(loudspeaker.delay_samples / RATE + TAIL_S)
                        raise
            except DeviceError as error:
                if names != Names():
                    self._view.problem(f"{error}; using the default devices.")
                else:
                    # What keeps a device from working is said once, not every two seconds.
                    if str(error) != refused:
                        refused = str(error)
                        self._view.problem(f"{error}; trying again until it works.")
                    await asyncio.sleep(NO_DEVICE_S)
            else:
                self._view.problem(f"The {gone} went away; using the default devices.")
            self._loudspeaker = None
            names = Names()
            look_again(self._portaudio)

    async def _pump(self, microphone: Microphone, loudspeaker: Loudspeaker) -> str:
        """Move sound until a device stops calling; return which."""
        self._loudspeaker = loudspeaker
        processor = None if self._headphones else find_processor()
        echo = None if processor is None else EchoCanceller(processor)
        if self.listener is not None:
            self.listener.ready(echo is not None or self._headphones)
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
        was_silent = self._check.is_silent
        if advice := self._check.add(np.frombuffer(recorded, np.int16)):
            self._view.problem(advice)
        if was_silent and not self._check.is_silent:
            self._view.note("The microphone works now.")
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
