"""What the plug-in uses of vLLM's objects; `needs.py` lists the same for the check at start.

S  seats: replies that one card generates at once
B  replies in this step, at most S
T  tokens in this step, padding included
H  width of the language model, 4096
N  width of its local transformers, 1024
D  width of one of their heads, 16
P  positions
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor


class Weighted(Protocol):
    weight: Tensor


class Sized(Protocol):
    hidden_size: int


class Linear(Weighted, Protocol):
    bias: Tensor

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Norm(Weighted, Protocol):
    variance_epsilon: float


class _Attention(Protocol):
    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    o_proj: Linear


class _Mlp(Protocol):
    gate_proj: Linear
    up_proj: Linear
    down_proj: Linear


class Layer(Protocol):
    """Of a local transformer."""

    self_attn: _Attention
    mlp: _Mlp
    input_layernorm: Norm
    post_attention_layernorm: Norm


class Local(Protocol):
    """A local transformer, `Qwen2Model` of the transformers package."""

    layers: Sequence[Layer]
    norm: Norm

    def rotary_emb(self, like: Tensor, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of positions, `[1, P]`: `[1, P, D]` each."""
        ...


class LocalSizes(Sized, Protocol):
    num_attention_heads: int
    head_dim: int
    intermediate_size: int


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


class LocalForward(Protocol):
    """From states in the local transformer's width, `[S, 1, N]`, to codes, `[S, frames, channels]`.

    Further arguments say what both implementations know: the codes' type, their device, and a
    sampler.
    """

    def __call__(self, local_embeds: Tensor, **_: object) -> Tensor: ...


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
    local_transformer: Local
    local_config: LocalSizes
    local_transformer_lm_heads: Sequence[Linear]
    """From the local transformer's states to the scores of each channel's codes."""
    speech_embeddings: Sequence[Weighted]
    speech_empty_ids: Sequence[int]
    """The code of each channel that means silence."""
    speech_embeddings_to_local: object
    """None where both transformers are as wide."""
    delay_pattern: Sequence[int]
    """In which step of the local transformer each channel begins."""
    group_size: int
    audio_channels: int
    base_local_forward: LocalForward
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
