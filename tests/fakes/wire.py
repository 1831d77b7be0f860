"""What the stand-in says: the events of a reply in the recorded shapes, each with its time.

Like the real one it makes a group of sound (160 ms) a step, writes the reply's words well ahead
of the sound, and sends the last chunk twice where the groups fill it exactly.
"""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from agent.audio import RATE, wav

Json = dict[str, Any]

GROUP_SAMPLES = 3_840
GROUP_S = GROUP_SAMPLES / RATE
MODEL = "MiMo-Audio-7B-Instruct"
DONE = b"data: [DONE]\n\n"
CREATED = 1_795_477_676
END_OF_TEXT = 151_671
TEXT_TOKENS = 5
"""So many tokens of text are written, then so many groups are spoken, and so on."""


class Fault(StrEnum):
    """What may go wrong with a reply, or differ by version; midway is after the first sound."""

    ERROR_BEFORE = "error-before"
    """HTTP 500 in place of a reply."""
    ERROR_FIRST = "error-first"
    """200, then an error event and nothing else."""
    ERROR_MIDWAY = "error-midway"
    SILENT = "silent"
    """Not even the headers come."""
    SLOW_FIRST_BYTE = "slow-first-byte"
    """The headers come late, by `Reply.slow_ms`."""
    STALL_FIRST = "stall-first"
    """The headers come, and nothing after them."""
    STALL_MIDWAY = "stall-midway"
    CUT_FIRST = "cut-first"
    """The connection breaks before the headers."""
    CUT_MIDWAY = "cut-midway"
    WRONG_JSON = "wrong-json"
    """Midway comes a chunk that is no JSON."""
    WRONG_BASE64 = "wrong-base64"
    CACHE_LOST = "cache-lost"
    """All audio sent before is forgotten first."""
    DUPLICATE_TAIL = "duplicate-tail"
    """The last chunk comes twice, also where the groups don't fill it."""
    WAV = "wav"
    """A WAV header in every chunk, whatever was asked, as before 0.26."""
    WAV_ONCE = "wav-once"
    """A WAV header in the first chunk only."""
    STOP_EVERYWHERE = "stop-everywhere"
    """`finish_reason` on every chunk of sound, as 0.20 has it."""
    EMPTY_CHUNKS = "empty-chunks"
    """Chunks without sound among the others: a WAV of no samples, and `""`."""
    NO_DONE = "no-done"
    """The stream ends properly, but without `[DONE]`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered and how fast. The default takes no time."""

    text: str = "Hello there, how are you?"
    groups: int = 10
    """Length of the sound, in groups of 160 ms."""
    chunk_groups: int = 3
    first_chunk_ms: int = 0
    """From the start of work to the first chunk of sound."""
    rtf: float = 0.0
    """Time to make a later chunk, as a share of its own length."""
    slow_ms: int = 1_000
    heard: str = "What was said."
    """The words of the recogniser that stands beside the model."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        at_s: When it is due, from the start of work.
        has_sound: Whether its time is to be kept.
    """

    at_s: float
    data: bytes
    has_sound: bool = False


def sound(number: int, groups: int) -> bytes:
    """Return the PCM that answers request `number`: a rising tone, so no two chunks are equal."""
    at = np.arange(groups * GROUP_SAMPLES) / RATE
    start_hz = 150 + 50 * (number % 16) + number // 16
    return (8_000 * np.sin(2 * np.pi * (start_hz + 20 * at) * at)).astype("<i2").tobytes()


def fitted(body: Json, reply: Reply) -> Reply:
    """Return the reply to a request: usually the given one.

    A user who writes `call: NAME {ARGUMENTS}`, or says anything where the instructions are that,
    has the model call a function, if any is offered; what a function returned is told.
    """
    first, last = body["messages"][0], body["messages"][-1]
    if last["role"] == "tool":
        return replace(reply, text=f"I was told: {_text(last)}")
    asked = re.fullmatch(r"call: (\w+) (\{.*\})", _text(last) or _text(first))
    offered = body.get("tools") or "<tools>" in _text(first)
    if not offered or asked is None:
        return reply
    call = f'{{"name": "{asked[1]}", "arguments": {asked[2]}}}'
    return replace(reply, text=f"<tool_call>{call}</tool_call>")


