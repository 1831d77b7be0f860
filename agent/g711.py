"""G.711, the sound of telephony: eight bits a sample, finer where it is quiet.

Decoding looks a byte up in a table of 256 values; encoding looks up the nearest of them, so what
was decoded encodes to the same byte again.

Source:
    The segments and their codes as in ITU-T recommendation G.711.
"""

import numpy as np
import numpy.typing as npt

RATE = 8_000
"""Samples a second, as telephones have it; no session may choose another."""

Table = npt.NDArray[np.int16]


def _u_law() -> Table:
    code = ~np.arange(256)
    segment, step = (code >> 4) & 7, code & 15
    size = (((step << 3) + 0x84) << segment) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _a_law() -> Table:
    code = np.arange(256) ^ 0x55
    segment, step = (code >> 4) & 7, code & 15
    first = (step << 4) + 8
    size = np.where(segment > 0, (first + 0x100) << np.maximum(segment - 1, 0), first)
    return np.where(code & 0x80, size, -size).astype(np.int16)


class Law:
    """One of the two codes."""

    def __init__(self, decoded: Table):
        self._decoded = decoded
        order = np.argsort(decoded, kind="stable")
        sizes = decoded[order].astype(np.int32)
        middles = (sizes[1:] + sizes[:-1]) // 2
        # One entry for every 16-bit sample: encoding is a look-up as well.
        every = np.arange(-(2**15), 2**15)
        self._encoded = order[np.searchsorted(middles, every, side="right")].astype(np.uint8)

    def decode(self, data: bytes) -> bytes:
        """Turn bytes into as many samples of PCM16."""
        return self._decoded[np.frombuffer(data, np.uint8)].astype("<i2").tobytes()

    def encode(self, pcm: bytes) -> bytes:
        """Turn samples of PCM16 into as many bytes."""
        return self._encoded[np.frombuffer(pcm, "<i2").astype(np.int32) + 2**15].tobytes()


U_LAW = Law(_u_law())
A_LAW = Law(_a_law())
