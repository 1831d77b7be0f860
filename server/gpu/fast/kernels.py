"""Steps of the local transformer: several of PyTorch's kernels in one, with the same roundings.

Stock runs a step of speech as some 8000 kernels, most of which compute for less time than they wait
to begin. Joined here is what goes element by element, and sums in PyTorch's own order. The matrix
products and the attention stay PyTorch's.

R  rows, one a seat
N  width of the local transformer, 1024
D  width of one of its heads, 16
W  width of its wide layer, 4096
V  codes of a channel

The kernels are in Triton's language. Their `constexpr` numbers are compiled in, and its loops over
a `static_range` are written out, so that a name may stand for another shape in each turn.
"""

# ruff: noqa: N803, PLR0917 (kernels have many arguments, and their constants capital letters)
# pyright: basic, reportInvalidTypeForm=false, reportMissingModuleSource=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import silu

EXACT = {"enable_fp_fusion": False}
"""Otherwise a product and a sum become one step, which rounds once."""

WIDTH = 1024
"""PyTorch adds up the squares of other widths in another order."""

THREADS, WARP = 512, 32
"""A block of threads in PyTorch's reductions (`setReduceConfig` in `aten/src/ATen/native/cuda/`
`Reduce.cuh`) takes as many rows as it has room for, a warp for each at least."""

BLOCK = 1024
"""Elements of the wide layer that one program computes: fewer would start more of them, more leave
processors without any."""


@triton.jit
def _sum_of(x, y, at, ADD: tl.constexpr):
    """Return elements of `x`, or of the sum of both as it would be stored."""
    value = tl.load(x + at)
    if ADD:
        value = (value.to(tl.float32) + tl.load(y + at).to(tl.float32)).to(value.dtype)
    return value


