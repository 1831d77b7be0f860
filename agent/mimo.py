"""MiMo-Audio's wire without input or output: the chat request, and the stream that answers it.

The stream is read event by event from bytes cut anywhere. What servers of different versions
do differently (a WAV header in every chunk, in the first or in none, a last chunk sent twice,
special tokens in the text) ends here: behind it there is text, sound, and one end.
"""

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from agent.audio import RATE, Resampler, wav
from agent.errors import ModelError
from agent.objects import Json, Modality


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt: text, speech (mono PCM16 at 24 kHz), or both."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    pcm: bytes = b""


def plain(text: str) -> str:
    """Take out what the model server would read as special tokens: `<|...|>`."""
    return re.sub(r"<\|[^|]*\|>", "", text)


def chat_request(
    messages: Sequence[ChatMessage],
    modality: Modality,
    max_tokens: int,
    model: str,
    tools: Sequence[Json] = (),
) -> Json:
    """Build the body of a streaming request to `/v1/chat/completions`.

    Greedy decoding in both stages, as the model's speech-or-text decision needs it. Each stage's
    entry replaces the server's defaults whole, so it names everything. Tools are for the chat
    template to render; with `tool_choice` none the server leaves the calls in the text.
    """
    stage = {
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": -1,
        "seed": 42,
        "detokenize": True,
        "repetition_penalty": 1.1,
    }
    offered: Json = {"tools": list(tools), "tool_choice": "none"} if tools else {}
    return {
        **offered,
        "model": model,
        "stream": True,
        "modalities": ["text", "audio"] if modality == "audio" else ["text"],
        "audio": {"format": "pcm16"},
        "messages": [{"role": each.role, "content": _content_of(each)} for each in messages],
        "sampling_params_list": [
            {**stage, "max_tokens": max_tokens, "stop_token_ids": [151671, 151645]},
            {**stage, "max_tokens": 65536},
        ],
    }


def _content_of(message: ChatMessage) -> str | list[Json]:
    return plain(message.text) if message.role == "tool" else list(_content(message))


def _content(message: ChatMessage) -> Iterator[Json]:
    if message.text:
        yield {"type": "text", "text": plain(message.text)}
    if message.pcm:
        url = "data:audio/wav;base64," + base64.b64encode(wav(message.pcm)).decode()
        yield {"type": "audio_url", "audio_url": {"url": url}}


@dataclass(frozen=True, slots=True)
class Text:
    """What the model says, in writing."""

    text: str


@dataclass(frozen=True, slots=True)
class Sound:
    """What the model says, as mono PCM16 at 24 kHz."""

    pcm: bytes


class Usage(msgspec.Struct, frozen=True):
    """What a reply cost, in the model server's own count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Every step of sound counts, too."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The reply is over."""

    usage: Usage | None = None
    cut_short: bool = False
    """It ran into its limit of tokens."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The reply broke off; what came before it still counts."""

    error: ModelError


Output = Text | Sound | Ended | Failed


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _ServerError(msgspec.Struct):
    message: str = "unknown error"


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list[_Choice])
    modality: str = "text"
    error: _ServerError | str | None = None


_chunk_decoder = msgspec.json.Decoder(_Chunk)


