"""The codec decodes the chunks of several replies one after the other.

In a batch, which stock uses, the sound of a reply depends on the others in it, and the codec's
CUDA graphs, which exist for one chunk only, are not used.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Protocol

from torch import Tensor


class _Codec(Protocol):
    def _batch_chunked_decode_streaming(
        self,
        request_codes_list: Sequence[Tensor],
        default_chunk_size: int,
        default_left_context_size: int,
        *,
        per_req_left_context_frames: Sequence[int | None] | None = None,
        per_req_codec_chunk_frames: Sequence[int | None] | None = None,
    ) -> list[Tensor]: ...


def patch(module: ModuleType) -> None:
    """Have the codec called once for each reply."""
    codec: type[_Codec] = module.MiMoAudioToken2WavForConditionalGenerationVLLM
    stock = codec._batch_chunked_decode_streaming  # pyright: ignore[reportPrivateUsage]

    def decode(
        self: _Codec,
        request_codes_list: Sequence[Tensor],
        default_chunk_size: int,
        default_left_context_size: int,
        *,
        per_req_left_context_frames: Sequence[int | None] | None = None,
        per_req_codec_chunk_frames: Sequence[int | None] | None = None,
    ) -> list[Tensor]:
        sounds: list[Tensor] = []
        # Without any codes the stock function returns one silence.
        for i in range(max(1, len(request_codes_list))):
            one = slice(i, i + 1)
            sounds += stock(
                self,
                request_codes_list[one],
                default_chunk_size,
                default_left_context_size,
                per_req_left_context_frames=_part(per_req_left_context_frames, one),
                per_req_codec_chunk_frames=_part(per_req_codec_chunk_frames, one),
            )
        return sounds

    codec._batch_chunked_decode_streaming = decode  # pyright: ignore[reportPrivateUsage]


def _part(values: Sequence[int | None] | None, one: slice) -> Sequence[int | None] | None:
    return None if values is None else values[one]
