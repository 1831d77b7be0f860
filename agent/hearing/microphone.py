"""The user's side: sound from the microphone becomes utterances, by turn detection or by hand.

Each frame goes one way: it is measured, crosses a boundary or does not, and what that means is
returned as values. Whose turn it is, the floor decides; its outcome comes back as an input.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent import limits
from agent.audio import RATE, milliseconds, samples_in, seconds
from agent.commands import Command, Overhear, Send
from agent.errors import ProtocolError
from agent.floor import states as floor
from agent.hearing import stop_words
from agent.hearing.buffer import (
    FRAME_MS,
    FRAME_SAMPLES,
    ONSET_FRAMES,
    REACH_MS,
    DetectedFrame,
    InputAudio,
    Utterance,
    VoiceLevel,
    end_of_voice,
)
from agent.hearing.end_of_turn import EndOfTurnWait
from agent.hearing.endpointing import Boundary, EndOfTurn, Endpointer, Onset, Pause, Resumption
from agent.hearing.overlap import NEAR_FRAMES, OverlapSound
from agent.policy import Policy
from agent.realtime import server_events as events
from agent.realtime.config import AudioInput, ServerVad, TurnDetection
from agent.realtime.server_events import ServerEvent

SHORTEST_COMMIT_MS = 100
"""As at OpenAI: less is a slip of the hand."""
_ONSET_MS = ONSET_FRAMES * FRAME_MS
"""An onset is noticed so late at most."""
_VOICE_TOLD_BY = samples_in(1_500)
"""So much of an utterance tells how loud its voice is."""
_LATEST_END = samples_in(160)
"""No detector notices the end later than this; farther back it would be a word that is missed."""

Heard = tuple[floor.Event, ServerEvent | None]
"""What happened to the floor, and what is sent to the client first."""
Outcome = floor.Duck | floor.Hold | floor.Restore | floor.AnnounceSpeech | floor.AnnounceEndOfSpeech


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides how a frame is taken, beside the frame."""

    agent_speaks: bool = False
    """A sound need not be a turn then."""
    client_holds: bool = False
    """Whether the client can stop playing and keep the rest."""


@dataclass(slots=True)
class _Sound:
    """The latest utterance; positions are samples of the microphone."""

    item_id: str = ""
    start: int = 0
    paused_at: int | None = None


def _wait(detection: TurnDetection | None, policy: Policy) -> EndOfTurnWait | None:
    if detection is None:
        return None
    return EndOfTurnWait(detection, policy.early_start_ms, policy.longest_turn_ms)


