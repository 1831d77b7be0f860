"""A call: follows what the server says, feeds what is to be played, and tells what was heard."""

from collections import deque
from collections.abc import Callable

import numpy as np

from agent.audio import RATE, Samples, samples_in
from agent.errors import ProtocolError
from client.dialogue import events as wire
from client.dialogue.connection import Connection, Lost, Regained
from client.dialogue.ducking import DuckingGain
from client.dialogue.events import ServerEvent
from client.dialogue.floor import Floor
from client.dialogue.heard import Answer
from client.dialogue.jitter import Heard, JitterBuffer
from client.dialogue.latency import Turn
from client.terminal.view import Speaker, View

REPORT_SAMPLES = samples_in(200)
"""How much more must have been heard until that is reported to the server."""

REMEMBERED = 100
"""Captions that are brought to a server that has forgotten them."""


class Call:
    """The client's side of a conversation.

    Args:
        clock: Seconds, on the clock that all times of a `Turn` are on.
        speech_ended_at: Asked at each end of a turn: when the user stopped speaking, as far as
            can be told without the server.
        said_at: When the user said what is so many milliseconds into the sound that was sent.
            Not asked after a loss of the connection, which may have cost some of it.
        delay_samples: Asked at each interruption: how much of what was pulled for playing
            has not reached the ear yet.
        duck_db: How much quieter the agent gets while the user may be interrupting it.
    """

    def __init__(
        self,
        connection: Connection,
        view: View,
        clock: Callable[[], float],
        speech_ended_at: Callable[[], float],
        delay_samples: Callable[[], int],
        *,
        duck_db: float,
        said_at: Callable[[int], float] | None = None,
    ):
        self._connection = connection
        self._view = view
        self._clock = clock
        self._speech_ended_at = speech_ended_at
        self._delay_samples = delay_samples
        self._said_at = said_at
        self._loudness = DuckingGain(duck_db)
        self._reported = Heard("", 0)
        self._answered_by = ""
        self._captions: deque[tuple[Speaker, str]] = deque(maxlen=REMEMBERED)
        self._answers: dict[str, Answer] = {}
        """Those that were not heard to their end yet, by item."""
        self._unsent: list[str] = []
        """What the user wrote while there was no connection."""
        self.jitter = JitterBuffer()
        self.floor = Floor()

    @property
    def ducked(self) -> bool:
        """The user may be interrupting: the agent is quieter, or waits."""
        return self._loudness.ducked or self.jitter.held

    @property
    def saying(self) -> str:
        """What was heard so far of what the agent says."""
        return " ".join(map(self._words, self._answers))

    async def receive(self) -> None:
        """Follow the events until the connection ends, which raises `UnreachableError`."""
        try:
            async for event in self._connection.events():
                match event:
                    case Lost():
                        self._view.connection("Reconnecting…")
                    case Regained(resumed):
                        await self._regain(resumed)
                    case _:
                        await self.apply(event)
        finally:
            self._cut()

    async def apply(self, event: ServerEvent) -> None:
        floor = self.floor
        floor.changed_at = self._clock()
        match event:
            case wire.SpeechStarted():
                floor.user_speaks = floor.answer_due = True
                await self.interrupt()
            case wire.SpeechStopped():
                floor.user_speaks = False
            case wire.Committed(item_id):
                floor.user_speaks, floor.answer_due = False, True
                floor.uncaptioned.add(item_id)
                floor.turn = Turn(self._speech_ended_at(), self._clock())
            case wire.UserTranscriptDelta(_, delta):
                self._view.partial(delta)
            case wire.UserTranscript(item_id, transcript):
                floor.uncaptioned.discard(item_id)
                self.caption("user", transcript.strip())
            case wire.NotUnderstood(item_id):
                floor.uncaptioned.discard(item_id)
                # Shown only: a session that is sent again what was said must not take it for words.
                self._view.caption("user", "(could not be transcribed)")
            case wire.AudioDelta(response_id, item_id, delta):
                if response_id not in floor.cancelled and item_id not in floor.cancelled:
                    self._buffer(item_id, delta)
            case wire.AudioDone(item_id):
                self.jitter.complete(item_id)
            case wire.TranscriptDelta(item_id, delta):
                self._answer(item_id).add_text(delta)
            case wire.TranscriptDone(item_id, transcript):
                self._answer(item_id).text = transcript
            case wire.Duck():
                self._loudness.duck()
            case wire.Hold():
                self.jitter.hold()
            case wire.Restore():
                self._loudness.restore()
                self.jitter.resume()
            case wire.Marks():
                self._mark(event)
            case wire.ResponseDone(response):
                self._response_done(response)
            case wire.ErrorEvent(wire.Problem(code=code)) if code in wire.TOO_LATE:
                pass
            case wire.ErrorEvent(error):
                floor.failure = error.message
                self._view.problem(error.message)
            case wire.SessionCreated() | wire.SessionUpdated() | wire.Resumed():
                name = self._connection.agreed.answered_by
                if name and name != self._answered_by:
                    self._answered_by = name
                    self._view.note(f"Answered by {name}.")

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        """Note what one side said, and show it."""
        self._captions.append((who, text))
        self._view.caption(who, text, cut=cut)

    async def say(self, text: str) -> None:
        """Write instead of speaking; without a connection, it is sent once there is one."""
        self._unsent.append(text)
        if self._connection.is_away or not await self._send_unsent():
            self._view.note(f"Not sent yet: {text}")

    async def _send_unsent(self) -> bool:
        """Send what was written, and have it answered; return whether it went."""
        await self.stop()
        while self._unsent:
            text = self._unsent.pop(0)
            if not await self._connection.write("user", text):
                self._unsent.insert(0, text)
                return False
            self.caption("user", text)
        self.floor.expect_answer(self._clock())
        await self._connection.send("response.create")
        return True

    async def use_voice(self, name: str) -> None:
        """Give the agent another voice, if the server has it."""
        voices = self._connection.agreed.voices
        if voices and name not in voices:
            self._view.problem(f"There is no voice “{name}” here; there are: {', '.join(voices)}.")
        else:
            await self._connection.change("output", voice=name)

    def pull(self, out: Samples) -> int:
        """Fill `out` with what is to be played next, as `JitterBuffer.pull` does."""
        filled = self.jitter.pull(out)
        self._loudness.shape(out)
        turn = self.floor.turn
        if filled and turn is not None and turn.item_id is not None and turn.heard_at is None:
            # The tail of an earlier answer may still be playing.
            began = self.jitter.played(turn.item_id) > 0
            turn.heard_at = self._clock() + self._delay_samples() / RATE if began else None
        return filled

    def _mark(self, marks: wire.Marks) -> None:
        turn = self.floor.turn
        if turn is None or turn.first_audio_at is not None or marks.first_sound_ms is None:
            return
        turn.reply_ms = marks.first_sound_ms - marks.requested_ms
        if self._said_at is not None and marks.speech_end_ms is not None:
            turn.speech_ended_at = self._said_at(marks.speech_end_ms)

    async def stop(self) -> None:
        """Make the agent stop."""
        if self.floor.answer_due:
            await self._connection.send("response.cancel")
        await self.interrupt()

    async def interrupt(self) -> None:
        """Stop the agent's voice, and tell the server how much of it was heard."""
        self._cut()
        for heard in self.jitter.flush(self._delay_samples()):
            self.floor.cancelled.add(heard.item_id)
            self._view.interrupted(heard)
            await self._connection.truncate(heard)
        self._loudness.restore()

    def _answer(self, item_id: str) -> Answer:
        """The answer of an item; nobody sees what is added to one that was cut."""
        if item_id in self.floor.cancelled:
            return Answer()
        return self._answers.setdefault(item_id, Answer())

    def _heard(self, item_id: str) -> int:
        """How many samples of an item have reached the ear."""
        return self.jitter.played(item_id, self._delay_samples())

    def _words(self, item_id: str) -> str:
        """The words of an answer that were heard."""
        return self._answers[item_id].words(self._heard(item_id))

    def _cut(self) -> None:
        """End the answers where they were heard."""
        self._show_heard()
        for item_id, answer in self._answers.items():
            if answer.received:
                self.floor.cancelled.add(item_id)
            if words := self._words(item_id):
                self.caption("agent", words, cut=True)
        self._answers.clear()

    def _show_heard(self) -> None:
        """Show the answers that have been heard to their end."""
        for item_id, answer in list(self._answers.items()):
            if answer.complete and self._heard(item_id) >= answer.received:
                del self._answers[item_id]
                self.caption("agent", answer.text.strip())

    async def report(self) -> None:
        """Show what was heard, and tell the server, about five times for each second that was."""
        self._show_heard()
        received = self._connection.received
        item_id = received.item_id
        heard = Heard(item_id, self._heard(item_id))
        before = self._reported.samples if self._reported.item_id == item_id else 0
        ended = heard.samples == received.samples and self.jitter.idle
        if heard.samples >= before + (1 if ended else REPORT_SAMPLES):
            self._reported = heard
            await self._connection.report(heard)

    def _buffer(self, item_id: str, delta: bytes) -> None:
        if len(delta) % 2:
            raise ProtocolError("audio that ends within a sample", code="invalid_value")
        turn = self.floor.turn
        if turn is not None and turn.first_audio_at is None:
            turn.first_audio_at, turn.item_id = self._clock(), item_id
        sound = self._connection.received.take(item_id, np.frombuffer(delta, "<i2"))
        self._answer(item_id).received += len(sound)
        self.jitter.add(item_id, sound)

    async def _regain(self, resumed: bool) -> None:
        await self.apply(wire.Restore())
        self._said_at = None
        self._view.connection("")
        if not resumed:
            await self._bring_history()
        while self._unsent and await self._send_unsent():
            pass

    async def _bring_history(self) -> None:
        """Tell a new session what was said and heard; it knows of no answer that still plays."""
        self.floor.answer_due = self.floor.user_speaks = False
        self.floor.uncaptioned.clear()
        self._cut()
        self.jitter.flush()
        self._connection.received.forget()
        for who, text in self._captions:
            if text:
                await self._connection.write(who, text)

    def _response_done(self, response: wire.Response) -> None:
        match response.status:
            case "cancelled":
                self.floor.cancelled.add(response.id)
                self._answers = {id: each for id, each in self._answers.items() if each.received}
            case "failed":
                self.floor.failure = response.failure
                self.floor.answer_due = False
                self._view.problem(self.floor.failure)
            case _:
                self.floor.answer_due = False
        for answer in self._answers.values():
            answer.complete = True
        self._show_heard()
