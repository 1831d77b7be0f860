from collections.abc import Callable

from torch import Tensor
from vllm.config import CUDAGraphMode

class CUDAGraphWrapper:
    def __init__(
        self, runnable: Callable[..., Tensor], vllm_config: object, runtime_mode: CUDAGraphMode
    ) -> None: ...
    def __call__(self, *args: object, **kwargs: object) -> Tensor: ...
    def unwrap(self) -> object: ...
