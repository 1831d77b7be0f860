"""One connection to a conversation server: its events, and the call they make.

Speaks the OpenAI Realtime protocol (GA) over WebSocket. Only the events that a client with
ears and a mouth needs are decoded; all others, known or not, are passed over.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import msgspec
import numpy as np
from msgspec import Struct, field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from agent.audio import Samples, milliseconds
from agent.errors import AgentError, ProtocolError
from client.jitter import Heard, JitterBuffer
from client.latency import Floor, Turn
from client.terminal import Terminal

MOST_FRAME_BYTES = 2**24


class UnreachableError(AgentError):
    """The server can't be reached, refused the session, or left in the middle of it."""


class SpeechStarted(Struct, tag="input_audio_buffer.speech_started"):
    pass


class SpeechStopped(Struct, tag="input_audio_buffer.speech_stopped"):
    pass


class Committed(Struct, tag="input_audio_buffer.committed"):
    item_id: str


class UserTranscript(Struct, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str
    transcript: str


class AudioDelta(Struct, tag="response.output_audio.delta"):
    response_id: str
    item_id: str
    delta: bytes


class AudioDone(Struct, tag="response.output_audio.done"):
    item_id: str


class TranscriptDelta(Struct, tag="response.output_audio_transcript.delta"):
    response_id: str
    delta: str


class TranscriptDone(Struct, tag="response.output_audio_transcript.done"):
    response_id: str
    transcript: str


class Problem(Struct):
    message: str = "no reason given"


class StatusDetails(Struct):
    error: Problem = field(default_factory=Problem)


class Response(Struct):
    id: str
    status: str
    status_details: StatusDetails | None = None


class ResponseDone(Struct, tag="response.done"):
    response: Response


class ErrorEvent(Struct, tag="error"):
    error: Problem = field(default_factory=Problem)


ServerEvent = (
    SpeechStarted
    | SpeechStopped
    | Committed
    | UserTranscript
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | ResponseDone
    | ErrorEvent
)

_KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in ServerEvent.__args__)
_decoder = msgspec.json.Decoder(ServerEvent)


class _Envelope(Struct):
    type: str


def decode(frame: str | bytes) -> ServerEvent | None:
    """Decode one event; `None` for a kind that this client has no use for.

    Raises:
        ProtocolError: If it is no event, or lacks what its kind must have.
    """
    try:
        kind = msgspec.json.decode(frame, type=_Envelope).type
        return _decoder.decode(frame) if kind in _KNOWN else None
    except msgspec.DecodeError as error:
        raise ProtocolError(
            f"an event that can't be read: {error}", code="invalid_event"
        ) from error


class Connection:
    """What a client says to the server, and what it hears from it."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket

    async def start_session(self, instructions: str | None) -> None:
        """Ask for captions of the user; all else is left to the server's defaults."""
        session: dict[str, object] = {
            "type": "realtime",
            "audio": {"input": {"transcription": {"model": "embedded"}}},
        }
        if instructions is not None:
            session["instructions"] = instructions
        await self._send({"type": "session.update", "session": session})

    async def append(self, pcm: bytes) -> None:
        await self._send({"type": "input_audio_buffer.append", "audio": pcm})

    async def truncate(self, heard: Heard) -> None:
        """Tell how much of an item was heard, so that the server remembers no more of it."""
        await self._send(
            {
                "type": "conversation.item.truncate",
                "item_id": heard.item_id,
                "content_index": 0,
                "audio_end_ms": milliseconds(heard.samples),
            }
        )

    async def events(self) -> AsyncIterator[ServerEvent]:
        """Yield events until the connection ends, which raises `UnreachableError`."""
        try:
            async for frame in self._socket:
                event = decode(frame)
                if event is not None:
                    yield event
        except ConnectionClosed as error:
            reason = error.rcvd.reason if error.rcvd is not None else ""
            lost = f"the connection to the server was lost: {reason or error}"
            raise UnreachableError(lost) from error
        raise UnreachableError("the server ended the conversation")

    async def _send(self, event: dict[str, object]) -> None:
        # What the server said before it left counts: `events` tells of it, then of the end.
        with suppress(ConnectionClosed):
            await self._socket.send(msgspec.json.encode(event).decode())


def full_url(url: str) -> str:
    """Complete `ws://host:port` with the path where conversations are held."""
    bare = urlsplit(url).path in ("", "/")
    return url.rstrip("/") + "/v1/realtime" if bare else url


