"""The published ConvLSTM (Shi et al. 2015, without peepholes): two recurrent convolution layers and a dense map."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from utils.prepared_data import Grid


class ConvLSTMLayer(nn.Module):
    """One ConvLSTM layer: a convolution of input and hidden state gives the four gates."""

    def __init__(self, channels: int, hidden: int, kernel: int):
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, kernel, padding="same")

    def forward(self, maps: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch day hidden lat lon"]:
        batch, _, _, height, width = maps.shape
        h = c = maps.new_zeros(batch, self.hidden, height, width)
        outputs = []
        for day in maps.unbind(1):
            i, f, o, g = self.gates(torch.cat([day, h], dim=1)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class ConvLSTM(nn.Module):
    """ConvLSTM layers → last hidden state → head → map.

    Head "linear": ReLU → Linear(hidden·H·W → H·W). Head "conv": 1×1 convolution to one channel → sigmoid →
    Linear(H·W → H·W).
    """

    def __init__(
        self,
        grid: Grid,
        hidden: tuple[int, ...] = (8, 4),
        kernel: int = 3,
        head: Literal["linear", "conv"] = "linear",
        channels: int = 3,
    ):
        super().__init__()
        self.shape = grid.shape
        cells = grid.shape[0] * grid.shape[1]
        widths = (channels, *hidden)
        self.layers = nn.Sequential(*(ConvLSTMLayer(a, b, kernel) for a, b in zip(widths, hidden, strict=False)))
        if head == "linear":
            self.reduce = nn.ReLU()
            self.dense = nn.Linear(hidden[-1] * cells, cells)
        else:
            self.reduce = nn.Sequential(nn.Conv2d(hidden[-1], 1, 1), nn.Sigmoid())
            self.dense = nn.Linear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        last = self.layers(features)[:, -1]
        return self.dense(self.reduce(last).flatten(1)).unflatten(1, self.shape)
