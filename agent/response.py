"""One response: the events that tell of it, in the protocol's order, from created to done.

Its item appears with the first output, so a response that was cancelled before it said anything
leaves no trace in the conversation.
"""

from agent import events
from agent.audio import RATE, SAMPLE_BYTES
from agent.conversation import Conversation, Item, Spoken, Written
from agent.errors import ModelError
from agent.events import (
    PartObject,
    ResponseAudio,
    ResponseAudioOutput,
    ResponseObject,
    ResponseStatus,
    ServerEvent,
    StatusDetails,
    StatusError,
)
from agent.floor import Reason
from agent.mimo import Sound, Text
from agent.objects import Modality, ResponseOptions, SessionConfig

CONVERSATION_ID = "conv_1"
"""A session has one conversation."""

LARGEST_DELTA = 10 * RATE * SAMPLE_BYTES
"""Bytes of sound in one event: some clients take no frame over 1 MiB."""


class Response:
    """Follows one response; every method returns the events to send."""

    def __init__(
        self, response_id: str, item_id: str, config: SessionConfig, options: ResponseOptions
    ):
        self.id = response_id
        self.options = options
        self.modality: Modality = (options.output_modalities or config.output_modalities)[0]
        self._config = config
        self._item_id = item_id
        self._item: Item | None = None

    @property
    def item_id(self) -> str:
        return self._item_id

    def created(self) -> list[ServerEvent]:
        return [events.ResponseCreated(response=self._object("in_progress"))]

    def deliver(self, output: Text | Sound, conversation: Conversation) -> list[ServerEvent]:
        """Add output of the model; the first opens item and part."""
        opened: list[ServerEvent] = []
        if self._item is None:
            self._item, opened = self._open(conversation)
        return [*opened, *self._add(self._item, output)]

    def _open(self, conversation: Conversation) -> tuple[Item, list[ServerEvent]]:
        part = Spoken() if self.modality == "audio" else Written("")
        item = Item(self._item_id, "assistant", [part], "in_progress")
        previous = conversation.add(item)
        # Content is empty until there is some.
        wire = Item(item.id, "assistant", [], "in_progress").wire()
        kind = self._part("")
        return item, [
            events.OutputItemAdded(response_id=self.id, output_index=0, item=wire),
            events.ItemAdded(previous_item_id=previous, item=wire),
            events.PartAdded(response_id=self.id, item_id=item.id, part=kind),
        ]

    def _part(self, said: str) -> PartObject:
        if self.modality == "audio":
            return PartObject("audio", transcript=said)
        return PartObject("text", text=said)

    def _add(self, item: Item, output: Text | Sound) -> list[ServerEvent]:
        match item.parts[0], output:
            case Spoken() as spoken, Sound(pcm):
                spoken.pcm += pcm
                return [
                    events.AudioDelta(
                        response_id=self.id,
                        item_id=item.id,
                        delta=pcm[start : start + LARGEST_DELTA],
                    )
                    for start in range(0, len(pcm), LARGEST_DELTA)
                ]
            case Spoken() as spoken, Text(text):
                spoken.add_text(text)
                return [events.TranscriptDelta(response_id=self.id, item_id=item.id, delta=text)]
            case Written() as written, Text(text):
                written.text += text
                return [events.TextDelta(response_id=self.id, item_id=item.id, delta=text)]
            case Written(), Sound():
                return []

    def close(
        self, cause: Reason | ModelError | None, conversation: Conversation
    ) -> list[ServerEvent]:
        """End the response: completed, cancelled for a reason, or failed with an error."""
        match cause:
            case None:
                status, details = "completed", None
            case ModelError() as error:
                failure = StatusError("server_error", error.code, str(error))
                status, details = "failed", StatusDetails("failed", error=failure)
            case reason:
                status, details = "cancelled", StatusDetails("cancelled", reason=reason)
        ended = self._close_item(self._item, status, conversation) if self._item else []
        return [*ended, events.ResponseDone(response=self._object(status, details))]

    def _close_item(
        self, item: Item, status: ResponseStatus, conversation: Conversation
    ) -> list[ServerEvent]:
        item.status = "completed" if status == "completed" else "incomplete"
        ends: list[ServerEvent]
        match item.parts[0]:
            case Spoken(transcript=words):
                said = words or ""
                ends = [
                    events.AudioDone(response_id=self.id, item_id=item.id),
                    events.TranscriptDone(response_id=self.id, item_id=item.id, transcript=said),
                ]
            case Written(said):
                ends = [events.TextDone(response_id=self.id, item_id=item.id, text=said)]
        wire = item.wire()
        return [
            *ends,
            events.PartDone(response_id=self.id, item_id=item.id, part=self._part(said)),
            events.ItemDone(previous_item_id=conversation.previous(item), item=wire),
            events.OutputItemDone(response_id=self.id, output_index=0, item=wire),
        ]

    def _object(
        self, status: ResponseStatus, details: StatusDetails | None = None
    ) -> ResponseObject:
        voice = self._config.audio.output.voice
        return ResponseObject(
            id=self.id,
            status=status,
            status_details=details,
            output=[self._item.wire()] if self._item and status != "in_progress" else [],
            conversation_id=CONVERSATION_ID,
            output_modalities=[self.modality],
            max_output_tokens=self.options.max_output_tokens or self._config.max_output_tokens,
            audio=ResponseAudio(ResponseAudioOutput(voice if isinstance(voice, str) else "custom")),
            metadata=self.options.metadata,
        )
