"""The published training step, written plainly: what ours must agree with and is measured against.

Models as their description has them: a loop over the days, input and state concatenated on each of them, from a state
of zeros; those free of the grid, which are not published, in the same way. Parameters have the names and shapes of
ours, so weights can be copied. Around them: every window a copy of its days, the mask read from its file in every step,
Adam as it comes, 32 bit.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CNN(nn.Module):
    """Days and variables as channels → Conv2d → ReLU → Linear(→ H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape = shape
        self.conv = nn.Conv2d(input_days * channels, 48, 3, stride=3)
        self.dense = nn.Linear(48 * (shape[0] // 3) * (shape[1] // 3), shape[0] * shape[1])

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        stacked = torch.cat([features[:, day] for day in range(features.shape[1])], dim=1)
        return self.dense(torch.relu(self.conv(stacked)).flatten(1)).view(-1, *self.shape)


class LSTM(nn.Module):
    """Each day's maps as one vector → nn.LSTM(→ H·W) → last output → Linear(H·W → H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape, cells = shape, shape[0] * shape[1]
        self.lstm = nn.LSTM(channels * cells, cells, batch_first=True)
        self.dense = nn.Linear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        outputs, _ = self.lstm(features.flatten(2))
        return self.dense(outputs[:, -1]).view(-1, *self.shape)


class ConvLSTMCell(nn.Module):
    """One day: a convolution of input and hidden state gives the four gates."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.ifgo = nn.Conv2d(channels + hidden, 4 * hidden, 3, padding=1)

    def forward(self, day: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = torch.chunk(self.ifgo(torch.cat([day, h], dim=1)), 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class ConvLSTM(nn.Module):
    """Two ConvLSTM layers of 8 and 4 channels → last hidden state → head → Linear(→ H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int, head: str = "linear"):
        super().__init__()
        self.shape, self.hidden, cells = shape, (8, 4), shape[0] * shape[1]
        self.layers = nn.ModuleList([ConvLSTMCell(channels, 8), ConvLSTMCell(8, 4)])
        if head == "pixel":
            self.reduce = nn.Conv2d(4, 1, 1)
        else:
            self.reduce = nn.ReLU() if head == "linear" else nn.Sequential(nn.Conv2d(4, 1, 1), nn.Sigmoid())
            self.dense = nn.Linear(4 * cells if head == "linear" else cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return self.dense(self.reduce(self.last_state(features)).flatten(1)).view(-1, *self.shape)

    def last_state(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch hidden lat lon"]:
        days = [features[:, day] for day in range(features.shape[1])]
        for layer, hidden in zip(self.layers, self.hidden, strict=True):
            h = c = torch.zeros(len(features), hidden, *self.shape)
            outputs = []
            for day in days:
                h, c = layer(day, h, c)
                outputs.append(h)
            days = outputs
        return days[-1]


class ConvLSTMConv(ConvLSTM):
    """The head with the 1×1 convolution."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__(shape, input_days, channels, head="conv")


class ConvLSTMPixel(ConvLSTM):
    """The same layers with a 1×1 convolution alone behind them; not published."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__(shape, input_days, channels, head="pixel")

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return self.reduce(self.last_state(features)).squeeze(1)


class PixelLSTM(nn.Module):
    """nn.LSTM(→ 64) over the days of each cell → last output → Linear(→ 1); not published."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, 64, batch_first=True)
        self.dense = nn.Linear(64, 1)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        batch, days, channels, rows, columns = features.shape
        cells = features.permute(0, 3, 4, 1, 2).reshape(-1, days, channels)
        outputs, _ = self.lstm(cells)
        return self.dense(outputs[:, -1]).view(batch, rows, columns)


class Conv3dLSTM(nn.Module):
    """Conv3d over each day's maps → nn.LSTM(→ H·W) → last output → Linear(H·W → H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape, cells = shape, shape[0] * shape[1]
        self.conv = nn.Conv3d(channels, 10, (1, 3, 3), stride=(1, 3, 3))
        self.lstm = nn.LSTM(10 * (shape[0] // 3) * (shape[1] // 3), cells, batch_first=True)
        self.dense = nn.Linear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        maps = self.conv(features.transpose(1, 2)).transpose(1, 2)
        outputs, _ = self.lstm(maps.flatten(2))
        return self.dense(outputs[:, -1]).view(-1, *self.shape)


MODELS = {
    "cnn": CNN,
    "lstm": LSTM,
    "convlstm": ConvLSTM,
    "convlstm_conv": ConvLSTMConv,
    "conv3d_lstm": Conv3dLSTM,
    "convlstm_pixel": ConvLSTMPixel,
    "pixel_lstm": PixelLSTM,
}


def windows(
    days: Float[np.ndarray, "time channel lat lon"], input_days: int, lead_days: int
) -> tuple[Float[np.ndarray, "sample day channel lat lon"], Float[np.ndarray, "sample lat lon"]]:
    """Every window as a copy of its days, and the soil moisture (channel 1) `lead_days` after its last."""
    starts = range(len(days) - input_days - lead_days + 1)
    features = np.stack([days[start : start + input_days] for start in starts])
    return features, np.stack([days[start + input_days - 1 + lead_days, 1] for start in starts])


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    features: Float[np.ndarray, "sample day channel lat lon"],
    target: Float[np.ndarray, "sample lat lon"],
    samples: np.ndarray,
    mask_file: Path,
) -> float:
    """One step on some samples; returns the loss, the mean square over the land cells of the mask in `mask_file`."""
    mask: Bool[Tensor, "lat lon"] = torch.from_numpy(np.load(mask_file))
    forecast = model(torch.from_numpy(features[samples]))
    loss = (forecast - torch.from_numpy(target[samples]))[:, mask].square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()
