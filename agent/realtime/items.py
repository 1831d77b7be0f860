"""Items as both sides write them, and what a client may ask of one response.

A field that doesn't apply to an item is left out, never null: strict clients lose such events.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from agent import limits
from agent.realtime.config import (
    AudioFormat,
    Json,
    Modalities,
    OutputTokens,
    Prompt,
    ToolChoice,
    Voice,
)


class InputText(Struct, frozen=True, forbid_unknown_fields=True, tag="input_text"):
    text: str


class InputAudio(Struct, frozen=True, forbid_unknown_fields=True, tag="input_audio"):
    """Speech of the user; `audio` is base64 and only ever sent by clients."""

    transcript: str | None = None
    audio: bytes | UnsetType | None = UNSET
    """In the session's input format."""


class InputImage(Struct, frozen=True, forbid_unknown_fields=True, tag="input_image"):
    """Decoded to be refused by its name: the model sees nothing."""

    image_url: str | None = None
    detail: str | None = None


class OutputText(Struct, frozen=True, forbid_unknown_fields=True, tag="output_text"):
    text: str


class OutputAudio(Struct, frozen=True, forbid_unknown_fields=True, tag="output_audio"):
    """Speech of the agent, known by its transcript."""

    transcript: str | None = None
    audio: bytes | UnsetType | None = UNSET
    """In the session's output format."""


Content = InputText | InputAudio | InputImage | OutputText | OutputAudio
Role = Literal["user", "assistant", "system"]
Status = Literal["in_progress", "completed", "incomplete"]
ItemId = Annotated[str, Meta(min_length=1, max_length=512)]


class _Item(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: ItemId | UnsetType | None = UNSET
    object: Literal["realtime.item"] = "realtime.item"
    status: Status = "completed"


class MessageItem(_Item, frozen=True, kw_only=True, tag="message"):
    """Something said or written by one side."""

    role: Role
    content: Annotated[list[Content], Meta(max_length=limits.ITEMS)]


class FunctionCallItem(_Item, frozen=True, kw_only=True, tag="function_call"):
    """The model's wish that the client call a function."""

    name: str
    call_id: str | UnsetType | None = UNSET
    arguments: str
    """A JSON object, as text; empty while in progress."""


class FunctionCallOutputItem(_Item, frozen=True, kw_only=True, tag="function_call_output"):
    """What that function returned, as text."""

    call_id: str
    output: str


ConversationItem = MessageItem | FunctionCallItem | FunctionCallOutputItem


class ItemReference(Struct, frozen=True, forbid_unknown_fields=True, tag="item_reference"):
    """An item of the conversation, named in the input of one response."""

    id: str


class ResponseAudioOutputOptions(Struct, frozen=True, forbid_unknown_fields=True):
    format: AudioFormat | None = None
    voice: Voice | None = None


class ResponseAudioOptions(Struct, frozen=True, forbid_unknown_fields=True):
    output: ResponseAudioOutputOptions | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class ResponseOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `response.create` may change for that response alone; null is as good as absent."""

    conversation: Literal["auto", "none"] | None = None
    """`none`: the response leaves no trace in the conversation."""
    input: (
        Annotated[list[ConversationItem | ItemReference], Meta(max_length=limits.ITEMS)] | None
    ) = None
    """What the model reads instead of the conversation."""
    instructions: str | None = None
    output_modalities: Modalities | None = None
    audio: ResponseAudioOptions | None = None
    tools: list[Json] | None = None
    tool_choice: ToolChoice | None = None
    max_output_tokens: OutputTokens | None = None
    metadata: Metadata | None = None
    prompt: Prompt | None = None
    reasoning: Json | None = None
    parallel_tool_calls: bool | None = None
