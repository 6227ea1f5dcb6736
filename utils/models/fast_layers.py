"""Faster layers with the results of torch's own. Nobody needs this file to understand a model.

The models as a textbook writes them are in utils/models/reference.py, and tests/models/test_reference.py holds these
layers against them, forecasts and gradients. How much faster they are: docs/benchmarks.md.

Dense layers (`BlockedLinear`). They hold nearly all weights of the published models. In mixed precision, torch keeps a
16-bit copy of every weight and makes its gradient twice, in 16 and in 32 bit: 0.8 GB for 194 million weights. Here a
block of rows at a time is rounded, used and forgotten.

Recurrences (`FusedLSTMCell`, `run_cells`, `LSTMLastOutput`). The inputs' share of the gates is computed for all days at
once, before the recurrence begins. The channel axis is the last one, so that convolutions run in the layout that a
processor likes best and dense layers need no other code. The cell has its own derivative, which keeps fewer maps.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WIDE = (torch.complex128, torch.int64, torch.int32, torch.int16)


class FusedLSTMCell(torch.autograd.Function):
    """One day of an LSTM: hidden state h and cell state c from the gates before activation.

    The gates are in nn.LSTM's order i, f, g, o: the sum of the inputs' `share` and the `recurrent` part. `recurrent`
    and `c` are None on the first day, whose state is zero. The four gates are separated once and activated in place.
    The derivative needs them, c and tanh c, and nothing else.
    """

    @staticmethod
    def forward(
        ctx,
        share: Float[Tensor, "*batch gates"],
        recurrent: Float[Tensor, "*batch gates"] | None,
        c: Float[Tensor, "*batch hidden"] | None,
    ) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
        gates = gates_first(share if recurrent is None else share + recurrent)
        i, f, g, o = gates
        gates[:2].sigmoid_(), tanh_(g), o.sigmoid_()
        new = i * g if c is None else torch.addcmul(i * g, f, c)
        tanh = tanh_(new.clone())
        ctx.save_for_backward(gates, c, tanh)
        ctx.set_materialize_grads(False)
        return o * tanh, new

    @staticmethod
    @once_differentiable
    def backward(ctx, dh: Tensor | None, dc: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        gates, c, tanh = ctx.saved_tensors
        i, f, g, o = gates
        dh = torch.zeros_like(tanh) if dh is None else dh
        through_h = tanh_slope(dh * o, tanh, torch.empty_like(tanh))
        dc = through_h if dc is None else through_h.add_(dc)
        slopes = torch.empty_like(gates)
        sigmoid_slope(dc * g, i, slopes[0])
        slopes[1].zero_() if c is None else sigmoid_slope(dc * c, f, slopes[1])
        tanh_slope(dc * i, g, slopes[2])
        sigmoid_slope(dh * tanh, o, slopes[3])
        slopes = gates_last(slopes)
        return slopes, None if c is None else slopes, None if c is None else dc * f


def tanh_(x: Tensor) -> Tensor:
    """tanh in place; in 32 bit as 2 σ(2x) − 1, twice as fast on a processor. In 16 bit that would lose small values."""
    return x.tanh_() if x.element_size() == 2 else x.mul_(2).sigmoid_().mul_(2).sub_(1)


def sigmoid_slope(slope: Tensor, output: Tensor, out: Tensor) -> Tensor:
    """slope · output · (1 − output), into `out`."""
    return torch.ops.aten.sigmoid_backward.grad_input(slope, output, grad_input=out)


def tanh_slope(slope: Tensor, output: Tensor, out: Tensor) -> Tensor:
    """slope · (1 − output²), into `out`."""
    return torch.ops.aten.tanh_backward.grad_input(slope, output, grad_input=out)


def gates_first(gates: Float[Tensor, "*batch gates"]) -> Float[Tensor, "4 *batch hidden"]:
    """A copy in which each of the four gates is contiguous."""
    parts = gates.contiguous().unflatten(-1, (4, -1))
    return _wide(parts).movedim(-2, 0).clone(memory_format=torch.contiguous_format).view(gates.dtype)


def gates_last(gates: Float[Tensor, "4 *batch hidden"]) -> Float[Tensor, "*batch gates"]:
    """The inverse of `gates_first`."""
    return _wide(gates).movedim(0, -2).clone(memory_format=torch.contiguous_format).view(gates.dtype).flatten(-2)


def _wide(values: Tensor) -> Tensor:
    """The same bytes in elements of up to 16: a copy that moves few large elements is several times as fast."""
    size = values.shape[-1] * values.element_size()
    return values.view(next(kind for kind in WIDE if size % kind.itemsize == 0))


def run_cells(
    shares: Float[Tensor, "day *batch gates"], product: Callable[[Tensor], Tensor]
) -> list[Float[Tensor, "*batch hidden"]]:
    """The hidden state of every day. `product` makes the recurrent part of the gates from the day before's state."""
    first, *later = shares.unbind(0)
    h, c = FusedLSTMCell.apply(first, None, None)
    states = [h]
    for share in later:
        h, c = FusedLSTMCell.apply(share, product(h), c)
        states.append(h)
    return states


