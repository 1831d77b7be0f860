"""The two ends of sound, microphone and loudspeaker, while devices come and go.

They may serve several conversations in turn; whom they serve now is their `listener`.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agent.audio import RATE, Samples
from client import devices
from client.devices import DeviceError, Loudspeaker, Microphone, Names, PortAudio
from client.echo import EchoCanceller, find_processor
from client.latency import FRAME_SAMPLES, level
from client.microphone_check import MicrophoneCheck
from client.view import View

BLOCK_S = 0.019
LOOK_S = 0.004
"""From one look for sound to the next: as it comes every 20 ms, just before the next is due, and
soon again if it was not there. So it waits 2 ms on average, and a processor is seldom woken."""

SILENT_DEVICE_S = 2.5
"""A device that has not called for so long went away; after an underrun, PulseAudio's may need
1.9 s to go on by itself."""

STARTING_S = 5.0
"""Devices may take as long until they call for the first time."""

STALL_S = 0.5
"""A pause of this program that says nothing about devices."""

TAIL_S = 0.05
"""Sound systems hold a little more than they say."""

NO_DEVICE_S = 2.0
"""Between looks for a device when there is none."""


class Listener(Protocol):
    """Whom the ends serve."""

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


class Ends:
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
        names = self._names
        while True:
            try:
                with devices.open_devices(self._portaudio, names) as (microphone, loudspeaker):
                    try:
                        gone = await self._pump(microphone, loudspeaker)
                    except asyncio.CancelledError:
                        # What is on its way fades out where it ends; closing would cut it.
                        await asyncio.sleep(loudspeaker.delay_samples / RATE + TAIL_S)
                        raise
            except DeviceError as error:
                if names == Names():
                    self._view.problem(f"{error}; looking again.")
                    await asyncio.sleep(NO_DEVICE_S)
                else:
                    self._view.problem(f"{error}; using the default devices.")
            else:
                self._view.problem(f"The {gone} went away; using the default devices.")
            self._loudspeaker = None
            names = Names()
            devices.look_again(self._portaudio)

    async def _pump(self, microphone: Microphone, loudspeaker: Loudspeaker) -> str:
        """Move sound until a device stops calling; return which."""
        self._loudspeaker = loudspeaker
        processor = None if self._headphones else find_processor()
        echo = None if processor is None else EchoCanceller(processor)
        if self.listener is not None:
            self.listener.ready(echo is not None or self._headphones)
        clock = asyncio.get_running_loop().time
        pulse = _Pulse(clock())
        # One loop for both: what wakes a processor costs more than what it then does.
        while True:
            found = await self._hear(microphone, loudspeaker, echo)
            while loudspeaker.room >= FRAME_SAMPLES:
                await self._play()
                loudspeaker.write(self._frame)
            if gone := pulse.gone(clock(), (microphone.calls, loudspeaker.calls)):
                return gone
            self.alive_at = max(self.alive_at, pulse.seen)
            await asyncio.sleep(BLOCK_S if found else LOOK_S)

    async def _hear(
        self, microphone: Microphone, loudspeaker: Loudspeaker, echo: EchoCanceller | None
    ) -> bool:
        """Pass on what was said since the last call, if something was."""
        recorded = microphone.read()
        if not recorded:
            return False
        if advice := self._check.add(np.frombuffer(recorded, np.int16)):
            self._view.problem(advice)
        if echo is not None:
            delay = microphone.delay_samples + loudspeaker.latency_samples
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


@dataclass
class _Pulse:
    """Whether both devices still call."""

    began: float

    def __post_init__(self) -> None:
        self._looked = self.began
        self._calls = [0, 0]
        self._seen = [self.began, self.began]

    @property
    def seen(self) -> float:
        """When both of them called last."""
        return min(self._seen)

    def gone(self, now: float, calls: tuple[int, int]) -> str | None:
        """Which device has not called for too long, if one has not."""
        patience_s = SILENT_DEVICE_S if now - self.began > STARTING_S else STARTING_S
        stalled, self._looked = now - self._looked > STALL_S, now
        for which, count in enumerate(calls):
            if count != self._calls[which] or stalled:
                self._calls[which], self._seen[which] = count, now
            elif now - self._seen[which] > patience_s:
                return ("microphone", "loudspeaker")[which]
        return None
