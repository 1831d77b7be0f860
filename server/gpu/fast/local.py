"""The local transformer, from states to a group's codes, with a quarter of the kernels.

Its results are those of the stock one, bit for bit; `speech.py` compares them at start.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from server.gpu.fast.kernels import BLOCK, WIDTH, add_and_norm, choose, gate, silu_table, turn
from server.gpu.fast.shapes import Layer, Llm, LocalForward, Norm

MASK_STRIDE = 16
"""PyTorch's attention copies masks whose rows do not begin at multiples of this."""


class _Layer(NamedTuple):
    before: Norm
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    between: Norm
    gate_up: Tensor
    down: Tensor


def _joined(layer: Layer) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    three = attention.q_proj, attention.k_proj, attention.v_proj
    return _Layer(
        layer.input_layernorm,
        torch.cat([each.weight for each in three]),
        torch.cat([each.bias for each in three]),
        attention.o_proj.weight,
        layer.post_attention_layernorm,
        torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        mlp.down_proj.weight,
    )


def local_forward(llm: Llm) -> LocalForward:
    """Return what can stand in for the model's `base_local_forward` and takes likeliest codes.

    Raises:
        RuntimeError: If this one has another form.
    """
    config, group = llm.local_config, llm.group_size
    spoken = {delay + frame for delay in llm.delay_pattern for frame in range(group)}
    if llm.speech_embeddings_to_local is not None:
        raise RuntimeError("a layer between the embeddings and the local transformer")
    if (config.hidden_size, config.intermediate_size % BLOCK) != (WIDTH, 0):
        sizes = f"{config.hidden_size} and {config.intermediate_size}"
        raise RuntimeError(f"a local transformer of other widths: {sizes}")
    if len(spoken) != group + max(llm.delay_pattern):
        raise RuntimeError("a step without any code")
    if llm.local_transformer.norm.weight.dtype != torch.bfloat16:
        raise RuntimeError("other numbers than bfloat16")
    return _LocalTransformer(llm)


class _LocalTransformer:
    def __init__(self, llm: Llm) -> None:
        model, config = llm.local_transformer, llm.local_config
        self._llm, self._last = llm, model.norm
        self._layers = [_joined(layer) for layer in model.layers]
        self._steps = llm.group_size + max(llm.delay_pattern)
        self._heads, self._size = config.num_attention_heads, config.head_dim
        like = model.norm.weight
        self._table = silu_table(like.device)
        probe = like.new_zeros(1, 1, config.hidden_size)
        self._angles = [
            (cos.reshape(-1).contiguous(), sin.reshape(-1).contiguous())
            for position in torch.arange(self._steps, device=like.device)
            for cos, sin in [model.rotary_emb(probe, position[None, None])]
        ]

    def __call__(self, local_embeds: Tensor, **_: object) -> Tensor:
        llm, rows = self._llm, local_embeds.shape[0]
        x = local_embeds.reshape(rows, -1)
        shape = rows, llm.group_size, llm.audio_channels
        tokens = torch.zeros(*shape, dtype=torch.int64, device=x.device)
        kept = len(self._layers), rows, self._heads, self._steps, self._size
        keys, values = x.new_empty(*kept), x.new_empty(*kept)
        # All is seen. Stock has such a mask too when it is captured, and another kernel with it.
        mask = x.new_zeros(1, 1, 1, MASK_STRIDE * (self._steps // MASK_STRIDE + 1))
        mask = mask.expand(rows, self._heads, 1, -1)
        for step in range(self._steps):
            states = self._pass(x, step, keys, values, mask)
            x = torch.empty_like(x)
            frames = [(i, step - delay) for i, delay in enumerate(llm.delay_pattern)]
            now = [(i, frame) for i, frame in frames if 0 <= frame < llm.group_size]
            for channel, frame in now:
                choose(
                    llm.local_transformer_lm_heads[channel](states),
                    llm.speech_empty_ids[channel],
                    llm.speech_embeddings[channel].weight,
                    x,
                    tokens[:, frame, channel],
                    is_first=channel == now[0][0],
                )
        return tokens

    def _pass(self, x: Tensor, step: int, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        delta: Tensor | None = None
        seen = slice(step + 1)
        for i, layer in enumerate(self._layers):
            x, inner = add_and_norm(x, delta, *_of(layer.before))
            qkv = linear(inner, layer.qkv, layer.qkv_bias)
            turned = turn(qkv, self._angles[step], step, keys[i], values[i])
            heard = scaled_dot_product_attention(
                turned,
                keys[i, :, :, seen],
                values[i, :, :, seen],
                attn_mask=mask[..., seen],
                scale=self._size**-0.5,
            )
            delta = linear(heard.reshape(x.shape), layer.out)
            x, inner = add_and_norm(x, delta, *_of(layer.between))
            delta = linear(gate(linear(inner, layer.gate_up), self._table), layer.down)
        return add_and_norm(x, delta, *_of(self._last))[1]


def _of(norm: Norm) -> tuple[Tensor, float]:
    return norm.weight, norm.variance_epsilon