@asynccontextmanager
async def open_socket(url: str) -> AsyncGenerator[ClientConnection]:
    """Connect to a conversation server.

    Raises:
        UnreachableError: If nothing answers there, or what answers holds no conversations.
    """
    where, size = full_url(url), MOST_FRAME_BYTES
    try:
        socket = await connect(where, max_size=size, compression=None, close_timeout=1)
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, ValueError) as error:
        reason = str(error) or "no answer in time"
        raise UnreachableError(f"can't reach a conversation server at {url}: {reason}") from error
    async with socket:
        yield socket


@asynccontextmanager
async def open_connection(url: str) -> AsyncGenerator[Connection]:
    """Connect to a conversation server, as `open_socket` does."""
    async with open_socket(url) as socket:
        yield Connection(socket)


class Call:
    """The client's side of a conversation: follows the events, feeds what is to be played.

    Args:
        clock: Seconds, on the clock that all times of a `Turn` are on.
        speech_ended_at: Asked at each end of a turn: when the user stopped speaking.
        delay_samples: Asked at each interruption: how much of what was pulled for playing
            has not reached the ear yet.
    """

    def __init__(
        self,
        connection: Connection,
        terminal: Terminal,
        clock: Callable[[], float],
        speech_ended_at: Callable[[], float],
        delay_samples: Callable[[], int],
    ):
        self._connection = connection
        self._terminal = terminal
        self._clock = clock
        self._speech_ended_at = speech_ended_at
        self._delay_samples = delay_samples
        self.jitter = JitterBuffer()
        self.floor = Floor()

    async def follow(self) -> None:
        """Follow the events until the connection ends, which raises `UnreachableError`."""
        async for event in self._connection.events():
            await self.take(event)

    async def take(self, event: ServerEvent) -> None:
        floor = self.floor
        floor.changed_at = self._clock()
        match event:
            case SpeechStarted():
                floor.user_speaks = floor.answer_due = True
                await self._interrupt()
            case SpeechStopped():
                floor.user_speaks = False
            case Committed(item_id):
                floor.user_speaks, floor.answer_due = False, True
                floor.uncaptioned.add(item_id)
                floor.turn = Turn(self._speech_ended_at(), self._clock())
            case UserTranscript(item_id, transcript):
                floor.uncaptioned.discard(item_id)
                self._terminal.caption("user", transcript.strip())
            case AudioDelta(response_id, item_id, delta):
                if response_id not in floor.cancelled and item_id not in floor.cancelled:
                    self._buffer(item_id, delta)
            case AudioDone(item_id):
                self.jitter.complete(item_id)
            case TranscriptDelta(response_id, delta):
                if response_id not in floor.cancelled:
                    self._terminal.partial(delta)
            case TranscriptDone(_, transcript):
                self._terminal.caption("agent", transcript.strip())
            case ResponseDone(response):
                self._response_done(response)
            case ErrorEvent(error):
                floor.failure = error.message
                self._terminal.problem(error.message)

    def pull(self, out: Samples) -> int:
        """Fill `out` with what is to be played next, as `JitterBuffer.pull` does."""
        filled = self.jitter.pull(out)
        turn = self.floor.turn
        if filled and turn is not None and turn.item_id is not None and turn.heard_at is None:
            # The tail of an earlier answer may still be playing.
            turn.heard_at = self._clock() if self.jitter.played(turn.item_id) else None
        return filled

    def _buffer(self, item_id: str, delta: bytes) -> None:
        if len(delta) % 2:
            raise ProtocolError("audio that ends within a sample", code="invalid_value")
        turn = self.floor.turn
        if turn is not None and turn.first_audio_at is None:
            turn.first_audio_at, turn.item_id = self._clock(), item_id
        self.jitter.push(item_id, np.frombuffer(delta, "<i2"))

    async def _interrupt(self) -> None:
        for heard in self.jitter.flush(self._delay_samples()):
            self.floor.cancelled.add(heard.item_id)
            self._terminal.interrupted(heard)
            await self._connection.truncate(heard)

    def _response_done(self, response: Response) -> None:
        match response.status:
            case "cancelled":
                self.floor.cancelled.add(response.id)
            case "failed":
                details = response.status_details or StatusDetails()
                self.floor.failure = details.error.message
                self.floor.answer_due = False
                self._terminal.problem(self.floor.failure)
            case _:
                self.floor.answer_due = False
