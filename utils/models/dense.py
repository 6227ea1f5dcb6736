"""Dense layers that hold nearly all weights of the published models: mixed precision without 16-bit copies of them.

Autocast keeps a 16-bit copy of every weight and makes its gradient twice, in 16 and in 32 bit; of 194 million weights
that is 0.8 GB. Here a block of rows at a time is rounded, used and forgotten.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2**24  # weights rounded at a time, 32 MB; smaller blocks are no faster and wait more often for the other core


class Product(torch.autograd.Function):
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
    """F.linear, by blocks of rows where the processor computes in mixed precision."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    product = Product.apply(x.flatten(0, -2).to(torch.get_autocast_dtype("cpu")), weight).unflatten(0, x.shape[:-1])
    return product if bias is None else product + bias.to(product.dtype)


class Dense(nn.Linear):
    """nn.Linear by `linear`."""

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return linear(x, self.weight, self.bias)


def _rows(weight: Tensor) -> int:
    return max(1, BLOCK // weight.shape[1])
