"""What a session wants done; the shell does it."""

from dataclasses import dataclass

from agent.events import ServerEvent
from agent.mimo import ChatMessage
from agent.objects import Modality


@dataclass(frozen=True, slots=True)
class Send:
    """Say this to the client."""

    event: ServerEvent


@dataclass(frozen=True, slots=True)
class AskModel:
    """Send a request to the model server."""

    response_id: str
    messages: list[ChatMessage]
    modality: Modality
    max_tokens: int | None
    playing_until: float
    """Until then the listener still has something to hear."""


@dataclass(frozen=True, slots=True)
class AbortModel:
    """Close that request at once."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Have the user's speech written down; mono PCM16 at 24 kHz."""

    item_id: str
    pcm: bytes


Command = Send | AskModel | AbortModel | Transcribe
