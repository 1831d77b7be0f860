"""The part of Triton that the plug-in for the model server uses; it is in vLLM's environment."""

from collections.abc import Callable
from typing import Any

def jit(kernel: Callable[..., object]) -> Any: ...
