"""A connection to a conversation server that comes back by itself.

While it is away the newest speech is kept, and sent once it is back. Where the server can, the
same session goes on; where it can't, whoever follows the events is asked for the history.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent.audio import RATE, SAMPLE_BYTES, Samples, milliseconds
from client.dialogue import events as wire
from client.dialogue.events import (
    EXTENSIONS,
    Extension,
    Extensions,
    ServerEvent,
    SessionConfig,
)
from client.dialogue.jitter import Heard
from client.dialogue.socket import RefusedError, UnreachableError, greeted, reach
from client.dialogue.wishes import Wishes
from client.terminal.view import Speaker

KEPT_BYTES = 10 * RATE * SAMPLE_BYTES
"""Speech kept while the connection is away: the newest 10 s."""

STUCK_BYTES = 2**14
"""More than this waits for the network only if the network has stopped: 0.25 s of speech."""

SEMANTIC = {"type": "semantic_vad"}
"""What this client can do well: it holds its sound while the server judges an interruption."""

ENDED = 1000
"""WebSocket close code of a conversation that is meant to be over."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is away, and will be tried again."""


@dataclass(frozen=True, slots=True)
class Regained:
    """The connection is back."""

    resumed: bool
    """The session goes on; else it is a new one that knows nothing of what was said."""


class Received:
    """How far a session has been received, for the server to go on from there.

    Of sound, that is the latest item with some, and how many samples of it have arrived.
    """

    def __init__(self) -> None:
        self.token: str | None = None
        self.after = ""
        """The id of the last event that was received, where the server gives them."""
        self.forget()

    def forget(self) -> None:
        """What was received of sound belongs to a session that is gone."""
        self.item_id, self.samples = "", 0
        self._again = 0
        """How much of what comes next is here already."""

    def resume(self, item_id: str, start_samples: int) -> None:
        """The item goes on from that sample, which may have arrived before."""
        self._again = max(0, self.samples - start_samples) if item_id == self.item_id else 0

    def take(self, item_id: str, sound: Samples) -> Samples:
        """Count more sound of an item; return what of it is new."""
        if item_id != self.item_id:
            self.item_id, self.samples, self._again = item_id, 0, 0
        new = sound[self._again :]
        self._again -= len(sound) - len(new)
        self.samples += len(new)
        return new

    def query(self) -> dict[str, str | int]:
        """What to ask the server with, in the URL."""
        if self.token is None:
            return {}
        if self.after:
            return {"resume": self.token, "after": self.after}
        where = {"item_id": self.item_id, "received_samples": self.samples}
        return {"resume": self.token, **(where if self.samples else {})}


