"""Microphone and loudspeaker: mono PCM16 at 24 kHz, through PortAudio; devices come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager

import numpy as np

from agent.audio import RATE, Samples
from client.sound.anchor import anchored
from client.sound.device_sound import Form, FromDevice, ToDevice
from client.sound.opening import Callback, DeviceStream
from client.sound.portaudio import DeviceError, Names, PortAudio, look_again
from client.terminal.view import View

TAIL_S = 0.05
"""Sound systems hold a little more than they say."""

NO_DEVICE_S = 2.0
"""Between looks for a device when there is none."""


class Microphone:
    """What the user says, in chunks of any length."""

    def __init__(self, portaudio: PortAudio, name: str | None = None):
        self._stream = DeviceStream(portaudio, "input", name, self._take)
        self.calls = 0
        """Of PortAudio, so far; a device that went away stops calling."""

    @property
    def delay_samples(self) -> int:
        """From the ear of the microphone to `read`."""
        return self._stream.latency_samples + self._sound.held_samples

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        self._stream.close()

    def read(self) -> bytes:
        """Everything that was said since the last call."""
        return self._sound.read()

    def _take(self, form: Form) -> Callback:
        self._sound = sound = FromDevice(form)

        def arrived(buffer: memoryview, _frames: int, _time: object, _status: object) -> None:
            self.calls += 1
            sound.arrived(np.frombuffer(buffer, np.int16))

        return arrived


class Loudspeaker:
    """What the user hears; holds at most 40 ms that were not handed to the system yet."""

    def __init__(self, portaudio: PortAudio, name: str | None = None):
        self._stream = DeviceStream(portaudio, "output", name, self._give)
        self.calls = 0
        """Of PortAudio, so far; a device that went away stops calling."""

    @property
    def form(self) -> Form:
        """The one that the device took."""
        return self._stream.form

    @property
    def room(self) -> int:
        """Samples that `write` takes now."""
        return self._sound.room

    @property
    def delay_samples(self) -> int:
        """Samples that were written and have not reached the ear."""
        return self._sound.waiting_samples + self._stream.latency_samples

    @property
    def echo_samples(self) -> int:
        """From the newest sample of `played` to the ear."""
        return self._stream.latency_samples - self._sound.held_samples

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        self._stream.close()

    def write(self, sound: Samples) -> None:
        """Play next; the caller keeps to `room`."""
        self._sound.write(sound)

    def finish(self) -> None:
        """Have the last samples played, too; nothing can be written afterwards."""
        self._sound.finish()

    def played(self) -> Samples:
        """What PortAudio took since the last call, silence included: the echo's source."""
        return self._sound.played()

    def _give(self, form: Form) -> Callback:
        self._sound = sound = ToDevice(form)

        def wanted(buffer: memoryview, _frames: int, _time: object, _status: object) -> None:
            self.calls += 1
            sound.fill(np.frombuffer(buffer, np.int16))

        return wanted


@contextmanager
def open_devices(
    portaudio: PortAudio, names: Names | None = None
) -> Generator[tuple[Microphone, Loudspeaker]]:
    """A microphone and a loudspeaker, running.

    Raises:
        DeviceError: If one of them can't be opened.
    """
    input_name, output_name = names or Names()
    with ExitStack() as opened:
        microphone = Microphone(portaudio, input_name)
        opened.callback(microphone.close)
        loudspeaker = Loudspeaker(portaudio, output_name)
        opened.callback(loudspeaker.close)
        microphone.start()
        loudspeaker.start()
        opened.enter_context(anchored(portaudio, output_name, loudspeaker.form))
        yield microphone, loudspeaker


class Devices:
    """The two that are in use: the chosen ones, and the system's own once one of them fails."""

    def __init__(self, portaudio: PortAudio, names: Names, view: View):
        self._portaudio = portaudio
        self._names = names
        self._view = view
        self._loudspeaker: Loudspeaker | None = None

    @property
    def delay_samples(self) -> int:
        """Samples that were written and have not reached the ear; 0 without a loudspeaker."""
        return self._loudspeaker.delay_samples if self._loudspeaker is not None else 0

    async def serve(self, pump: Callable[[Microphone, Loudspeaker], Awaitable[str]]) -> None:
        """Have sound moved until cancelled.

        Args:
            pump: Moves it until one of the two devices is gone, and returns which.
        """
        names, refused = self._names, ""
        while True:
            try:
                with open_devices(self._portaudio, names) as (microphone, loudspeaker):
                    if refused:
                        self._view.note("The sound devices work now.")
                        refused = ""
                    self._loudspeaker = loudspeaker
                    try:
                        gone = await pump(microphone, loudspeaker)
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
