"""One LSTM shared by all cells, as in LandBench and hydroDL: what it learns in one place serves in all.

Plain definition: `PixelLSTM` in utils/models/reference.py.
"""

from jaxtyping import Float
from torch import Tensor, nn

from utils.models import ForecastModel
from utils.models.fast_layers import LSTMLastOutput


class PixelLSTM(ForecastModel):
    """LSTM(channels → hidden) over the days of each cell by itself → its last output → Linear(→ 1)."""

    def __init__(self, hidden: int = 64, channels: int = 3):
        super().__init__()
        self.lstm = LSTMLastOutput(channels, hidden)
        self.dense = nn.Linear(hidden, 1)

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        return {"lstm.weight_ih_l0": (1, inputs)}

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        cells = features.permute(0, 3, 4, 1, 2)  # [batch, lat, lon, day, channel]
        return self.dense(self.lstm(cells.flatten(0, 2))).view(cells.shape[:3])

    def receptive_radius(self, input_days: int) -> int:
        """A cell sees itself alone."""
        return 0
