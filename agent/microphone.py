"""The user's side: sound from the microphone becomes utterances, by turn detection or by hand.

It says what happened to the floor, and what the client is told about it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent import ducking, events, floor
from agent.audio import milliseconds, samples_in
from agent.conversation import Item, Spoken
from agent.endpointing import (
    FRAME_SAMPLES,
    Boundary,
    EndOfTurn,
    Endpointer,
    Limits,
    Onset,
    Pause,
    Resumption,
)
from agent.errors import ProtocolError
from agent.events import ServerEvent
from agent.input_audio import InputAudio
from agent.interjection import NEAR_FRAMES, Interjection
from agent.objects import TurnDetection
from agent.overlap import Frame
from agent.voice import REACH_MS, Voice
from agent.waiting import Waiting

SHORTEST_COMMIT_MS = 100
_ONSET_MS = 128
_SOON_MS = 2_000


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the user said in one turn: mono PCM16 at 24 kHz, prefix padding included."""

    item_id: str
    pcm: bytes

    def item(self) -> Item:
        return Item(self.item_id, "user", [Spoken(bytearray(self.pcm))])


Heard = tuple[floor.Event, ServerEvent | None]
"""What happened to the floor, and what the client is told first."""


class Microphone:
    """One microphone; its time is the count of samples received."""

    def __init__(self, detection: TurnDetection | None, early_start_ms: int, longest_ms: int):
        self._early_start_ms = early_start_ms
        self._longest_ms = longest_ms
        self._buffer = InputAudio()
        self._endpointer = Endpointer()
        self._voice = Voice()
        self._interjection = Interjection()
        self._ignoring = False
        self._item_id = ""
        self._start = 0
        self._pause: int | None = None
        self._silent_since: int | None = None
        self._set(detection)
        self.utterance: Utterance | None = None
        """The utterance up to the latest pause or end."""

    def _set(self, detection: TurnDetection | None) -> None:
        self._detection = detection
        self._waiting = (
            Waiting(detection, self._early_start_ms, self._longest_ms) if detection else None
        )

    @property
    def detects_turns(self) -> bool:
        return self._detection is not None

    def configure(self, detection: TurnDetection | None) -> bool:
        """Change turn detection; return whether an open utterance was dropped."""
        switched = (detection is None) != (self._detection is None)
        dropped = switched and self._endpointer.speaking
        if switched:
            self._endpointer = Endpointer(self._buffer.received)
            self._interjection.forget()
            self._ignoring = False
        self._set(detection)
        return dropped

    def append(self, pcm: bytes) -> None:
        self._buffer.append(pcm)

    def clear(self) -> None:
        """Forget what no turn has taken."""
        self._endpointer.reset()
        self._interjection.forget()
        self._buffer.drop_before(self._buffer.received)

    def push(
        self,
        probability: float,
        new_id: Callable[[str], str],
        audible: bool = False,
        can_hold: bool = False,
    ) -> Iterator[Heard]:
        """Take the probability of speech in the next 32 ms.

        Args:
            audible: Whether the agent speaks, so that a sound need not be a turn.
            can_hold: Whether the client can stop playing and keep the rest.
        """
        detection, waiting = self._detection, self._waiting
        if detection is None or waiting is None:
            return
        boundary = self._endpointer.push(self._frame(probability).probability, waiting.limits)
        if self._interjection.open:
            yield from self._judge(boundary, can_hold)
        elif self._ignoring:
            yield from self._ignore(boundary, detection, audible, new_id)
        elif isinstance(boundary, Onset):
            reach = samples_in(self._voice.reach_back_ms())
            start = max(self._buffer.first, boundary.start - reach)
            yield from self._begin(start, detection, audible, new_id)
        else:
            yield from self._follow(boundary, detection, waiting, new_id)
        if not self._endpointer.speaking and not self._interjection.remembered:
            self._keep_padding(waiting.limits)

    @property
    def next_frame(self) -> bytes:
        """The sound that the next probability is about."""
        start = self._endpointer.now
        return self._buffer.cut(start, start + FRAME_SAMPLES)

    def _frame(self, probability: float) -> Frame:
        frame = self._voice.hear(probability, self.next_frame, self._endpointer.speaking)
        self._interjection.hear(frame)
        return frame

    def _begin(
        self, start: int, detection: TurnDetection, audible: bool, new_id: Callable[[str], str]
    ) -> Iterator[Heard]:
        """Somebody begins to speak, or goes on after all; over the agent's voice it is judged."""
        if not audible:
            self._regret(start)
        self._item_id, self._start = new_id("item"), start
        self._pause = None
        self._ignoring = False
        if audible and detection.interrupt_response:
            self._start = self._interjection.begin(start)
            yield floor.SpeechStarted(self._item_id), None
        else:
            yield floor.SpeechStarted(self._item_id, detection.interrupt_response), self._started()

    def _regret(self, start: int) -> None:
        """Speech that follows an end so soon shows that it was only a pause."""
        if self._waiting is not None and self._silent_since is not None:
            silence_ms = milliseconds(start - self._silent_since)
            if silence_ms < _SOON_MS:
                self._waiting.go_on(silence_ms)
        self._silent_since = None

    def _judge(self, boundary: Boundary | None, can_hold: bool) -> Iterator[Heard]:
        usual_db = self._voice.usual_db
        if isinstance(boundary, Pause | EndOfTurn):
            yield self._interjection.end(usual_db), None
            return
        match self._interjection.judge(usual_db):
            case floor.OverlapSustained() if not can_hold:
                pass
            case None:
                pass
            case judged:
                yield judged, None

    def _ignore(
        self,
        boundary: Boundary | None,
        detection: TurnDetection,
        audible: bool,
        new_id: Callable[[str], str],
    ) -> Iterator[Heard]:
        """A sound that was passed goes on."""
        if isinstance(boundary, Pause | EndOfTurn):
            self._endpointer.reset()
            self._ignoring = False
        elif self._interjection.comes_near(self._voice.usual_db):
            start = self._endpointer.now - NEAR_FRAMES * FRAME_SAMPLES
            yield from self._begin(start, detection, audible, new_id)

    def _follow(
        self,
        boundary: Boundary | None,
        detection: TurnDetection,
        waiting: Waiting,
        new_id: Callable[[str], str],
    ) -> Iterator[Heard]:
        match boundary:
            case Pause(end):
                self._pause = end
                self.utterance = self._cut(end)
                waiting.pause(self.utterance.pcm)
                if waiting.early:
                    yield floor.SpeechPaused(new_id("resp")), None
            case Resumption():
                paused = self._endpointer.now - (self._pause or 0) + waiting.limits.pause
                waiting.go_on(milliseconds(paused))
                self._pause = None
                yield floor.SpeechResumed(), None
            case EndOfTurn(end):
                # The silence between pause and verdict says nothing: the model need not hear it.
                self.utterance = self._cut(self._pause or end)
                self._voice.end()
                self._silent_since = end - waiting.limits.silence
                waiting.begin()
                answer = new_id("resp") if detection.create_response else None
                yield floor.TurnEnded(self._item_id, answer), self._stopped(end)
            case Onset() | None:
                pass

    def _started(self) -> ServerEvent:
        """The latest utterance takes the floor: what the client is told of it."""
        self._interjection.forget()
        return events.SpeechStarted(audio_start_ms=milliseconds(self._start), item_id=self._item_id)

    def follow(
        self, action: floor.Duck | floor.Hold | floor.Restore | floor.AnnounceSpeech, ducks: bool
    ) -> list[ServerEvent]:
        """Take what became of a sound over the agent's voice; return what the client is told."""
        match action:
            case floor.AnnounceSpeech():
                return [self._started()]
            case floor.Restore():
                self._pass_over()
            case floor.Duck() | floor.Hold():
                pass
        return [ducking.told(action)] if ducks else []

    def _pass_over(self) -> None:
        """The sound over the agent's voice was no turn; it may go on, as talk far away does."""
        if self._interjection.open:
            self._interjection.close()
            self._ignoring = self._endpointer.speaking and not self._interjection.over
            if not self._ignoring:
                self._endpointer.reset()

    def commit(self, new_id: Callable[[str], str]) -> tuple[Utterance, list[ServerEvent]]:
        """End the turn by hand; return it and what the client is told before.

        Raises:
            ProtocolError: If there is too little to commit.
        """
        end, stopped = self._buffer.received, list[ServerEvent]()
        start, item_id = 0, new_id("item")
        if self.detects_turns:
            start = self._start if self._endpointer.speaking else end
            item_id = self._item_id if self._endpointer.speaking else item_id
            stopped = [self._stopped(end)]
        utterance = Utterance(item_id, self._buffer.cut(start, end))
        if len(utterance.pcm) < samples_in(SHORTEST_COMMIT_MS) * 2:
            message = "Error committing input audio buffer: buffer too small. Expected at least "
            message += f"{SHORTEST_COMMIT_MS} ms of audio."
            raise ProtocolError(message, code="input_audio_buffer_commit_empty")
        self.clear()
        self.utterance = None
        return utterance, stopped

    def give_up(self) -> list[ServerEvent]:
        """The microphone sends nothing any more: what was said is the turn."""
        self.clear()
        return [self._stopped(self._buffer.received)]

    def _cut(self, end: int) -> Utterance:
        return Utterance(self._item_id, self._buffer.cut(self._start, end))

    def _stopped(self, end: int) -> ServerEvent:
        return events.SpeechStopped(audio_end_ms=milliseconds(end), item_id=self._item_id)

    def _keep_padding(self, limits: Limits) -> None:
        kept = limits.prefix_padding + samples_in(_ONSET_MS + REACH_MS)
        self._buffer.drop_before(self._endpointer.now - kept)
