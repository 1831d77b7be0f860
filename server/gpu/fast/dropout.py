"""No dropout in replies.

vLLM-Omni captures the CUDA graphs of its two local transformers in the model's constructor, when
they are still in training mode: `local_attn_dropout`, 0.1, is frozen into the graphs, and every
spoken reply loses a tenth of its attention weights at random. docs/gpu-upstream.md has the report.
"""

from types import ModuleType
from typing import Protocol


class _Module(Protocol):
    """The part of `torch.nn.Module` that is used."""

    def __init__(self, config: object) -> None: ...
    def eval(self) -> object: ...


def patch(module: ModuleType) -> None:
    """Set the local transformers to evaluation mode before anything can be captured."""
    transformer: type[_Module] = module.MiMoAudioQwen2Model
    build = transformer.__init__

    def init(self: _Module, config: object) -> None:
        build(self, config)
        self.eval()

    transformer.__init__ = init
