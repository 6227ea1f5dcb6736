"""The published ConvLSTM (Shi et al. 2015, without peepholes): two recurrent convolution layers and a dense map."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from utils.common.grid import Grid
from utils.models.fast_layers import BlockedLinear, run_cells


class ConvLSTMLayer(nn.Module):
    """One ConvLSTM layer: a convolution of input and hidden state gives the four gates, in the order i, f, g, o.

    It is done in two parts: over the inputs of all days at once, and over the state from the second day on.
    """

    def __init__(self, channels: int, hidden: int, kernel: int):
        super().__init__()
        self.ifgo = nn.Conv2d(channels + hidden, 4 * hidden, kernel, padding="same")

    def forward(self, maps: Float[Tensor, "day batch lat lon channel"]) -> list[Float[Tensor, "batch lat lon hidden"]]:
        channels = maps.shape[-1]
        from_input, from_state = self.ifgo.weight[:, :channels], self.ifgo.weight[:, channels:]
        shares = convolve(maps.flatten(0, 1), from_input, self.ifgo.bias).unflatten(0, maps.shape[:2])
        return run_cells(shares, lambda h: convolve(h, from_state))


def convolve(
    maps: Float[Tensor, "batch lat lon channel"], weight: Float[Tensor, "out channel k k"], bias: Tensor | None = None
) -> Float[Tensor, "batch lat lon out"]:
    """A convolution that keeps the grid, its channels last in memory before and after."""
    return F.conv2d(maps.permute(0, 3, 1, 2), weight, bias, padding="same").permute(0, 2, 3, 1)


class ConvLSTM(nn.Module):
    """ConvLSTM layers → last hidden state → head → map.

    Head "linear": ReLU → Linear(hidden·H·W → H·W). Head "conv": 1×1 convolution to one channel → sigmoid →
    Linear(H·W → H·W). Head "pixel", ours: 1×1 convolution to one channel alone; its weights serve any grid.
    """

    def __init__(
        self,
        grid: Grid,
        hidden: tuple[int, ...] = (8, 4),
        kernel: int = 3,
        head: Literal["linear", "conv", "pixel"] = "linear",
        channels: int = 3,
    ):
        super().__init__()
        self.shape, self.kernel, self.head = grid.shape, kernel, head
        cells = grid.shape[0] * grid.shape[1]
        widths = (channels, *hidden)
        self.layers = nn.ModuleList(ConvLSTMLayer(a, b, kernel) for a, b in zip(widths, hidden, strict=False))
        if head == "linear":
            self.reduce = nn.ReLU()
            self.dense = BlockedLinear(hidden[-1] * cells, cells)
        elif head == "pixel":
            self.reduce = nn.Conv2d(hidden[-1], 1, 1)
        else:
            self.reduce = nn.Sequential(nn.Conv2d(hidden[-1], 1, 1), nn.Sigmoid())
            self.dense = BlockedLinear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        days = list(features.permute(1, 0, 3, 4, 2))
        for layer in self.layers:
            days = layer(torch.stack(days))
        reduced = self.reduce(days[-1].permute(0, 3, 1, 2))
        return reduced.squeeze(1) if self.head == "pixel" else self.dense(reduced.flatten(1)).unflatten(1, self.shape)

    def halo(self, input_days: int) -> int | None:
        """How many cells away a forecast looks; None: over the whole map, to which its weights are bound."""
        return self.kernel // 2 * (len(self.layers) + input_days - 1) if self.head == "pixel" else None
