"""The published "3DConvLSTM": a strided convolution of each day's maps, then an LSTM over the days.

Plain definition: `Conv3dLSTM` in utils/models/reference.py.
"""

from jaxtyping import Float
from torch import Tensor, nn

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.models import ForecastModel
from utils.models.fast_layers import BlockedLinear, LSTMLastOutput


class Conv3dLSTM(ForecastModel):
    """Conv3d(channels → filters, kernel and stride (1, 3, 3)) → LSTM(→ hidden) → last output → Linear(→ H·W).

    `hidden` None: H·W, as published. Raises UserError for a grid smaller than the kernel.
    """

    def __init__(self, grid: Grid, filters: int = 10, kernel: int = 3, hidden: int | None = None, channels: int = 3):
        super().__init__()
        height, width = self.shape = grid.shape
        cells = height * width
        if min(height, width) < kernel:
            raise UserError(f"conv3d_lstm needs at least {kernel} × {kernel} cells, the data has {height} × {width}.")
        hidden = cells if hidden is None else hidden
        self.conv = nn.Conv3d(channels, filters, (1, kernel, kernel), (1, kernel, kernel))
        self.lstm = LSTMLastOutput(filters * (height // kernel) * (width // kernel), hidden)
        self.dense = BlockedLinear(hidden, cells)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        return {"conv.weight": (1, inputs)}

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        maps = self.conv(features.transpose(1, 2))  # [batch, filters, day, rows, columns]
        return self.dense(self.lstm(maps.transpose(1, 2).flatten(2))).unflatten(1, self.shape)
