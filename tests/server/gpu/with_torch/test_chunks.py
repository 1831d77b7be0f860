"""From codes to chunks, and from chunks to the codec."""

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from server.gpu.fast import chunks, codec
from tests.server.gpu.with_torch.stand_in import module

GROUP = 36
"""Numbers in a group: nine rows, of which the first is padding, by four frames."""


def flat(codes: Tensor, pad: Tensor) -> Tensor:
    return torch.cat([pad, codes.reshape(-1)])


def group(codes: Tensor) -> Tensor | None:
    return codes if codes.numel() == 32 else None


@dataclass
class Replies:
    """vLLM-Omni's stand-in for what is between the two stages."""

    first_chunks: list[int] = field(default_factory=lambda: [2])
    code_prompt_token_ids: dict[str, list[list[int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    said: int = 0

    def __post_init__(self) -> None:
        extra = {"codec_chunk_frames": 3, "codec_left_context_frames": 40}
        extra |= {"codec_first_chunks": self.first_chunks}
        self.connector = SimpleNamespace(config={"extra": extra})
        self.stock: Any = module(
            TALKER_CODEC_PAD_TOKEN_ID=0,
            prepend_and_flatten_colmajor=flat,
            _to_code_tensor=group,
            _make_finished_sentinel=lambda: None,
            OmniPayloadStruct=SimpleNamespace,
            CodesStruct=SimpleNamespace,
            MetaStruct=SimpleNamespace,
        )
        chunks.patch(self.stock)

    def step(self, codes: Tensor | None = None, *, ends: bool = False, name: str = "a") -> Any:
        output = {"codes": {"audio": codes}} if codes is not None else {"hidden": torch.zeros(1)}
        request = SimpleNamespace(external_req_id=name)
        return self.stock.llm2code2wav_async_chunk(self, output, request, ends)

    def speak(self, name: str = "a") -> Any:
        self.said += 1
        return self.step(torch.full((1, 1, 8, 4), self.said), name=name)


def shape(payload: Any) -> tuple[list[int], int, bool]:
    """Which groups are in it, how many of them are context, and whether it is the last."""
    groups = payload.codes.audio.reshape(-1, GROUP)[:, -1].tolist()
    assert payload.meta.code_flat_numel == len(groups) * GROUP
    return groups, payload.meta.left_context_size, bool(payload.meta.finished)


def test_the_first_chunk_is_smaller_and_context_precedes_the_others():
    replies = Replies()
    sent = [shape(each) for each in (replies.speak() for _ in range(8)) if each is not None]
    assert sent == [
        ([1, 2], 0, False),
        ([1, 2, 3, 4, 5], 2, False),
        ([1, 2, 3, 4, 5, 6, 7, 8], 5, False),
    ]


@pytest.mark.parametrize(
    ("first", "sizes"), [([], [3, 3, 3]), ([1, 2], [1, 2, 3, 3]), ([4], [4, 3])]
)
def test_first_chunks_are_a_setting(first: list[int], sizes: list[int]):
    replies = Replies(first)
    sent = [shape(each) for each in (replies.speak() for _ in range(9)) if each is not None]
    assert [len(groups) - context for groups, context, _ in sent] == sizes


def test_context_has_a_limit():
    replies = Replies([])
    *_, last = (each for each in (replies.speak() for _ in range(60)) if each is not None)
    groups, context, _ = shape(last)
    assert (groups, context) == (list(range(18, 61)), 40)


@pytest.mark.parametrize("nothing", [None, torch.zeros(1, 1, 8, 4), torch.zeros(0)])
def test_a_step_without_speech_adds_no_silence(nothing: Tensor | None):
    replies = Replies()
    replies.speak()
    assert replies.step(nothing) is None
    assert shape(replies.speak())[0] == [1, 2]


def test_the_end_takes_what_is_left():
    replies = Replies()
    for _ in range(3):
        replies.speak()
    assert shape(replies.step(ends=True)) == ([1, 2, 3], 2, True)


def test_an_end_after_a_full_chunk_sends_context_alone():
    replies = Replies()
    for _ in range(5):
        replies.speak()
    assert shape(replies.step(ends=True)) == ([5], 1, True)


def test_a_text_reply_ends_without_codes_and_leaves_nothing():
    replies = Replies()
    assert replies.step() is None
    assert replies.step(ends=True) is None
    assert replies.code_prompt_token_ids == {}


def test_replies_do_not_mix_and_a_name_may_come_again():
    replies = Replies()
    replies.speak("a")
    replies.speak("b")
    assert shape(replies.speak("a"))[0] == [1, 3]
    replies.step(ends=True, name="a")
    del replies.code_prompt_token_ids["a"]
    replies.speak("a")
    assert shape(replies.speak("a"))[0] == [5 - 1, 5]


class Codec:
    """Its sound depends on how many chunks are decoded at once, as in a batch."""

    def _batch_chunked_decode_streaming(
        self,
        request_codes_list: list[Tensor],
        default_chunk_size: int,
        default_left_context_size: int,
        *,
        per_req_left_context_frames: list[int | None] | None = None,
        per_req_codec_chunk_frames: list[int | None] | None = None,
    ) -> list[Tensor]:
        lefts = per_req_left_context_frames or [0] * len(request_codes_list)
        both = zip(request_codes_list, lefts, strict=True)
        return [codes[left:] * len(lefts) for codes, left in both] or [torch.zeros(0)]


def test_each_chunk_is_decoded_as_if_it_were_alone():
    class Patched(Codec):
        pass

    codec.patch(module(MiMoAudioToken2WavForConditionalGenerationVLLM=Patched))
    decode: Any = Patched()._batch_chunked_decode_streaming  # pyright: ignore[reportPrivateUsage]
    one, other = torch.arange(4), torch.arange(5)
    for lefts in ([1, 2], None):
        first, second = lefts or (0, 0)
        sounds = decode([one, other], 3, 40, per_req_left_context_frames=lefts)
        assert [each.tolist() for each in sounds] == [one[first:].tolist(), other[second:].tolist()]
    assert [each.numel() for each in decode([], 3, 40)] == [0]
