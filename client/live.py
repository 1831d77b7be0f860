"""A conversation through the sound card, and what a person can do in it."""

import asyncio
import itertools
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import numpy as np

from client import devices
from client.backoff import backoff
from client.call import Call
from client.connection import Connection, open_connection
from client.devices import DeviceError, Loudspeaker, Microphone, Names, PortAudio
from client.echo import EchoCanceller, find_processor
from client.latency import FRAME_SAMPLES, LiveSpeech, Turn, level
from client.microphone_check import MicrophoneCheck
from client.push_to_talk import PushToTalk
from client.script import only_foreseen
from client.view import State, Status, View
from client.voice import ticks

PUMP_S = 0.01
SCREEN_S = 0.1
SILENT_DEVICE_S = 1.5
"""A device that has not called for so long went away."""

STARTING_S = 5.0
"""Devices may take as long until they call for the first time."""

STALL_S = 0.5
"""A pause of this program that says nothing about devices."""

NO_DEVICE_S = 2.0
"""Between looks for a device when there is none."""


class LiveOptions(NamedTuple):
    instructions: str | None
    names: Names
    headphones: bool
    duck_db: float
    voice: str | None


@dataclass
class Meters:
    """How loud both sides are now: root mean squares from 0.0 to 1.0."""

    microphone: float = 0.0
    loudspeaker: float = 0.0


