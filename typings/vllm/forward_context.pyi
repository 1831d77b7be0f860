from vllm.config import CUDAGraphMode

class ForwardContext:
    cudagraph_runtime_mode: CUDAGraphMode

def get_forward_context() -> ForwardContext: ...
