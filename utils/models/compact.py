"""compact: ours, made for records of a month to a few years; one for all cells and any grid, about 1,500 parameters.

It forecasts a cell's mean, plus a linear regression on antecedent features, plus what a small ensemble of networks
makes of the same features: their mean, times a share between 0 and 1 that says what they were worth on days held out.
The regression is first made on the land model, seen with the gaps and the noise of a satellite. Its weights are what
the regression on SMAP is drawn towards, so that a month of SMAP cannot lead it astray. The networks learn on the land
model what the regression leaves, and go on from there. utils/training/compact.py tells how.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from utils.data_processing import Batch, Windows
from utils.dataset.antecedent_features import REACH, AntecedentFeatures, static_maps

UNIT = 0.05  # m3 m-3, of the networks' output
FARTHEST = 6.0  # standard deviations to which inputs of the networks are cut
DYNAMIC = (  # what it sees of each day, in the order of its weights
    "moisture_anomaly_5",
    "moisture_anomaly_20",
    "moisture_anomaly_60",
    "root_rain_3",
    "root_rain_10",
    "root_rain_30",
    "root_rain_lag_0",
    "root_rain_lag_1",
    "root_rain_lag_2",
    "last_anomaly",
    "last_anomaly_age_7",
    "root_rain_since",
    "season_cosine_anomaly",
    "season_sine_anomaly",
    "root_rain_west",
    "root_rain_west_3",
)  # soil temperature is left out: it was of no use on the real record, whatever the model
STATIC = ("mean_precipitation", "mean_soil_moisture", "deviation")  # what it sees of each cell


class MemoryWindows(Windows):
    """Windows of one map a channel, in units: DYNAMIC features, the known weather, STATIC features.

    Finite everywhere, 0 in cells that are not scored.
    """

    @property
    def antecedent(self) -> AntecedentFeatures:
        """The DYNAMIC features of every day of the record."""
        if "antecedent" not in self._in_memory:
            self._in_memory["antecedent"] = AntecedentFeatures(self.record, DYNAMIC)
        return self._in_memory["antecedent"]

    def load(self) -> None:
        _ = self.antecedent

    @property
    def age(self) -> Float32[np.ndarray, "time lat lon"]:
        """Days since the last observation, 7 at most."""
        return self.antecedent["last_anomaly_age_7"]

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        record, last = self.record, self.last_index(samples)
        channels = [self.antecedent.at(last)]
        if record.weather:
            channels.append(record.weather.maps("precipitation", last).clamp(min=0).sqrt().numpy())
        static = static_maps(record.statistics, STATIC)
        channels.append(np.broadcast_to(static, (len(samples), *static.shape)))
        features = np.concatenate(channels, axis=1, dtype=np.float32)
        target = torch.from_numpy(record.observed[self.target_index[samples]])
        valid = torch.isfinite(target)
        return Batch(torch.from_numpy(features)[:, None], torch.where(valid, target, 0), valid)


class Compact(nn.Module):
    """Mean + w·x + share · mean over members of MLP(x, statics, w·x), m3 m-3: its runs do not scale soil moisture."""

    windows = MemoryWindows

    def __init__(self, ahead: int = 0, members: int = 4, hidden: int = 16):
        super().__init__()
        self.dynamic = len(DYNAMIC) + ahead
        inputs = self.dynamic + len(STATIC) + 1
        self.weight, self.bias = nn.Parameter(torch.zeros(self.dynamic)), nn.Parameter(torch.zeros(1))
        self.inner = nn.Parameter(torch.randn(members, inputs, hidden) / inputs**0.5)
        self.inner_bias = nn.Parameter(0.3 * torch.randn(members, 1, hidden))
        self.outer = nn.Parameter(torch.zeros(members, hidden, 1))
        self.outer_bias = nn.Parameter(torch.zeros(members, 1, 1))
        self.register_buffer("share", torch.ones(1))
        self.register_buffer("centre", torch.zeros(inputs))  # and scale, of the networks' inputs where they began
        self.register_buffer("scale", torch.ones(inputs))

    @property
    def networks(self) -> list[nn.Parameter]:
        return [self.inner, self.inner_bias, self.outer, self.outer_bias]

    def linear(self, x: Float[Tensor, "*row dynamic"]) -> Float[Tensor, "*row"]:
        return x @ self.weight + self.bias

    def corrections(
        self, x: Float[Tensor, "row dynamic"], static: Float[Tensor, "row static"], linear: Float[Tensor, "row"]
    ) -> Float[Tensor, "member row"]:
        """Each member's, m3 m-3."""
        z = (torch.cat([x, static, linear[:, None]], dim=1) - self.centre) / self.scale
        hidden = nn.functional.silu(z.clamp(-FARTHEST, FARTHEST) @ self.inner + self.inner_bias)
        return UNIT * (hidden @ self.outer + self.outer_bias)[..., 0]

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        cells = features[:, -1].movedim(1, -1)
        x, static = cells[..., : self.dynamic], cells[..., self.dynamic :]
        linear = self.linear(x)
        correction = self.corrections(x.flatten(0, 2), static.flatten(0, 2), linear.flatten()).mean(dim=0)
        return static[..., STATIC.index("mean_soil_moisture")] + linear + self.share * correction.view(linear.shape)

    def halo(self, input_days: int) -> int:
        """The rain to the west."""
        return REACH
