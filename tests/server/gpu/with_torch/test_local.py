"""Our kernels against PyTorch, and the local transformer of ours against that of transformers.

Two things are other on the CPU. PyTorch adds up the squares of a norm in another order, so the norm
is compared with one that is written out in that of a GPU. And Triton's interpreter cuts a number
that becomes a bfloat16 off, where a GPU takes the nearest: it has that corrected here.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from torch.nn.functional import silu
from transformers import DynamicCache, Qwen2Config, Qwen2Model
from transformers.models.qwen2 import modeling_qwen2
from triton.runtime import interpreter

from server.gpu.fast.kernels import add_and_norm, choose, gate, silu_table, turn
from server.gpu.fast.local import local_forward

WIDTH, HEADS, WIDE, LAYERS = 1024, 64, 2048, 2
CODES = [65, 33, 17]
DELAYS = [0, 1, 2]
GROUP = 2
ROWS = [1, 2, 3, 4, 8, 16]


_interpreted = interpreter._convert_float


def _converted(numbers: Any, before: object, after: object, rounding: object) -> Any:
    match before, after:
        case tl.float32, tl.bfloat16:
            nearest = torch.from_numpy(numbers.copy()).to(torch.bfloat16)
            return nearest.view(torch.int16).numpy().view("uint16")
        case tl.bfloat16, tl.float32:
            exact = torch.from_numpy(numbers.copy().view("int16")).view(torch.bfloat16)
            return exact.float().numpy()
        case _:
            return _interpreted(numbers, before, after, rounding)


@pytest.fixture(autouse=True)
def rounds_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "_convert_float", _converted)


def random(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(torch.bfloat16)


def mean_of_squares(rows: Tensor) -> Tensor:
    """As PyTorch 2.11 computes it on a GPU, float32 `[..., 1024]` to `[..., 1]`."""
    squares = rows.float().pow(2).reshape(-1, WIDTH)
    threads = min(WIDTH // 4, 512 // min(1 << (len(squares).bit_length() - 1), 16))
    turns = squares.reshape(len(squares), -1, threads, 4)
    sums = turns[:, 0].clone()
    for i in range(1, turns.shape[1]):
        sums += turns[:, i]
    each = ((sums[..., 0] + sums[..., 1]) + sums[..., 2]) + sums[..., 3]
    while each.shape[1] > 1:
        low, high = each.chunk(2, dim=1)
        each = low + high
    return (each / WIDTH).reshape(*rows.shape[:-1], 1)


class Norm(torch.nn.Module):
    """`Qwen2RMSNorm` with that sum."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(random(width, seed=2))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(mean_of_squares(x) + self.variance_epsilon)
        return self.weight * (x.float() * scale).to(x.dtype)


@pytest.mark.parametrize("rows", ROWS)
def test_a_norm_has_the_roundings_of_its_order(rows: int):
    x, y, norm = random(rows, WIDTH), random(rows, WIDTH, seed=3), Norm(WIDTH, 1e-6)
    total, out = add_and_norm(x, y, norm.weight.data, 1e-6)
    assert torch.equal(total, x + y)
    assert torch.equal(out, norm(total).data)
    assert torch.equal(add_and_norm(x, None, norm.weight.data, 1e-6)[1], norm(x).data)


def test_queries_and_keys_are_turned_and_kept_at_their_place():
    x, step, size = random(3, 3 * WIDTH), 2, WIDTH // HEADS
    cos, sin = random(size, seed=4), random(size, seed=5)
    keys, values = random(3, HEADS, 4, size, seed=6), random(3, HEADS, 4, size, seed=7)
    before = keys.clone(), values.clone()
    q, k, v = (each.reshape(3, HEADS, 1, size) for each in x.chunk(3, dim=1))
    wanted = modeling_qwen2.apply_rotary_pos_emb(q, k, cos[None, None], sin[None, None])
    assert torch.equal(turn(x, (cos, sin), step, keys, values), wanted[0])
    assert torch.equal(keys[:, :, step], wanted[1][:, :, 0])
    assert torch.equal(values[:, :, step], v[:, :, 0])
    others = [0, 1, 3]
    assert torch.equal(keys[:, :, others], before[0][:, :, others])
    assert torch.equal(values[:, :, others], before[1][:, :, others])


