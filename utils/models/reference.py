"""The published models as a textbook writes them: read these first.

Each day's state follows from the day before it in a plain loop, from a state of zeros. Nothing is made fast here. The
models that are trained stand in the files beside this one. Their parameters have the same names and shapes, so weights
can be copied, and tests/models/test_reference.py holds that forecasts and gradients agree. The sizes are the published
ones. Ours are the ConvLSTM without a ReLU, and the last three models, which are free of the grid.

Every model maps features [batch, day, channel, lat, lon] to soil moisture [batch, lat, lon], both scaled. `shape` is
that of the grid: (number of latitudes, number of longitudes).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class CNN(nn.Module):
    """Days and variables as channels → Conv2d → ReLU → Linear(→ H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape = shape
        self.conv = nn.Conv2d(input_days * channels, 48, kernel_size=3, stride=3)
        self.dense = nn.Linear(48 * (shape[0] // 3) * (shape[1] // 3), shape[0] * shape[1])

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        stacked = torch.cat([features[:, day] for day in range(features.shape[1])], dim=1)
        hidden = torch.relu(self.conv(stacked))
        return self.dense(hidden.flatten(1)).view(-1, *self.shape)


class LSTM(nn.Module):
    """Each day's maps as one vector → nn.LSTM(→ H·W) → last output → Linear(H·W → H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape = shape
        cells = shape[0] * shape[1]
        self.lstm = nn.LSTM(channels * cells, cells, batch_first=True)
        self.dense = nn.Linear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        outputs, _ = self.lstm(features.flatten(2))
        return self.dense(outputs[:, -1]).view(-1, *self.shape)


class ConvLSTMCell(nn.Module):
    """One day of a ConvLSTM (Shi et al. 2015, without peepholes): a convolution of input and state gives the gates.

    h is the hidden state and c the cell state, both [batch, hidden, lat, lon].
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        self.ifgo = nn.Conv2d(channels + hidden, 4 * hidden, kernel_size=3, padding=1)

    def forward(self, day: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = torch.chunk(self.ifgo(torch.cat([day, h], dim=1)), 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class ConvLSTM(nn.Module):
    """Two ConvLSTM layers of 8 and 4 channels → hidden state of the last day → ReLU → Linear(4·H·W → H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList([ConvLSTMCell(channels, 8), ConvLSTMCell(8, 4)])
        self.make_head(cells=shape[0] * shape[1])

    def make_head(self, cells: int) -> None:
        self.reduce = nn.ReLU()
        self.dense = nn.Linear(4 * cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        days = [features[:, day] for day in range(features.shape[1])]
        for layer in self.layers:
            days = self.hidden_states(layer, days)
        return self.head(days[-1])

    def hidden_states(self, layer: ConvLSTMCell, days: list[Tensor]) -> list[Tensor]:
        h = c = torch.zeros(len(days[0]), layer.hidden, *self.shape)
        states = []
        for day in days:
            h, c = layer(day, h, c)
            states.append(h)
        return states

    def head(self, state: Float[Tensor, "batch hidden lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return self.dense(self.reduce(state).flatten(1)).view(-1, *self.shape)


class ConvLSTMConv(ConvLSTM):
    """The same layers → 1×1 convolution to one channel → sigmoid → Linear(H·W → H·W)."""

    def make_head(self, cells: int) -> None:
        self.reduce = nn.Sequential(nn.Conv2d(4, 1, kernel_size=1), nn.Sigmoid())
        self.dense = nn.Linear(cells, cells)


class ConvLSTMNoReLU(ConvLSTM):
    """Ours: the same layers → Linear(4·H·W → H·W), without the ReLU between them."""

    def make_head(self, cells: int) -> None:
        self.reduce = nn.Identity()
        self.dense = nn.Linear(4 * cells, cells)


class Conv3dLSTM(nn.Module):
    """Conv3d over each day's maps → nn.LSTM(→ H·W) → last output → Linear(H·W → H·W)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.shape = shape
        cells = shape[0] * shape[1]
        self.conv = nn.Conv3d(channels, 10, kernel_size=(1, 3, 3), stride=(1, 3, 3))
        self.lstm = nn.LSTM(10 * (shape[0] // 3) * (shape[1] // 3), cells, batch_first=True)
        self.dense = nn.Linear(cells, cells)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        maps = self.conv(features.transpose(1, 2)).transpose(1, 2)  # [batch, day, filter, row, column]
        outputs, _ = self.lstm(maps.flatten(2))
        return self.dense(outputs[:, -1]).view(-1, *self.shape)


class ConvLSTMPixel(ConvLSTM):
    """Ours: the same layers → 1×1 convolution to one channel, which is the map. Its weights serve any grid."""

    def make_head(self, cells: int) -> None:
        self.reduce = nn.Conv2d(4, 1, kernel_size=1)

    def head(self, state: Float[Tensor, "batch hidden lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return self.reduce(state).squeeze(1)


class ConvMixer(nn.Module):
    """Ours: days and variables as channels → 1×1 convolution → three blocks → 1×1 convolution to one channel, the map.

    A block adds a filter of each channel by itself to the maps, then mixes the channels of each cell.
    """

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.embed = nn.ModuleList([nn.Conv2d(input_days * channels, 48, kernel_size=1)])
        self.blocks = nn.ModuleList([nn.ModuleDict(self.make_block()) for _ in range(3)])
        self.head = nn.Conv2d(48, 1, kernel_size=1)

    def make_block(self) -> dict[str, nn.Module]:
        around = nn.Conv2d(48, 48, kernel_size=5, padding=2, groups=48)
        return {"around": around, "across": nn.Conv2d(48, 48, kernel_size=1)}

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        stacked = torch.cat([features[:, day] for day in range(features.shape[1])], dim=1)
        maps = F.gelu(self.embed[0](stacked))
        for block in self.blocks:
            maps = maps + F.gelu(block["around"](maps))
            maps = F.gelu(block["across"](maps))
        return self.head(maps).squeeze(1)


class PixelLSTM(nn.Module):
    """Ours: nn.LSTM(→ 64) over the days of each cell by itself → last output → Linear(→ 1)."""

    def __init__(self, shape: tuple[int, int], input_days: int, channels: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, 64, batch_first=True)
        self.dense = nn.Linear(64, 1)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        batch, days, channels, rows, columns = features.shape
        cells = features.permute(0, 3, 4, 1, 2).reshape(-1, days, channels)
        outputs, _ = self.lstm(cells)
        return self.dense(outputs[:, -1]).view(batch, rows, columns)


MODELS = {  # by the name of their runs
    "cnn": CNN,
    "lstm": LSTM,
    "convlstm": ConvLSTM,
    "convlstm_conv": ConvLSTMConv,
    "convlstm_no_relu": ConvLSTMNoReLU,
    "conv3d_lstm": Conv3dLSTM,
    "convlstm_pixel": ConvLSTMPixel,
    "pixel_lstm": PixelLSTM,
    "conv_mixer": ConvMixer,
}