class Microphone:
    """One microphone; its time is the count of samples received."""

    def __init__(self, config: AudioInput, policy: Policy, new_id: Callable[[str], str]):
        self._new_id = new_id
        self._buffer = InputAudio(config.format)
        self._endpointer = Endpointer()
        self._level = VoiceLevel()
        self._overlap = OverlapSound()
        self._sound = _Sound()
        self._wait = _wait(config.turn_detection, policy)
        self.utterance = Utterance("", b"")
        """The latest utterance, up to its latest pause or its end."""

    def configure(self, config: AudioInput, policy: Policy) -> bool:
        """Change turn detection and format; return whether an open utterance was dropped."""
        self._buffer.change(config.format)
        wait = _wait(config.turn_detection, policy)
        switched = (wait is None) != (self._wait is None)
        dropped = switched and self._endpointer.is_speaking
        if switched:
            self._endpointer = Endpointer(self._buffer.received)
            self._buffer.skip_unjudged()
            self._overlap.forget()
        self._wait = wait
        return dropped

    def append(self, data: bytes) -> bytes:
        """Take bytes of any length; return what turn detection has to judge: samples at 24 kHz."""
        samples = self._buffer.append(data, self._longest_s)
        return b"" if self._wait is None else samples

    @property
    def held_bytes(self) -> int:
        return self._buffer.held_bytes + len(self.utterance.pcm)

    def check_room(self, data: bytes) -> None:
        """Refuse sound that would not fit, before any of it is taken."""
        self._buffer.check_room(data, self._longest_s)

    @property
    def _longest_s(self) -> int:
        return limits.CLIP_S if self._wait is None else limits.HANDS_FREE_BUFFER_S

    def clear(self) -> None:
        """Forget what no turn has taken."""
        self._endpointer.reset()
        self._overlap.forget()
        self._buffer.clear()

    def next_frame(self, probability: float) -> DetectedFrame:
        """The frame that the next probability is about."""
        return DetectedFrame(self._buffer.next_frame(), probability)

    def judge_frame(self, detected: DetectedFrame, around: Surroundings) -> list[Heard]:
        """Return what the next 32 ms mean."""
        if (wait := self._wait) is None:
            return []
        frame = self._level.measure(detected, self._endpointer.is_speaking)
        self._overlap.add(frame)
        boundary = self._endpointer.next_boundary(frame.probability, wait.limits)
        if self._overlap.is_judged:
            heard = self._judge_overlap(boundary, wait, around)
        elif self._overlap.is_ignored:
            heard = self._ignore(boundary, wait, around)
        elif isinstance(boundary, Onset):
            reach = samples_in(self._level.reach_back_ms())
            start = max(self._buffer.first, boundary.start - reach)
            heard = self._begin(start, wait, around)
        else:
            heard = self._follow_turn(boundary, wait)
        sound = self._overlap
        if not (self._endpointer.is_speaking or sound.is_judged or sound.is_remembered):
            padding = wait.limits.prefix_padding + samples_in(_ONSET_MS + REACH_MS)
            self._buffer.drop_before(self._endpointer.now - padding)
        return heard

    @property
    def is_judging(self) -> bool:
        """Whether a sound over the agent's voice may still turn out to be a turn."""
        return self._overlap.is_judged

    @property
    def open_item(self) -> str | None:
        """The utterance that goes on, pauses included; none that is being judged, or was passed."""
        beside = self._overlap.is_judged or self._overlap.is_ignored
        return self._sound.item_id if self._endpointer.is_speaking and not beside else None

    def _begin(self, start: int, wait: EndOfTurnWait, around: Surroundings) -> list[Heard]:
        """Somebody begins to speak, or goes on after all; over the agent's voice it is judged."""
        if not around.agent_speaks:
            wait.turn_started(start)
        self._sound = _Sound(self._new_id("item"), start)
        item_id, detection = self._sound.item_id, wait.detection
        if not around.agent_speaks or not detection.interrupt_response:
            begun = floor.SpeechStarted(item_id, detection.interrupt_response)
            return [(begun, self._became_turn())]
        self._sound.start = self._overlap.begin(start)
        heard: Heard = floor.SpeechStarted(item_id), None
        if isinstance(detection, ServerVad):
            # Asked for by its name: whatever sounds takes the floor, and at once.
            return [heard, (floor.OverlapInterrupts(), None)]
        return [heard, *self._judge_overlap(None, wait, around)]

    def _judge_overlap(
        self, boundary: Boundary | None, wait: EndOfTurnWait, around: Surroundings
    ) -> list[Heard]:
        sound, usual_db = self._overlap, self._level.usual_db
        match boundary:
            case EndOfTurn(end):
                ended = self._turn(end)
                takes = sound.takes_floor(usual_db)
                verdict = floor.OverlapInterrupts if takes else floor.OverlapPassed
                return [(verdict(ended), None)]
            case Pause(end):
                self._pause(end, wait)
            case Resumption():
                self._resume(wait)
            case Onset() | None:
                pass
        judged = sound.judge(usual_db)
        if judged is None:
            return []
        is_of_use = around.client_holds or not isinstance(judged, floor.OverlapSustained)
        return [(judged, None)] if is_of_use else []

    def _ignore(
        self, boundary: Boundary | None, wait: EndOfTurnWait, around: Surroundings
    ) -> list[Heard]:
        """A sound that was passed goes on."""
        if isinstance(boundary, Pause | EndOfTurn):
            self._endpointer.reset()
            self._overlap.end()
        elif self._overlap.comes_near(self._level.usual_db):
            start = self._endpointer.now - NEAR_FRAMES * FRAME_SAMPLES
            return self._begin(start, wait, around)
        return []

    def _follow_turn(self, boundary: Boundary | None, wait: EndOfTurnWait) -> list[Heard]:
        match boundary:
            case Pause(end):
                self._pause(end, wait)
                early = self._new_id("resp") if wait.prepares_reply else None
                return [(floor.SpeechPaused(early, self._silence()), None)]
            case Resumption():
                self._resume(wait)
                return [(floor.SpeechResumed(), None)]
            case EndOfTurn(end):
                return [(self._turn(end), self._finish_turn(end))]
            case Onset() | None:
                return []

    def _turn(self, end: int, quiet_s: float = 0.0) -> floor.TurnEnded:
        """The turn that is over, should the floor be the user's."""
        # The silence between pause and verdict says nothing: the model need not hear it.
        self.utterance = self._cut(self._sound.paused_at or end)
        answers = self._wait is not None and self._wait.detection.create_response
        answer = self._new_id("resp") if answers else None
        return floor.TurnEnded(self._sound.item_id, answer, self._silence(quiet_s))

    def _silence(self, quiet_s: float = 0.0) -> floor.Silence:
        """Since the user's voice died away, found in the sound itself: a detector goes on hearing
        speech for a moment after its end, the longer the louder the room is.

        Args:
            quiet_s: For how long nothing has come from the microphone.
        """
        detected = self._endpointer.speech_end
        first = max(self._sound.start, detected - _VOICE_TOLD_BY)
        found = first + end_of_voice(self._buffer.cut(first, self._endpointer.now))
        end = min(detected, max(detected - _LATEST_END, found))
        # Sound that has come and is still to be judged has lasted as well.
        lasted_s = (self._buffer.received - end) / RATE + quiet_s
        return floor.Silence(lasted_s, milliseconds(end))

    def _finish_turn(self, end: int) -> ServerEvent:
        """A turn is over: what is learnt from it, and what is sent to the client."""
        self._level.learn_usual()
        if self._wait is not None:
            self._wait.turn_ended(end)
        self._buffer.mark_taken(end)
        return self._stopped(end)

    def _pause(self, end: int, wait: EndOfTurnWait) -> None:
        self._sound.paused_at = end
        self.utterance = self._cut(end)
        wait.paused(self.utterance.pcm)

    def _resume(self, wait: EndOfTurnWait) -> None:
        paused = self._endpointer.now - (self._sound.paused_at or 0) + wait.limits.pause
        wait.resumed(milliseconds(paused))
        self._sound.paused_at = None

    def _became_turn(self) -> ServerEvent:
        """The latest utterance takes the floor: what is sent to the client."""
        self._overlap.forget()
        self._buffer.release()
        start_ms = milliseconds(self._sound.start)
        return events.SpeechStarted(audio_start_ms=start_ms, item_id=self._sound.item_id)

    def apply_outcome(self, action: Outcome, client_ducks: bool) -> list[Command]:
        """Take what became of a sound over the agent's voice."""
        match action:
            case floor.AnnounceSpeech():
                return [Send(self._became_turn())]
            case floor.AnnounceEndOfSpeech():
                return [Send(self._finish_turn(self._endpointer.now))]
            case floor.Duck(response_id):
                event: ServerEvent = events.Ducked(response_id=response_id)
            case floor.Hold(response_id):
                event = events.Held(response_id=response_id)
            case floor.Restore(response_id):
                event = events.Restored(response_id=response_id)
        passed = self._pass_over() if isinstance(action, floor.Restore) else None
        return [
            *([Send(event)] if client_ducks else []),
            *([Overhear(passed.item_id, passed.pcm)] if passed else []),
        ]

    def _pass_over(self) -> Utterance | None:
        """The sound that was judged is no turn; it may go on, as talk far away does.

        Returns:
            What sounded, if it is over and was short enough to be one of the stop words.
        """
        sound = self._overlap
        if not sound.is_judged:
            return None
        sound.pass_over(self._endpointer.is_speaking)
        if not sound.is_ignored:
            passed = self._cut(self._endpointer.now)
            sound.passed = passed if seconds(passed.pcm) <= stop_words.LONGEST_S else None
            self._endpointer.reset()
        return sound.passed

    @property
    def passed(self) -> Utterance | None:
        """The latest sound over the agent's voice, if it was short and judged to be no turn."""
        return self._overlap.passed

    def bring_back(self, passed: Utterance) -> list[Heard]:
        """It was a turn, and ended before that was known."""
        end = self._endpointer.now
        ended = self._turn(end)
        self.utterance = passed
        self._buffer.mark_taken(end)
        return [
            (floor.SpeechStarted(self._sound.item_id), None),
            (floor.OverlapInterrupts(), None),
            (ended, self._stopped(end)),
        ]

    def commit(self) -> list[Heard]:
        """End the turn by hand.

        Raises:
            ProtocolError: If there is too little to commit, or too much for one clip.
        """
        if self._wait is None:
            self._buffer.flush_decoder()
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
        self._buffer.hold()

    def end_silence(self) -> list[Heard]:
        """Take what was heard since then as a turn; nothing if no sound came at all."""
        start, end = self._buffer.release(), self._buffer.received
        item_id, pcm = self._new_id("item"), self._buffer.cut(start, end)
        if not pcm:
            return []
        self._buffer.mark_taken(end)
        self.utterance = Utterance(item_id, pcm)
        triggered = events.TimeoutTriggered(
            audio_start_ms=milliseconds(start), audio_end_ms=milliseconds(end), item_id=item_id
        )
        return [(floor.TurnEnded(item_id, self._new_id("resp")), triggered)]

    def give_up(self, quiet_s: float) -> list[Heard]:
        """Nothing has come from the microphone for so long: what was said is the turn."""
        end = self._endpointer.now
        self._endpointer.reset()
        return [(self._turn(end, quiet_s), self._finish_turn(end))]

    def _cut(self, end: int) -> Utterance:
        return Utterance(self._sound.item_id, self._buffer.cut(self._sound.start, end))

    def _stopped(self, end: int) -> ServerEvent:
        return events.SpeechStopped(audio_end_ms=milliseconds(end), item_id=self._sound.item_id)
