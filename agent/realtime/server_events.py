"""What the server may say: the events of the OpenAI Realtime protocol (GA), and their encoder.

Fields without a default are those that at least one client fails without.
"""

import msgspec
from msgspec import Struct

from agent.realtime.config import Json, SessionConfig
from agent.realtime.items import ConversationItem
from agent.realtime.response_object import PartObject, ResponseObject


class ErrorDetail(Struct, frozen=True):
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


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


class TimeoutTriggered(ServerEvent, frozen=True, tag="input_audio_buffer.timeout_triggered"):
    """The user said nothing for `idle_timeout_ms`: the silence is a turn."""

    audio_start_ms: int
    audio_end_ms: int
    item_id: str


class ItemAdded(ServerEvent, frozen=True, tag="conversation.item.added"):
    previous_item_id: str | None
    item: ConversationItem


class ItemDone(ServerEvent, frozen=True, tag="conversation.item.done"):
    previous_item_id: str | None
    item: ConversationItem


class ItemRetrieved(ServerEvent, frozen=True, tag="conversation.item.retrieved"):
    item: ConversationItem


class ItemTruncated(ServerEvent, frozen=True, tag="conversation.item.truncated"):
    item_id: str
    content_index: int
    audio_end_ms: int


class ItemDeleted(ServerEvent, frozen=True, tag="conversation.item.deleted"):
    item_id: str


class TranscriptionDelta(
    ServerEvent, frozen=True, tag="conversation.item.input_audio_transcription.delta"
):
    item_id: str
    content_index: int
    delta: str


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
    item: ConversationItem


class OutputItemDone(ServerEvent, frozen=True, tag="response.output_item.done"):
    response_id: str
    output_index: int
    item: ConversationItem


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
    """In the response's output format; base64 on the wire."""


class BinaryAudioDelta(AudioDelta, frozen=True, tag="response.output_audio.delta"):
    """The same as a binary frame, for clients that asked for it."""


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


class CallEvent(ServerEvent, frozen=True, kw_only=True):
    """Anything said about one function call of a response."""

    response_id: str
    item_id: str
    output_index: int
    call_id: str


class ArgumentsDelta(CallEvent, frozen=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(CallEvent, frozen=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


# Our extension for clients that can lower their volume, hold what they play, and go on from there.
# A client that asked for it hears of a sound over the agent's voice at once, before it is known to
# be an interruption. One that is, is sent as in the protocol: `input_audio_buffer.speech_started`.


class Ducked(ServerEvent, frozen=True, tag="x_mimo.duck"):
    """Somebody makes a sound: lower the volume of this response."""

    response_id: str


class Held(ServerEvent, frozen=True, tag="x_mimo.hold"):
    """The sound goes on: stop playing, and keep what is left."""

    response_id: str


class Restored(ServerEvent, frozen=True, tag="x_mimo.restore"):
    """It was nothing: play on at full volume, from the sample where it stopped."""

    response_id: str


class _AudioHeader(PartEvent, frozen=True, tag="response.output_audio.delta"):
    """What precedes the sound in a binary frame."""


def turn_became_item(item: ConversationItem, previous: str | None) -> list[ServerEvent]:
    """The user's turn is an item of the conversation now, behind a previous one."""
    return [
        Committed(previous_item_id=previous, item_id=item.id or ""),
        ItemAdded(previous_item_id=previous, item=item),
        ItemDone(previous_item_id=previous, item=item),
    ]


def transcribed(item_id: str, transcript: str, duration_s: float) -> list[ServerEvent]:
    """What the user said in an item is known, and how long that was."""
    usage: dict[str, object] = {"type": "duration", "seconds": round(duration_s, 3)}
    delta = TranscriptionDelta(item_id=item_id, content_index=0, delta=transcript)
    completed = TranscriptionCompleted(
        item_id=item_id, content_index=0, transcript=transcript, usage=usage
    )
    return [*([delta] if transcript else []), completed]


_encoder = msgspec.json.Encoder()


def encode(event: ServerEvent, event_id: str) -> bytes:
    """Write one event with its own unique id: JSON text, or the content of a binary frame.

    A binary frame is the event's JSON without `delta`, a line feed, and the sound as it is.
    """
    if not isinstance(event, BinaryAudioDelta):
        return _with_id(event, event_id)
    header = _AudioHeader(
        response_id=event.response_id,
        item_id=event.item_id,
        output_index=event.output_index,
        content_index=event.content_index,
    )
    return _with_id(header, event_id) + b"\n" + event.delta


def _with_id(event: ServerEvent, event_id: str) -> bytes:
    # Both are JSON objects, so one is put in front of the other: no second pass over the audio.
    return b'{"event_id":"' + event_id.encode() + b'",' + _encoder.encode(event)[1:]
