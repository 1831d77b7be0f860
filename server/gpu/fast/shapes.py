"""What the plug-in uses of vLLM's objects; `needs.py` lists the same for the check at start.

S  seats: replies that one card generates at once
B  replies in this step, at most S
T  tokens in this step, padding included
H  width of the language model, 4096
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor


class Weighted(Protocol):
    weight: Tensor


class Sized(Protocol):
    hidden_size: int


class Backbone(Protocol):
    forward: Callable[..., Tensor]

    def __call__(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: object,
        *,
        inputs_embeds: Tensor,
    ) -> Tensor: ...


class Speech(Protocol):
    """From the states of all seats, `[S, H]`, to their groups and what the model hears of them.

    Returns codes, `[S, 1, 8, 4]`, channel and frame of the codec, and embeddings, `[S, 1, H]`.
    """

    def __call__(self, states: Tensor, /) -> tuple[Tensor, Tensor]: ...


class Llm(Protocol):
    """`MiMoAudioLLMForConditionalGeneration`: the backbone and the local transformers."""

    config: Sized
    model: Backbone
    hidden_states_downcast: Weighted
    empty_token_id: int
    """The text token that says: this step is speech."""
    local_sampler: object
    local_forward_cg_by_bs: dict[int, object]
    input_local_transformer_cg_by_bs: dict[int, object]
    _cached_new_audio_emb_by_req: dict[str, Tensor]
    """What each reply said last, `[1, H]`."""

    seats: int
    """Ours, as the next one."""
    speech: Speech

    def compute_logits(self, hidden_states: Tensor) -> Tensor: ...
    def _generate_speech_tokens_and_audio_embeddings(
        self, hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]: ...


class Request(Protocol):
    external_req_id: str
