"""What a client may say: the events of the OpenAI Realtime protocol (GA), and their decoder.

What the server says back is in `events`.
"""

import binascii
from collections.abc import Generator
from typing import Annotated, get_args

import msgspec
from msgspec import Meta, Struct

from agent.errors import ProtocolError
from agent.realtime import beta
from agent.realtime.config import Count, SessionPatch
from agent.realtime.items import ConversationItem, ResponseOptions

MOST_BYTES = 2**20
"""Of an event that is no append: more holds up other sessions while it is read."""
MOST_PARTS = 20_000
"""Lists and objects in an event: twenty times what a long session.update has, read in 5 ms."""
_STEP = 2**20
"""Characters of base64 that are read at once, in 2 ms."""

EventId = Annotated[str, Meta(max_length=512)]


class ClientEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    event_id: EventId | None = None


class SessionUpdate(ClientEvent, frozen=True, tag="session.update"):
    session: SessionPatch


class InputAudioAppend(ClientEvent, frozen=True, tag="input_audio_buffer.append"):
    """Sound from the microphone, in the session's input format and cut anywhere."""

    audio: bytes


class BinaryAppend(InputAudioAppend, frozen=True, tag="input_audio_buffer.append"):
    """The same as a binary frame, from clients that asked for it."""


class InputAudioCommit(ClientEvent, frozen=True, tag="input_audio_buffer.commit"):
    pass


class InputAudioClear(ClientEvent, frozen=True, tag="input_audio_buffer.clear"):
    pass


class ItemCreate(ClientEvent, frozen=True, tag="conversation.item.create"):
    item: ConversationItem
    previous_item_id: str | None = None


class ItemRetrieve(ClientEvent, frozen=True, tag="conversation.item.retrieve"):
    item_id: str


class ItemTruncate(ClientEvent, frozen=True, tag="conversation.item.truncate"):
    item_id: str
    content_index: Annotated[int, Meta(ge=0, le=0)]
    audio_end_ms: Count


class ItemDelete(ClientEvent, frozen=True, tag="conversation.item.delete"):
    item_id: str


class ResponseCreate(ClientEvent, frozen=True, tag="response.create"):
    response: ResponseOptions | None = None


class ResponseCancel(ClientEvent, frozen=True, tag="response.cancel"):
    response_id: str | None = None


class OutputAudioClear(ClientEvent, frozen=True, tag="output_audio_buffer.clear"):
    """Means something over WebRTC only; ignored."""


class Playout(ClientEvent, frozen=True, tag="x_mimo.playout"):
    """How much of an item's sound the client has played: what the user can have heard."""

    item_id: str
    audio_end_samples: Count


AnyClientEvent = (
    SessionUpdate
    | InputAudioAppend
    | InputAudioCommit
    | InputAudioClear
    | ItemCreate
    | ItemRetrieve
    | ItemTruncate
    | ItemDelete
    | ResponseCreate
    | ResponseCancel
    | OutputAudioClear
    | Playout
)


class _LargeAppend(ClientEvent, frozen=True, tag="input_audio_buffer.append"):
    audio: msgspec.Raw


class _Envelope(Struct):
    event_id: EventId | None = None


_decoder = msgspec.json.Decoder(AnyClientEvent)
_large_decoder = msgspec.json.Decoder(_LargeAppend)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


def decode(frame: bytes | str) -> AnyClientEvent:
    """Read one client event.

    Raises:
        ProtocolError: If it is no JSON, no known event, or has a wrong field; the error names
            the field's path and quotes the event's own id where that can be read. Also if it is
            too large; a large append is for `decode_in_steps`.
    """
    if len(frame) > MOST_BYTES:
        raise _too_large(frame)
    opening = (b"[", b"{") if isinstance(frame, bytes) else ("[", "{")
    parts = sum(map(frame.count, opening))  # pyright: ignore[reportArgumentType]
    if parts > MOST_PARTS:
        message = f"The event has {parts} lists and objects; the limit is {MOST_PARTS}."
        raise ProtocolError(message, code=TOO_LARGE)
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError as error:
        event_id = _event_id(frame)
        raise beta.complaint(frame, event_id) or _explain(str(error), event_id) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        message = f"The event is not valid JSON: {error}"
        raise ProtocolError(message, code="invalid_json") from error


def decode_in_steps(frame: str) -> Generator[None, None, AnyClientEvent]:
    """Read one client event of any size; the caller may do something else between the steps.

    Raises:
        ProtocolError: As `decode` does.
    """
    if len(frame) <= MOST_BYTES:
        return decode(frame)
    yield
    try:
        event = _large_decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _too_large(frame) from error
    yield
    base64, pcm = memoryview(event.audio)[1:-1], bytearray()
    if "\\" in frame:
        # Some write a slash with a backslash, as JSON allows.
        base64 = memoryview(base64.tobytes().replace(b"\\/", b"/"))
    for start in range(0, len(base64), _STEP):
        yield
        part = base64[start : start + _STEP]
        try:
            pcm += binascii.a2b_base64(part, strict_mode=True)
        except binascii.Error as error:
            raise _no_base64(event.event_id) from error
        if part[-1] == ord("=") and start + _STEP < len(base64):
            raise _no_base64(event.event_id)
    return InputAudioAppend(audio=bytes(pcm), event_id=event.event_id)


TOO_LARGE = "event_too_large"


def _too_large(frame: bytes | str) -> ProtocolError:
    message = f"The event takes {len(frame)} bytes; the limit is {MOST_BYTES}. Only a valid "
    message += "input_audio_buffer.append may be larger: long sound is appended and committed."
    return ProtocolError(message, code=TOO_LARGE, event_id=_event_id(frame))


def _no_base64(event_id: str | None) -> ProtocolError:
    message = "Invalid base64 encoded string"
    return ProtocolError(message, code="invalid_value", param="audio", event_id=event_id)


def _event_id(frame: bytes | str) -> str | None:
    try:
        return _envelope_decoder.decode(frame).event_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


_CODES = {
    "unknown field": "unknown_parameter",
    "missing required field": "missing_required_parameter",
    "Invalid": "invalid_value",
    "of length": "invalid_value",
    ">=": "invalid_value",
    "<=": "invalid_value",
}
"""Words of msgspec's sentences and what the protocol calls that; anything else is a wrong type."""


def _explain(problem: str, event_id: str | None) -> ProtocolError:
    """Turn msgspec's sentence into the protocol's code and the path of the field."""
    what, _, where = problem.rpartition(" - at `") if " - at `" in problem else (problem, "", "")
    path = where.rstrip("`").removeprefix("key in ").removeprefix("$").removeprefix(".")
    code = next((code for words, code in _CODES.items() if words in what), "invalid_type")
    if "param" in code:
        name = what.partition("`")[2].rpartition("`")[0]
        path = f"{path}.{name}".removeprefix(".")
        if hint := beta.hint(path):
            what = f"{what}. {hint}."
    if path in ("", "type"):
        known = code == "invalid_value"
        code = code if known else "invalid_event"
        what = f"{what}. An event is a JSON object whose `type` is one of {_SUPPORTED}"
    return ProtocolError(what, code=code, param=path or None, event_id=event_id)


_SUPPORTED = ", ".join(
    sorted(str(event.__struct_config__.tag) for event in get_args(AnyClientEvent))
)
