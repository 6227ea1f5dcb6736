"""change_net: ours, a convolutional network for the change of soil moisture; one model for all cells and any grid.

Its forecast is the last observation plus a change. The change follows from antecedent features of the cell, and from
what a few spatial filters make of those of the cells around it: today's weather to the west is tomorrow's weather here.
A change is free of the bias between two products, so nothing has to be matched for transfer.

It learns from the land model in two views: complete, and with a satellite's gaps and noise. Each view has networks of
its own. On SMAP, the networks of one view learn on: those of the complete view where SMAP has hardly a gap, else the
others. utils/training/change_net.py has the fit.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from utils.dataset.antecedent_features import features_of, find_feature
from utils.models.compact import FARTHEST, STATIC, UNIT, FeatureModel

FEATURES = (  # what it sees of each day, in the order of its weights
    "moisture_anomaly_5",
    "moisture_anomaly_20",
    "moisture_anomaly_60",
    "moisture_anomaly_150",
    "moisture_change_1",
    "moisture_change_2",
    "last_anomaly",
    "last_anomaly_age_7",
    "root_rain_3",
    "root_rain_10",
    "root_rain_30",
    "root_rain_90",
    "root_rain_lag_0",
    "root_rain_lag_1",
    "root_rain_lag_2",
    "root_rain_lag_3",
    "root_rain_lag_4",
    "root_rain_since",
    "soil_temperature_anomaly",
    "soil_temperature_change_1",
    "soil_temperature_change_2",
    "near_freezing",
    "near_freezing_20",
    "mean_soil_temperature",
)
AROUND = (  # what the spatial filters see of it, beside the features of further variables
    "root_rain_lag_0",
    "root_rain_lag_1",
    "root_rain_lag_2",
    "root_rain_lag_3",
    "root_rain_3",
    "root_rain_10",
    "moisture_anomaly_5",
    "moisture_change_1",
    "moisture_change_2",
    "soil_temperature_anomaly",
    "soil_temperature_change_1",
    "soil_temperature_change_2",
)
COMPLETE, SATELLITE = 0, 1  # the views


class Network(nn.Module):
    """Spatial filters on the channels `around`; then for each cell a small network, and a linear map beside it.

    Both output layers begin at zero: an untrained network forecasts no change.
    """

    def __init__(self, inputs: int, around: list[int], filters: int, kernel: int, hidden: int):
        super().__init__()
        self.around = around
        self.filters = nn.Conv2d(len(around) + 1, filters, kernel, padding="same")
        self.cell = nn.Sequential(
            nn.Conv2d(inputs + filters, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, 1, 1),
        )
        self.linear = nn.Conv2d(inputs + filters, 1, 1)
        nn.init.normal_(self.filters.weight, std=0.3 / (self.filters.weight[0].numel()) ** 0.5)
        for weights in (*self.cell[-1].parameters(), *self.linear.parameters()):
            nn.init.zeros_(weights)

    def forward(
        self, z: Float[Tensor, "batch input lat lon"], scored: Float[Tensor, "batch 1 lat lon"]
    ) -> Float[Tensor, "batch lat lon"]:
        """The change, in UNIT; 0 in cells without data. `scored` is 1 in cells that have data: filters know a coast."""
        seen = self.filters(torch.cat([z[:, self.around], scored], dim=1))
        cells = scored.amax(dim=(0, 1)) > 0  # the others, such as the sea, need no work
        rows = torch.cat([maps.movedim(1, -1)[:, cells] for maps in (z, seen)], dim=-1)
        hidden = rows
        for layer in self.cell:
            hidden = on_rows(layer, hidden)
        of_cells = (hidden + on_rows(self.linear, rows))[..., 0]
        change = of_cells.new_zeros(scored[:, 0].shape)
        change[:, cells] = of_cells
        return change


def on_rows(layer: nn.Module, rows: Float[Tensor, "*row input"]) -> Float[Tensor, "*row output"]:
    """A layer of single cells, 1 × 1 convolution or activation, on rows of inputs."""
    if isinstance(layer, nn.Conv2d):
        return nn.functional.linear(rows, layer.weight[..., 0, 0], layer.bias)
    return layer(rows)


class ChangeNet(FeatureModel):
    """mean + last anomaly + UNIT · (mean over the networks of a view), in m3 m-3.

    The input has the FEATURES of the last input day, those of `further` daily variables, known weather (`ahead` maps),
    the STATIC features of the cell and further `maps`.
    """

    trainer = "change_net"
    own = FEATURES

    def __init__(
        self,
        ahead: int = 0,
        members: int = 4,
        kernel: int = 5,
        further: tuple[str, ...] = (),
        maps: tuple[str, ...] = (),
        filters: int = 16,
        hidden: int = 32,
    ):
        super().__init__()
        names = (*FEATURES, *features_of(further))
        self.features, self.kernel = names, kernel
        self.statics = slice(len(names) + ahead, len(names) + ahead + len(STATIC))
        inputs = len(names) + ahead + len(STATIC) + len(maps)
        around = [names.index(name) for name in (*AROUND, *features_of(further))]
        self.views = nn.ModuleList(
            nn.ModuleList(Network(inputs, around, filters, kernel, hidden) for _ in range(members))
            for _ in (COMPLETE, SATELLITE)
        )
        shift = [find_feature(name).shift for name in names] + [0] * ahead
        shift += [find_feature(name).shift for name in STATIC] + [0] * len(maps)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32), persistent=False)
        self.register_buffer("view", torch.tensor(COMPLETE))
        self.register_buffer("moved", torch.ones(()))  # how far fine-tuning has gone from the weights it began with
        self.register_buffer("centre", torch.zeros(inputs))  # and scale, of the inputs: of the first fit
        self.register_buffer("scale", torch.ones(inputs))  # 0: of a new input, which the networks do not see yet

    @property
    def networks(self) -> nn.ModuleList:
        """Those of the view that counts."""
        return self.views[int(self.view)]

    def standardise(
        self, features: Float[Tensor, "batch input lat lon"]
    ) -> tuple[Float[Tensor, "batch input lat lon"], Float[Tensor, "batch 1 lat lon"]]:
        """The inputs of the networks, 0 in cells without data; and 1 in cells that have data."""
        deviation = features[:, self.statics][:, [STATIC.index("deviation")]]
        scored = (deviation > 0).to(features.dtype)
        scale = torch.where(self.scale > 0, self.scale, torch.inf)
        z = (features - self.centre[:, None, None]) / scale[:, None, None]
        return z.clamp(-FARTHEST, FARTHEST) * scored, scored

    def start(self, features: Float[Tensor, "batch input lat lon"]) -> Float[Tensor, "batch lat lon"]:
        """The last observation less the cell's mean, m3 m-3."""
        return features[:, self.features.index("last_anomaly")]

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        features = features[:, -1]
        z, scored = self.standardise(features)
        change = torch.stack([network(z, scored) for network in self.networks]).mean(dim=0)
        mean = features[:, self.statics][:, STATIC.index("mean_soil_moisture")]
        return mean + self.start(features) + UNIT * change.float()

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        weights: dict[str, tuple[int, list[int]]] = {"centre": (0, inputs), "scale": (0, inputs)}
        for name, network in self.named_modules():
            if isinstance(network, Network):
                around = [position for position, number in enumerate(network.around) if number in inputs]
                weights |= {f"{name}.cell.0.weight": (1, inputs), f"{name}.linear.weight": (1, inputs)}
                weights[f"{name}.filters.weight"] = (1, around)
        return weights

    def receptive_radius(self, input_days: int) -> int:
        """Half a filter."""
        return self.kernel // 2
