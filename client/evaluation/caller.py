"""The simulated caller: holds one call with a server in real time, as a person would."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent.audio import RATE, SAMPLE_BYTES
from agent.trace.lines import Line, Source, line
from client.clip_player import ticks
from client.dialogue.socket import UnreachableError, open_socket
from client.evaluation.scenarios import Scenario
from client.evaluation.simulated_phone import Event, SimulatedPhone, Take, without_sound
from client.sound.clip import FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class Manner:
    """How the caller behaves and what session it asks for."""

    turn_detection: Event | None = None
    """As in `session.update`; `None` leaves it to the server."""
    duck: bool = True
    """Ask to be notified, with the events `x_mimo.duck`, `.hold` and `.restore`, when to lower the
    agent's volume, to hold its voice, and to go on from there; and tell what was played."""


Note = Callable[[Line], None]


async def call(url: str, scenario: Scenario, manner: Manner, note: Note) -> Take:
    """Hold the call of a scenario and return what came of it.

    Raises:
        UnreachableError: If no conversation server answers, or it refuses the session.
    """
    async with open_socket(url) as socket:
        caller = _Caller(socket, scenario, manner, note)
        await caller.start_session()
        try:
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(caller.follow())
                await tasks.create_task(caller.speak_and_listen())
                following.cancel()
        except* (ConnectionClosed, UnreachableError) as ended:
            caller.take.problem = str(ended.exceptions[0])
        return caller.take


def session_update(manner: Manner, scenario: Scenario) -> Event:
    session: Event = {"type": "realtime"}
    if manner.turn_detection is not None:
        session["audio"] = {"input": {"turn_detection": manner.turn_detection}}
    if scenario.echo is not None:
        session["instructions"] = f"speak: {scenario.echo.spoken.stem}"
    if manner.duck:
        session["x_mimo"] = {"duck": True, "playout": True}
    return {"type": "session.update", "session": session}


class _Caller:
    """Moves the events of one call."""

    def __init__(self, socket: ClientConnection, scenario: Scenario, manner: Manner, note: Note):
        self.take = Take(scenario)
        self._phone = SimulatedPhone(self.take, reports=manner.duck)
        self._manner = manner
        self._socket = socket
        self._note = note
        self._clock = asyncio.get_running_loop().time

    async def start_session(self) -> None:
        pong = await self._socket.ping()
        self.take.round_trip_ms = 1000 * await pong
        await self._send(session_update(self._manner, self.take.scenario))
        kind = ""
        while kind != "session.updated":
            event: Event = msgspec.json.decode(await self._socket.recv())
            self._write("server", event)
            kind = event["type"]
            if kind == "error":
                raise UnreachableError(f"the session was refused: {event['error']['message']}")
        self.take.began_s = self._clock()

    async def follow(self) -> None:
        async for frame in self._socket:
            event: Event = msgspec.json.decode(frame)
            self._write("server", event)
            now = max(0, int((self._clock() - self.take.began_s) * RATE))
            for answer in self._phone.receive(event, now):
                await self._send(answer)
        raise UnreachableError("the server ended the call")

    async def speak_and_listen(self) -> None:
        """Send and play a frame whenever one is due, until the scenario is over."""
        spoken = b""
        async for tick in ticks(self.take.began_s):
            if spoken:
                await self._send({"type": "input_audio_buffer.append", "audio": spoken})
            now = tick * FRAME_SAMPLES
            if self._phone.is_over(now):
                return
            for report in self._phone.report(now):
                await self._send(report)
            spoken = self._phone.frame(now)

    async def _send(self, event: Event) -> None:
        await self._socket.send(msgspec.json.encode(event).decode())
        self._write("client", event)

    def _write(self, source: Source, event: Event) -> None:
        sent = len(self.take.said) // SAMPLE_BYTES
        self._note(line(self._clock(), sent, source, without_sound(event)))
