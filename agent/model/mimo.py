"""MiMo-Audio's wire without input or output: the chat request, and the reply that answers it.

A reply comes as a stream, read event by event from bytes cut anywhere, or whole. Behind this
there is text, sound, and one end, whatever the server's version.
"""

import base64
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.audio import wav
from agent.errors import ModelError
from agent.model.lenient_json import (
    Usage,
    content_of,
    part,
    parts,
    read_error,
    read_object,
    refusal,
    usage_of,
)
from agent.model.reply_content import SoundReader, TextFilter
from agent.model.sse import EventReader, ServerEvent
from agent.realtime.config import Json, Modality

_SPECIAL = re.compile(r"<\|[^|]*\|>")
_DEEPEST = 8
_WAV = "UklGR"
"""How a WAV file begins, in base64."""
_LULL = 9
"""So many empty steps in a row end a text: 5 that are spoken, and 3 of a character in pieces."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt: text, speech (mono PCM16 at 24 kHz), or both."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    pcm: bytes = b""
    key: str = ""
    """Names the speech to a replica that had it before; empty if it is always sent whole."""
    words: str = ""
    """Stands for the speech where there is no room for it."""


def plain(text: str) -> str:
    """Take out what the model server would read as special tokens: `<|...|>`.

    Taking one out may join the halves of another. Text nested deeper than a few levels is an
    attack; what could still open a token is broken up there.
    """
    for _ in range(_DEEPEST):
        text, found = _SPECIAL.subn("", text)
        if not found:
            return text
    return text.replace("<|", "< |")


def chat_request(
    messages: Sequence[ChatMessage],
    modality: Modality,
    max_tokens: int,
    model: str,
    tools: Sequence[Json] = (),
    *,
    known: Collection[str] = (),
) -> Json:
    """Build the body of a streaming request to `/v1/chat/completions`.

    Without any message it holds what the chat template begins with by itself: not every version of
    the server takes none.

    Greedy decoding in both stages, as the model's speech-or-text decision needs it. Each stage's
    entry replaces the server's defaults whole, so it names everything. Tools are for the chat
    template to render; with `tool_choice` none the server leaves the calls in the text.

    Args:
        tools: Functions in the form of a chat request.
        known: Keys of the speech that this replica has had; it goes by reference.
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
        "stream_options": {"include_usage": True},
        "modalities": ["text", "audio"] if modality == "audio" else ["text"],
        "audio": {"format": "pcm16"},
        "messages": [
            {"role": each.role, "content": _content_of(each, known)} for each in messages or _NOBODY
        ],
        "sampling_params_list": [
            {**stage, "max_tokens": max_tokens, "stop_token_ids": [151671, 151645]},
            {**stage, "max_tokens": 65536},
        ],
    }


def _content_of(message: ChatMessage, known: Collection[str]) -> str | list[Json]:
    return plain(message.text) if message.role == "tool" else list(_content(message, known))


def _content(message: ChatMessage, known: Collection[str]) -> Iterator[Json]:
    if text := plain(message.text):
        yield {"type": "text", "text": text}
    if message.pcm:
        named = {"uuid": message.key} if message.key else {}
        url: Json | None = None
        if message.key not in known:
            # WAV: see docs/model-server.md for what FLAC would cost.
            url = {"url": "data:audio/wav;base64," + base64.b64encode(wav(message.pcm)).decode()}
        yield {"type": "audio_url", "audio_url": url, **named}


_NOBODY = [ChatMessage("system", "You are a helpful assistant.")]


@dataclass(frozen=True, slots=True)
class Text:
    """What the model says, in writing."""

    text: str


@dataclass(frozen=True, slots=True)
class Sound:
    """What the model says, as mono PCM16 at 24 kHz."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class TextEnded:
    """No text will come any more; sound may, and may go on for long.

    The model writes 5 tokens, then speaks 5 groups, and so on; when the text is over, it only
    speaks. Every step comes as a chunk of text, empty where the model spoke, so a long row of
    empty ones is the end of the text. The key `stop_reason` tells it for certain, but is sent
    with the last of the sound (seen with vLLM-Omni 0.24 on a GPU).
    """

    cut_short: bool = False
    """The reply ran into its limit of tokens."""


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


Output = Text | Sound | TextEnded | Ended | Failed


class ReplyReader:
    """Reads one streamed reply; `push` takes its bytes as they come, `finish` the end of them."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._text = TextFilter()
        self._sound = SoundReader()
        self._usage: Usage | None = None
        self._empty_steps = 0
        self._cut_short = False
        self._looks_complete = False
        self._over = False

    def push(self, data: bytes) -> list[Output]:
        return [output for event in self._events.push(data) for output in self._read(event)]

    def finish(self, error: ModelError | None = None) -> list[Output]:
        """Say how a reply ended that sends nothing more: nothing new if it ended properly.

        Args:
            error: What broke it off, if its body did not come to an end of its own.
        """
        if self._over:
            return []
        last = [] if error else self._events.finish()
        outputs = [output for event in last for output in self._read(event)]
        if self._over:
            return outputs
        if error is None and self._looks_complete:
            return [*outputs, *self._end(self._ended())]
        cut = error or ModelError("the reply was cut off", code="model_cut_off")
        return [*outputs, *self._end(Failed(cut))]

    def _read(self, event: ServerEvent) -> Iterator[Output]:
        if self._over:
            return
        if event.kind == "error":
            yield from self._end(Failed(read_error(event.data)))
            return
        if event.data.strip() == b"[DONE]":
            yield from self._end(self._ended())
            return
        try:
            chunk = read_object(event.data)
            if error := chunk.get("error"):
                raise refusal(error)
            yield from self._take(chunk)
        except ValueError as error:
            broken = ModelError(f"not a chunk of a reply: {error}", code="model_bad_chunk")
            yield from self._end(Failed(broken))
        except ModelError as error:
            yield from self._end(Failed(error))

    def _take(self, chunk: Json) -> Iterator[Output]:
        choice = next(parts(chunk, "choices"), None)
        if choice is None:
            self._usage = usage_of(chunk) or self._usage
            return
        content = content_of(part(choice, "delta"))
        self._looks_complete = isinstance(choice.get("finish_reason"), str)
        if _is_sound(chunk, choice, content):
            if pcm := self._sound.push(content):
                yield Sound(pcm)
            return
        self._empty_steps = 0 if content else self._empty_steps + 1
        stopped = "stop_reason" in choice and (self._looks_complete or not content)
        ends = self._empty_steps == _LULL or (stopped and self._empty_steps < _LULL)
        if text := self._text.push(content) + (self._text.finish() if ends else ""):
            yield Text(text)
        if stopped or content:
            # It names the token that ended the text, or none; text after it shows it was no end.
            self._cut_short = stopped and choice["stop_reason"] is None
        if ends:
            yield TextEnded(self._cut_short)

    def _ended(self) -> Ended:
        return Ended(self._usage, self._cut_short)

    def _end(self, end: Ended | Failed) -> Iterator[Output]:
        self._over = True
        if text := self._text.finish():
            yield Text(text)
        if pcm := self._sound.finish():
            yield Sound(pcm)
        yield end


def _is_sound(chunk: Json, choice: Json, content: str) -> bool:
    match chunk.get("modality"):
        case str(modality):
            return modality == "audio"
        case _:
            return "audio_metadata" in choice or content.startswith(_WAV)