class Live:
    """Talks until cancelled; all of it on one event loop."""

    def __init__(self, portaudio: PortAudio, options: LiveOptions, view: View):
        self._portaudio = portaudio
        self._options = options
        self._view = view
        self._meters = Meters()
        self._speech = LiveSpeech()
        self._check = MicrophoneCheck()
        self._push: PushToTalk | None = None
        self._hands_free: dict[str, object] = {}
        self._muted = self._invited = False
        self._call: Call | None = None
        self._connection: Connection | None = None
        self._loudspeaker: Loudspeaker | None = None

    async def run(self, url: str) -> None:
        """Talk with a server.

        Raises:
            UnreachableError: If it can't be reached at the start, or sends this client away.
        """
        clock = asyncio.get_running_loop().time
        waits_s = lambda: backoff(Random())  # noqa: E731
        async with open_connection(url, waits_s) as connection:
            await connection.start_session(self._options.instructions)
            if self._options.voice is not None:
                await connection.update(audio={"output": {"voice": self._options.voice}})
            ended_at, duck_db = self._speech.ended_at, self._options.duck_db
            call = Call(connection, self._view, clock, ended_at, self._delay, duck_db=duck_db)
            self._call, self._connection = call, connection
            self._view.connection("")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(call.follow())
                    tasks.create_task(self._show(call))
                    tasks.create_task(self._talk(call, connection))
            except ExceptionGroup as failures:
                raise only_foreseen(failures) from None

    # --- what a person can do ----------------------------------------------------------------

    async def mute(self) -> None:
        self._muted = not self._muted

    async def toggle_push_to_talk(self) -> None:
        """Listen while the space bar is down only, or all the time again."""
        if self._connection is None:
            return
        if self._push is None:
            self._push = PushToTalk()
            self._hands_free = self._connection.turn_detection or {"type": "server_vad"}
            detection = None
        else:
            self._push, detection = None, self._hands_free
        await self._connection.update(audio={"input": {"turn_detection": detection}})

    async def push(self) -> None:
        """The space bar was pressed, or repeats."""
        if self._push is None or self._call is None or self._connection is None:
            return
        was_open = self._push.open
        self._push.press(asyncio.get_running_loop().time())
        if not was_open:
            await self.interrupt()
            await self._connection.send("input_audio_buffer.clear")

    async def interrupt(self) -> None:
        """Make the agent stop."""
        if self._call is not None and self._connection is not None:
            if self._call.floor.answer_due:
                await self._connection.send("response.cancel")
            await self._call.interrupt()

    async def say(self, text: str) -> None:
        """Write instead of speaking."""
        if self._call is not None and self._connection is not None:
            await self.interrupt()
            self._call.wrote(text)
            await self._connection.write("user", text)
            await self._connection.send("response.create")

    async def use_voice(self, name: str) -> None:
        if self._connection is not None:
            await self._connection.update(audio={"output": {"voice": name}})

    # --- sound -------------------------------------------------------------------------------

    def _delay(self) -> int:
        return self._loudspeaker.delay_samples if self._loudspeaker is not None else 0

    async def _talk(self, call: Call, connection: Connection) -> None:
        """Talk through the chosen devices, and through others when one goes away."""
        names = self._options.names
        while True:
            try:
                with devices.open_devices(self._portaudio, names) as (microphone, loudspeaker):
                    self._loudspeaker = loudspeaker
                    echo = self._echo_canceller()
                    self._invite(echo)
                    async with asyncio.TaskGroup() as tasks:
                        pumps = (
                            tasks.create_task(self._speak(call, connection, microphone, echo)),
                            tasks.create_task(self._play(call, loudspeaker)),
                        )
                        gone = await _first_gone(microphone, loudspeaker)
                        for pump in pumps:
                            pump.cancel()
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

    def _echo_canceller(self) -> EchoCanceller | None:
        processor = None if self._options.headphones else find_processor()
        return None if processor is None else EchoCanceller(processor)

    def _invite(self, echo: EchoCanceller | None) -> None:
        if not self._invited:
            self._invited = True
            safe = echo is not None or self._options.headphones
            advice = "" if safe else " Headphones keep the agent from hearing itself."
            self._view.note(f"Speak now.{advice}")

    async def _speak(
        self,
        call: Call,
        connection: Connection,
        microphone: Microphone,
        echo: EchoCanceller | None,
    ) -> None:
        clock = asyncio.get_running_loop().time
        async for _ in ticks(clock(), PUMP_S):
            recorded = microphone.read()
            loudspeaker = self._loudspeaker
            if not recorded or loudspeaker is None:
                continue
            if advice := self._check.add(np.frombuffer(recorded, np.int16)):
                self._view.problem(advice)
            if echo is not None:
                delay = microphone.delay_samples + loudspeaker.latency_samples
                recorded = echo.clean(recorded, loudspeaker.played(), delay)
            await self._send(call, connection, recorded)

    async def _send(self, call: Call, connection: Connection, recorded: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._meters.microphone = level(np.frombuffer(recorded, np.int16))
        if self._muted:
            # Silence, not nothing: the server measures time in what it hears.
            recorded = bytes(len(recorded))
        if self._push is None:
            self._speech.add(now, self._meters.microphone, call.floor.user_speaks)
            await connection.append(recorded)
        elif self._push.open:
            self._speech.add(now, self._meters.microphone, True)
            await connection.append(recorded)
            self._push.tick(now)
            if not self._push.open:
                await connection.send("input_audio_buffer.commit")
                await connection.send("response.create")

    async def _play(self, call: Call, loudspeaker: Loudspeaker) -> None:
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        async for _ in ticks(asyncio.get_running_loop().time(), PUMP_S):
            while loudspeaker.room >= FRAME_SAMPLES:
                call.pull(frame)
                loudspeaker.write(frame)
                self._meters.loudspeaker = level(frame)
            await call.report()

    # --- what is shown -----------------------------------------------------------------------

    async def _show(self, call: Call) -> None:
        shown: Turn | None = None
        numbers = itertools.count(1)
        async for _ in ticks(asyncio.get_running_loop().time(), SCREEN_S):
            turn = call.floor.turn
            if turn is not shown and turn is not None and (latency := turn.latency()):
                shown = turn
                self._view.turn(next(numbers), None, latency)
            self._view.status(
                Status(
                    state=self._state(call),
                    microphone=self._meters.microphone,
                    loudspeaker=self._meters.loudspeaker,
                    spoken=call.spoken,
                    muted=self._muted,
                    push=self._push_state(),
                )
            )

    def _state(self, call: Call) -> State:
        floor, audible = call.floor, call.jitter.buffered > 0
        if audible and (call.ducked or floor.user_speaks):
            return "overlap"
        if audible:
            return "speaking"
        return "thinking" if floor.answer_due and not floor.user_speaks else "listening"

    def _push_state(self) -> Literal["off", "closed", "open"]:
        if self._push is None:
            return "off"
        return "open" if self._push.open else "closed"


async def _first_gone(microphone: Microphone, loudspeaker: Loudspeaker) -> str:
    """Wait until a device stops calling; return which."""
    clock = asyncio.get_running_loop().time
    began = looked = clock()
    calls, seen = [0, 0], [began, began]
    async for _ in ticks(began, SCREEN_S):
        now = clock()
        patience_s = SILENT_DEVICE_S if now - began > STARTING_S else STARTING_S
        for which, device in enumerate((microphone, loudspeaker)):
            if device.calls != calls[which] or now - looked > STALL_S:
                calls[which], seen[which] = device.calls, now
            elif now - seen[which] > patience_s:
                return ("microphone", "loudspeaker")[which]
        looked = now
    raise AssertionError("ticks never end")
