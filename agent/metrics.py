"""Our extension for clients that show how soon they are answered: where the time went.

Only the server knows when the model was asked, often before the turn was over, and when it first
said something, which then waited unheard for the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.floor import states as floor
from agent.floor.states import (
    Action,
    CloseResponse,
    Deliver,
    Event,
    FromModel,
    OpenResponse,
    OverlapInterrupts,
    OverlapPassed,
    ReplyWanted,
    RequestReply,
    SpeechPaused,
    TurnEnded,
)
from agent.model.output import Call, Sound, Text
from agent.realtime.server_events import ServerEvent


class Marks(ServerEvent, frozen=True, tag="x_mimo.marks"):
    """How one response came about, in milliseconds since the user stopped speaking.

    Where nobody spoke, since the client ended the turn or asked for the response.
    """

    response_id: str
    speech_end_ms: int | None
    """Where that was in the microphone's sound, counted from the first sample sent."""
    requested_ms: int
    """The model was asked."""
    decided_ms: int
    """The turn was over."""
    first_output_ms: int | None
    """The model said something: text, sound or a function call."""
    first_sound_ms: int | None
    """Its sound begins to go out, with the next event."""


@dataclass(slots=True)
class _Lap:
    response_id: str
    stopped_at: float
    speech_end_ms: int | None
    requested_at: float
    output_at: float | None = None
    is_sent: bool = False


class Stopwatch:
    """Follows one session, a response at a time."""

    def __init__(self) -> None:
        self._stopped_at = self._decided_at = 0.0
        self._speech_end_ms: int | None = None
        self._lap = _Lap("", 0.0, None, 0.0, is_sent=True)

    def note_event(self, event: Event, now: float) -> None:
        """Take what happens, before the floor does."""
        lap = self._lap
        match event:
            case SpeechPaused(silence=silence) | TurnEnded(silence=silence) if silence:
                self._stopped_at = now - silence.lasted_s
                self._speech_end_ms = silence.since_ms
            case OverlapInterrupts(TurnEnded() as ended) | OverlapPassed(TurnEnded() as ended):
                self.note_event(ended, now)
            case TurnEnded() | ReplyWanted():
                self._stopped_at, self._speech_end_ms = now, None
            case FromModel(lap.response_id, Text() | Sound() | Call()) if lap.output_at is None:
                lap.output_at = now
            case _:
                pass

    def note_action(self, action: Action, now: float) -> Marks | None:
        """Take what is done about it; return the marks with a response's first sound, or at its
        end if there was none."""
        match action:
            case OpenResponse():
                self._decided_at = now
            case RequestReply(response_id):
                self._lap = _Lap(response_id, self._stopped_at, self._speech_end_ms, now)
            case Deliver(output=Sound()) if not self._lap.is_sent:
                return self._marks(now)
            case CloseResponse() if not self._lap.is_sent:
                return self._marks(None)
            case _:
                pass
        return None

    def _marks(self, sound_at: float | None) -> Marks:
        lap = self._lap
        lap.is_sent = True
        return Marks(
            response_id=lap.response_id,
            speech_end_ms=lap.speech_end_ms,
            requested_ms=_ms(lap.requested_at - lap.stopped_at),
            decided_ms=_ms(self._decided_at - lap.stopped_at),
            first_output_ms=None if lap.output_at is None else _ms(lap.output_at - lap.stopped_at),
            first_sound_ms=None if sound_at is None else _ms(sound_at - lap.stopped_at),
        )


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


@dataclass(slots=True)
class EarlyStarts:
    """Replies requested in a pause: those that were said, and those that were dropped unheard."""

    used: int = 0
    wasted: int = 0

    def count(self, before: floor.State, actions: Sequence[floor.Action]) -> None:
        match before:
            case floor.Hesitating(response_id=str(response_id)):
                self.used += floor.OpenResponse(response_id) in actions
                self.wasted += floor.AbortReply(response_id) in actions
            case _:
                pass
