"""The part of ONNX Runtime that is used; the package itself has hardly any types."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

class SessionOptions:
    intra_op_num_threads: int
    inter_op_num_threads: int
    log_severity_level: int

    def __init__(self) -> None: ...
    def add_session_config_entry(self, key: str, value: str) -> None: ...

class InferenceSession:
    def __init__(
        self, path: str, sess_options: SessionOptions, providers: Sequence[str]
    ) -> None: ...
    def run(
        self,
        output_names: None,
        input_feed: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    ) -> list[npt.NDArray[np.float32]]: ...
