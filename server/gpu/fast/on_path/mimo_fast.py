"""Makes `server.gpu.fast` importable in vLLM's environment, and nothing else of this project's.

The folder of this file is what the launcher adds to PYTHONPATH. The folder that this project is
installed in would bring along its other packages, in versions that are not vLLM's.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

if "server" not in sys.modules:
    _folder = Path(__file__).resolve().parents[3]
    _spec = spec_from_file_location("server", _folder / "__init__.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["server"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["server"])

from server.gpu.fast import correct_dropout, lacks, speed_up

__all__ = ["correct_dropout", "lacks", "speed_up"]
