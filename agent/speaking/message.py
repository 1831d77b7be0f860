"""One message of a response: the events that tell of it while it is spoken or written."""

from typing import TypedDict

from agent.conversation.conversation import Item, Spoken, Written
from agent.model.mimo import Sound, Text
from agent.realtime import server_events as events
from agent.realtime.codec import Encoder
from agent.realtime.config import AudioFormat, Modality
from agent.realtime.items import MessageItem, Status
from agent.realtime.response_object import PartObject
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
        return item, events.PartAdded(**self._place, part=self._told(""))

    def add(self, output: Text | Sound) -> list[ServerEvent]:
        """Add output of the model; sound has no place in a written message."""
        match self._part, output:
            case Spoken() as spoken, Sound(pcm):
                spoken.pcm += pcm
                return self._sound(self._encoder.push(pcm))
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
            case Spoken(transcript=words):
                said = words or ""
                ends: list[ServerEvent] = [
                    *([] if silent else self._sound(self._encoder.finish())),
                    events.AudioDone(**self._place),
                    events.TranscriptDone(**self._place, transcript=said),
                ]
            case Written(said):
                ends = [events.TextDone(**self._place, text=said)]
        return [*ends, events.PartDone(**self._place, part=self._told(said))]

    def _sound(self, data: bytes) -> list[ServerEvent]:
        return [
            self._delta(**self._place, delta=data[start : start + MOST_DELTA_BYTES])
            for start in range(0, len(data), MOST_DELTA_BYTES)
        ]

    def _told(self, said: str) -> PartObject:
        if isinstance(self._part, Spoken):
            return PartObject("audio", transcript=said)
        return PartObject("text", text=said)
