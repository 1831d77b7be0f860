"""From a reply's codes to the chunks that the codec decodes, in place of the stock function.

Unlike it, the first chunks may be small, a step without speech adds no silence, and the end of a
reply sends nothing twice.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from server.gpu.fast.shapes import Request
from server.gpu.fast.sizes import Sizes, read_sizes

FRAMES = 4
"""Frames of the codec in a group."""

STOCK = "llm2code2wav_async_chunk"
"""What is replaced."""


class _Connector(Protocol):
    config: Mapping[str, Any] | None


class _Transfer(Protocol):
    """vLLM-Omni's adapter between the stages; it forgets a reply that is over or aborted."""

    connector: _Connector
    code_prompt_token_ids: dict[str, list[list[int]]]
    """The groups of each reply, flat, in a `defaultdict`."""


class _Sent(NamedTuple):
    groups: int = 0
    chunks: int = 0


def patch(module: ModuleType) -> None:
    """Replace the function that gathers codes into chunks.

    It is called after every step of every reply, from one thread.
    """
    sent: dict[str, _Sent] = {}
    sizes: Sizes | None = None

    def chunk(
        transfer_manager: _Transfer,
        multimodal_output: object,
        request: Request,
        is_finished: bool = False,
    ) -> object:
        nonlocal sizes
        sizes = sizes or read_sizes(transfer_manager.connector.config)
        name, replies = request.external_req_id, transfer_manager.code_prompt_token_ids
        if (codes := _codes(module, multimodal_output)) is not None:
            pad = torch.full((FRAMES,), module.TALKER_CODEC_PAD_TOKEN_ID, dtype=codes.dtype)
            replies[name].append(module.prepend_and_flatten_colmajor(codes, pad).tolist())

        groups, before = replies.get(name, []), sent.get(name, _Sent())
        new = len(groups) - before.groups
        if new < sizes.of_chunk(before.chunks) and not is_finished:
            return None
        for gone in [each for each in sent if each not in replies]:
            del sent[gone]
        if is_finished:
            sent.pop(name, None)
        else:
            sent[name] = _Sent(len(groups), before.chunks + 1)
        return _payload(module, groups, new, sizes, is_finished)

    setattr(module, STOCK, chunk)


def _codes(module: ModuleType, output: object) -> Tensor | None:
    """Return this step's group, if it has one: `[1, 1, 8, 4]`."""
    if not isinstance(output, dict):
        return None
    codes = cast(dict[str, dict[str, object]], output).get("codes", {}).get("audio")
    found: Tensor | None = None if codes is None else module._to_code_tensor(codes)
    return found if found is not None and found.any() else None


def _payload(
    module: ModuleType, groups: list[list[int]], new: int, sizes: Sizes, is_finished: bool
) -> object:
    """Return the last `new` groups with the context that the codec decodes before them."""
    if not groups:
        return module._make_finished_sentinel()
    # A reply whose last chunk was full ends without new sound. It can't end without codes: the API
    # then breaks off with an error. One group as context, of which nothing is left, ends it.
    context = min(len(groups) - new, sizes.context) if new else 1
    flat = torch.tensor(groups[-(context + new) :]).reshape(-1)
    return module.OmniPayloadStruct(
        codes=module.CodesStruct(audio=flat),
        meta=module.MetaStruct(
            left_context_size=context,
            codec_chunk_frames=sizes.following,
            codec_left_context_frames=sizes.context,
            code_flat_numel=flat.numel(),
            finished=torch.tensor(is_finished),
        ),
    )
