"""One response: the events that tell of it, in the protocol's order, from created to done.

An item appears with its first output, so a response that was cancelled before it said anything
leaves no trace in the conversation. Function calls appear at the end: a client that answers one
at once finds no response in the way of its next `response.create`.
"""

from collections.abc import Callable
from typing import TypedDict

from agent.conversation.calls import FunctionCall
from agent.conversation.conversation import Conversation
from agent.conversation.items import Entry, Item, Spoken, Written
from agent.errors import ModelError
from agent.floor.states import Reason
from agent.model.output import Call, Sound, Text
from agent.realtime import server_events as events
from agent.realtime.codec import Encoder
from agent.realtime.config import AudioFormat, CustomVoice, Modality, SessionConfig
from agent.realtime.items import (
    FunctionCallItem,
    MessageItem,
    ResponseAudioOutputOptions,
    ResponseOptions,
    Status,
)
from agent.realtime.response_object import (
    PartObject,
    ResponseAudio,
    ResponseAudioOutput,
    ResponseObject,
    ResponseStatus,
    ResponseUsage,
    StatusDetails,
    StatusError,
)
from agent.realtime.server_events import ServerEvent

MOST_DELTA_BYTES = 2**18
"""Longer sound goes in several events: clients refuse frames over 1 MiB."""


class Place(TypedDict):
    """Where in which response the message stands."""

    response_id: str
    item_id: str
    output_index: int


class CallPlace(Place):
    """Where a function call stands."""

    call_id: str


class Message:
    """Follows one message; every method returns the events to send."""

    def __init__(self, place: Place, modality: Modality, format: AudioFormat, binary: bool):
        self._place = place
        self._part = Spoken() if modality == "audio" else Written("")
        self.item = Item(place["item_id"], "assistant", [self._part], "in_progress")
        self._encoder = Encoder(format)
        self._delta = events.BinaryAudioDelta if binary else events.AudioDelta

    def opened(self) -> tuple[MessageItem, ServerEvent]:
        """The item as it begins, without content, and the beginning of its only part."""
        item = MessageItem(id=self.item.id, status="in_progress", role="assistant", content=[])
        return item, events.PartAdded(**self._place, part=self._part_object(""))

    def add(self, output: Text | Sound) -> list[ServerEvent]:
        """Add output of the model; sound has no place in a written message."""
        match self._part, output:
            case Spoken() as spoken, Sound(pcm):
                spoken.pcm += pcm
                return self._sound(self._encoder.encode(pcm))
            case Spoken() as spoken, Text(text):
                spoken.add_text(text)
                return [events.TranscriptDelta(**self._place, delta=text)]
            case Written() as written, Text(text):
                written.text += text
                return [events.TextDelta(**self._place, delta=text)]
            case Written(), Sound():
                return []

    def closed(self, status: Status, silent: bool) -> list[ServerEvent]:
        """End the message; `silent` if not one more sample may be sent."""
        self.item.status = status
        match self._part:
            case Spoken(transcript=words) as spoken:
                spoken.freeze()
                said = words or ""
                ends: list[ServerEvent] = [
                    *([] if silent else self._sound(self._encoder.finish())),
                    events.AudioDone(**self._place),
                    events.TranscriptDone(**self._place, transcript=said),
                ]
            case Written(said):
                ends = [events.TextDone(**self._place, text=said)]
        return [*ends, events.PartDone(**self._place, part=self._part_object(said))]

    def _sound(self, data: bytes) -> list[ServerEvent]:
        return [
            self._delta(**self._place, delta=data[start : start + MOST_DELTA_BYTES])
            for start in range(0, len(data), MOST_DELTA_BYTES)
        ]

    def _part_object(self, said: str) -> PartObject:
        if isinstance(self._part, Spoken):
            return PartObject("audio", transcript=said)
        return PartObject("text", text=said)


CONVERSATION_ID = "conv_1"
"""A session has one conversation."""


