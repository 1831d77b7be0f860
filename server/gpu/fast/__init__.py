"""A plug-in for vLLM-Omni's MiMo-Audio: runs in the model server's processes, in its environment.

Nothing here may import more than the standard library and, once vLLM has loaded it, torch, Triton
and vLLM: this package is all of the project that such an environment sees.

vLLM calls the entry points in each of its processes, before the model is imported. They raise
nothing: what does not fit is named in one line, and stock serving goes on.
"""

import logging
from importlib import import_module
from types import ModuleType

from server.gpu.fast.imports import when_imported
from server.gpu.fast.needs import DROPOUT, SPEED, installed, other_versions

# A child of vLLM's own logger, whose handlers it uses.
_log = logging.getLogger("vllm.mimo_live")

_MIMO = "vllm_omni.model_executor.models.mimo_audio.mimo_audio"
_PARTS = {
    f"{_MIMO}_llm": "forward",
    _MIMO: "finished",
    f"{_MIMO}_code2wav": "codec",
    "vllm_omni.model_executor.stage_input_processors.mimo_audio": "chunks",
    "vllm_omni.worker.gpu_model_runner": "runner",
    "vllm_omni.core.sched.omni_ar_scheduler": "seats",
    "vllm.entrypoints.openai.models.serving": "models",
}
"""Which module each part of the plug-in patches."""


def correct_dropout() -> None:
    """Entry point `mimo_dropout`, which is right with any settings and versions."""
    if missing := installed().missing(DROPOUT):
        _log.warning("dropout in replies is not corrected; missing: %s", "; ".join(missing))
    else:
        _patch(f"{_MIMO}_llm", "dropout")


def speed_up() -> None:
    """Entry point `mimo_fast`: CUDA graphs, and several callers at once."""
    if missing := lacks():
        _log.warning("replies are not sped up, stock serving goes on; missing: %s", missing)
        return
    for module, part in _PARTS.items():
        _patch(module, part)


def lacks() -> str:
    """Return what the faster steps need and this environment does not have, in one line."""
    return "; ".join([*other_versions(), *installed().missing(SPEED)])


def _patch(module: str, part: str) -> None:
    """Have a part patch a module as soon as that has been imported."""

    def patch(imported: ModuleType) -> None:
        # Not before: the parts import torch, which not every process of vLLM needs.
        import_module(f"server.gpu.fast.{part}").patch(imported)

    when_imported(module, patch)
