"""One client: read, drive, write, respond. The session decides; this moves bytes."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from agent import events, protocol
from agent.audio import RATE, SAMPLE_BYTES, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Send, Transcribe, refuse
from agent.errors import ModelError, ProtocolError
from agent.events import ServerEvent
from agent.mimo import Output
from agent.session import Session
from server.model import Seat
from server.transcription import Transcriber
from server.vad import VoiceActivityDetector

log = logging.getLogger(__name__)

INBOX_EVENTS = 64
OUTBOX_EVENTS = 256
JUDGED_AT_ONCE = RATE * SAMPLE_BYTES // 2
"""Bytes: half a second of sound keeps the loop for two or three milliseconds."""


def new_id(kind: str) -> str:
    """An id that nobody can guess."""
    return f"{kind}_{secrets.token_hex(8)}"


class Outbox:
    """What waits to be sent; audio of a response that was cancelled is taken out again."""

    def __init__(self, most: int = OUTBOX_EVENTS):
        self._events: deque[ServerEvent | Close] = deque()
        self._most = most
        self._changed = asyncio.Condition()

    async def put(self, event: ServerEvent | Close) -> None:
        async with self._changed:
            match event:
                case events.ResponseDone(response=response) if response.status == "cancelled":
                    self._drop_audio(response.id)
                case _:
                    await self._changed.wait_for(lambda: len(self._events) < self._most)
            self._events.append(event)
            self._changed.notify_all()

    async def get(self) -> ServerEvent | Close:
        async with self._changed:
            await self._changed.wait_for(lambda: self._events)
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    def _drop_audio(self, response_id: str) -> None:
        self._events = deque(
            event
            for event in self._events
            if not (isinstance(event, events.AudioDelta) and event.response_id == response_id)
        )


@dataclass(frozen=True, slots=True)
class _FromModel:
    response_id: str
    output: Output


@dataclass(frozen=True, slots=True)
class _Transcribed:
    item_id: str
    text: str
    duration_s: float


_Incoming = protocol.AnyClientEvent | ProtocolError | _FromModel | _Transcribed


class Connection:
    """Serves one client until it goes."""

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        model: Seat,
        transcriber: Transcriber,
        vad: VoiceActivityDetector,
    ):
        self._socket = socket
        self._session = session
        self._model = model
        self._transcriber = transcriber
        self._vad = vad
        self._inbox: asyncio.Queue[_Incoming] = asyncio.Queue(INBOX_EVENTS)
        self._outbox = Outbox()
        self._replies: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name="read")
                tasks.create_task(self._write(), name="write")
                tasks.create_task(self._drive(tasks), name="drive")
        except* ConnectionClosed:
            pass

    async def _read(self) -> None:
        while True:
            frame = await self._socket.recv()
            try:
                binary = isinstance(frame, bytes)
                event = protocol.BinaryAppend(audio=frame) if binary else protocol.decode(frame)
            except ProtocolError as error:
                event = error
            await self._inbox.put(event)

    async def _write(self) -> None:
        count = 0
        while True:
            event = await self._outbox.get()
            if isinstance(event, Close):
                await self._socket.close(event.code, event.reason)
                return
            count += 1
            text = not isinstance(event, events.BinaryAudioDelta)
            await self._socket.send(events.encode(event, f"event_{count}"), text=text)

    async def _drive(self, tasks: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        await self._perform(self._session.open(), tasks)
        while True:
            try:
                async with asyncio.timeout_at(self._session.deadline):
                    incoming = await self._inbox.get()
            except TimeoutError:
                await self._perform(self._session.pass_deadline(clock()), tasks)
                continue
            await self._take(incoming, clock(), tasks)

    async def _take(self, incoming: _Incoming, now: float, tasks: asyncio.TaskGroup) -> None:
        session = self._session
        match incoming:
            case _FromModel(response_id, output):
                commands = session.from_model(response_id, output, now)
            case _Transcribed(item_id, text, duration_s):
                commands = session.transcribed(item_id, text, duration_s)
            case ProtocolError() as error:
                commands = [refuse(error)]
            case protocol.InputAudioAppend():
                await self._hear(incoming, tasks)
                return
            case event:
                commands = session.receive(event, now)
        await self._perform(commands, tasks)

    async def _hear(self, event: protocol.InputAudioAppend, tasks: asyncio.TaskGroup) -> None:
        clock = asyncio.get_running_loop().time
        try:
            pcm = self._session.append(event)
        except ProtocolError as error:
            await self._perform([refuse(error, event.event_id)], tasks)
            return
        for start in range(0, len(pcm), JUDGED_AT_ONCE):
            for probability in self._vad.push(pcm[start : start + JUDGED_AT_ONCE]):
                await self._perform(self._session.hear(probability, clock()), tasks)
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
                    tasks.create_task(self._transcribe(command), name="transcribe")
                case Transcribe():
                    pass

    async def _respond(self, ask: AskModel) -> None:
        outputs = self._model.reply(ask)
        async with aclosing(outputs):
            async for output in outputs:
                await self._inbox.put(_FromModel(ask.response_id, output))
        self._replies.pop(ask.response_id, None)

    async def _transcribe(self, wish: Transcribe) -> None:
        try:
            text = await self._transcriber.transcribe(wish.pcm)
        except ModelError as error:
            log.warning("no transcript of %s: %s", wish.item_id, error)
            failed = events.TranscriptionError("server_error", error.code, str(error))
            await self._outbox.put(
                events.TranscriptionFailed(item_id=wish.item_id, content_index=0, error=failed)
            )
            return
        await self._inbox.put(_Transcribed(wish.item_id, text, seconds(wish.pcm)))
