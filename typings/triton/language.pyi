"""The language of its kernels, which are not checked."""

from typing import Any

constexpr: Any

def __getattr__(name: str) -> Any: ...