@triton.jit
def _norm(
    x, y, total, weight, out, epsilon, N: tl.constexpr, LANES: tl.constexpr, HALVINGS: tl.constexpr,
    ADD: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * N
    lanes = tl.arange(0, LANES) * 4
    sums = tl.zeros((LANES,), tl.float32)
    for part in tl.static_range(4):
        each = tl.zeros((LANES,), tl.float32)
        for block in tl.static_range(N // (4 * LANES)):
            value = _sum_of(x, y, row + block * 4 * LANES + lanes + part, ADD).to(tl.float32)
            each += value * value
        sums += each
    for halving in tl.static_range(HALVINGS):
        one, other = tl.split(tl.trans(tl.reshape(sums, (2, LANES >> (halving + 1)))))
        sums = one + other
    scale = tl.rsqrt(tl.sum(sums) * (1.0 / N) + epsilon)

    at = tl.arange(0, N)
    value = _sum_of(x, y, row + at, ADD)
    if ADD:
        tl.store(total + row + at, value)
    scaled = (value.to(tl.float32) * scale).to(value.dtype).to(tl.float32)
    tl.store(out + row + at, (tl.load(weight + at).to(tl.float32) * scaled).to(value.dtype))


def add_and_norm(
    x: Tensor, y: Tensor | None, weight: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return the sum, `[R, N]`, and its root mean square norm; without `y`, of `x` alone.

    The squares are added up as PyTorch 2.11 does it: each thread four sums of every fourth of its
    numbers, then these, then one half of the threads with the other.
    """
    rows, width = x.shape
    total, out = x if y is None else torch.empty_like(x), torch.empty_like(x)
    height = 1 << (min(rows, THREADS // WARP).bit_length() - 1)
    lanes = min(width // 4, THREADS // height)
    _norm[(rows,)](
        x, x if y is None else y, total, weight, out, epsilon, N=width, LANES=lanes,
        HALVINGS=lanes.bit_length() - 1, ADD=y is not None, **EXACT
    )  # fmt: skip
    return total, out


@triton.jit
def _turn(
    joined, cos, sin, turned, keys, values, step, STEPS: tl.constexpr, N: tl.constexpr,
    D: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    at = tl.arange(0, N)
    inside = at % D
    is_low = inside < D // 2
    partner = tl.where(is_low, at + D // 2, at - D // 2)
    c = tl.load(cos + inside).to(tl.float32)
    s = tl.load(sin + inside).to(tl.float32)
    to = ((row * (N // D) + at // D) * STEPS + step) * D + inside
    for which in tl.static_range(2):
        x = joined + (row * 3 + which) * N
        own = tl.load(x + at)
        other = tl.load(x + partner).to(tl.float32)
        one = (own.to(tl.float32) * c).to(own.dtype).to(tl.float32)
        two = (tl.where(is_low, -other, other) * s).to(own.dtype).to(tl.float32)
        result = (one + two).to(own.dtype)
        if which == 0:
            tl.store(turned + row * N + at, result)
        else:
            tl.store(keys + to, result)
    tl.store(values + to, tl.load(joined + (row * 3 + 2) * N + at))


def turn(
    joined: Tensor, angle: tuple[Tensor, Tensor], step: int, keys: Tensor, values: Tensor
) -> Tensor:
    """Turn queries and keys by their position; put keys and values where they are kept.

    Args:
        joined: Queries, keys and values, `[R, 3 * N]`.
        angle: Cosine and sine of the position, `[D]` each.
        step: The position.
        keys: `[R, heads, steps, D]`, as are `values`.
        values: See `keys`.

    Returns:
        The turned queries, `[R, heads, 1, D]`.
    """
    rows, heads, steps, size = keys.shape
    turned = torch.empty(rows, heads, 1, size, dtype=joined.dtype, device=joined.device)
    _turn[(rows,)](
        joined, *angle, turned, keys, values, step, STEPS=steps, N=heads * size, D=size, **EXACT
    )  # fmt: skip
    return turned


@triton.jit
def _gate(joined, table, out, N: tl.constexpr, BLOCK: tl.constexpr):
    row, block = tl.program_id(0), tl.program_id(1)
    at = block * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(joined + row * 2 * N + at)
    up = tl.load(joined + (row * 2 + 1) * N + at).to(tl.float32)
    bits = gate.to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    tl.store(out + row * N + at, (tl.load(table + bits).to(tl.float32) * up).to(gate.dtype))


def gate(joined: Tensor, table: Tensor) -> Tensor:
    """Return SiLU of the gates times the others: of `[R, 2 * W]`, `[R, W]`."""
    rows, width = joined.shape[0], joined.shape[1] // 2
    out = torch.empty(rows, width, dtype=joined.dtype, device=joined.device)
    block = min(BLOCK, width)
    _gate[(rows, width // block)](joined, table, out, N=width, BLOCK=block, **EXACT)
    return out


def silu_table(device: torch.device) -> Tensor:
    """Return PyTorch's SiLU of each of the 65,536 numbers of bfloat16, by their bits.

    Looking it up is right by construction, while Triton's exponential flushes what is below 1e-38.
    """
    bits = torch.arange(1 << 16, device=device).to(torch.int16)
    return silu(bits.view(torch.bfloat16))


@triton.jit
def _choose(
    scores, empty, embedding, x, tokens, stride, V: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, FIRST: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    there = (at < V) & (at != empty)
    score = tl.load(scores + row * V + at, mask=there, other=float("-inf")).to(tl.float32)
    token = tl.argmax(score, 0)
    tl.store(tokens + row * stride, token.to(tl.int64))
    to = row * N + tl.arange(0, N)
    heard = tl.load(embedding + token * N + tl.arange(0, N))
    if not FIRST:
        heard = (tl.load(x + to).to(tl.float32) + heard.to(tl.float32)).to(heard.dtype)
    tl.store(x + to, heard)


def choose(
    scores: Tensor, empty: int, embedding: Tensor, x: Tensor, tokens: Tensor, *, is_first: bool
) -> None:
    """Take each row's likeliest code but `empty`, and add what it sounds like to the next input.

    Args:
        scores: `[R, V]`.
        empty: The code that means silence, never taken.
        embedding: Of each code, `[V, N]`.
        x: The next input, `[R, N]`, which the first choice of a step overwrites.
        tokens: Where the codes go, `[R]`, a slice of a larger tensor.
    """
    rows, size = scores.shape
    _choose[(rows,)](
        scores, empty, embedding, x, tokens, tokens.stride(0), V=size, N=x.shape[1],
        BLOCK=1 << (size - 1).bit_length(), FIRST=is_first, **EXACT
    )  # fmt: skip
