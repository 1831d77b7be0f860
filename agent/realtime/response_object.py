"""A response as its first and last event show it, and the parts that it is made of."""

from typing import Literal

from msgspec import Struct

from agent.realtime.config import AudioFormat, Modality
from agent.realtime.items import ConversationItem, Metadata

ResponseStatus = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]


class StatusError(Struct, frozen=True):
    type: str
    code: str
    message: str


class StatusDetails(Struct, frozen=True, omit_defaults=True):
    """Why a response ended otherwise than completed."""

    type: ResponseStatus
    reason: str | None = None
    error: StatusError | None = None


class ResponseAudioOutput(Struct, frozen=True):
    voice: str
    format: AudioFormat


class ResponseAudio(Struct, frozen=True):
    output: ResponseAudioOutput


class CachedTokens(Struct, frozen=True):
    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0


class InputTokens(Struct, frozen=True):
    text_tokens: int
    audio_tokens: int
    image_tokens: int = 0
    cached_tokens: int = 0
    cached_tokens_details: CachedTokens = CachedTokens()


class OutputTokens(Struct, frozen=True):
    text_tokens: int
    audio_tokens: int


class ResponseUsage(Struct, frozen=True):
    """What a response cost, in positions of the model's context."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_token_details: InputTokens
    output_token_details: OutputTokens


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response as its first and last event show it."""

    object: Literal["realtime.response"] = "realtime.response"
    id: str
    status: ResponseStatus
    status_details: StatusDetails | None = None
    output: list[ConversationItem]
    conversation_id: str | None
    output_modalities: list[Modality]
    max_output_tokens: int | Literal["inf"]
    audio: ResponseAudio
    usage: ResponseUsage | None = None
    metadata: Metadata | None = None


class PartObject(Struct, frozen=True, omit_defaults=True):
    """One part of a response's item: spoken (transcript) or written (text)."""

    type: Literal["audio", "text"]
    transcript: str | None = None
    text: str | None = None
