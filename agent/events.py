"""What the server may say: the events of the OpenAI Realtime protocol (GA), and their encoder.

Fields without a default are those that at least one client fails without.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from agent.objects import Json, MessageItem, Modality, PcmFormat, SessionConfig

ResponseStatus = Literal["in_progress", "completed", "cancelled", "failed", "incomplete"]


class ErrorDetail(Struct, frozen=True):
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


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
    format: PcmFormat = PcmFormat()


class ResponseAudio(Struct, frozen=True):
    output: ResponseAudioOutput


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response as its first and last event show it."""

    object: Literal["realtime.response"] = "realtime.response"
    id: str
    status: ResponseStatus
    status_details: StatusDetails | None = None
    output: list[MessageItem]
    conversation_id: str
    output_modalities: list[Modality]
    max_output_tokens: int | Literal["inf"]
    audio: ResponseAudio
    usage: Json | None = None
    metadata: Json | None = None


class PartObject(Struct, frozen=True, omit_defaults=True):
    """One part of a response's item: spoken (transcript) or written (text)."""

    type: Literal["audio", "text"]
    transcript: str | None = None
    text: str | None = None


class ServerEvent(Struct, frozen=True, kw_only=True):
    """Anything the server says; the encoder adds `event_id`."""


class Error(ServerEvent, frozen=True, tag="error"):
    error: ErrorDetail


class SessionCreated(ServerEvent, frozen=True, tag="session.created"):
    session: SessionConfig


class SessionUpdated(ServerEvent, frozen=True, tag="session.updated"):
    session: SessionConfig


class SpeechStarted(ServerEvent, frozen=True, tag="input_audio_buffer.speech_started"):
    audio_start_ms: int
    item_id: str


class SpeechStopped(ServerEvent, frozen=True, tag="input_audio_buffer.speech_stopped"):
    audio_end_ms: int
    item_id: str


class Committed(ServerEvent, frozen=True, tag="input_audio_buffer.committed"):
    previous_item_id: str | None
    item_id: str


class Cleared(ServerEvent, frozen=True, tag="input_audio_buffer.cleared"):
    pass


class ItemAdded(ServerEvent, frozen=True, tag="conversation.item.added"):
    previous_item_id: str | None
    item: MessageItem


class ItemDone(ServerEvent, frozen=True, tag="conversation.item.done"):
    previous_item_id: str | None
    item: MessageItem


class ItemRetrieved(ServerEvent, frozen=True, tag="conversation.item.retrieved"):
    item: MessageItem


class ItemTruncated(ServerEvent, frozen=True, tag="conversation.item.truncated"):
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDeleted(ServerEvent, frozen=True, tag="conversation.item.deleted"):
    item_id: str


class TranscriptionCompleted(
    ServerEvent, frozen=True, tag="conversation.item.input_audio_transcription.completed"
):
    item_id: str
    content_index: int
    transcript: str
    usage: Json


class TranscriptionError(Struct, frozen=True):
    type: str
    code: str
    message: str


class TranscriptionFailed(
    ServerEvent, frozen=True, tag="conversation.item.input_audio_transcription.failed"
):
    item_id: str
    content_index: int
    error: TranscriptionError


class ResponseCreated(ServerEvent, frozen=True, tag="response.created"):
    response: ResponseObject


class ResponseDone(ServerEvent, frozen=True, tag="response.done"):
    response: ResponseObject


class OutputItemAdded(ServerEvent, frozen=True, tag="response.output_item.added"):
    response_id: str
    output_index: int
    item: MessageItem


class OutputItemDone(ServerEvent, frozen=True, tag="response.output_item.done"):
    response_id: str
    output_index: int
    item: MessageItem


class PartEvent(ServerEvent, frozen=True, kw_only=True):
    """Anything said about one content part of a response."""

    response_id: str
    item_id: str
    output_index: int = 0
    content_index: int = 0


class PartAdded(PartEvent, frozen=True, tag="response.content_part.added"):
    part: PartObject


class PartDone(PartEvent, frozen=True, tag="response.content_part.done"):
    part: PartObject


class AudioDelta(PartEvent, frozen=True, tag="response.output_audio.delta"):
    delta: bytes
    """Mono PCM16 at 24 kHz; base64 on the wire."""


class AudioDone(PartEvent, frozen=True, tag="response.output_audio.done"):
    pass


class TranscriptDelta(PartEvent, frozen=True, tag="response.output_audio_transcript.delta"):
    delta: str


class TranscriptDone(PartEvent, frozen=True, tag="response.output_audio_transcript.done"):
    transcript: str


class TextDelta(PartEvent, frozen=True, tag="response.output_text.delta"):
    delta: str


class TextDone(PartEvent, frozen=True, tag="response.output_text.done"):
    text: str


_encoder = msgspec.json.Encoder()


def encode(event: ServerEvent, event_id: str) -> bytes:
    """Write one event as JSON, with its own unique id."""
    # Both are JSON objects, so one is put in front of the other: no second pass over the audio.
    return b'{"event_id":"' + event_id.encode() + b'",' + _encoder.encode(event)[1:]
