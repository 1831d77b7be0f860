"""The user's side: sound from the microphone becomes utterances, by turn detection or by hand."""

from collections.abc import Callable, Iterator

from agent import ducking, events, floor, halting
from agent.audio import milliseconds, samples_in, seconds
from agent.commands import Command, Overhear, Send
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
from agent.objects import AudioFormat, ServerVad, TurnDetection
from agent.silence import silence
from agent.utterance import Utterance
from agent.voice import REACH_MS, Voice
from agent.waiting import Waiting

SHORTEST_COMMIT_MS, _ONSET_MS = 100, 128

Heard = tuple[floor.Event, ServerEvent | None]
"""What happened to the floor, and what the client is told first."""


class Microphone:
    """One microphone; its time is the count of samples received."""

    def __init__(
        self,
        detection: TurnDetection | None,
        early_start_ms: int,
        longest_ms: int,
        format: AudioFormat,
    ):
        self._early_start_ms = early_start_ms
        self._longest_ms = longest_ms
        self._buffer = InputAudio(format)
        self._endpointer = Endpointer()
        self._voice = Voice()
        self._interjection = Interjection()
        self._ignoring = False
        self._item_id = ""
        self._start = 0
        self._pause: int | None = None
        self._silence: int | None = None
        self._set(detection)
        self.utterance: Utterance | None = None
        """The utterance up to the latest pause or end."""

    def _set(self, detection: TurnDetection | None) -> None:
        self._detection = detection
        self._waiting = (
            Waiting(detection, self._early_start_ms, self._longest_ms) if detection else None
        )

    def configure(self, detection: TurnDetection | None, format: AudioFormat) -> bool:
        """Change turn detection and format; return whether an open utterance was dropped."""
        self._buffer.change(format)
        switched = (detection is None) != (self._detection is None)
        dropped = switched and self._endpointer.speaking
        if switched:
            self._endpointer = Endpointer(self._buffer.received)
            self._interjection.forget()
            self._ignoring = False
        self._set(detection)
        return dropped

    def append(self, data: bytes) -> bytes:
        """Take bytes of any length; return what turn detection has to judge: samples at 24 kHz."""
        samples = self._buffer.append(data)
        return samples if self._detection else b""

    def clear(self) -> None:
        """Forget what no turn has taken."""
        self._endpointer.reset()
        self._interjection.forget()
        self._ignoring = False
        self._buffer.clear()

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
        if (detection := self._detection) is None or (waiting := self._waiting) is None:
            return
        frame = self._voice.hear(probability, self.upcoming(), self._endpointer.speaking)
        self._interjection.hear(frame)
        boundary = self._endpointer.push(frame.probability, waiting.limits)
        judging = self._interjection.open
        if judging:
            yield from self._judge(boundary, can_hold)
        elif self._ignoring:
            yield from self._ignore(boundary, detection, audible, new_id)
        elif isinstance(boundary, Onset):
            reach = samples_in(self._voice.reach_back_ms())
            start = max(self._buffer.first, boundary.start - reach)
            yield from self._begin(start, detection, audible, new_id)
        else:
            yield from self._follow(boundary, waiting, new_id)
        if self._interjection.open and not judging:
            yield from self._judge(None, can_hold)
        if not (self._endpointer.speaking or self._interjection.remembered):
            self._keep_padding(waiting.limits)

    def upcoming(self, frames: int = 0) -> bytes:
        """The sound that the next probability is about, or the one so many frames later."""
        start = self._endpointer.now + frames * FRAME_SAMPLES
        return self._buffer.cut(start, start + FRAME_SAMPLES)

    def _begin(
        self, start: int, detection: TurnDetection, audible: bool, new_id: Callable[[str], str]
    ) -> Iterator[Heard]:
        """Somebody begins to speak, or goes on after all; over the agent's voice it is judged."""
        if not audible and self._waiting is not None:
            self._waiting.start(start)
        self._item_id, self._start = new_id("item"), start
        self._pause = None
        self._ignoring = False
        if audible and detection.interrupt_response:
            self._start = self._interjection.begin(start)
            yield floor.SpeechStarted(self._item_id), None
            if isinstance(detection, ServerVad):
                # Asked for by its name: whatever sounds takes the floor, and at once.
                yield floor.OverlapInterrupts(), None
        else:
            yield floor.SpeechStarted(self._item_id, detection.interrupt_response), self._started()

    def _judge(self, boundary: Boundary | None, can_hold: bool) -> Iterator[Heard]:
        if isinstance(boundary, Pause):
            self._hesitate(boundary.end)
        sound, over = self._interjection, isinstance(boundary, EndOfTurn)
        judged = (sound.end if over else sound.judge)(self._voice.usual_db)
        if judged and (can_hold or not isinstance(judged, floor.OverlapSustained)):
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
        self, boundary: Boundary | None, waiting: Waiting, new_id: Callable[[str], str]
    ) -> Iterator[Heard]:
        match boundary:
            case Pause(end):
                self._hesitate(end)
                if waiting.early:
                    silent = silence(self._buffer, self._start, self._endpointer)
                    yield floor.SpeechPaused(new_id("resp"), silent), None
            case Resumption():
                paused = self._endpointer.now - (self._pause or 0) + waiting.limits.pause
                waiting.go_on(milliseconds(paused))
                self._pause = None
                yield floor.SpeechResumed(), None
            case EndOfTurn(end):
                # The silence between pause and verdict says nothing: the model need not hear it.
                self.utterance = self._cut(self._pause or end)
                self._voice.end()
                waiting.end(end)
                yield self._end(end, new_id)
            case Onset() | None:
                pass

    def _end(self, end: int, new_id: Callable[[str], str]) -> Heard:
        silent = silence(self._buffer, self._start, self._endpointer)
        self._buffer.take_before(end)
        answer = new_id("resp") if self._detection and self._detection.create_response else None
        return floor.TurnEnded(self._item_id, answer, silent), self._stopped(end)

    def _hesitate(self, end: int) -> None:
        self._pause = end
        self.utterance = self._cut(end)
        if self._waiting is not None:
            self._waiting.pause(self.utterance.pcm)

    def _started(self) -> ServerEvent:
        """The latest utterance takes the floor: what the client is told of it."""
        self._interjection.forget()
        self._silence = None
        return events.SpeechStarted(audio_start_ms=milliseconds(self._start), item_id=self._item_id)

    def follow(
        self, action: floor.Duck | floor.Hold | floor.Restore | floor.AnnounceSpeech, ducks: bool
    ) -> list[Command]:
        """Take what became of a sound over the agent's voice."""
        if isinstance(action, floor.AnnounceSpeech):
            return [Send(self._started())]
        told: list[Command] = [Send(ducking.told(action))] if ducks else []
        if not isinstance(action, floor.Restore) or not self._interjection.open:
            return told
        self._pass_over()
        return [*told, *([Overhear(each.item_id, each.pcm)] if (each := self.passed) else [])]

    @property
    def passed(self) -> Utterance | None:
        """The latest sound over the agent's voice, if it was short and judged to be no turn."""
        return self._interjection.passed

    def bring_back(self, passed: Utterance, new_id: Callable[[str], str]) -> Iterator[Heard]:
        """It was a turn, and ended before that was known."""
        self.utterance = passed
        yield floor.SpeechStarted(self._item_id), None
        yield floor.OverlapInterrupts(), None
        yield self._end(self._endpointer.now, new_id)

    def _pass_over(self) -> None:
        """The sound over the agent's voice was no turn; it may go on, as talk far away does."""
        self._interjection.close()
        self._ignoring = self._endpointer.speaking and not self._interjection.over
        if not self._ignoring:
            sound = self._cut(self._endpointer.now)
            self._interjection.passed = sound if seconds(sound.pcm) <= halting.LONGEST_S else None
            self._endpointer.reset()

    def commit(self, new_id: Callable[[str], str]) -> tuple[Utterance, list[ServerEvent]]:
        """End the turn by hand; return it and what the client is told before.

        Raises:
            ProtocolError: If there is too little to commit.
        """
        if self._detection is None:
            self._buffer.finish()
        end = self._buffer.received
        # Whether the client was told of an utterance that goes on.
        unheard = self._ignoring or self._interjection.open
        if is_open := self._endpointer.speaking and not unheard:
            utterance = self._cut(end)
        else:
            utterance = Utterance(new_id("item"), self._buffer.cut(self._buffer.untaken, end))
        if len(utterance.pcm) < samples_in(SHORTEST_COMMIT_MS) * 2:
            message = "Error committing input audio buffer: buffer too small. Expected at least "
            message += f"{SHORTEST_COMMIT_MS} ms of audio."
            raise ProtocolError(message, code="input_audio_buffer_commit_empty")
        self.clear()
        self.utterance = None
        return utterance, [self._stopped(end)] if is_open else []

    def begin_silence(self) -> None:
        """The agent has finished: what is heard from now on may become a silent turn."""
        self._silence = self._buffer.received

    def take_silence(
        self, new_id: Callable[[str], str]
    ) -> tuple[Utterance, events.TimeoutTriggered] | None:
        """Take what was heard since then as a turn; nothing if no sound came at all."""
        end, item_id = self._buffer.received, new_id("item")
        start = end if self._silence is None else self._silence
        self._silence = self.utterance = None
        pcm = self._buffer.cut(start, end)
        if not pcm:
            return None
        self._buffer.take_before(end)
        told = events.TimeoutTriggered(
            audio_start_ms=milliseconds(start), audio_end_ms=milliseconds(end), item_id=item_id
        )
        return Utterance(item_id, pcm), told

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
        first = self._endpointer.now - kept
        self._buffer.drop_before(first if self._silence is None else min(first, self._silence))
