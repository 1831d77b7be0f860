"""What a session takes in, each as one value, so that a session can be recorded and held again."""

from dataclasses import dataclass

from msgspec import Struct

from agent.commands import Close, Command, Send, refuse
from agent.errors import ProtocolError
from agent.model.output import Output
from agent.realtime import beta, client_events as protocol, server_events as events
from agent.realtime.resumption import Position
from agent.session import Session


@dataclass(frozen=True, slots=True)
class Judged:
    """The probability of speech in the next frame of the microphone."""

    probability: float


@dataclass(frozen=True, slots=True)
class FromModel:
    response_id: str
    output: Output


class Transcribed(Struct, frozen=True):
    """What the user said in an item, or why that isn't known."""

    item_id: str
    text: str
    duration_s: float
    error: events.TranscriptionError | None = None


class Overheard(Struct, frozen=True):
    """The words of a sound over the agent's voice that was passed over."""

    item_id: str
    words: str


class Returned(Struct, frozen=True):
    """The client goes on over another connection."""

    position: Position


class Busy(Struct, frozen=True):
    """Whether others wait for the model server, from now on."""

    is_busy: bool


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    pass


Input = (
    protocol.AnyClientEvent
    | ProtocolError
    | Judged
    | FromModel
    | Transcribed
    | Overheard
    | Returned
    | Busy
    | DeadlinePassed
)


def feed(session: Session, taken: Input, now: float) -> list[Command]:
    """Give a session one input, whatever it is.

    What there is to judge of sound from the microphone is not returned; see `Session.append`.
    """
    match taken:
        case Judged(probability):
            return session.judge_next_frame(probability, now)
        case FromModel(response_id, output):
            return session.from_model(response_id, output, now)
        case Transcribed():
            return _transcribed(session, taken)
        case Overheard(item_id=item_id, words=words):
            return session.overheard(item_id, words, now)
        case Returned():
            return [Send(session.resumed())]
        case Busy(is_busy):
            session.model_busy = is_busy
            return []
        case DeadlinePassed():
            return session.pass_deadline(now)
        case ProtocolError(code=beta.CODE):
            return [refuse(taken), Close(beta.CLOSE, f"invalid_request_error.{beta.CODE}")]
        case ProtocolError():
            return [refuse(taken)]
        case _:
            return session.receive(taken, now)


def _transcribed(session: Session, wish: Transcribed) -> list[Command]:
    if wish.error is None:
        return session.transcribed(wish.item_id, wish.text, wish.duration_s)
    failed = events.TranscriptionFailed(item_id=wish.item_id, content_index=0, error=wish.error)
    return [Send(failed)]
