"""How much speech goes to the codec at a time, in groups of 160 ms."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

_log = logging.getLogger("vllm.mimo_live")

FIRST_CHUNKS = (2,)
"""A first chunk of two groups has the first sound one group sooner than one of three. One group
was no sooner on an H100, what follows it came late beside other callers, and more than half of it
lacks the 100 ms that the vocoder looks ahead."""

LEAST_CHUNK, LEAST_CONTEXT = 3, 40
"""vLLM-Omni's own limits. With less context than the vocoder's window the voice changes."""

STOCK_CHUNK = 10
"""What vLLM-Omni takes where less than its limit is asked for."""


class Sizes(NamedTuple):
    """Sizes of a reply's chunks, in groups."""

    first: tuple[int, ...]
    """Of the first chunks, in order."""
    following: int
    context: int
    """What is decoded once more before each chunk, at most."""

    def of_chunk(self, number: int) -> int:
        """Return the size of a reply's chunk, counted from 0."""
        return self.first[number] if number < len(self.first) else self.following


def read_sizes(config: Mapping[str, Any] | None) -> Sizes:
    """Read the sizes from the connector's part of the deploy file.

    `codec_first_chunks` is ours, a list such as `[1, 2]`; the others are vLLM-Omni's. A value that
    can't be meant is named in the log, and the default holds.
    """
    values = cast(Mapping[str, Any], (config or {}).get("extra", config) or {})
    following = int(values.get("codec_chunk_frames", STOCK_CHUNK))
    context = int(values.get("codec_left_context_frames", LEAST_CONTEXT))
    return Sizes(
        _first(values.get("codec_first_chunks", [*FIRST_CHUNKS])),
        following if following >= LEAST_CHUNK else STOCK_CHUNK,
        max(context, LEAST_CONTEXT),
    )


def _first(value: object) -> tuple[int, ...]:
    shown = repr(value)
    given = cast(list[object], value) if isinstance(value, list) else [None]
    groups = [each for each in given if isinstance(each, int) and each > 0]
    if len(groups) == len(given):
        return tuple(groups)
    _log.warning("codec_first_chunks is %s; it must be a list of numbers of groups", shown)
    return FIRST_CHUNKS
