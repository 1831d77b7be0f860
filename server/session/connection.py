"""One client's session at work: it decides; this brings it what came and does what it wants."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from websockets.asyncio.server import ServerConnection

from agent.audio import RATE, SAMPLE_BYTES
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe, refuse
from agent.errors import ModelError, ProtocolError
from agent.floor import step as turn
from agent.model.admission import EarlyStart
from agent.model.output import Failed
from agent.realtime import client_events as protocol
from agent.realtime.resumption import Position
from agent.session import Session
from agent.trace.inputs import Busy, FromModel, Input, Judged, Returned, feed
from agent.trace.recorder import Recorder
from server.model.router import ModelClient
from server.model.transcription import Transcriber, Transcripts
from server.session.inbox import Inbox
from server.session.link import ClientGoneError, Link
from server.vad import VoiceActivityDetector

INBOX_EVENTS = 64
"""A second or two of sound: more would let a client run ahead, fewer stall the socket."""
JUDGED_AT_ONCE = RATE * SAMPLE_BYTES // 2
"""Bytes: half a second of sound keeps the loop for two or three milliseconds."""


def new_id(kind: str) -> str:
    """An id that nobody can guess; what opens a session has 128 bits."""
    return f"{kind}_{secrets.token_hex(16 if kind == 'resume' else 8)}"


class _Reply(NamedTuple):
    """A reply that the model is asked for."""

    task: asyncio.Task[None]
    early: EarlyStart | None
    """If it is made in a pause."""


class Connection:
    """Serves one client until it goes.

    Args:
        recorder: Writes the session down; the one that the session draws its ids from.
        grace_s: How long a client that asked to resume may be away.
    """

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        model: ModelClient,
        transcriber: Transcriber,
        vad: VoiceActivityDetector,
        *,
        recorder: Recorder | None = None,
        grace_s: float = 0.0,
    ):
        self._session = session
        self._recorder = recorder or Recorder(None, new_id)
        self._model = model
        self._transcripts = Transcripts(transcriber)
        self._clock = asyncio.get_running_loop().time
        self._inbox = Inbox(INBOX_EVENTS)
        self._vad = vad
        vad.on_judged = self._inbox.wake
        self.link = Link(socket, session, self._inbox, grace_s)
        """What the client is reached over."""
        self._replies: dict[str, _Reply] = {}

    @property
    def overdue_s(self) -> float:
        """For how long the session should have acted, and has not."""
        deadline = self._session.deadline
        if deadline is None or self.link.is_away:
            return 0.0
        return max(0.0, self._clock() - deadline)

    def __str__(self) -> str:
        """What to know of a session that is stuck."""
        return f"{self._session}, {len(self._inbox)} events to take, {self.link.outbox} to send"

    async def run(self) -> None:
        """Serve the client until it is gone."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drive(tasks), name="drive")
                await self.link.run()
        except* ClientGoneError:
            pass
        finally:
            self._inbox.close()
            await self.link.close()

    async def resume(self, socket: ServerConnection, position: Position) -> None:
        """Go on over another socket, and return when that is closed.

        Its token is used up at once.
        """
        self._recorder.took(Returned(position), self._clock())
        greeting = self._session.resumed()
        self._recorder.decided([Send(greeting)])
        await self.link.resume(socket, greeting, position)

    async def _drive(self, tasks: asyncio.TaskGroup) -> None:
        opening = self._session.open()
        self._recorder.decided(opening)
        await self._perform(opening, tasks)
        while True:
            match await self._inbox.get(self._session.deadline):
                case _ if self._session.is_over:
                    # Taken all the same: the closing of the socket is read behind it.
                    pass
                case None:
                    await self._judge(tasks)
                case protocol.InputAudioAppend() as sound:
                    await self._hear(sound, tasks)
                case taken:
                    if isinstance(taken, protocol.AnyClientEvent):
                        # It comes after all the sound that was sent before it.
                        self._vad.judge_waiting()
                        await self._judge(tasks)
                    if isinstance(taken, protocol.Playout):
                        self.link.outbox.heard(taken.item_id, taken.audio_end_samples)
                    await self._perform(self._decide(taken), tasks)

    def _decide(self, taken: Input) -> list[Command]:
        """Give the session what came, and return what it wants done."""
        now = self._clock()
        self._recorder.took(taken, now)
        prepared = turn.early_reply(self._session.state)
        commands = feed(self._session, taken, now)
        self._recorder.decided(commands)
        if prepared and turn.open_response(self._session.state) == prepared:
            self._keep(prepared)
        return commands

    async def _hear(self, event: protocol.InputAudioAppend, tasks: asyncio.TaskGroup) -> None:
        self._recorder.took(event, self._clock())
        try:
            pcm = self._session.append(event)
        except ProtocolError as error:
            refusal = [refuse(error, event.event_id)]
            self._recorder.decided(refusal)
            await self._perform(refusal, tasks)
            return
        for start in range(0, len(pcm), JUDGED_AT_ONCE):
            self._vad.append(pcm[start : start + JUDGED_AT_ONCE])
            if len(pcm) > JUDGED_AT_ONCE:
                # A client may send minutes at once: that must not hold up the others.
                await asyncio.sleep(0)
            await self._judge(tasks)

    async def _judge(self, tasks: asyncio.TaskGroup) -> None:
        """Give the session the probabilities that are ready."""
        for probability in self._vad.take():
            # In a pause, which only speech comes before, a reply is made if the model is free.
            speaks = self._session.microphone.open_item is not None
            if speaks and (is_busy := self._model.is_busy()) != self._session.model_busy:
                self._decide(Busy(is_busy))
            await self._perform(self._decide(Judged(probability)), tasks)

    async def _perform(self, commands: Sequence[Command], tasks: asyncio.TaskGroup) -> None:
        for command in commands:
            match command:
                case Send(event) | (Close() as event):
                    await self.link.outbox.put(event)
                case AskModel(response_id):
                    early = None
                    if turn.early_reply(self._session.state) == response_id:
                        early = EarlyStart(partial(self._give_way, response_id))
                    task = tasks.create_task(self._respond(command, early), name=response_id)
                    self._replies[response_id] = _Reply(task, early)
                case AbortModel(response_id):
                    self._abort(response_id)
                case Transcribe() | Overhear():
                    tasks.create_task(self._write_down(command), name="write down")

    def _abort(self, response_id: str) -> None:
        if reply := self._replies.pop(response_id, None):
            reply.task.cancel()

    def _keep(self, response_id: str) -> None:
        """The turn of a reply that was made in a pause is over."""
        reply = self._replies.get(response_id)
        if reply and reply.early:
            self._model.keep(reply.early)

    def _give_way(self, response_id: str) -> None:
        """End a reply that is made in a pause; the end of the turn asks once more."""
        wanted = ModelError("others needed the seat", code="model_busy")
        # At once, and past the inbox: the turn must not end on a reply that is gone.
        self._decide(FromModel(response_id, Failed(wanted)))
        self._abort(response_id)

    async def _respond(self, ask: AskModel, early: EarlyStart | None) -> None:
        outputs = self._model.reply(ask, early)
        async with aclosing(outputs):
            async for output in outputs:
                await self._inbox.put(FromModel(ask.response_id, output))
        self._replies.pop(ask.response_id, None)

    async def _write_down(self, wish: Transcribe | Overhear) -> None:
        if words := await self._transcripts.write_down(wish):
            await self._inbox.put(words)
