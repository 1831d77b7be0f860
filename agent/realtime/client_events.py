"""What a client may say: the events of the OpenAI Realtime protocol (GA), and their decoder.

What the server says back is in `events`.
"""

from typing import Annotated, get_args

import msgspec
from msgspec import Meta, Struct

from agent.errors import ProtocolError
from agent.realtime import beta
from agent.realtime.config import SessionPatch
from agent.realtime.items import ConversationItem, ResponseOptions

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
    audio_end_ms: Annotated[int, Meta(ge=0)]


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
    audio_end_samples: Annotated[int, Meta(ge=0)]


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


class _Envelope(Struct):
    event_id: EventId | None = None


_decoder = msgspec.json.Decoder(AnyClientEvent)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


def decode(frame: bytes | str) -> AnyClientEvent:
    """Read one client event.

    Raises:
        ProtocolError: If it is no JSON, no known event, or has a wrong field; the error names
            the field's path and quotes the event's own id where that can be read.
    """
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError as error:
        event_id = _event_id(frame)
        raise beta.complaint(frame, event_id) or _explain(str(error), event_id) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        message = f"The event is not valid JSON: {error}"
        raise ProtocolError(message, code="invalid_json") from error


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
