"""The nouns of the OpenAI Realtime protocol (GA): session configuration, items, response options.

Both sides write them, so a struct serves both directions. Values are strict: a field that the
protocol doesn't name is an error. What clients send and this server has no use for (tracing,
prompt, reasoning) is accepted and echoed, as the protocol asks.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Json = dict[str, object]
Modality = Literal["audio", "text"]


class ServerVad(Struct, frozen=True, forbid_unknown_fields=True, tag="server_vad"):
    """Turns end after a fixed silence."""

    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=5_000)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=10_000)] = 500
    idle_timeout_ms: Annotated[int, Meta(ge=5_000, le=30_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Struct, frozen=True, forbid_unknown_fields=True, tag="semantic_vad"):
    """Turns end where the server judges that the user has finished."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection = ServerVad | SemanticVad


class PcmFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="audio/pcm"):
    """Mono PCM16, little-endian."""

    rate: Literal[24000] = 24000


class Transcription(Struct, frozen=True, forbid_unknown_fields=True):
    """A wish for transcripts of the user's speech; the server's own recogniser makes them."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    languages: list[str] | UnsetType = UNSET
    keywords: list[str] | UnsetType = UNSET
    delay: str | UnsetType = UNSET


class AudioInput(Struct, frozen=True, forbid_unknown_fields=True):
    format: PcmFormat = PcmFormat()
    transcription: Transcription | None = None
    noise_reduction: Json | None = None
    turn_detection: TurnDetection | None = ServerVad()


class AudioOutput(Struct, frozen=True, forbid_unknown_fields=True):
    format: PcmFormat = PcmFormat()
    voice: str | Json = "default"
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] = 1.0


class Audio(Struct, frozen=True, forbid_unknown_fields=True):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()


class SessionConfig(Struct, frozen=True, kw_only=True):
    """The whole effective configuration of a session, as clients see it."""

    object: Literal["realtime.session"] = "realtime.session"
    type: Literal["realtime"] = "realtime"
    id: str
    model: str
    output_modalities: list[Modality]
    instructions: str
    audio: Audio
    tools: list[Json]
    tool_choice: str | Json
    max_output_tokens: int | Literal["inf"]
    tracing: str | Json | None = None
    truncation: str | Json = "auto"
    prompt: Json | None = None
    include: list[str] | None = None
    reasoning: Json | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET


class AudioInputPatch(Struct, frozen=True, forbid_unknown_fields=True):
    format: PcmFormat | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: Json | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutputPatch(Struct, frozen=True, forbid_unknown_fields=True):
    format: PcmFormat | UnsetType = UNSET
    voice: str | Json | UnsetType = UNSET
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] | UnsetType = UNSET


class AudioPatch(Struct, frozen=True, forbid_unknown_fields=True):
    input: AudioInputPatch = AudioInputPatch()
    output: AudioOutputPatch = AudioOutputPatch()


Modalities = Annotated[list[Modality], Meta(min_length=1, max_length=1)]
OutputTokens = Annotated[int, Meta(ge=1, le=4_096)] | Literal["inf"]


class SessionPatch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The part of a session's configuration that an update names; the rest stays as it is."""

    type: Literal["realtime"]
    id: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    output_modalities: Modalities | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    audio: AudioPatch = AudioPatch()
    tools: list[Json] | UnsetType = UNSET
    tool_choice: str | Json | UnsetType = UNSET
    max_output_tokens: OutputTokens | UnsetType = UNSET
    tracing: str | Json | UnsetType | None = UNSET
    truncation: str | Json | UnsetType = UNSET
    prompt: Json | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET
    reasoning: Json | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET


class InputText(Struct, frozen=True, forbid_unknown_fields=True, tag="input_text"):
    text: str


class InputAudio(Struct, frozen=True, forbid_unknown_fields=True, tag="input_audio"):
    """Speech of the user; `audio` is base64 PCM16 and only ever sent by clients."""

    transcript: str | None = None
    audio: str | UnsetType = UNSET


class OutputText(Struct, frozen=True, forbid_unknown_fields=True, tag="output_text"):
    text: str


class OutputAudio(Struct, frozen=True, forbid_unknown_fields=True, tag="output_audio"):
    """Speech of the agent, known by its transcript."""

    transcript: str | None = None
    audio: str | UnsetType = UNSET


Content = InputText | InputAudio | OutputText | OutputAudio
Role = Literal["user", "assistant", "system"]


class MessageItem(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="message"):
    """One message of the conversation, as both sides write it."""

    id: Annotated[str, Meta(min_length=1, max_length=512)] | UnsetType = UNSET
    object: Literal["realtime.item"] = "realtime.item"
    status: Literal["in_progress", "completed", "incomplete"] = "completed"
    role: Role
    content: list[Content]


class ResponseOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `response.create` may change for that response alone."""

    instructions: str | None = None
    output_modalities: Modalities | UnsetType = UNSET
    max_output_tokens: OutputTokens | UnsetType = UNSET
    metadata: Json | None = None
    audio: Json | UnsetType = UNSET
    tools: list[Json] | UnsetType = UNSET
    tool_choice: str | Json | UnsetType = UNSET
    conversation: Literal["auto"] = "auto"
