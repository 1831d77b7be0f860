"""The user's side: sound from the microphone becomes utterances, by turn detection or by hand."""

from collections.abc import Callable
from dataclasses import replace

from agent import limits
from agent.audio import milliseconds, samples_in, seconds
from agent.commands import Command, Overhear, Send
from agent.conversation.utterance import Utterance
from agent.errors import ProtocolError
from agent.floor import states as floor
from agent.hearing import stop_words as halting
from agent.hearing.buffer import InputAudio
from agent.hearing.end_of_turn import Waiting
from agent.hearing.endpointing import (
    FRAME_SAMPLES,
    Boundary,
    EndOfTurn,
    Endpointer,
    Onset,
    Pause,
    Resumption,
)
from agent.hearing.level import REACH_MS, Voice
from agent.hearing.overlap import NEAR_FRAMES, Interjection
from agent.hearing.silence import silence
from agent.policy import Timing
from agent.realtime import ducking
from agent.realtime import server_events as events
from agent.realtime.config import AudioInput, ServerVad, TurnDetection
from agent.realtime.server_events import ServerEvent

SHORTEST_COMMIT_MS, _ONSET_MS = 100, 128

Heard = tuple[floor.Event, ServerEvent | None]
"""What happened to the floor, and what the client is told first."""
Outcome = floor.Duck | floor.Hold | floor.Restore | floor.AnnounceSpeech | floor.AnnounceEndOfSpeech


def _waiting(detection: TurnDetection | None, timing: Timing) -> Waiting | None:
    if detection is None:
        return None
    return Waiting(detection, timing.early_start_ms, timing.longest_turn_ms)


