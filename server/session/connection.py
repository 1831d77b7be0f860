"""One client's session at work: it decides; this brings it what came and does what it wants."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from msgspec import structs

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
from server.session.budget import AMPLE, Budget
from server.session.ids import new_id
from server.session.inbox import Inbox
from server.session.link import ClientGoneError, Link
from server.session.socket import ClientSocket
from server.vad import VoiceActivityDetector

INBOX_EVENTS = 64
"""A second or two of sound: more would let a client run ahead, fewer stall the socket."""
JUDGED_AT_ONCE = RATE * SAMPLE_BYTES // 2
"""Bytes: half a second of sound keeps the loop for two or three milliseconds."""


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
        budget: What the session may hold.
    """

    def __init__(
        self,
        socket: ClientSocket,
        session: Session,
        model: ModelClient,
        transcriber: Transcriber,
        vad: VoiceActivityDetector,
        *,
        recorder: Recorder | None = None,
        grace_s: float = 0.0,
        budget: Budget = AMPLE,
    ):
        self._session = session
        self._share = budget.open(session.held_bytes)
        self._recorder = recorder or Recorder(None, new_id)
        self._model = model
        self._transcripts = Transcripts(transcriber)
        self._clock = asyncio.get_running_loop().time
        self._inbox = Inbox(INBOX_EVENTS)
        self._vad = vad
        vad.on_judged = partial(self._on_the_spot, self._judge)
        self._judged: deque[float] = deque()
        """Probabilities that the session has yet to be given."""
        self._decided: list[Command] = []
        """What was decided on the spot and is still to be done."""
        self._failure: Exception | None = None
        self.link = Link(socket, session, self._inbox, self._hear_on_the_spot, grace_s)
        """What the client is reached over."""
        self._replies: dict[str, _Reply] = {}
        self._is_draining = False

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
            self._share.close()
            self._vad.on_judged = bool
            await self.link.close()
            # Tracebacks may hold both until the collector finds them: with nothing in them.
            vars(self.link).clear()
            vars(self).clear()

    async def resume(self, socket: ClientSocket, position: Position) -> None:
        """Go on over another socket until that is closed; its token is used up at once."""
        self._recorder.took(Returned(position), self._clock())
        greeting = self._session.resumed()
        self._recorder.decided([Send(greeting)])
        await self.link.resume(socket, greeting, position)

    def drain(self) -> None:
        """Say goodbye as soon as nobody has the floor: the server is to end."""
        self._is_draining = True
        if self.link.is_away:
            self.link.end()
        self._inbox.wake()

    async def _drive(self, tasks: asyncio.TaskGroup) -> None:
        opening = self._session.open()
        self._recorder.decided(opening)
        await self._perform(opening, tasks)
        while True:
            if self._is_draining and turn.is_at_rest(self._session.state):
                self._is_draining = False
                await self.link.say_goodbye()
            taken = await self._inbox.get(self._session.deadline)
            await self._finish_decided(tasks)
            match taken:
                case _ if self._session.is_over:
                    # Taken all the same: the closing of the socket is read behind it.
                    pass
                case None:
                    await self._catch_up(tasks)
                case protocol.InputAudioAppend():
                    await self._hear(taken, tasks)
                case _:
                    if isinstance(taken, protocol.AnyClientEvent):
                        # It comes after all the sound that was sent before it.
                        self._vad.judge_waiting()
                        await self._catch_up(tasks)
                    if isinstance(taken, protocol.Playout):
                        self.link.outbox.heard(taken.item_id, taken.audio_end_samples)
                    await self._perform(self._decide(self._share.affordable(taken)), tasks)

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

    def _hear_on_the_spot(self, event: protocol.InputAudioAppend) -> bool:
        """Take a frame of the microphone without a task: hardly any decides anything."""
        if len(event.audio) > JUDGED_AT_ONCE or self._vad.is_behind:
            return False
        self._on_the_spot(partial(self._hear_now, event))
        return True

    def _on_the_spot(self, decide: Callable[[], list[Command]]) -> None:
        """Decide now, if the task has nothing before it; what comes of it is done by the task."""
        if self._inbox.is_idle and not self._session.is_over:
            try:
                self._decided = decide()
            except Exception as error:
                # It ends this session, and not whatever called.
                self._failure = error
            if not self._decided and self._failure is None:
                self._inbox.move_deadline(self._session.deadline)
                return
        self._inbox.wake()

    async def _finish_decided(self, tasks: asyncio.TaskGroup) -> None:
        """Do what was decided on the spot, before anything else is."""
        if self._failure is not None:
            raise self._failure
        decided, self._decided = self._decided, []
        await self._perform(decided, tasks)

    async def _catch_up(self, tasks: asyncio.TaskGroup) -> None:
        """Take all that is judged."""
        while commands := self._judge():
            await self._perform(commands, tasks)

    def _hear_now(self, event: protocol.InputAudioAppend) -> list[Command]:
        pcm, refusals = self._append(event)
        self._vad.append(pcm)
        return [*refusals, *self._judge()]

    async def _hear(self, event: protocol.InputAudioAppend, tasks: asyncio.TaskGroup) -> None:
        for part in (parts := self._parts(event)):
            pcm, refusals = self._append(part)
            await self._perform(refusals, tasks)
            for start in range(0, len(pcm), JUDGED_AT_ONCE):
                self._vad.append(pcm[start : start + JUDGED_AT_ONCE])
                if len(parts) > 1:
                    # A client may send minutes at once: that must not hold up the others.
                    self._vad.judge_waiting()
                    await asyncio.sleep(0)
                await self._catch_up(tasks)
            if len(parts) > 1:
                await asyncio.sleep(0)

    def _parts(self, event: protocol.InputAudioAppend) -> list[protocol.InputAudioAppend]:
        """The sound in parts that are quickly decoded, if there is room for all of them."""
        audio, size = event.audio, JUDGED_AT_ONCE
        try:
            self._share.check(len(audio))
            self._session.check_append(event)
        except ProtocolError:
            # All of it is refused at once.
            return [event]
        starts = range(0, len(audio), size) or [0]
        return [structs.replace(event, audio=audio[at : at + size]) for at in starts]

    def _append(self, event: protocol.InputAudioAppend) -> tuple[bytes, list[Command]]:
        """Give the session sound; return what has to be judged of it, and what was wrong."""
        try:
            self._share.take(len(event.audio))
            self._recorder.took(event, self._clock())
            return self._session.append(event), []
        except ProtocolError as error:
            refusals: list[Command] = [refuse(error, event.event_id)]
            self._recorder.decided(refusals)
            return b"", refusals

    def _judge(self) -> list[Command]:
        """Give the session the probabilities that are ready, until it wants something done."""
        self._judged.extend(self._vad.take())
        while self._judged:
            # In a pause, which only speech comes before, a reply is made if the model is free.
            speaks = self._session.microphone.open_item is not None
            if speaks and (is_busy := self._model.is_busy()) != self._session.model_busy:
                self._decide(Busy(is_busy))
            if commands := self._decide(Judged(self._judged.popleft())):
                return commands
        return []

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
