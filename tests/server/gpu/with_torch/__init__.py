"""Tests of the plug-in's tensor code on the CPU: `make test-gpu-cpu`, in an environment with torch.

Nothing here needs vLLM: its classes are stood in for by small ones of the same shape. Triton's
kernels are run by its interpreter.
"""

import os

# Read when Triton is imported.
os.environ["TRITON_INTERPRET"] = "1"