class Response:
    """Follows one response; every method returns the events to send."""

    def __init__(
        self,
        response_id: str,
        config: SessionConfig,
        options: ResponseOptions,
        conversation: Conversation,
        new_id: Callable[[str], str],
    ):
        """Out of band, `conversation` is one that nobody else sees."""
        self.id = response_id
        self._config = config
        self._options = options
        self._conversation = conversation
        self._new_id = new_id
        self._message: Message | None = None
        self._entries: list[Entry] = []
        self._calls: list[FunctionCall] = []
        """What the client has not been sent yet."""

    @property
    def modality(self) -> Modality:
        return (self._options.output_modalities or self._config.output_modalities)[0]

    @property
    def entries(self) -> list[Entry]:
        """The items of this response so far."""
        return self._entries

    @property
    def made(self) -> list[Entry]:
        """The same, with the calls that the client has not been sent yet."""
        return [*self._entries, *self._calls]

    def created(self) -> list[ServerEvent]:
        return [events.ResponseCreated(response=self._object("in_progress"))]

    def deliver(self, output: Text | Sound | Call) -> list[ServerEvent]:
        """Add output of the model; text and sound open a message, a call waits for the end."""
        if isinstance(output, Call):
            self._calls.append(FunctionCall(self._new_id("item"), self._new_id("call"), output))
            return []
        opened: list[ServerEvent] = []
        if self._message is None:
            self._message, opened = self._open_message()
        return [*opened, *self._message.add(output)]

    def close(self, cause: Reason | ModelError | None, usage: ResponseUsage) -> list[ServerEvent]:
        """End the response: completed, cut short for a reason, or failed with an error."""
        details: StatusDetails | None
        match cause:
            case None:
                status, details = "completed", None
            case ModelError() as error:
                failure = StatusError("server_error", error.code, str(error))
                status, details = "failed", StatusDetails("failed", error=failure)
            case "max_output_tokens":
                status, details = "incomplete", StatusDetails("incomplete", reason=cause)
            case reason:
                status, details = "cancelled", StatusDetails("cancelled", reason=reason)
        # A message before calls is complete, whatever became of them.
        ended = self._close_message(
            "completed" if self._calls and status != "cancelled" else status
        )
        # Nobody carries out what was called off.
        calls = [] if status == "cancelled" else self._calls
        called = [event for entry in calls for event in self._call(entry)]
        return [*ended, *called, events.ResponseDone(response=self._object(status, details, usage))]

    def _open_message(self) -> tuple[Message, list[ServerEvent]]:
        binary = bool(self._config.x_mimo and self._config.x_mimo.binary_audio)
        format = self._output.format or self._config.audio.output.format
        index, item_id = len(self._entries), self._new_id("item")
        place = Place(response_id=self.id, item_id=item_id, output_index=index)
        message = Message(place, self.modality, format, binary)
        wire, part_added = message.opened()
        previous = self._add(message.item)
        return message, [
            events.OutputItemAdded(response_id=self.id, output_index=index, item=wire),
            *self._in_conversation(events.ItemAdded(previous_item_id=previous, item=wire)),
            part_added,
        ]

    def _add(self, entry: Entry) -> str | None:
        self._entries.append(entry)
        return self._conversation.add(entry)

    def _in_conversation(self, event: ServerEvent) -> list[ServerEvent]:
        """What concerns the conversation is not said of a response outside of it."""
        return [] if self._options.conversation == "none" else [event]

    def _close_message(self, status: ResponseStatus) -> list[ServerEvent]:
        message, self._message = self._message, None
        if message is None:
            return []
        ends = message.closed(
            "completed" if status == "completed" else "incomplete", silent=status == "cancelled"
        )
        return [*ends, *self._item_done(message.item)]

    def _item_done(self, entry: Entry) -> list[ServerEvent]:
        wire, previous = entry.wire(), self._conversation.previous(entry)
        index = self._entries.index(entry)
        return [
            *self._in_conversation(events.ItemDone(previous_item_id=previous, item=wire)),
            events.OutputItemDone(response_id=self.id, output_index=index, item=wire),
        ]

    def _call(self, entry: FunctionCall) -> list[ServerEvent]:
        index, call = len(self._entries), entry.call
        previous = self._add(entry)
        begun = FunctionCallItem(
            id=entry.id, status="in_progress", name=call.name, call_id=entry.call_id, arguments=""
        )
        place = CallPlace(
            response_id=self.id, item_id=entry.id, output_index=index, call_id=entry.call_id
        )
        return [
            events.OutputItemAdded(response_id=self.id, output_index=index, item=begun),
            *self._in_conversation(events.ItemAdded(previous_item_id=previous, item=begun)),
            events.ArgumentsDelta(**place, delta=call.arguments),
            events.ArgumentsDone(**place, name=call.name, arguments=call.arguments),
            *self._item_done(entry),
        ]

    @property
    def _output(self) -> ResponseAudioOutputOptions:
        audio = self._options.audio
        return audio.output if audio and audio.output else ResponseAudioOutputOptions()

    def _object(
        self,
        status: ResponseStatus,
        details: StatusDetails | None = None,
        usage: ResponseUsage | None = None,
    ) -> ResponseObject:
        configured = self._config.audio.output
        voice = self._output.voice or configured.voice
        name = voice.id if isinstance(voice, CustomVoice) else voice
        format = self._output.format or configured.format
        return ResponseObject(
            id=self.id,
            status=status,
            status_details=details,
            output=[] if status == "in_progress" else [each.wire() for each in self._entries],
            conversation_id=None if self._options.conversation == "none" else CONVERSATION_ID,
            output_modalities=[self.modality],
            max_output_tokens=self._options.max_output_tokens or self._config.max_output_tokens,
            audio=ResponseAudio(ResponseAudioOutput(name, format)),
            usage=usage,
            metadata=self._options.metadata,
        )
