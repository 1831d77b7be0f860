"""The speech step, from the backbone's states to a group's codes and embedding, as one CUDA graph.

It is made of the stock parts, so its results are theirs, bit for bit: the stock step launches two
graphs of its own, and sorts all codes to choose the likeliest.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from server.gpu.fast.shapes import Llm, Speech

_log = logging.getLogger("vllm.mimo_live")

CHECKS = 64
"""Random states on which the graph must agree with the stock step, 3 s in all."""

WARM_UP = 2
"""Runs before the capture, as libraries allocate and choose their kernels at the first."""


class SpeechGraph:
    """The speech step of all seats."""

    def __init__(self, llm: Llm, seats: int, likeliest: object) -> None:
        """Capture it.

        Args:
            likeliest: A `MiMoSampler` that takes the likeliest code. So does the stock one, which
                sorts first: its temperature and top-p never change which code that is.
        """
        weight = llm.hidden_states_downcast.weight
        self._states = torch.zeros(
            seats, llm.config.hidden_size, dtype=weight.dtype, device=weight.device
        )
        stock = llm.local_sampler, llm.local_forward_cg_by_bs, llm.input_local_transformer_cg_by_bs
        llm.local_sampler = likeliest
        llm.local_forward_cg_by_bs, llm.input_local_transformer_cg_by_bs = {}, {}
        try:
            self._capture(stock_speech(llm))
        finally:
            llm.local_sampler = stock[0]
            llm.local_forward_cg_by_bs, llm.input_local_transformer_cg_by_bs = stock[1:]

    def _capture(self, step: Speech) -> None:
        with torch.inference_mode():
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP):
                    step(self._states)
            torch.cuda.current_stream().wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._codes, self._embeddings = step(self._states)

    def __call__(self, states: Tensor, /) -> tuple[Tensor, Tensor]:
        self._states.copy_(states)
        self._graph.replay()
        # The graph writes to the same place the next time.
        return self._codes.clone(), self._embeddings.clone()


def speech_step(llm: Llm, seats: int, likeliest: object) -> Speech:
    """Return the graph, or the stock step where there can be none or its results differ."""
    stock = stock_speech(llm)
    try:
        graph = SpeechGraph(llm, seats, likeliest)
    # What torch raises for whatever goes wrong on the GPU, a lack of memory included.
    except RuntimeError as error:
        _log.warning("no graph for the speech step (%s); the stock one is used", error)
        return stock
    same = _agree(graph, stock, llm, seats)
    if same < CHECKS:
        _log.warning("speech graph: %d of %d as stock; the stock one is used", same, CHECKS)
        return stock
    return graph


def stock_speech(llm: Llm) -> Speech:
    """Return the stock step with the seats in front."""
    step: Callable[[Tensor], tuple[Tensor, Tensor]] = (
        llm._generate_speech_tokens_and_audio_embeddings  # pyright: ignore[reportPrivateUsage]
    )
    return lambda states: step(states[:, None, :])


def _agree(one: Speech, other: Speech, llm: Llm, seats: int) -> int:
    """Return on how many states, of the scale that a norm leaves, both have the same results."""
    weight = llm.hidden_states_downcast.weight
    shape = CHECKS, seats, llm.config.hidden_size
    states = torch.randn(shape, device=weight.device).to(weight.dtype)
    with torch.inference_mode():
        results = [(one(each), other(each)) for each in states]
    return sum(all(map(torch.equal, ours, stock)) for ours, stock in results)
