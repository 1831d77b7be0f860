"""The model server's wire: chat requests decoded, or refused in its own words."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from agent import limits
from agent.audio import read_wav
from agent.errors import AgentError, AudioError
from server.embedded import recogniser
from server.embedded.reply import Ask, Said
from server.embedded.transcripts import Clip, Clips

STANDS_FOR = "MiMo-Audio-7B-Instruct"
"""What requests may call this model, too: a server that is set up for that one works with this."""

_STAGES = 2
"""Of MiMo-Audio: one writes text and codes, one makes sound of the codes."""
_UNLIMITED = 3200
"""More tokens than any reply takes."""
_UNNAMED_MAX_TOKENS = 16
"""What the model server takes when an entry of `sampling_params_list` has no `max_tokens`."""
_SAMPLING_KEYS = frozenset(
    """
    allowed_token_ids bad_words detokenize extra_args flat_logprobs frequency_penalty ignore_eos
    include_stop_str_in_output logit_bias logprobs max_tokens min_p min_tokens n output_kind
    presence_penalty prompt_logprobs repetition_penalty seed skip_special_tokens
    spaces_between_special_tokens stop stop_token_ids structured_outputs temperature top_k top_p
    truncate_prompt_tokens
    """.split()  # noqa: SIM905
)


class RequestError(AgentError):
    """A request that is refused; becomes the body `{"error": ...}` of the HTTP response."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        param: str | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param


class _Url(msgspec.Struct):
    url: str


class _Data(msgspec.Struct):
    data: str
    format: str = "wav"


class _TextPart(msgspec.Struct, tag="text"):
    text: str


class _UrlPart(msgspec.Struct, tag="audio_url"):
    audio_url: _Url | None = None
    uuid: str | None = None


class _DataPart(msgspec.Struct, tag="input_audio"):
    input_audio: _Data | None = None
    uuid: str | None = None


_AudioPart = _UrlPart | _DataPart


class _Message(msgspec.Struct):
    role: str
    content: str | list[_TextPart | _UrlPart | _DataPart] | None = None


