"""The published ConvLSTM (Shi et al. 2015, without peepholes): two recurrent convolution layers and a head.

Plain definitions: `ConvLSTM`, `ConvLSTMConv`, `ConvLSTMNoReLU` and `ConvLSTMPixel` in utils/models/reference.py.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from utils.common.grid import Grid
from utils.models import ForecastModel
from utils.models.fast_layers import BlockedLinear, run_cells

Head = Literal["linear", "conv", "no_relu", "pixel"]


class ConvLSTMLayer(nn.Module):
    """One ConvLSTM layer: a convolution of input and hidden state gives the four gates, in the order i, f, g, o.

    It is done in two parts: over the inputs of all days at once, and over the state from the second day on.
    """

    def __init__(self, channels: int, hidden: int, kernel: int):
        super().__init__()
        self.ifgo = nn.Conv2d(channels + hidden, 4 * hidden, kernel, padding="same")

    def forward(self, maps: Float[Tensor, "day batch lat lon channel"]) -> list[Float[Tensor, "batch lat lon hidden"]]:
        """The hidden state of each day."""
        channels = maps.shape[-1]
        from_input, from_state = self.ifgo.weight[:, :channels], self.ifgo.weight[:, channels:]
        gates = convolve(maps.flatten(0, 1), from_input, self.ifgo.bias).unflatten(0, maps.shape[:2])
        return run_cells(gates, lambda h: convolve(h, from_state))


def convolve(
    maps: Float[Tensor, "batch lat lon channel"], weight: Float[Tensor, "out channel k k"], bias: Tensor | None = None
) -> Float[Tensor, "batch lat lon out"]:
    """A convolution that keeps the grid, its channels last in memory before and after."""
    return F.conv2d(maps.permute(0, 3, 1, 2), weight, bias, padding="same").permute(0, 2, 3, 1)


class ConvLSTM(ForecastModel):
    """ConvLSTM layers → hidden state of the last day → head → map. The heads:

    linear  ReLU → Linear(hidden·H·W → H·W)
    conv    1×1 convolution to one channel → sigmoid → Linear(H·W → H·W)
    no_relu Linear(hidden·H·W → H·W): ours, no channel can be closed
    pixel   1×1 convolution to one channel, which is the map: ours, its weights serve any grid
    """

    def __init__(
        self,
        grid: Grid,
        hidden: tuple[int, ...] = (8, 4),
        kernel: int = 3,
        head: Head = "linear",
        channels: int = 3,
    ):
        super().__init__()
        self.shape, self.kernel = grid.shape, kernel
        cells = grid.shape[0] * grid.shape[1]
        inputs = (channels, *hidden[:-1])
        self.layers = nn.ModuleList(ConvLSTMLayer(i, h, kernel) for i, h in zip(inputs, hidden, strict=True))
        self.dense = None
        if head in ("linear", "no_relu"):
            self.reduce = nn.ReLU() if head == "linear" else nn.Identity()
            self.dense = BlockedLinear(hidden[-1] * cells, cells)
        elif head == "conv":
            self.reduce = nn.Sequential(nn.Conv2d(hidden[-1], 1, 1), nn.Sigmoid())
            self.dense = BlockedLinear(cells, cells)
        else:
            self.reduce = nn.Conv2d(hidden[-1], 1, 1)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        days = list(features.permute(1, 0, 3, 4, 2))  # channels last, as the layers want them
        for layer in self.layers:
            days = layer(torch.stack(days))
        reduced = self.reduce(days[-1].permute(0, 3, 1, 2))  # [batch, channel, lat, lon]
        if self.dense is None:
            return reduced.squeeze(1)
        return self.dense(reduced.flatten(1)).unflatten(1, self.shape)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        return {"layers.0.ifgo.weight": (1, inputs)}

    def receptive_radius(self, input_days: int) -> int | None:
        """Half a kernel for each layer and for each day but the first; None where a dense head looks at all cells."""
        return None if self.dense is not None else self.kernel // 2 * (len(self.layers) + input_days - 1)