class Connection:
    """What a client says to the server, and what it hears from it.

    Args:
        waits_s: At each loss, the waits before each attempt to come back; else a loss is the end.
    """

    def __init__(
        self, url: str, socket: ClientConnection, waits_s: Callable[[], Iterator[float]] | None
    ):
        self._url = url
        self._socket = socket
        self._waits_s = waits_s
        self._away = False
        self._kept = bytearray()
        self._session = SessionConfig()
        self._wishes = Wishes()
        self.received = Received()

    @property
    def agreed(self) -> Extensions:
        """What goes beyond the protocol here."""
        return self._session.x_mimo or Extensions()

    @property
    def is_away(self) -> bool:
        """The connection is lost, and not back yet."""
        return self._away

    @property
    def turn_detection(self) -> dict[str, object] | None:
        """How the server finds the ends of turns."""
        return self._session.audio.input.turn_detection

    async def start_session(
        self,
        instructions: str | None,
        extensions: Iterable[Extension] = EXTENSIONS,
        voice: str | None = None,
    ) -> None:
        """Ask for captions, judged interruptions and extensions; else the server's defaults."""
        self._wishes.extensions = list(extensions)
        listens = {"transcription": {"model": "embedded"}, "turn_detection": SEMANTIC}
        self._wishes.session = {"audio": {"input": listens}}
        if instructions is not None:
            self._wishes.session["instructions"] = instructions
        if voice is not None:
            self._wishes.audio["output"] = {"voice": voice}
        await self._ask()

    async def change(self, direction: Literal["input", "output"], **audio: object) -> None:
        """Change the sound's configuration, for this session and for those that follow it."""
        self._wishes.audio[direction] = audio
        await self._update(audio={direction: audio})

    async def append(self, pcm: bytes) -> None:
        """Send speech; never waits for a line that takes nothing, as sound can't wait."""
        self._kept += pcm
        del self._kept[:-KEPT_BYTES]
        if not self._away and not self._is_stuck:
            await self._send_kept()

    async def truncate(self, heard: Heard) -> None:
        """Tell how much of an item was heard, so that the server remembers no more of it."""
        await self.report(heard)
        where = {"item_id": heard.item_id, "content_index": 0}
        end_ms = milliseconds(heard.samples)
        await self.send("conversation.item.truncate", **where, audio_end_ms=end_ms)

    async def report(self, heard: Heard) -> None:
        """Tell how much of an item was heard so far, if the server wants to know."""
        words = {"item_id": heard.item_id, "audio_end_samples": heard.samples}
        if self.agreed.playout and not self._is_stuck:
            await self.send("x_mimo.playout", **words)

    async def write(self, who: Speaker, text: str) -> bool:
        """Add a message to the conversation; return as `send` does."""
        role, kind = ("user", "input_text") if who == "user" else ("assistant", "output_text")
        item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        return await self.send("conversation.item.create", item=item)

    async def send(self, kind: str, **fields: object) -> bool:
        """Send an event; return whether there was a connection to send it over."""
        # What the server said before it left counts: `events` tells of it, then of the end.
        try:
            await self._socket.send(msgspec.json.encode({"type": kind, **fields}), text=True)
        except ConnectionClosed:
            return False
        return True

    @property
    def _is_stuck(self) -> bool:
        return self._socket.transport.get_write_buffer_size() > STUCK_BYTES

    async def close(self) -> None:
        await self._socket.close()

    async def events(self) -> AsyncIterator[ServerEvent | Lost | Regained]:
        """Yield events until the connection ends for good.

        Raises:
            UnreachableError: When it has ended.
        """
        while True:
            try:
                async for frame in self._socket:
                    event = wire.decode(frame)
                    if event is not None:
                        self.received.after = event.event_id
                    if event is not None and not await self._settle(event):
                        yield event
                reason = "the server ended the conversation"
            except ConnectionClosed as error:
                given = error.rcvd.reason if error.rcvd is not None else ""
                reason = f"the connection to the server was lost: {given or error}"
            if self._waits_s is None or self._socket.close_code == ENDED:
                raise UnreachableError(reason)
            self._away = True
            yield Lost()
            yield Regained(await self._come_back(self._waits_s()))
            # From here on, what was written while the connection was away is on its way.
            self._away = False
            await self._send_kept()

    async def _settle(self, event: ServerEvent) -> bool:
        """Note what the server says of the session; return whether that was all it meant."""
        match event:
            case wire.SessionCreated(session) | wire.SessionUpdated(session):
                self._note(session)
            case wire.Resumed(item_id, start_samples):
                self.received.resume(item_id, start_samples)
            case wire.ErrorEvent(wire.Problem(_, "unknown_parameter", str(where))):
                if self._wishes.drop(where):
                    await self._ask()
                    return True
            case _:
                pass
        return False

    def _note(self, session: SessionConfig) -> None:
        self._session = session
        if session.x_mimo is not None and session.x_mimo.resume_token is not None:
            self.received.token = session.x_mimo.resume_token

    async def _ask(self) -> None:
        for update in self._wishes.updates():
            await self._update(**update)

    async def _update(self, **session: object) -> None:
        await self.send("session.update", session={"type": "realtime", **session})

    async def _come_back(self, waits_s: Iterator[float]) -> bool:
        """Connect again; return whether the session goes on."""
        before = self._session.id
        for wait_s in waits_s:
            await asyncio.sleep(wait_s)
            try:
                self._socket = await reach(self._url, **self.received.query())
                greeting = await greeted(self._socket)
            except RefusedError:
                raise
            except UnreachableError:
                # What took the connection and said nothing may hold the session.
                await self._socket.close()
                continue
            # Only now has the token been used: an attempt that reached nobody leaves it.
            self.received.token, self.received.after = None, greeting.event_id
            self._note(greeting.session)
            await self._ask()
            return bool(before) and self._session.id == before
        raise AssertionError("the waits never end")

    async def _send_kept(self) -> bool:
        """Send what waits; return whether it went."""
        while self._kept:
            kept, self._kept = self._kept, bytearray()
            if not await self.send("input_audio_buffer.append", audio=bytes(kept)):
                self._kept = kept + self._kept
                return False
        return True


@asynccontextmanager
async def open_connection(
    url: str, waits_s: Callable[[], Iterator[float]] | None = None
) -> AsyncGenerator[Connection]:
    """Connect to a conversation server.

    Args:
        waits_s: See `Connection`.

    Raises:
        UnreachableError: If nothing answers there, or what answers holds no conversations.
    """
    connection = Connection(url, await reach(url), waits_s)
    try:
        yield connection
    finally:
        await connection.close()