class _AudioOptions(msgspec.Struct):
    format: str = "wav"


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    stream: bool = False
    modalities: list[str] | None = None
    audio: _AudioOptions | None = None
    stream_options: _StreamOptions | None = None
    sampling_params_list: list[dict[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that was understood."""

    ask: Ask
    stream: bool
    modalities: frozenset[str]
    audio_format: Literal["wav", "pcm16"]
    include_usage: bool
    late_error: RequestError | None
    """A refusal that the model server finds only once it has begun to answer."""


def decode(body: bytes, clips: Clips, name: str) -> ChatRequest:
    """Read a chat request; its clips are decoded, and kept in `clips` if they have a key.

    Args:
        name: The model's own.

    Raises:
        RequestError: If anything is wrong with it.
    """
    chat = _parse(body)
    if chat.model not in (None, name, STANDS_FOR):
        raise RequestError(
            f"The model `{chat.model}` does not exist.",
            status=404,
            kind="NotFoundError",
            param="model",
        )
    modalities = _modalities(chat.modalities)
    max_tokens, late_error = _sampling(chat.sampling_params_list)
    persona, said = _conversation(chat.messages, clips)
    return ChatRequest(
        ask=Ask(persona, said, max_tokens, "audio" in modalities),
        stream=chat.stream,
        modalities=modalities,
        audio_format=_format(chat.audio),
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage,
        late_error=late_error,
    )


def clip_of(file: bytes) -> Clip:
    """Decode a WAV file to what the recogniser hears.

    Raises:
        RequestError: If it is not a WAV file, or too long.
    """
    try:
        pcm = read_wav(file, recogniser.RATE, limits.CLIP_S)
    except AudioError as error:
        raise RequestError(f"Invalid or unsupported audio file: {error}") from error
    return Clip.of(pcm)


def _parse(body: bytes) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except msgspec.ValidationError as error:
        raise RequestError(f"1 validation error:\n  {error}", kind="Bad Request") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(
            f"1 validation error:\n  JSON decode error: {error}", kind="Bad Request", param="body"
        ) from error


def _modalities(asked: Sequence[str] | None) -> frozenset[str]:
    modalities = frozenset(asked or ("text", "audio"))
    if unknown := sorted(modalities - {"text", "audio"}):
        raise RequestError(
            f"Unsupported output modalities {', '.join(unknown)} for this model. "
            "Supported modalities: audio, text"
        )
    return modalities


def _format(options: _AudioOptions | None) -> Literal["wav", "pcm16"]:
    match options.format if options else "wav":
        case "wav":
            return "wav"
        case "pcm16":
            return "pcm16"
        case other:
            raise RequestError(
                f"Unsupported audio format '{other}'. Supported formats: wav, pcm16",
                param="audio.format",
            )


def _sampling(
    stages: Sequence[Mapping[str, object]] | None,
) -> tuple[int, RequestError | None]:
    if not stages:
        return _UNLIMITED, None
    for stage in stages:
        if unknown := sorted(stage.keys() - _SAMPLING_KEYS):
            raise _internal(f"Unexpected keyword argument '{unknown[0]}'")
    found = stages[0].get("max_tokens", _UNNAMED_MAX_TOKENS)
    late_error = None
    if not isinstance(found, int) or found < 1:
        found = _UNNAMED_MAX_TOKENS
        late_error = RequestError("max_tokens must be at least 1.", param="max_tokens")
    elif len(stages) > _STAGES:
        late_error = RequestError(f"Expected {_STAGES} sampling params, got {len(stages)}")
    return found, late_error


def _conversation(messages: Sequence[_Message], clips: Clips) -> tuple[str, Sequence[Said]]:
    persona: list[str] = []
    said: list[Said] = []
    heard = 0
    for message in messages:
        text, audio = _parts(message)
        if len(audio) > 1:
            raise _internal("Mismatch between audio placeholders and audio items in a message.")
        clip = _clip(audio[0], heard, clips) if audio else None
        heard += len(audio)
        match message.role:
            case "system" | "developer":
                # A clip here is a sample of the voice to speak with; this model has one voice.
                persona.append(text)
            case "user" | "assistant":
                said.append(Said(message.role, text, clip))
            case _:
                pass
    return "\n".join(persona), said


def _parts(message: _Message) -> tuple[str, Sequence[_AudioPart]]:
    match message.content:
        case None:
            return "", []
        case str(text):
            return text, []
        case parts:
            texts = [part.text for part in parts if isinstance(part, _TextPart)]
            return "\n".join(texts), [part for part in parts if not isinstance(part, _TextPart)]


def _clip(part: _AudioPart, index: int, clips: Clips) -> Clip:
    encoded = _encoded(part)
    if encoded is not None:
        try:
            clip = clip_of(base64.b64decode(encoded, validate=True))
        except binascii.Error as error:
            raise RequestError(f"Invalid base64 audio data: {error}") from error
        if part.uuid is not None:
            clips.keep(part.uuid, clip)
        return clip
    known = clips.find(part.uuid) if part.uuid is not None else None
    if known is None:
        raise RequestError(f"Cache miss for audio at index {index} but data is not provided.")
    return known


def _encoded(part: _AudioPart) -> str | None:
    if isinstance(part, _DataPart):
        if part.input_audio is not None and part.input_audio.format != "wav":
            raise RequestError(f"Unsupported input audio format '{part.input_audio.format}'.")
        return part.input_audio.data if part.input_audio is not None else None
    if part.audio_url is None:
        return None
    scheme, _, data = part.audio_url.url.partition(";base64,")
    if not scheme.startswith("data:"):
        raise RequestError("Only base64 data URLs are supported for audio by this model.")
    return data


def _internal(message: str) -> RequestError:
    return RequestError(message, status=500, kind="Internal Server Error")
