"""The speech step, from the backbone's states to a group's codes and embedding, as one CUDA graph.

There are two. One is made of the stock parts: the stock step launches two graphs of its own, and
sorts all codes to choose the likeliest. The other is three times as quick, with kernels of ours in
the local transformer (`local.py`). Each is used only where its results are the stock ones, bit for
bit.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from server.gpu.fast.local import local_forward
from server.gpu.fast.shapes import Llm, LocalForward, Speech

_log = logging.getLogger("vllm.mimo_live")

PARTS_CHECKED = 64
"""Random states on which a graph of the stock parts must agree with them: the kernels are the same,
so an error would be one of capturing, in every state."""

KERNELS_CHECKED = 4096
"""Random states on which our kernels must. An error in the last bit of one number in ten million
changed the codes of one state in 50. They take 30 s at four seats: a start of two minutes becomes
longer, and what is used has been seen to be right."""

WARM_UP = 2
"""Runs before the capture, as libraries allocate and choose their kernels at the first."""


class SpeechGraph:
    """The speech step of all seats."""

    def __init__(self, llm: Llm, seats: int, likeliest: object, local: LocalForward) -> None:
        """Capture it.

        Args:
            likeliest: A `MiMoSampler` that takes the likeliest code. So does the stock one, which
                sorts first: its temperature and top-p never change which code that is.
            local: From the states in the local transformer's width to the codes.
        """
        # A graph does not keep what it reads.
        self._local = local
        # Stock has graphs for some numbers of rows, and fills up to the next; roundings follow.
        rows = min((size for size in llm.local_forward_cg_by_bs if size >= seats), default=seats)
        weight = llm.hidden_states_downcast.weight
        self._states = torch.zeros(
            rows, llm.config.hidden_size, dtype=weight.dtype, device=weight.device
        )
        stock = (
            llm.local_sampler,
            llm.base_local_forward,
            llm.local_forward_cg_by_bs,
            llm.input_local_transformer_cg_by_bs,
        )
        llm.local_sampler, llm.base_local_forward = likeliest, local
        llm.local_forward_cg_by_bs, llm.input_local_transformer_cg_by_bs = {}, {}
        try:
            self._capture(stock_speech(llm), seats)
        finally:
            llm.local_sampler, llm.base_local_forward = stock[:2]
            llm.local_forward_cg_by_bs, llm.input_local_transformer_cg_by_bs = stock[2:]

    def _capture(self, step: Speech, seats: int) -> None:
        with torch.inference_mode():
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP):
                    step(self._states)
            torch.cuda.current_stream().wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                codes, embeddings = step(self._states)
        self._seated = self._states[:seats]
        self._codes, self._embeddings = codes[:seats], embeddings[:seats]

    def __call__(self, states: Tensor, /) -> tuple[Tensor, Tensor]:
        self._seated.copy_(states)
        self._graph.replay()
        # The graph writes to the same place the next time.
        return self._codes.clone(), self._embeddings.clone()


def speech_step(llm: Llm, seats: int, likeliest: object) -> Speech:
    """Return the quickest of the steps that have the results of the stock one."""
    best, name = stock_speech(llm), "the stock parts"
    for next_name, local, states in (
        ("graph of the stock parts", stock_local, PARTS_CHECKED),
        ("graph of joined kernels", local_forward, KERNELS_CHECKED),
    ):
        steps = -(-states // seats)
        try:
            graph = SpeechGraph(llm, seats, likeliest, local(llm))
            same = _agreement(graph, best, llm, seats, steps)
        # Whatever may go wrong in a model, a compiler or a GPU: replies can be made without it.
        except Exception as error:
            _log.warning("speech step: no %s (%r)", next_name, error)
            continue
        if same == steps:
            best, name = graph, next_name
        else:
            differs = "speech step: the %s differs from stock in step %d of %d"
            _log.warning(differs, next_name, same + 1, steps)
    _log.info("speech step: %s", name)
    return best


def stock_local(llm: Llm) -> LocalForward:
    """Return the stock way through the local transformer."""
    return llm.base_local_forward


def stock_speech(llm: Llm) -> Speech:
    """Return the stock step with the seats in front."""
    step: Callable[[Tensor], tuple[Tensor, Tensor]] = (
        llm._generate_speech_tokens_and_audio_embeddings  # pyright: ignore[reportPrivateUsage]
    )
    return lambda states: step(states[:, None, :])


def _agreement(one: Speech, other: Speech, llm: Llm, seats: int, steps: int) -> int:
    """Return how many steps have equal results, with states of the scale that a norm leaves, until
    one has not."""
    weight = llm.hidden_states_downcast.weight
    shape = steps, seats, llm.config.hidden_size
    states = torch.randn(shape, device=weight.device).to(weight.dtype)
    with torch.inference_mode():
        for i in range(steps):
            if not all(map(torch.equal, one(states[i]), other(states[i]))):
                return i
    return steps
