"""One client: read, drive, write, respond. The session decides; this moves bytes.

A client that asked to resume may lose its socket and come back over another: the session goes on
meanwhile, until the grace time is over.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import aclosing, suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from agent.audio import RATE, SAMPLE_BYTES, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe, refuse
from agent.errors import ModelError, ProtocolError
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.resumption import Position
from agent.session import Session
from agent.speaking.resend_buffer import Frame
from agent.trace.inputs import (
    Busy,
    DeadlinePassed,
    FromModel,
    Input,
    Judged,
    Overheard,
    Returned,
    Transcribed,
    feed,
)
from agent.trace.recorder import Recorder
from server.model.router import ModelClient
from server.model.transcription import Transcriber
from server.session.outbox import Outbox
from server.session.reconnect import ClientGoneError, ReconnectWindow
from server.vad import VoiceActivityDetector

log = logging.getLogger(__name__)

INBOX_EVENTS = 64
"""A second or two of sound: more would let a client run ahead, fewer stall the socket."""
JUDGED_AT_ONCE = RATE * SAMPLE_BYTES // 2
"""Bytes: half a second of sound keeps the loop for two or three milliseconds."""


GOODBYE = 1000
"""WebSocket close code of a client that won't come back; all others are losses."""


def new_id(kind: str) -> str:
    """An id that nobody can guess; what opens a session has 128 bits."""
    return f"{kind}_{secrets.token_hex(16 if kind == 'resume' else 8)}"


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
        self._socket = socket
        self._session = session
        self._recorder = recorder or Recorder(None, new_id)
        self._model = model
        self._transcriber = transcriber
        self._vad = vad
        self._return = ReconnectWindow(grace_s)
        self._inbox: asyncio.Queue[Input] = asyncio.Queue(INBOX_EVENTS)
        self._outbox = Outbox()
        self._replies: dict[str, asyncio.Task[None]] = {}
        self._is_read = False
        """Whether the client has what is said written down; else no recogniser hears it."""

    @property
    def resume_token(self) -> str | None:
        """What a client has to show to go on with this session."""
        is_over = self._return.is_over or self._has_left
        return None if is_over else self._session.resumption.token

    @property
    def is_away(self) -> bool:
        """Whether the client has lost its connection."""
        return self._socket.state is State.CLOSED

    @property
    def overdue_s(self) -> float:
        """For how long the session should have acted, and has not."""
        deadline = self._session.deadline
        now = asyncio.get_running_loop().time()
        return 0.0 if deadline is None or self.is_away else max(0.0, now - deadline)

    def __str__(self) -> str:
        """What to know of a session that is stuck."""
        return f"{self._session}, {self._inbox.qsize()} events to take, {self._outbox} to send"

    @property
    def _has_left(self) -> bool:
        """Whether the client has said goodbye."""
        close = self._socket.protocol.close_rcvd
        return close is not None and close.code == GOODBYE

    async def run(self) -> None:
        """Serve the client, over one socket after the other."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drive(tasks), name="drive")
                await self._link()
        except* ClientGoneError:
            pass
        finally:
            # Only a failure leaves it open.
            await self._socket.close(1011)

    async def resume(self, socket: ServerConnection, position: Position) -> None:
        """Go on over another socket, and return when that is closed.

        Its token is used up at once. The old socket may look open still: a cut network is
        noticed late.
        """
        old, self._socket = self._socket, socket
        self._recorder.took(Returned(position), asyncio.get_running_loop().time())
        greeting = self._session.resumed()
        self._recorder.decided([Send(greeting)])
        self._return.come(greeting, position)
        old.transport.abort()
        await socket.wait_closed()

    def end(self) -> None:
        """Wait for the client no more, should it be away or get lost."""
        self._return.end()

    async def _link(self) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(self._socket), name="read")
                    tasks.create_task(self._write(self._socket), name="write")
            except* ConnectionClosed:
                pass
            if self.resume_token is None:
                self._return.end()
            await self._outbox.resume(*await self._return.wait())

    async def _read(self, socket: ServerConnection) -> None:
        while True:
            frame = await socket.recv()
            try:
                binary = isinstance(frame, bytes)
                event = protocol.BinaryAppend(audio=frame) if binary else protocol.decode(frame)
            except ProtocolError as error:
                event = error
            await self._inbox.put(event)

    async def _write(self, socket: ServerConnection) -> None:
        while True:
            match await self._outbox.get():
                case Close(code, reason):
                    log.info("%s: closing with %d, %s", self._session, code, reason)
                    self._return.end()
                    await socket.close(code, reason)
                    return
                case Frame(data, is_text):
                    await socket.send(data, text=is_text)

    async def _drive(self, tasks: asyncio.TaskGroup) -> None:
        opening = self._session.open()
        self._recorder.decided(opening)
        await self._perform(opening, tasks)
        while True:
            match await self._next():
                case _ if self._session.is_over:
                    # Taken all the same: the closing of the socket is read behind it.
                    pass
                case protocol.InputAudioAppend() as sound:
                    await self._hear(sound, tasks)
                case taken:
                    if isinstance(taken, protocol.Playout):
                        self._outbox.heard(taken.item_id, taken.audio_end_samples)
                    await self._perform(self._decide(taken), tasks)

    async def _next(self) -> Input:
        try:
            async with asyncio.timeout_at(self._session.deadline):
                return await self._inbox.get()
        except TimeoutError:
            return DeadlinePassed()

    def _decide(self, taken: Input) -> list[Command]:
        """Give the session what came, and return what it wants done."""
        now = asyncio.get_running_loop().time()
        self._recorder.took(taken, now)
        commands = feed(self._session, taken, now)
        self._recorder.decided(commands)
        return commands

    async def _hear(self, event: protocol.InputAudioAppend, tasks: asyncio.TaskGroup) -> None:
        self._recorder.took(event, asyncio.get_running_loop().time())
        try:
            pcm = self._session.append(event)
        except ProtocolError as error:
            refusal = [refuse(error, event.event_id)]
            self._recorder.decided(refusal)
            await self._perform(refusal, tasks)
            return
        if (is_busy := self._model.is_busy()) != self._session.model_busy:
            self._decide(Busy(is_busy))
        for start in range(0, len(pcm), JUDGED_AT_ONCE):
            for probability in self._vad.probabilities(pcm[start : start + JUDGED_AT_ONCE]):
                await self._perform(self._decide(Judged(probability)), tasks)
            if len(pcm) > JUDGED_AT_ONCE:
                # A client may send minutes at once: that must not hold up the others.
                await asyncio.sleep(0)

    async def _perform(self, commands: Sequence[Command], tasks: asyncio.TaskGroup) -> None:
        for command in commands:
            match command:
                case Send(event):
                    await self._outbox.put(event)
                case Close():
                    await self._outbox.put(command)
                case AskModel(response_id):
                    reply = tasks.create_task(self._respond(command), name=response_id)
                    self._replies[response_id] = reply
                case AbortModel(response_id):
                    if reply := self._replies.pop(response_id, None):
                        reply.cancel()
                case Transcribe() if self._transcriber.is_on:
                    self._is_read = True
                    tasks.create_task(self._transcribe(command), name="transcribe")
                case Overhear() if self._is_read and self._transcriber.is_quick:
                    tasks.create_task(self._overhear(command), name="overhear")
                case Transcribe() | Overhear():
                    pass

    async def _respond(self, ask: AskModel) -> None:
        outputs = self._model.reply(ask)
        async with aclosing(outputs):
            async for output in outputs:
                await self._inbox.put(FromModel(ask.response_id, output))
        self._replies.pop(ask.response_id, None)

    async def _transcribe(self, wish: Transcribe) -> None:
        duration_s, error = seconds(wish.pcm), None
        try:
            text = await self._transcriber.transcribe(wish.pcm)
        except ModelError as failure:
            log.warning("no transcript of %s: %s", wish.item_id, failure)
            text = ""
            error = events.TranscriptionError("server_error", failure.code, str(failure))
        await self._inbox.put(Transcribed(wish.item_id, text, duration_s, error))

    async def _overhear(self, wish: Overhear) -> None:
        with suppress(ModelError):
            words = await self._transcriber.transcribe(wish.pcm)
            await self._inbox.put(Overheard(wish.item_id, words))