def _text(message: Json) -> str:
    parts: str | list[Json] = message.get("content") or ""
    return parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)


def sse(body: Json) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def error(message: str, kind: str, code: int) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def stream(
    body: Json, reply: Reply, faults: frozenset[Fault], pcm: bytes, completion_id: str
) -> list[Event]:
    """Return the events that answer a streaming request, without `[DONE]` where none comes."""
    events = _Stream(body, reply, faults, completion_id).events(pcm)
    sounding = [index for index, event in enumerate(events) if event.has_sound]
    middle = sounding[0] + 1 if sounding else len(events) // 2
    at_s = events[middle - 1].at_s
    if Fault.ERROR_FIRST in faults:
        return [_failure(0.0, "prompt too long", "BadRequestError", 400), Event(0.0, DONE)]
    if Fault.ERROR_MIDWAY in faults:
        failure = _failure(at_s, "stage-1 exploded", "InternalServerError", 500)
        return [*events[:middle], failure, Event(at_s, DONE)]
    if Fault.STALL_FIRST in faults:
        return []
    if faults & {Fault.STALL_MIDWAY, Fault.CUT_MIDWAY}:
        return events[:middle]
    if Fault.WRONG_JSON in faults:
        events.insert(middle, Event(at_s, b'data: {"choices":[{"delta":\n\n'))
    return events if Fault.NO_DONE in faults else [*events, Event(events[-1].at_s, DONE)]


def _failure(at_s: float, message: str, kind: str, code: int) -> Event:
    return Event(at_s, b"data: " + json.dumps(error(message, kind, code)).encode() + b"\n\n")


def _option(body: Json, group: str, name: str) -> Any:
    found: Json | None = body.get(group)
    return found.get(name) if found else None


