"""The request to a model server: the body of `/v1/chat/completions`, as vLLM-Omni takes it."""

import base64
from collections.abc import Collection, Iterator, Sequence

from agent.audio import wav
from agent.model.mimo import MIMO, plain
from agent.model.output import ChatMessage
from agent.realtime.config import Json, Modality

_STEP = 3 * 2**18
"""Bytes that become base64 at once, in a millisecond; whole groups of three."""

_NOBODY = [ChatMessage("system", "You are a helpful assistant.")]
"""What the chat template begins with by itself."""


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

    Each stage's entry replaces the server's defaults whole, so it names everything. Tools are for
    the chat template to render; with `tool_choice` none the server leaves the calls in the text.

    Args:
        tools: Functions in the form of a chat request.
        known: Keys of the speech that this replica has had; it goes by reference.
    """
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
            {
                **MIMO.sampling,
                "max_tokens": max_tokens,
                "stop_token_ids": list(MIMO.stop_tokens),
            },
            {**MIMO.sampling, "max_tokens": MIMO.most_sound_tokens},
        ],
    }


def _content_of(message: ChatMessage, known: Collection[str]) -> str | list[Json]:
    return plain(message.text) if message.role == "tool" else list(_content(message, known))


def _content(message: ChatMessage, known: Collection[str]) -> Iterator[Json]:
    if text := plain(message.text, keeps_marks=message.role != "user"):
        yield {"type": "text", "text": text}
    if message.pcm:
        named = {"uuid": message.key} if message.key else {}
        url: Json | None = None
        if message.key not in known:
            # WAV: see docs/model-server.md for what FLAC would cost.
            url = {"url": _data_url(message.pcm)}
        yield {"type": "audio_url", "audio_url": url, **named}


def _data_url(pcm: bytes) -> str:
    """A clip in the request, made in steps: in a thread, others run between them."""
    sound = memoryview(wav(pcm))
    steps = (base64.b64encode(sound[at : at + _STEP]) for at in range(0, len(sound), _STEP))
    return "data:audio/wav;base64," + b"".join(steps).decode()
