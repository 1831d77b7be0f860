"""What is set up once the language model has been loaded: its seats and its CUDA graphs."""

import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, cast

import torch

from server.gpu.fast.backbone import BackboneSteps
from server.gpu.fast.shapes import Llm
from server.gpu.fast.speech import speech_step

_log = logging.getLogger("vllm.mimo_live")


class _Limits(Protocol):
    max_num_seqs: int


class _Attention(Protocol):
    flash_attn_max_num_splits_for_cuda_graph: int


class _Config(Protocol):
    attention_config: _Attention


class _Model(Protocol):
    fused_thinker_talker: Llm | None
    """None in the stage of the codec."""


class _Runner(Protocol):
    model: _Model
    model_memory_usage: int
    """Bytes, all of which vLLM leaves free beside the cache of its own."""
    scheduler_config: _Limits
    vllm_config: _Config
    load_model: Callable[..., None]


def patch(module: ModuleType) -> None:
    """Set up the language model when the runner has loaded it."""
    runner: type[_Runner] = module.OmniGPUModelRunner
    stock = runner.load_model

    def load_model(self: _Runner, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        _set_up(self)

    runner.load_model = load_model


def _set_up(runner: _Runner) -> None:
    from vllm.compilation.cuda_graph import CUDAGraphWrapper  # noqa: PLC0415

    loaded: object = runner.model
    has_graph = isinstance(loaded, CUDAGraphWrapper)
    model = cast(_Model, loaded.unwrap() if isinstance(loaded, CUDAGraphWrapper) else loaded)
    llm = getattr(model, "fused_thinker_talker", None)
    if llm is None:
        return
    if has_graph:
        # The runner tests the name of the model's class, which the wrapper hides.
        runner.model = model
        _only_the_backbone(llm, runner.vllm_config)
    llm.seats = runner.scheduler_config.max_num_seqs
    sampler = sys.modules[type(llm).__module__].MiMoSampler
    before = torch.cuda.memory_reserved()
    llm.speech = speech_step(llm, llm.seats, sampler(do_sample=False))
    runner.model_memory_usage += max(0, torch.cuda.memory_reserved() - before)
    _log.info("%d seats, %s graph of the backbone", llm.seats, "a" if has_graph else "no")


def _only_the_backbone(llm: Llm, config: _Config) -> None:
    from vllm.compilation.cuda_graph import CUDAGraphWrapper  # noqa: PLC0415
    from vllm.config import CUDAGraphMode  # noqa: PLC0415
    from vllm.forward_context import get_forward_context  # noqa: PLC0415

    forward, full = llm.model.forward, CUDAGraphMode.FULL
    llm.model.forward = BackboneSteps(
        forward,
        CUDAGraphWrapper(forward, config, runtime_mode=full),
        lambda: get_forward_context().cudagraph_runtime_mode == full,
    )
    # More than one split depends on who else is served, and with it the rounding.
    config.attention_config.flash_attn_max_num_splits_for_cuda_graph = 1