class Microphone:
    """One microphone; its time is the count of samples received."""

    def __init__(self, config: AudioInput, timing: Timing, new_id: Callable[[str], str]):
        self._timing = timing
        self._new_id = new_id
        self._buffer = InputAudio(config.format)
        self._endpointer = Endpointer()
        self._voice = Voice()
        self._interjection = Interjection()
        self._ignoring = False
        self._item_id = ""
        self._start = 0
        self._pause: int | None = None
        self._silence: int | None = None
        self._waiting = _waiting(config.turn_detection, timing)
        self.utterance = Utterance("", b"")
        """The latest utterance, up to its latest pause or its end."""

    def configure(self, config: AudioInput) -> bool:
        """Change turn detection and format; return whether an open utterance was dropped."""
        self._buffer.change(config.format)
        waiting = _waiting(config.turn_detection, self._timing)
        switched = (waiting is None) != (self._waiting is None)
        dropped = switched and self._endpointer.speaking
        if switched:
            self._endpointer = Endpointer(self._buffer.received)
            self._interjection.forget()
            self._ignoring = False
        self._waiting = waiting
        return dropped

    def append(self, data: bytes) -> bytes:
        """Take bytes of any length; return what turn detection has to judge: samples at 24 kHz."""
        by_hand = self._waiting is None
        longest_s = limits.CLIP_S if by_hand else limits.HANDS_FREE_BUFFER_S
        samples = self._buffer.append(data, longest_s)
        return samples if self._waiting else b""

    def clear(self) -> None:
        """Forget what no turn has taken."""
        self._endpointer.reset()
        self._interjection.forget()
        self._ignoring = False
        self._buffer.clear()

    def push(
        self, probability: float, audible: bool = False, can_hold: bool = False
    ) -> list[Heard]:
        """Take the probability of speech in the next 32 ms.

        Args:
            audible: Whether the agent speaks, so that a sound need not be a turn.
            can_hold: Whether the client can stop playing and keep the rest.
        """
        if (waiting := self._waiting) is None:
            return []
        frame = self._voice.hear(probability, self.upcoming(), self._endpointer.speaking)
        self._interjection.hear(frame)
        boundary = self._endpointer.push(frame.probability, waiting.limits)
        if self._interjection.open:
            heard = self._judge(boundary, waiting, can_hold)
        elif self._ignoring:
            heard = self._ignore(boundary, waiting, audible, can_hold)
        elif isinstance(boundary, Onset):
            reach = samples_in(self._voice.reach_back_ms())
            start = max(self._buffer.first, boundary.start - reach)
            heard = self._begin(start, waiting, audible, can_hold)
        else:
            heard = self._follow(boundary, waiting)
        sound = self._interjection
        if not (self._endpointer.speaking or sound.open or sound.remembered):
            self._keep_padding(waiting.limits.prefix_padding)
        return heard

    def upcoming(self, frames: int = 0) -> bytes:
        """The sound that the next probability is about, or the one so many frames later."""
        start = self._endpointer.now + frames * FRAME_SAMPLES
        return self._buffer.cut(start, start + FRAME_SAMPLES)

    @property
    def judging(self) -> bool:
        """Whether a sound over the agent's voice may still turn out to be a turn."""
        return self._interjection.open

    @property
    def open_item(self) -> str | None:
        """The utterance that goes on, pauses included; none that is being judged, or was passed."""
        is_open = self._endpointer.speaking and not self._interjection.open and not self._ignoring
        return self._item_id if is_open else None

    def _begin(self, start: int, waiting: Waiting, audible: bool, can_hold: bool) -> list[Heard]:
        """Somebody begins to speak, or goes on after all; over the agent's voice it is judged."""
        if not audible:
            waiting.start(start)
        self._item_id, self._start = self._new_id("item"), start
        self._pause = None
        self._ignoring = False
        detection = waiting.detection
        if not audible or not detection.interrupt_response:
            begun = floor.SpeechStarted(self._item_id, detection.interrupt_response)
            return [(begun, self._started())]
        self._start = self._interjection.begin(start)
        heard: Heard = floor.SpeechStarted(self._item_id), None
        if isinstance(detection, ServerVad):
            # Asked for by its name: whatever sounds takes the floor, and at once.
            return [heard, (floor.OverlapInterrupts(), None)]
        return [heard, *self._judge(None, waiting, can_hold)]

    def _judge(self, boundary: Boundary | None, waiting: Waiting, can_hold: bool) -> list[Heard]:
        sound, usual_db = self._interjection, self._voice.usual_db
        match boundary:
            case EndOfTurn(end):
                ended = self._turn(end)
                takes = sound.took_floor(usual_db)
                verdict = floor.OverlapInterrupts if takes else floor.OverlapPassed
                return [(verdict(ended), None)]
            case Pause(end):
                self._hesitate(end)
            case Resumption():
                self._go_on(waiting)
            case Onset() | None:
                pass
        judged = sound.judge(usual_db)
        heard = judged and (can_hold or not isinstance(judged, floor.OverlapSustained))
        return [(judged, None)] if judged and heard else []

    def _ignore(
        self, boundary: Boundary | None, waiting: Waiting, audible: bool, can_hold: bool
    ) -> list[Heard]:
        """A sound that was passed goes on."""
        if isinstance(boundary, Pause | EndOfTurn):
            self._endpointer.reset()
            self._ignoring = False
        elif self._interjection.comes_near(self._voice.usual_db):
            start = self._endpointer.now - NEAR_FRAMES * FRAME_SAMPLES
            return self._begin(start, waiting, audible, can_hold)
        return []

    def _follow(self, boundary: Boundary | None, waiting: Waiting) -> list[Heard]:
        match boundary:
            case Pause(end):
                self._hesitate(end)
                early = self._new_id("resp") if waiting.early else None
                return [(floor.SpeechPaused(early, self._silent()), None)]
            case Resumption():
                self._go_on(waiting)
                return [(floor.SpeechResumed(), None)]
            case EndOfTurn(end):
                ended = self._turn(end)
                return [(ended, self._finished(end))]
            case Onset() | None:
                return []

    def _turn(self, end: int, quiet_s: float = 0.0) -> floor.TurnEnded:
        """The turn that is over, should the floor be the user's."""
        # The silence between pause and verdict says nothing: the model need not hear it.
        self.utterance = self._cut(self._pause or end)
        answers = self._waiting is not None and self._waiting.detection.create_response
        answer = self._new_id("resp") if answers else None
        return floor.TurnEnded(self._item_id, answer, self._silent(quiet_s))

    def _silent(self, quiet_s: float = 0.0) -> floor.Silence:
        """Since when, if nothing has come from the microphone for so long."""
        found = silence(self._buffer, self._start, self._endpointer)
        return replace(found, lasted_s=found.lasted_s + quiet_s)

    def _finished(self, end: int) -> ServerEvent:
        """A turn is over: what is learnt from it, and what the client is told."""
        self._voice.end()
        if self._waiting is not None:
            self._waiting.end(end)
        self._buffer.take_before(end)
        return self._stopped(end)

    def _hesitate(self, end: int) -> None:
        self._pause = end
        self.utterance = self._cut(end)
        if self._waiting is not None:
            self._waiting.pause(self.utterance.pcm)

    def _go_on(self, waiting: Waiting) -> None:
        paused = self._endpointer.now - (self._pause or 0) + waiting.limits.pause
        waiting.go_on(milliseconds(paused))
        self._pause = None

    def _started(self) -> ServerEvent:
        """The latest utterance takes the floor: what the client is told of it."""
        self._interjection.forget()
        self._silence = None
        return events.SpeechStarted(audio_start_ms=milliseconds(self._start), item_id=self._item_id)

    def follow(self, action: Outcome, ducks: bool) -> list[Command]:
        """Take what became of a sound over the agent's voice."""
        match action:
            case floor.AnnounceSpeech():
                return [Send(self._started())]
            case floor.AnnounceEndOfSpeech():
                return [Send(self._finished(self._endpointer.now))]
            case floor.Duck() | floor.Hold() | floor.Restore():
                told: list[Command] = [Send(ducking.told(action))] if ducks else []
        if not isinstance(action, floor.Restore) or not self._interjection.open:
            return told
        self._pass_over()
        return [*told, *([Overhear(each.item_id, each.pcm)] if (each := self.passed) else [])]

    @property
    def passed(self) -> Utterance | None:
        """The latest sound over the agent's voice, if it was short and judged to be no turn."""
        return self._interjection.passed

    def bring_back(self, passed: Utterance) -> list[Heard]:
        """It was a turn, and ended before that was known."""
        end = self._endpointer.now
        ended = self._turn(end)
        self.utterance = passed
        self._buffer.take_before(end)
        return [
            (floor.SpeechStarted(self._item_id), None),
            (floor.OverlapInterrupts(), None),
            (ended, self._stopped(end)),
        ]

    def _pass_over(self) -> None:
        """The sound over the agent's voice was no turn; it may go on, as talk far away does."""
        self._interjection.close()
        self._ignoring = self._endpointer.speaking and not self._interjection.over
        if not self._ignoring:
            sound = self._cut(self._endpointer.now)
            self._interjection.passed = sound if seconds(sound.pcm) <= halting.LONGEST_S else None
            self._endpointer.reset()

    def commit(self) -> list[Heard]:
        """End the turn by hand.

        Raises:
            ProtocolError: If there is too little to commit, or too much for one clip.
        """
        if self._waiting is None:
            self._buffer.finish()
        end, is_open = self._buffer.received, self.open_item is not None
        if is_open:
            utterance = self._cut(end)
        else:
            utterance = Utterance(self._new_id("item"), self._buffer.cut(self._buffer.untaken, end))
        if len(utterance.pcm) < samples_in(SHORTEST_COMMIT_MS) * 2:
            message = "Error committing input audio buffer: buffer too small. Expected at least "
            message += f"{SHORTEST_COMMIT_MS} ms of audio."
            raise ProtocolError(message, code="input_audio_buffer_commit_empty")
        if seconds(utterance.pcm) > limits.CLIP_S:
            message = f"Error committing input audio buffer: {seconds(utterance.pcm):.1f} s of "
            message += f"audio; the limit is {limits.CLIP_S} s. Clear the buffer."
            raise ProtocolError(message, code="input_audio_buffer_full")
        self.clear()
        self.utterance = utterance
        ended = floor.TurnEnded(utterance.item_id, None)
        return [(ended, self._stopped(end) if is_open else None)]

    def begin_silence(self) -> None:
        """The agent has finished: what is heard from now on may become a silent turn."""
        self._silence = self._buffer.received

    def take_silence(self) -> list[Heard]:
        """Take what was heard since then as a turn; nothing if no sound came at all."""
        end, item_id = self._buffer.received, self._new_id("item")
        start = end if self._silence is None else self._silence
        self._silence = None
        pcm = self._buffer.cut(start, end)
        if not pcm:
            return []
        self._buffer.take_before(end)
        self.utterance = Utterance(item_id, pcm)
        told = events.TimeoutTriggered(
            audio_start_ms=milliseconds(start), audio_end_ms=milliseconds(end), item_id=item_id
        )
        return [(floor.TurnEnded(item_id, self._new_id("resp")), told)]

    def give_up(self, quiet_s: float) -> list[Heard]:
        """Nothing has come from the microphone for so long: what was said is the turn."""
        end = self._endpointer.now
        self._endpointer.reset()
        return [(self._turn(end, quiet_s), self._finished(end))]

    def _cut(self, end: int) -> Utterance:
        return Utterance(self._item_id, self._buffer.cut(self._start, end))

    def _stopped(self, end: int) -> ServerEvent:
        return events.SpeechStopped(audio_end_ms=milliseconds(end), item_id=self._item_id)

    def _keep_padding(self, samples: int) -> None:
        first = self._endpointer.now - samples - samples_in(_ONSET_MS + REACH_MS)
        self._buffer.drop_before(first if self._silence is None else min(first, self._silence))