class ReplyReader:
    """Reads one streamed reply; `push` takes its bytes as they come, `finish` the end of them."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._text = _TextFilter()
        self._sound = _SoundReader()
        self._over = False

    def push(self, data: bytes) -> list[Output]:
        self._line += data
        *lines, rest = self._line.split(b"\n")
        self._line = bytearray(rest)
        return [output for line in lines for output in self._read(bytes(line).strip())]

    def finish(self) -> list[Output]:
        """Say how a stream ended that has no more bytes: nothing new if it ended properly."""
        if self._over:
            return []
        return list(self._end(Failed(ModelError("the reply was cut off", code="model_cut_off"))))

    def _read(self, line: bytes) -> Iterator[Output]:
        if self._over or not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            yield from self._end(Ended())
            return
        try:
            chunk = _chunk_decoder.decode(data)
            if chunk.error is not None:
                found = chunk.error
                raise ModelError(found if isinstance(found, str) else found.message)
            for choice in chunk.choices[:1]:
                yield from self._take(chunk.modality, choice.delta.content or "")
        except (msgspec.DecodeError, UnicodeError) as error:
            broken = ModelError(f"not a chunk of a reply: {error}", code="model_bad_chunk")
            yield from self._end(Failed(broken))
        except ModelError as error:
            yield from self._end(Failed(error))

    def _take(self, modality: str, content: str) -> Iterator[Output]:
        if modality == "audio":
            pcm = self._sound.push(content)
            if pcm:
                yield Sound(pcm)
        else:
            text = self._text.push(content)
            if text:
                yield Text(text)

    def _end(self, end: Ended | Failed) -> Iterator[Output]:
        self._over = True
        if text := self._text.finish():
            yield Text(text)
        if pcm := self._sound.finish():
            yield Sound(pcm)
        yield end


class _TextFilter:
    """Takes special tokens and filler dots out of text, wherever the chunks are cut."""

    _UNDECIDED = re.compile(r"(<(\|[^|]{0,60}\|?)?|\.+)$")
    _NOISE = re.compile(r"<\|[^|]{0,60}\|>|\.{4,}")

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        clean = self._NOISE.sub("", self._held + text) if not text.endswith(".") else None
        if clean is None:
            # Dots at the very end may go on in the next chunk: decide about them then.
            clean = self._held + text
        undecided = self._UNDECIDED.search(clean)
        cut = undecided.start() if undecided else len(clean)
        self._held = clean[cut:]
        return self._NOISE.sub("", clean[:cut])

    def finish(self) -> str:
        rest, self._held = self._NOISE.sub("", self._held), ""
        return rest


class _SoundReader:
    """Turns audio chunks into one stream of PCM16 at 24 kHz."""

    def __init__(self) -> None:
        self._rate: int = RATE
        self._resampler = Resampler(RATE, RATE)
        self._odd = b""
        self._last = ""
        self._repeated: bytes = b""

    def push(self, content: str) -> bytes:
        if not content:
            return b""
        if content == self._last:
            # Some servers send the very last chunk twice: only a later chunk proves it no copy.
            repeated, self._repeated = self._repeated, self._decode(content)
            return repeated
        self._last = content
        repeated, self._repeated = self._repeated, b""
        return repeated + self._decode(content)

    def finish(self) -> bytes:
        return self._resampler.finish()

    def _decode(self, content: str) -> bytes:
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            message = f"an audio chunk is not base64: {error}"
            raise ModelError(message, code="model_bad_audio") from error
        if data.startswith(b"RIFF"):
            rate, data = _strip_header(data)
            if rate != self._rate:
                self._rate, self._resampler = rate, Resampler(rate, RATE)
        data = self._odd + data
        whole = len(data) // 2 * 2
        self._odd = data[whole:]
        return self._resampler.push(data[:whole])


def _strip_header(file: bytes) -> tuple[int, bytes]:
    """Return rate and samples of a WAV file whose sizes may be wrong, as streams have them."""
    position = 12
    rate: int = 0
    while position + 8 <= len(file):
        name, size = struct.unpack_from("<4sI", file, position)
        position += 8
        if name == b"fmt " and position + 16 <= len(file):
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", file, position)
            if (kind, channels, bits) != (1, 1, 16) or not 1_000 <= rate <= 384_000:
                found = f"format {kind}, {channels} channels, {bits} bits, {rate} Hz"
                raise ModelError(f"audio is not mono PCM16: {found}", code="model_bad_audio")
        if name == b"data":
            return rate or RATE, file[position:]
        position += size + size % 2
    raise ModelError("a WAV chunk without samples", code="model_bad_audio")
