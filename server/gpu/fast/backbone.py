"""The backbone's decode step as one CUDA graph.

vLLM can only make a graph of a whole model, and this one's forward asks the GPU what comes next,
which a graph can't. What is between those questions is the backbone.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class BackboneSteps:
    """Stands in for the backbone's forward."""

    def __init__(
        self,
        forward: Callable[..., Tensor],
        replay: Callable[..., Tensor],
        is_replayed: Callable[[], bool],
    ) -> None:
        """Args:
        replay: vLLM's wrapper of `forward`, which captures a graph for each number of tokens.
        is_replayed: Whether vLLM has prepared the step for a graph.
        """
        self._forward, self._replay, self._is_replayed = forward, replay, is_replayed

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if not self._is_replayed():
            return self._forward(*args, **kwargs)
        # All graphs share their memory, and others run before this result is read.
        return self._replay(*args, **kwargs).clone()
