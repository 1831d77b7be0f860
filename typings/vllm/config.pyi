from enum import Enum

class CUDAGraphMode(Enum):
    FULL = ...
