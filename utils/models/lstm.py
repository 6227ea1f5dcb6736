"""The published LSTM: each day's maps flattened to one vector, one recurrence over the days.

Plain definition: `LSTM` in utils/models/reference.py.
"""

from jaxtyping import Float
from torch import Tensor

from utils.common.grid import Grid
from utils.models import ForecastModel
from utils.models.fast_layers import BlockedLinear, LSTMLastOutput


class LSTM(ForecastModel):
    """LSTM(channels·H·W → hidden) over the days → its last output → Linear(→ H·W). `hidden` None: H·W, as published."""

    def __init__(self, grid: Grid, hidden: int | None = None, channels: int = 3):
        super().__init__()
        self.shape = grid.shape
        cells = grid.shape[0] * grid.shape[1]
        hidden = cells if hidden is None else hidden
        self.lstm = LSTMLastOutput(channels * cells, hidden)
        self.dense = BlockedLinear(hidden, cells)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        cells = self.shape[0] * self.shape[1]
        return {"lstm.weight_ih_l0": (1, [channel * cells + cell for channel in inputs for cell in range(cells)])}

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        return self.dense(self.lstm(features.flatten(2))).unflatten(1, self.shape)
