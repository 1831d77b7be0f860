"""Items: what one side said, wrote, asked for or answered, with its sound and what was heard of it.

The conversation is their order.
"""

import hashlib
from dataclasses import dataclass, field

from agent.audio import SAMPLE_BYTES
from agent.conversation.calls import FunctionCall, FunctionResult
from agent.realtime.items import (
    Content,
    InputAudio,
    InputText,
    MessageItem,
    OutputAudio,
    OutputText,
    Role,
    Status,
)
from agent.words import Mark, heard_text


@dataclass(slots=True)
class Written:
    """Text that was typed, or that the model answered in writing."""

    text: str


@dataclass(slots=True)
class Spoken:
    """Speech: mono PCM16 at 24 kHz, and the words in it as far as they are known."""

    pcm: bytes | bytearray = field(default_factory=bytearray)
    """Grows while it is made; then it is held once, by all who have it."""
    transcript: str | None = None
    marks: list[Mark] = field(default_factory=list[Mark])
    heard: int | None = None
    """Samples that the user heard, where the speech was interrupted."""
    named: tuple[int, str] | None = None
    """Length in bytes and key of the clip that was made last: naming a long one takes time."""

    def add_text(self, text: str) -> None:
        self.marks.append((len(self.pcm) // SAMPLE_BYTES, len(self.transcript or "")))
        self.transcript = (self.transcript or "") + text

    def freeze(self) -> None:
        """It is complete: prompts hold it from now on without a copy."""
        self.pcm = bytes(self.pcm)

    def heard_pcm(self) -> bytes:
        """The sound up to where it was interrupted."""
        return bytes(self.pcm if self.heard is None else self.pcm[: self.heard * SAMPLE_BYTES])

    def clip(self, secret: str) -> tuple[bytes, str]:
        """The sound up to where it was interrupted, and its key."""
        pcm = self.heard_pcm()
        if self.named is None or self.named[0] != len(pcm):
            self.named = len(pcm), clip_key(pcm, secret)
        return pcm, self.named[1]

    def heard_text(self) -> str:
        """The words up to where it was interrupted, whole words only."""
        text = self.transcript or ""
        if self.heard is None:
            return text
        return heard_text(text, self.marks, len(self.pcm) // SAMPLE_BYTES, self.heard)


Part = Written | Spoken


def clip_key(pcm: bytes, secret: str) -> str:
    """Name a clip by what is in it, so that equal names are equal sound: cut speech is another
    clip, and speech that was asked about during a pause is the same one after it.

    The secret makes the name unguessable; the model server's memory is open to all its clients.
    """
    if not secret:
        return ""
    return hashlib.blake2b(pcm, key=secret.encode(), digest_size=16).hexdigest()


@dataclass(slots=True, eq=False)
class Item:
    """One message: an item is itself, whatever another one holds."""

    id: str
    role: Role
    parts: list[Part]
    status: Status = "completed"

    def wire(self) -> MessageItem:
        """The item as clients see it: without its sound."""
        content = [_content(self.role, part) for part in self.parts]
        return MessageItem(id=self.id, status=self.status, role=self.role, content=content)

    @property
    def spoken(self) -> Spoken | None:
        return next((part for part in self.parts if isinstance(part, Spoken)), None)


Entry = Item | FunctionCall | FunctionResult


def _content(role: Role, part: Part) -> Content:
    match part, role:
        case Written(text), "assistant":
            return OutputText(text)
        case Written(text), _:
            return InputText(text)
        case Spoken(transcript=transcript, heard=heard), "assistant":
            # The protocol drops the transcript of speech that was cut: its words are not exact.
            return OutputAudio(transcript or "" if heard is None else "")
        case Spoken(transcript=transcript), _:
            return InputAudio(transcript)


def held_bytes(entry: Entry) -> int:
    """What its sound and text take, about."""
    match entry:
        case Item(parts=parts):
            texts = [part.text if isinstance(part, Written) else part.transcript for part in parts]
            sounds = [part.pcm for part in parts if isinstance(part, Spoken)]
            return sum(map(len, filter(None, texts))) + sum(map(len, sounds))
        case FunctionCall(call=call):
            return len(call.arguments)
        case FunctionResult(output=output):
            return len(output)