class LSTMLastOutput(nn.LSTM):
    """An nn.LSTM of one layer that returns its last hidden state alone. Its weights have nn.LSTM's names and shapes.

    On a processor it is ours. Elsewhere it is nn.LSTM itself, which is the vendor's there.
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__(inputs, hidden)

    def forward(self, days: Float[Tensor, "batch day inputs"]) -> Float[Tensor, "batch hidden"]:
        if days.device.type != "cpu":
            return super().forward(days.transpose(0, 1))[0][-1]
        shares = linear(days.transpose(0, 1), self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0)
        return run_cells(shares, lambda h: linear(h, self.weight_hh_l0))[-1]


BLOCK = 2**24  # weights rounded at a time, 32 MB; smaller blocks are no faster and wait more often for the other core


class BlockedMatmul(torch.autograd.Function):
    """x · weightᵀ in the precision of `x`; the weights, and their gradient, are in 32 bit."""

    @staticmethod
    def forward(
        ctx, x: Float[Tensor, "batch inputs"], weight: Float[Tensor, "outputs inputs"]
    ) -> Float[Tensor, "batch outputs"]:
        ctx.save_for_backward(x, weight)
        return torch.cat([x @ rows.to(x.dtype).T for rows in weight.split(_rows(weight))], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Float[Tensor, "batch outputs"]) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:  # frozen
            parts = zip(slope.split(_rows(weight), 1), weight.split(_rows(weight)), strict=True)
            return sum(part @ rows.to(x.dtype) for part, rows in parts).to(x.dtype), None
        through, gradient = torch.zeros(x.shape, dtype=weight.dtype), torch.empty_like(weight)
        blocks = (tensor.split(_rows(weight), dim) for tensor, dim in ((slope, 1), (weight, 0), (gradient, 0)))
        for part, rows, out in zip(*blocks, strict=True):
            out.copy_(part.T @ x)
            if ctx.needs_input_grad[0]:
                through += part @ rows.to(x.dtype)
        return through.to(x.dtype) if ctx.needs_input_grad[0] else None, gradient


def linear(
    x: Float[Tensor, "*batch inputs"], weight: Float[Tensor, "outputs inputs"], bias: Tensor | None = None
) -> Float[Tensor, "*batch outputs"]:
    """F.linear; by blocks of rows where a processor (not a GPU) computes in mixed precision."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    product = BlockedMatmul.apply(x.flatten(0, -2).to(torch.get_autocast_dtype("cpu")), weight).unflatten(
        0, x.shape[:-1]
    )
    return product if bias is None else product + bias.to(product.dtype)


class BlockedLinear(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return linear(x, self.weight, self.bias)


def _rows(weight: Tensor) -> int:
    return max(1, BLOCK // weight.shape[1])
