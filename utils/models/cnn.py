"""The published CNN: days and variables stacked as channels, one strided convolution, one dense map.

Plain definition: `CNN` in utils/models/reference.py.
"""

from jaxtyping import Float
from torch import Tensor, nn

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.models import ForecastModel
from utils.models.fast_layers import BlockedLinear


class CNN(ForecastModel):
    """Conv2d(channels·days → filters, kernel, stride) → ReLU → Linear(→ H·W).

    Raises UserError for a grid smaller than the kernel.
    """

    def __init__(
        self, grid: Grid, input_days: int, filters: int = 48, kernel: int = 3, stride: int = 3, channels: int = 3
    ):
        super().__init__()
        height, width = self.shape = grid.shape
        if min(height, width) < kernel:
            raise UserError(f"cnn needs at least {kernel} × {kernel} cells, the data has {height} × {width}.")
        rows, columns = ((side - kernel) // stride + 1 for side in (height, width))
        self.days = input_days
        self.conv = nn.Conv2d(input_days * channels, filters, kernel, stride)
        self.relu = nn.ReLU()
        self.dense = BlockedLinear(filters * rows * columns, height * width)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        days = range(0, self.days * count, count)
        return {"conv.weight": (1, [day + channel for day in days for channel in inputs])}

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        hidden = self.relu(self.conv(features.flatten(1, 2)))
        return self.dense(hidden.flatten(1)).unflatten(1, self.shape)
