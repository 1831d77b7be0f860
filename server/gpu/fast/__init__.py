"""A plug-in for vLLM-Omni's MiMo-Audio: runs in the model server's processes, in its environment.

Nothing here may import more than the standard library and, once vLLM has loaded it, torch and
vLLM: this package is all of the project that such an environment sees.
"""

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from server.gpu.fast.imports import when_imported
from server.gpu.fast.needs import DROPOUT, Site

# A child of vLLM's own logger, whose handlers it uses.
_log = logging.getLogger("vllm.mimo_live")


def register() -> None:
    """Entry point of `vllm.general_plugins`: change what fits, leave the rest as it is.

    vLLM calls it in each of its processes, before the model is imported. It raises nothing: what
    does not fit is named in one line, and stock serving goes on.
    """
    site = _site()
    if site is None:
        return
    if lacking := site.missing(DROPOUT):
        _log.warning("dropout is not corrected: %s is missing", ", ".join(lacking))
    else:
        _patch("model_executor.models.mimo_audio.mimo_audio_llm", "dropout")


def _site() -> Site | None:
    """Return where vLLM-Omni is installed, without importing it."""
    spec = find_spec("vllm_omni")
    if spec is None or spec.origin is None:
        _log.warning("vLLM-Omni is not installed; nothing to speed up")
        return None
    return Site(Path(spec.origin).parents[1])


def _patch(module: str, part: str) -> None:
    """Have `server.gpu.fast.PART` patch a module of vLLM-Omni's as soon as it has been imported."""

    def patch(imported: ModuleType) -> None:
        # Not before: the parts import torch, which not every process of vLLM needs.
        import_module(f"server.gpu.fast.{part}").patch(imported)

    when_imported(f"vllm_omni.{module}", patch)