def test_a_gate_is_looked_up_for_every_number_there_is():
    bits = torch.arange(1 << 16).to(torch.int16).view(torch.bfloat16)
    table, others = silu_table(torch.device("cpu")), torch.ones_like(bits)
    found = gate(torch.cat([bits, others])[None], table)[0]
    assert torch.equal(found.nan_to_num(7.0), silu(bits).nan_to_num(7.0))
    up = random(1 << 16)
    assert torch.equal(gate(torch.cat([up, up])[None], table)[0], silu(up) * up)


def test_the_first_of_equal_codes_is_chosen_and_never_silence():
    scores = random(3, 33)
    scores[0, [5, 9]] = 7.0
    scores[1, 32] = 9.0
    embedding, x = random(33, WIDTH, seed=8), random(3, WIDTH, seed=9)
    tokens, before = torch.zeros(3, 2, 2, dtype=torch.int64), x.clone()
    choose(scores, 32, embedding, x, tokens[:, 1, 0], is_first=False)
    wanted = scores[:, :32].argmax(-1)
    assert wanted[0] == 5
    assert torch.equal(tokens[:, 1, 0], wanted)
    assert tokens.count_nonzero() <= 3
    assert torch.equal(x, before + embedding[wanted])
    choose(scores, 32, embedding, x, tokens[:, 1, 0], is_first=True)
    assert torch.equal(x, embedding[wanted])


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The parts of MiMo-Audio's language model that speak, with random weights."""
    monkeypatch.setattr(modeling_qwen2, "Qwen2RMSNorm", Norm)
    config = Qwen2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        intermediate_size=WIDE,
        vocab_size=8,
        attn_implementation="sdpa",
    )
    config.head_dim = WIDTH // HEADS
    model = Qwen2Model(config).eval().to(torch.bfloat16)
    for i, each in enumerate(model.parameters()):
        each.data = random(*each.shape, seed=i) * each.shape[-1] ** -0.5 + (each.dim() == 1)
    return SimpleNamespace(
        local_transformer=model,
        local_config=config,
        group_size=GROUP,
        audio_channels=len(CODES),
        delay_pattern=DELAYS,
        local_transformer_lm_heads=[
            torch.nn.Linear(WIDTH, size, bias=False, dtype=torch.bfloat16) for size in CODES
        ],
        speech_embeddings=[torch.nn.Embedding(size, WIDTH, dtype=torch.bfloat16) for size in CODES],
        speech_empty_ids=[size - 1 for size in CODES],
        speech_embeddings_to_local=None,
    )


def stock(llm: Any, x: Tensor) -> Tensor:
    """The codes of the greedy loop through transformers' own model."""
    codes = torch.zeros(len(x), GROUP, len(CODES), dtype=torch.int64)
    cache = DynamicCache()
    for step in range(GROUP + max(DELAYS)):
        mask = torch.zeros(len(x), 1, 1, step + 1, dtype=x.dtype)
        out = llm.local_transformer(
            inputs_embeds=x, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        states, x = out.last_hidden_state, torch.zeros_like(x)
        for channel, delay in enumerate(DELAYS):
            if delay <= step < delay + GROUP:
                scores = llm.local_transformer_lm_heads[channel](states)[:, 0, :-1]
                codes[:, step - delay, channel] = code = scores.argmax(-1)
                x = x + llm.speech_embeddings[channel](code[:, None])
    return codes


@pytest.mark.parametrize("rows", [1, 4])
@torch.inference_mode()
def test_the_codes_are_those_of_the_stock_model(llm: Any, rows: int):
    forward = local_forward(llm)
    for seed in range(8):
        x = random(rows, 1, WIDTH, seed=seed)
        assert torch.equal(forward(x), stock(llm, x))


def other_widths(llm: Any) -> None:
    llm.local_config.intermediate_size = 1536


def other_numbers(llm: Any) -> None:
    llm.local_transformer.float()


REFUSED = {
    "a local transformer of other widths: 1024 and 1536": other_widths,
    "a layer between": lambda llm: setattr(llm, "speech_embeddings_to_local", "a layer"),
    "a step without any code": lambda llm: setattr(llm, "delay_pattern", [0, 1, 5]),
    "other numbers than bfloat16": other_numbers,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_model_of_another_form_is_refused(llm: Any, reason: str):
    REFUSED[reason](llm)
    with pytest.raises(RuntimeError, match=reason):
        local_forward(llm)
