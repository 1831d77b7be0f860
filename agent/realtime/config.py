"""The nouns of the OpenAI Realtime protocol (GA): a session's configuration, and its changes.

Both sides write them, so a struct serves both directions. Values are strict: a field that the
protocol doesn't name is an error. What clients send and this server has no use for (tracing,
prompt, reasoning) is accepted and echoed, as the protocol asks. Items are in `items`.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Json = dict[str, object]
Modality = Literal["audio", "text"]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""Of samples, milliseconds or tokens, as every number of JavaScript: a larger one is none."""


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


class PcmuFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="audio/pcmu"):
    """Mono G.711 u-law at 8 kHz: one byte a sample."""

    rate: Literal[8000] | UnsetType = UNSET
    """Needless, and echoed to clients that give it all the same."""


class PcmaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag="audio/pcma"):
    """Mono G.711 A-law at 8 kHz: one byte a sample."""

    rate: Literal[8000] | UnsetType = UNSET


AudioFormat = PcmFormat | PcmuFormat | PcmaFormat


class NoiseReduction(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the microphone is; accepted, without effect on the sound."""

    type: Literal["near_field", "far_field"]
    strength: Annotated[float, Meta(ge=0, le=1)] | UnsetType | None = UNSET


class Transcription(Struct, frozen=True, forbid_unknown_fields=True):
    """A wish for transcripts of the user's speech; the server's own recogniser makes them."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    languages: list[str] | UnsetType = UNSET
    keywords: list[str] | UnsetType = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType = UNSET


class CustomVoice(Struct, frozen=True, forbid_unknown_fields=True):
    """A voice named by an id; any name is accepted, the server has one voice."""

    id: str


Voice = str | CustomVoice
Speed = Annotated[float, Meta(ge=0.25, le=1.5)]


class Tracing(Struct, frozen=True, forbid_unknown_fields=True):
    """Accepted and echoed; nothing is traced."""

    workflow_name: str | UnsetType | None = UNSET
    group_id: str | UnsetType | None = UNSET
    metadata: Json | UnsetType | None = UNSET


class TokenLimits(Struct, frozen=True, forbid_unknown_fields=True):
    post_instructions: Count | UnsetType | None = UNSET


class RetentionRatio(Struct, frozen=True, forbid_unknown_fields=True, tag="retention_ratio"):
    """How much of an overlong conversation is kept when its beginning is dropped."""

    retention_ratio: Annotated[float, Meta(ge=0, le=1)]
    token_limits: TokenLimits | UnsetType | None = UNSET


class Prompt(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt template of somebody else's service; accepted and echoed, never looked up."""

    id: str
    version: str | UnsetType | None = UNSET
    variables: Json | UnsetType | None = UNSET


class Reasoning(Struct, frozen=True, forbid_unknown_fields=True):
    """Accepted and echoed; the model doesn't reason."""

    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType | None = UNSET


class Extensions(Struct, frozen=True, forbid_unknown_fields=True):
    """What goes beyond the OpenAI protocol: all off until a client asks (docs/protocol.md)."""

    binary_audio: bool = False
    """Sound goes both ways as binary frames instead of base64 in JSON."""
    duck: bool = False
    playout: bool = False
    marks: bool = False
    """The parts of each response's latency are sent."""
    resume: bool = False
    """The session outlives its connection for a while, and another one may go on with it."""
    echo_cancelled: bool = False
    """The client takes the agent's own voice out of its microphone."""


Tracings = Tracing | Literal["auto"] | None
Truncation = RetentionRatio | Literal["auto", "disabled"]
Include = list[Literal["item.input_audio_transcription.logprobs"]]
ToolChoice = str | Json


class AudioInput(Struct, frozen=True, forbid_unknown_fields=True):
    format: AudioFormat = PcmFormat()
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = ServerVad()


class AudioOutput(Struct, frozen=True, forbid_unknown_fields=True):
    format: AudioFormat = PcmFormat()
    voice: Voice = "default"
    speed: Speed = 1.0


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
    tool_choice: ToolChoice
    max_output_tokens: int | Literal["inf"]
    tracing: Tracings = None
    truncation: Truncation = "auto"
    prompt: Prompt | None = None
    include: Include | None = None
    expires_at: int | UnsetType = UNSET
    """Unix time at which the server ends the session, in seconds."""
    reasoning: Reasoning | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    x_mimo: Extensions | UnsetType = UNSET
    """Present for clients that asked for it only."""


class AudioInputPatch(Struct, frozen=True, forbid_unknown_fields=True):
    format: AudioFormat | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutputPatch(Struct, frozen=True, forbid_unknown_fields=True):
    format: AudioFormat | UnsetType = UNSET
    voice: Voice | UnsetType = UNSET
    speed: Speed | UnsetType = UNSET


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
    tool_choice: ToolChoice | UnsetType = UNSET
    max_output_tokens: OutputTokens | UnsetType = UNSET
    tracing: Tracing | Literal["auto"] | UnsetType | None = UNSET
    truncation: Truncation | UnsetType = UNSET
    prompt: Prompt | UnsetType | None = UNSET
    include: Include | UnsetType | None = UNSET
    reasoning: Reasoning | UnsetType | None = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    x_mimo: Extensions | UnsetType = UNSET
