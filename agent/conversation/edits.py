"""The conversation as the client writes to it: items created, read, cut and deleted."""

from collections.abc import Callable, Sequence

import msgspec

from agent import limits
from agent.audio import RATE
from agent.conversation.calls import FunctionCall, FunctionResult
from agent.conversation.conversation import Conversation
from agent.conversation.items import Entry, Item, Part, Spoken, Written
from agent.errors import ProtocolError
from agent.model.output import Call
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.codec import decoded, samples_of
from agent.realtime.config import Audio, AudioFormat
from agent.realtime.items import (
    ConversationItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputAudio,
    InputImage,
    InputText,
    ItemReference,
    MessageItem,
    OutputAudio,
    OutputText,
)
from agent.realtime.server_events import ServerEvent

MOST_EVENT_BYTES = 2**19
"""What one item or configuration may take on the wire: clients refuse frames over 1 MiB."""

NewId = Callable[[str], str]
Edit = protocol.ItemCreate | protocol.ItemRetrieve | protocol.ItemTruncate | protocol.ItemDelete


def edit(
    conversation: Conversation, event: Edit, formats: Audio, new_id: NewId
) -> list[ServerEvent]:
    """Change or read the conversation.

    Raises:
        ProtocolError: If that can't be done; nothing has changed then.
    """
    match event:
        case protocol.ItemCreate(item=wire, previous_item_id=after):
            item = entry_from(wire, formats, new_id, "item")
            if isinstance(item, FunctionResult) and not conversation.knows_call(item.call_id):
                message = f"There is no function call with call_id '{item.call_id[:64]}'."
                raise ProtocolError(message, code="invalid_tool_call_id", param="item.call_id")
            previous = conversation.add(item, after)
            added = events.ItemAdded(previous_item_id=previous, item=item.wire())
            return [added, events.ItemDone(previous_item_id=previous, item=item.wire())]
        case protocol.ItemRetrieve(item_id=item_id):
            item = conversation.find(item_id, "item_retrieve_invalid_item_id")
            return [events.ItemRetrieved(item=item.wire())]
        case protocol.ItemTruncate(item_id=item_id, audio_end_ms=end_ms):
            kept = conversation.truncate(item_id, end_ms)
            return [events.ItemTruncated(item_id=item_id, content_index=0, audio_end_ms=kept)]
        case protocol.ItemDelete(item_id=item_id):
            conversation.delete(item_id)
            return [events.ItemDeleted(item_id=item_id)]


def aside(
    wires: Sequence[ConversationItem | ItemReference],
    conversation: Conversation,
    formats: Audio,
    new_id: NewId,
) -> Conversation:
    """What one response reads instead of the conversation.

    Raises:
        ProtocolError: If an item is wrong, or refers to one that doesn't exist.
    """
    read, entries = Conversation(conversation.secret), list[Entry]()
    for index, wire in enumerate(wires):
        path = f"response.input[{index}]"
        if isinstance(wire, ItemReference):
            code = "item_retrieve_invalid_item_id"
            entries.append(conversation.find(wire.id, code, f"{path}.id"))
        else:
            entries.append(entry_from(wire, formats, new_id, path))
    read.fill(entries)
    return read


def entry_from(wire: ConversationItem, formats: Audio, new_id: NewId, path: str) -> Entry:
    """Make an item of what a client sent.

    Raises:
        ProtocolError: If its content doesn't fit its role, or is too much.
    """
    item_id = wire.id or new_id("item")
    entry: Entry
    match wire:
        case FunctionCallItem(name=name, arguments=arguments):
            call_id = wire.call_id or new_id("call")
            entry = FunctionCall(item_id, call_id, Call(name, arguments), wire.status)
        case FunctionCallOutputItem(call_id=call_id, output=output):
            entry = FunctionResult(item_id, call_id, output, wire.status)
        case MessageItem(role=role):
            entry = Item(item_id, role, _parts(wire, formats, path), wire.status)
    check_size(entry.wire(), path)
    return entry


def check_size(shown: msgspec.Struct, path: str) -> None:
    """Refuse what would come back to the client in too large a frame."""
    size = len(msgspec.json.encode(shown))
    if size > MOST_EVENT_BYTES:
        message = f"The text is {size} bytes long; the limit is {MOST_EVENT_BYTES}."
        raise ProtocolError(message, code="string_above_max_length", param=path)


def _parts(wire: MessageItem, formats: Audio, path: str) -> list[Part]:
    parts: list[Part] = []
    for index, content in enumerate(wire.content):
        where = f"{path}.content[{index}]"
        match content, wire.role:
            case (InputText(text), "user" | "system") | (OutputText(text), "assistant"):
                parts.append(Written(text))
            case InputAudio(), "user":
                parts.append(_spoken(content, formats.input.format, where))
            case OutputAudio(), "assistant":
                parts.append(_spoken(content, formats.output.format, where))
            case InputImage(), "user":
                message = "Only text and audio are supported."
                raise ProtocolError(message, code="unsupported_content_type", param=f"{where}.type")
            case _:
                raise ProtocolError(
                    f"Content of type {content.__struct_config__.tag} does not fit a message of "
                    f"role {wire.role}.",
                    code="invalid_value",
                    param=f"{where}.type",
                )
    return parts


def _spoken(content: InputAudio | OutputAudio, format: AudioFormat, path: str) -> Spoken:
    audio = content.audio or b""
    length_s = samples_of(audio, format) / RATE
    if length_s > limits.CLIP_S:
        message = f"The clip is {length_s:.1f} s long; the limit is {limits.CLIP_S} s."
        raise ProtocolError(message, code="invalid_value", param=f"{path}.audio")
    return Spoken(decoded(audio, format), content.transcript)
