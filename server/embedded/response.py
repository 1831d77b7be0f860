"""The model server's answers: the chunks of a stream, the whole completion, and errors."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from agent.audio import RATE, SAMPLE_BYTES, wav
from server.embedded.reply import Ended, ReplyEvent, SoundMade, TextEnded, TextMade
from server.embedded.request import ChatRequest, RequestError

DONE = b"data: [DONE]\n\n"

Json = dict[str, object]

_END_OF_TEXT = 151671
"""MiMo-Audio's `<|eostm|>`."""
_DAY_S = 86_400
"""Clients are told that sound is kept so long; nothing here is."""


def error_body(error: RequestError) -> Json:
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.param,
            "code": error.status,
        }
    }


def event(body: Json) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


class Head(NamedTuple):
    """What every part of an answer begins with."""

    completion_id: str
    created: int
    """Unix time in seconds."""
    model: str


class Chunks:
    """Turns one reply into the chunks of its stream."""

    def __init__(self, request: ChatRequest, head: Head):
        self._text = "text" in request.modalities
        self._speech = "audio" in request.modalities
        self._format = request.audio_format
        self._include_usage = request.include_usage
        self._head: Json = {
            "id": head.completion_id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }

    def begin(self) -> Iterator[Json]:
        if self._text:
            delta = {"role": "assistant", "content": ""}
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
            about = {"prompt_token_ids": None, "prompt_text": None, "modality": "text"}
            yield {**self._head, "choices": [choice], **about}

    def of(self, made: ReplyEvent) -> Iterator[Json]:
        match made:
            case TextMade(text) if self._text:
                yield self._text_chunk({"content": text}, None, {})
            case TextEnded(complete) if self._text:
                finish = None if self._speech else "stop"
                reason = {"stop_reason": _END_OF_TEXT if complete else None}
                yield self._text_chunk({"content": ""}, finish, reason)
            case SoundMade(pcm, is_last):
                yield self._audio_chunk(pcm, "stop" if is_last else None)
            case Ended() if self._include_usage:
                yield {**self._head, "choices": [], "usage": _usage(made)}
            case _:
                pass

    def _text_chunk(
        self, delta: Json, finish_reason: str | None, more: Mapping[str, object]
    ) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        choices = [{**choice, **more, "token_ids": None}]
        return {**self._head, "choices": choices, "metrics": {}, "modality": "text"}

    def _audio_chunk(self, pcm: bytes, finish_reason: str | None) -> Json:
        sound = pcm if self._format == "pcm16" else wav(pcm)
        content = base64.b64encode(sound).decode()
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": content},
            "logprobs": None,
            "finish_reason": finish_reason,
            "stop_reason": None,
            "token_ids": None,
            "audio_metadata": _audio_metadata(self._format, len(pcm) // SAMPLE_BYTES),
        }
        usage = {"prompt_tokens": 0, "total_tokens": 0, "completion_tokens": 0}
        return {
            **self._head,
            "choices": [choice],
            "usage": usage,
            "metrics": {},
            "modality": "audio",
        }


def completion(request: ChatRequest, head: Head, made: Sequence[ReplyEvent]) -> Json:
    """Return a whole reply as the body of a response that is not streamed."""
    text = "".join(each.text for each in made if isinstance(each, TextMade))
    pcm = b"".join(each.pcm for each in made if isinstance(each, SoundMade))
    complete = all(each.complete for each in made if isinstance(each, TextEnded))
    [ended] = [each for each in made if isinstance(each, Ended)]
    message: Json = {
        "role": "assistant",
        "content": text if "text" in request.modalities else None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    choice: Json = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": _END_OF_TEXT if complete else None,
        "token_ids": None,
    }
    if request.ask.speech:
        sound = pcm if request.audio_format == "pcm16" else wav(pcm)
        message["audio"] = {
            "id": head.completion_id.replace("chatcmpl", "audio", 1),
            "data": base64.b64encode(sound).decode(),
            "expires_at": head.created + _DAY_S,
            "transcript": "",
        }
        choice["audio_metadata"] = _audio_metadata(request.audio_format, len(pcm) // SAMPLE_BYTES)
    return {
        "id": head.completion_id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [choice],
        "usage": _usage(ended),
        "metrics": None,
    }


def _audio_metadata(audio_format: str, frames: int) -> Json:
    return {
        "format": "pcm" if audio_format == "pcm16" else audio_format,
        "sample_rate_hz": RATE,
        "frame_count": frames,
        "channels": 1,
    }


def _usage(ended: Ended) -> Json:
    return {
        "prompt_tokens": ended.prompt_tokens,
        "total_tokens": ended.prompt_tokens + ended.completion_tokens,
        "completion_tokens": ended.completion_tokens,
    }
