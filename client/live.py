"""A conversation through the sound card, and what a person can do in it."""

import asyncio
import itertools
import time
from random import Random
from typing import Literal, NamedTuple

import numpy as np

from agent.audio import RATE, Samples, seconds
from client.clip_player import ticks
from client.dialogue.backoff import backoff
from client.dialogue.call import Call
from client.dialogue.connection import KEPT_BYTES, Connection, open_connection
from client.dialogue.events import EXTENSIONS, Extension
from client.dialogue.latency import LiveSpeech, SentSound, Turn
from client.recording import Recording
from client.sound.duplex import Duplex
from client.tasks import together
from client.terminal.push_to_talk import PushToTalk
from client.terminal.view import SHOWN_EVERY_S, State, Status, View

STUCK_S = 60.0
"""A server that says nothing for so long owes nothing any more."""

TOO_SHORT = "That was too short. Hold the key for as long as you speak."


class LiveOptions(NamedTuple):
    instructions: str | None
    duck_db: float
    voice: str | None


class Live:
    """Talks until cancelled; all of it on one event loop.

    Args:
        recording: Gets what is said and heard.
        before: Speech that came first; what is said until the server is there comes to it.
    """

    def __init__(
        self,
        duplex: Duplex,
        options: LiveOptions,
        view: View,
        recording: Recording | None = None,
        before: bytearray | None = None,
    ):
        self._duplex = duplex
        self._recording = recording
        self._before = before
        self._options = options
        self._view = view
        self._speech = LiveSpeech()
        self._sent = SentSound()
        self._push: PushToTalk | None = None
        self._hands_free: dict[str, object] = {}
        self._muted = self._invited = False
        self._safe: bool | None = None
        """The agent won't hear itself; `None` before the devices run."""
        self._call: Call | None = None
        self._connection: Connection | None = None

    async def run(self, url: str) -> None:
        """Talk with a server; the devices start while it is being reached.

        Raises:
            UnreachableError: If it can't be reached at the start, or sends this client away.
        """
        self._duplex.listener = self
        async with together() as tasks:
            tasks.create_task(self._duplex.run())
            tasks.create_task(self.converse(url))

    async def converse(self, url: str) -> None:
        """Talk with a server, through devices that somebody else runs; else like `run`."""
        clock = asyncio.get_running_loop().time
        waits_s = lambda: backoff(Random())  # noqa: E731
        async with open_connection(url, waits_s) as connection:
            cancels: tuple[Extension, ...] = ("echo_cancelled",) if self._duplex.is_safe else ()
            wanted = (*EXTENSIONS, *cancels)
            options = self._options
            await connection.start_session(options.instructions, wanted, options.voice)
            if self._before is not None:
                self._sent.add(clock(), seconds(self._before))
                await connection.append(bytes(self._before))
            ended_at, delay = self._speech.ended_at, self._duplex.delay_samples
            duck_db = self._options.duck_db
            said_at = self._sent.caught_at
            self._call = Call(
                connection, self._view, clock, ended_at, delay, duck_db=duck_db, said_at=said_at
            )
            self._connection = connection
            self._view.connection("")
            self._invite()
            async with together() as tasks:
                tasks.create_task(self._call.receive())
                tasks.create_task(self._show(self._call))

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
        await self._connection.change("input", turn_detection=detection)

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
        if self._call is not None:
            await self._call.stop()

    async def say(self, text: str) -> None:
        """Write instead of speaking."""
        if self._call is not None:
            await self._call.say(text)
        else:
            self._view.note(f"Not sent, as there is no connection yet: {text}")

    @property
    def voices(self) -> list[str]:
        """The voices by name, as far as the server tells."""
        return self._connection.agreed.voices if self._connection is not None else []

    async def use_voice(self, name: str) -> None:
        if self._call is not None:
            await self._call.use_voice(name)

    # --- sound -------------------------------------------------------------------------------

    def ready(self, safe: bool) -> None:
        self._safe = safe
        self._invite()

    async def hear(self, pcm: bytes, loudness: float) -> None:
        call, connection = self._call, self._connection
        if call is None or connection is None:
            if self._before is not None:
                self._before += pcm
                del self._before[:-KEPT_BYTES]
            return
        now = asyncio.get_running_loop().time()
        if self._muted:
            # Silence, not nothing: the server measures time in what it hears.
            pcm = bytes(len(pcm))
        if self._push is None:
            self._speech.add(now, loudness, call.floor.user_speaks)
            await self._send(connection, pcm)
        elif self._push.open:
            self._speech.add(now, loudness, True)
            await self._send(connection, pcm)
            self._push.tick(now)
            if self._push.open:
                return
            if self._push.slipped:
                await connection.send("input_audio_buffer.clear")
                self._view.problem(TOO_SHORT)
            else:
                await connection.send("input_audio_buffer.commit")
                await connection.send("response.create")

    async def _send(self, connection: Connection, pcm: bytes) -> None:
        if self._recording is not None:
            began = time.monotonic() - seconds(pcm)
            self._recording.add("user", np.frombuffer(pcm, np.int16), began)
        self._sent.add(asyncio.get_running_loop().time(), seconds(pcm))
        await connection.append(pcm)

    async def play(self, out: Samples) -> None:
        if self._call is None:
            out[:] = 0
            return
        if self._call.pull(out) and self._recording is not None:
            delay_s = self._duplex.delay_samples() / RATE
            self._recording.add("agent", out, time.monotonic() + delay_s)
        await self._call.report()

    def _invite(self) -> None:
        """Say so once both the devices and the connection are there."""
        if self._invited or self._safe is None or self._call is None:
            return
        self._invited = True
        advice = "" if self._safe else " Headphones keep the agent from hearing itself."
        self._view.note(f"Speak now.{advice}")

    @property
    def is_busy(self) -> bool:
        """Somebody speaks, or an answer is due, as far as the server can still tell."""
        call, connection = self._call, self._connection
        if call is None or connection is None or connection.is_away:
            return False
        now = asyncio.get_running_loop().time()
        is_owed = call.floor.user_speaks or call.floor.answer_due
        return call.jitter.buffered > 0 or (is_owed and now < call.floor.changed_at + STUCK_S)

    # --- what is shown -----------------------------------------------------------------------

    async def _show(self, call: Call) -> None:
        shown: Turn | None = None
        numbers = itertools.count(1)
        async for _ in ticks(asyncio.get_running_loop().time(), SHOWN_EVERY_S):
            turn = call.floor.turn
            if turn is not shown and turn is not None and (latency := turn.latency()):
                shown = turn
                self._view.turn(next(numbers), None, latency)
            self._view.status(
                Status(
                    state=self._state(call),
                    microphone=self._duplex.heard,
                    loudspeaker=self._duplex.played,
                    saying=call.saying,
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
