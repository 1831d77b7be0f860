"""A step of the language model: as the stock one, but it waits for the GPU once, not per request.

That wait is for the likeliest text token of each reply, which says whether this step is speech.
Each reply gets its own codes; stock hands all of them to each.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from server.gpu.fast.shapes import Llm

Span = tuple[int, int]
"""Where a request's tokens begin and end in this step."""


def patch(module: ModuleType) -> None:
    """Replace the model's forward in steps of requests; stock keeps those of profiling."""
    llm = module.MiMoAudioLLMForConditionalGeneration
    stock = llm.forward

    def forward(
        self: Llm,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: object = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[list[Tensor] | None, Tensor]:
        spans = cast(Sequence[Span], kwargs.get("request_token_spans"))
        requests = cast(Sequence[dict[str, Any]], kwargs.get("runtime_additional_information"))
        if not spans or not requests or inputs_embeds is None:
            return stock(self, input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)
        names = [each.get("req_id", str(i)) for i, each in enumerate(requests)]
        _put_in_what_was_said(self, input_ids, inputs_embeds, spans, names)
        states = self.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)
        last = _last(states, spans)
        tokens: list[int] = self.compute_logits(last).argmax(-1)[: len(spans)].tolist()
        if self.empty_token_id not in tokens:
            return None, states
        return _speak(self, last, tokens, names), states

    llm.forward = forward


def _put_in_what_was_said(
    llm: Llm, input_ids: Tensor, inputs_embeds: Tensor, spans: Sequence[Span], names: list[str]
) -> None:
    """Where a reply's token is "speech", give the model what it said last.

    Args:
        input_ids: `[T]`.
        inputs_embeds: `[T, H]`, changed in place: the backbone's graph reads it there.
    """
    single = [i for i, (start, end) in enumerate(spans) if end - start == 1]
    if not single:
        return
    nothing = inputs_embeds.new_zeros(1, inputs_embeds.shape[1])
    heard = llm._cached_new_audio_emb_by_req  # pyright: ignore[reportPrivateUsage]
    said = torch.cat([heard.get(names[i], nothing) for i in single])
    # A slice where it can be one, as in every step but a mixed one: an index list is copied to the
    # GPU, which waits.
    at = [spans[i][0] for i in single]
    where = slice(0, len(at)) if at == list(range(len(at))) else at
    is_speech = (input_ids[where] == llm.empty_token_id)[:, None]
    inputs_embeds[where] = torch.where(is_speech, said, inputs_embeds[where])


def _last(states: Tensor, spans: Sequence[Span]) -> Tensor:
    """Return each request's last state, `[B, H]`; padding stays in a step of single tokens."""
    ends = [end for _, end in spans]
    return states if ends == list(range(1, len(ends) + 1)) else states[[end - 1 for end in ends]]


def _speak(llm: Llm, last: Tensor, tokens: list[int], names: list[str]) -> list[Tensor]:
    """Return each request's codes: a group where its token is "speech", else nothing."""
    heard = llm._cached_new_audio_emb_by_req  # pyright: ignore[reportPrivateUsage]
    codes, embeddings = llm.speech(_for_all_seats(last[: llm.seats], llm.seats))
    each: list[Tensor] = []
    for i, token in enumerate(tokens):
        if token == llm.empty_token_id:
            heard[names[i]] = embeddings[i]
            each.append(codes[i : i + 1])
        else:
            each.append(codes.new_zeros(0))
    return each


def _for_all_seats(states: Tensor, seats: int) -> Tensor:
    """Fill up to `[S, H]`: the kernels, and with them the rounding, depend on the shape."""
    free = seats - states.shape[0]
    return torch.cat([states, states.new_zeros(free, states.shape[1])]) if free else states
