"""What a session wants done: the shell obeys, in order."""

from dataclasses import dataclass

from agent.errors import ModelError, ProtocolError
from agent.model.output import ChatMessage, Failed
from agent.realtime import server_events as events
from agent.realtime.config import Json, Modality, Truncation
from agent.realtime.server_events import ErrorDetail, ServerEvent

LONGEST_COMPLAINT = 1_000
"""Characters of an error, which may quote what the client sent: enough to see what was wrong."""


@dataclass(frozen=True, slots=True)
class Send:
    """Say this to the client."""

    event: ServerEvent


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection once everything before this has been sent."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class AskModel:
    """Send a request to the model server."""

    response_id: str
    messages: list[ChatMessage]
    modality: Modality
    max_tokens: int | None
    tools: tuple[Json, ...] = ()
    """Functions for the chat template, in the form of a chat request."""
    playing_until: float = 0.0
    """Until then the listener still has something to hear."""
    truncation: Truncation = "auto"
    """What may be left out where the messages are more than the model takes."""


@dataclass(frozen=True, slots=True)
class AbortModel:
    """Close that request at once."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Have the user's speech written down; mono PCM16 at 24 kHz."""

    item_id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Overhear:
    """Read a short sound that was passed over, if that is quick; mono PCM16 at 24 kHz."""

    item_id: str
    pcm: bytes


Command = Send | Close | AskModel | AbortModel | Transcribe | Overhear


def refuse(error: ProtocolError, event_id: str | None = None) -> Send:
    """Answer an event that broke the protocol."""
    # Names and values of the client's own come back to it, but not by the megabyte.
    param = error.param[:LONGEST_COMPLAINT] if error.param else None
    detail = ErrorDetail(
        str(error)[:LONGEST_COMPLAINT],
        code=error.code,
        param=param,
        event_id=error.event_id or event_id,
    )
    return Send(events.Error(error=detail))


_EXPIRED = "Your session hit the maximum duration of 60 minutes."
_EXPIRED_CODE = "session_expired"

CUT_OFF = Failed(ModelError(_EXPIRED, code=_EXPIRED_CODE))
"""What becomes of a response that is open then."""


SHUTTING_DOWN = Close(1001, "The server is shutting down.")
"""Clients may try again, here or elsewhere."""


def goodbye() -> list[Command]:
    """The last that a client hears."""
    return [refuse(ProtocolError(_EXPIRED, code=_EXPIRED_CODE)), Close(1001, _EXPIRED)]