class _Stream:
    """Builds the events of one reply."""

    def __init__(
        self, body: Json, reply: Reply, faults: frozenset[Fault], completion_id: str
    ) -> None:
        self._reply = reply
        self._faults = faults
        self._modalities = body.get("modalities") or ["text", "audio"]
        self._wants_usage = bool(_option(body, "stream_options", "include_usage"))
        self._pcm16 = _option(body, "audio", "format") == "pcm16"
        self._head: Json = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": MODEL,
        }

    def events(self, pcm: bytes) -> list[Event]:
        groups = len(pcm) // (GROUP_SAMPLES * 2)
        texts = list(self._texts(groups)) if "text" in self._modalities else []
        sounds = list(self._sounds(pcm)) if "audio" in self._modalities else []
        made = sorted([*texts, *sounds], key=lambda event: event.at_s)
        if self._wants_usage:
            counts = {"prompt_tokens": 34, "total_tokens": 48, "completion_tokens": 14}
            made.append(Event(made[-1].at_s, sse({**self._head, "choices": [], "usage": counts})))
        return made

    def _due_s(self, groups: int) -> float:
        """Time at which so many groups of sound are ready."""
        later_groups = max(0, groups - self._reply.chunk_groups)
        return self._reply.first_chunk_ms / 1000 + later_groups * GROUP_S * self._reply.rtf

    def _step_s(self, step: int) -> float:
        """Time of a step, each of which makes a group of sound; the first few make one chunk."""
        early = min(1.0, (step + 1) / (self._reply.chunk_groups + 1))
        return early * self._reply.first_chunk_ms / 1000 + self._due_s(step) - self._due_s(0)

    def _texts(self, groups: int) -> Iterator[Event]:
        choice: Json = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        choice |= {"logprobs": None, "finish_reason": None}
        about = {"prompt_token_ids": None, "prompt_text": None, "modality": "text"}
        yield Event(self._step_s(0), sse({**self._head, "choices": [choice], **about}))
        words = re.findall(r"\s*\S+", self._reply.text)
        for start in range(0, max(len(words), groups), TEXT_TOKENS):
            for content in words[start : start + TEXT_TOKENS]:
                yield self._text(self._step_s(min(start, groups)), content, None, {})
            for group in range(start, min(start + TEXT_TOKENS, groups)):
                yield self._text(self._step_s(group), "", None, {})
        finish = None if "audio" in self._modalities else "stop"
        yield self._text(self._due_s(groups), "", finish, {"stop_reason": END_OF_TEXT})

    def _text(self, at_s: float, content: str, finish: str | None, more: Json) -> Event:
        choice = {"index": 0, "delta": {"content": content}, "logprobs": None}
        choice |= {"finish_reason": finish, **more, "token_ids": None}
        return Event(
            at_s, sse({**self._head, "choices": [choice], "metrics": {}, "modality": "text"})
        )

    def _sounds(self, pcm: bytes) -> Iterator[Event]:
        chunk_bytes = self._reply.chunk_groups * GROUP_SAMPLES * 2
        starts = range(0, len(pcm), chunk_bytes)
        for start in starts:
            is_last = start == starts[-1]
            chunk = pcm[start : start + chunk_bytes]
            at_s = self._due_s((start + len(chunk)) // (GROUP_SAMPLES * 2))
            content = self._encoded(chunk, is_first=start == 0)
            repeats = is_last and (len(chunk) == chunk_bytes or self._has(Fault.DUPLICATE_TAIL))
            if self._has(Fault.EMPTY_CHUNKS):
                yield self._sound(at_s, "", 0)
            if repeats:
                yield self._sound(at_s, content, len(chunk) // 2)
            yield self._sound(at_s, content, len(chunk) // 2, is_last)
            if self._has(Fault.EMPTY_CHUNKS) and not is_last:
                yield self._sound(at_s, base64.b64encode(wav(b"")).decode(), 0)
            if self._has(Fault.WRONG_BASE64):
                yield self._sound(at_s, "no*base64", 0)

    def _has(self, fault: Fault) -> bool:
        return fault in self._faults

    def _encoded(self, chunk: bytes, is_first: bool) -> str:
        plain = self._pcm16 and not self._has(Fault.WAV)
        if self._has(Fault.WAV_ONCE):
            plain = not is_first
        return base64.b64encode(chunk if plain else wav(chunk)).decode()

    def _sound(self, at_s: float, content: str, samples: int, is_last: bool = False) -> Event:
        finish = "stop" if is_last or self._has(Fault.STOP_EVERYWHERE) else None
        choice: Json = {"index": 0, "delta": {"role": "assistant", "content": content}}
        choice |= {"logprobs": None, "finish_reason": finish, "stop_reason": None}
        choice |= {"token_ids": None, "audio_metadata": self._metadata(samples)}
        prompt_tokens = 34 if "text" in self._modalities else 0
        usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
        about = {"usage": {**usage, "completion_tokens": 0}, "metrics": {}, "modality": "audio"}
        return Event(at_s, sse({**self._head, "choices": [choice], **about}), samples > 0)

    def _metadata(self, samples: int) -> Json:
        kind = "pcm" if self._pcm16 and not self._has(Fault.WAV) else "wav"
        return {"format": kind, "sample_rate_hz": RATE, "frame_count": samples, "channels": 1}


def whole(body: Json, reply: Reply, pcm: bytes, completion_id: str) -> tuple[float, Json]:
    """Return how long a reply that is not streamed takes, and its body."""
    took_s = reply.first_chunk_ms / 1000 + reply.rtf * reply.groups * GROUP_S
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None}
    message |= {"annotations": None, "audio": None, "function_call": None, "reasoning": None}
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    choice |= {"stop_reason": END_OF_TEXT, "token_ids": None, "routed_experts": None}
    if "audio" in (body.get("modalities") or ["audio"]):
        data = base64.b64encode(wav(pcm)).decode()
        message["audio"] = {"id": "audio-1", "data": data, "expires_at": CREATED, "transcript": ""}
        about = {"format": "wav", "sample_rate_hz": RATE, "frame_count": len(pcm) // 2}
        choice["audio_metadata"] = {**about, "channels": 1}
    usage = {"prompt_tokens": 34, "total_tokens": 40, "completion_tokens": 6}
    usage |= {"prompt_tokens_details": None, "completion_tokens_details": None}
    answer: Json = {"id": completion_id, "object": "chat.completion", "created": CREATED}
    answer |= {"model": MODEL, "choices": [choice], "service_tier": None}
    answer |= {"system_fingerprint": None, "usage": usage, "prompt_logprobs": None}
    answer |= {"prompt_token_ids": None, "prompt_text": None, "kv_transfer_params": None}
    return took_s, answer | {"ec_transfer_params": None, "metrics": None}
