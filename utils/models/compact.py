"""compact: ours, made for records of a month to a few years; one model for all cells and any grid.

Its forecast is the cell's mean, plus a linear regression on antecedent soil moisture and precipitation, plus a share of
what four small networks add to it. With its default sizes it has 1,429 parameters.

The regression is fitted on the land model first, seen with the gaps and the noise of a satellite. On SMAP, its weights
are drawn towards those of the land model, so that a month of SMAP cannot lead them astray. The networks learn what the
regression leaves, on the land model and then on SMAP. The share lies between 0 and 1 and says what the networks were
worth on days that were held out. utils/training/compact.py has the fit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from utils.common.cli import UserError
from utils.common.periods import Split
from utils.data_processing import Batch, Windows
from utils.dataset.antecedent_features import (
    AntecedentFeatures,
    features_of,
    memory_days,
    static_maps,
)
from utils.dataset.blocks import DataSet
from utils.dataset.past_days import REACH
from utils.dataset.predictors import DERIVED, channel_names
from utils.dataset.prepared import VARIABLES
from utils.dataset.statistics import Statistics
from utils.dataset.upwind_rain import Maps, read_upwind_rain
from utils.models import ForecastModel

UNIT = 0.05  # m3 m-3, of the networks' output
FARTHEST = 6.0  # standard deviations to which inputs of the networks are cut
DYNAMIC = (  # what it sees of each day, in the order of its weights; soil temperature was of no use on real data
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
    "root_rain_upwind",
    "root_rain_upwind_3",
)
IN_CELLS = (*DYNAMIC[:-2], "root_rain_west", "root_rain_west_3")  # of earlier versions: rain to the west, in cells
STATIC = ("mean_precipitation", "mean_soil_moisture", "deviation")  # what it sees of each cell


class MemoryWindows(Windows):
    """Windows of one map a channel, in units: DYNAMIC features, the known rain of later days, STATIC features.

    Finite everywhere, 0 in cells that are not scored.
    """

    names: tuple[str, ...] = DYNAMIC  # or IN_CELLS; then the features of further variables
    upwind: Maps | None = None  # the rain upwind of a record that is a part of a larger map, where it is known

    @property
    def antecedent(self) -> AntecedentFeatures:
        """The features `names` of every day of the record."""
        if "antecedent" not in self._in_memory:
            self._in_memory["antecedent"] = AntecedentFeatures(self.record, self.names, self.find_upwind())
        return self._in_memory["antecedent"]

    def find_upwind(self) -> Maps | None:
        """The rain upwind of every day of the only block; None where the record holds the whole map."""
        window = self.blocks[0].window
        if self.upwind is not None or DYNAMIC[-1] not in self.names or self.record.grid.shape == self.data.grid.shape:
            return self.upwind
        return read_upwind_rain(self.data, self.statistics).means(window)

    def load(self) -> "MemoryWindows":
        _ = self.antecedent
        return self

    @property
    def age(self) -> Float32[np.ndarray, "time lat lon"]:
        """Days since the last observation, 7 at most."""
        return self.antecedent["last_anomaly_age_7"]

    def known(self, name: str, last: Int[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch lead lat lon"]:
        """A variable of the days ahead: the root of the rain; any other less the cell's mean."""
        maps, statistics = self.record.weather.maps(name, last).numpy(), self.record.statistics
        if name == "precipitation":
            return np.sqrt(np.maximum(maps, 0))
        return np.where(statistics.scored, maps - statistics.cell_mean[statistics.number(name)], np.float32(0))

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        record, last = self.record, self.last_index(samples)
        channels = [self.antecedent.at(last)]
        if record.weather:
            channels += [self.known(name, last) for name in record.weather.scaled]
        static = static_maps(record.statistics, (*STATIC, *features_of(static=self.static)))
        channels.append(np.broadcast_to(static, (len(samples), *static.shape)))
        features = np.concatenate(channels, axis=1, dtype=np.float32)
        target = torch.from_numpy(record.observed[self.target_index[samples]])
        valid = torch.isfinite(target)
        return Batch(torch.from_numpy(features)[:, None], torch.where(valid, target, 0), valid)


def refuse_predictors(model: str, predictors: tuple[str, ...]) -> None:
    """A UserError for predictors that a model of antecedent features makes itself, or cannot do without."""
    if strange := [name for name in predictors if name in DERIVED]:
        raise UserError(f"The model {model} has {strange[0]} of its own: leave it out of --predictors.")
    if missing := [name for name in ("precipitation", "soil_moisture") if name not in predictors]:
        raise UserError(f"The model {model} needs {missing[0]} among its --predictors.")


class FeatureModel(ForecastModel):
    """A model of the antecedent features of the last input day, whatever it makes of them. Any grid will do."""

    windows = MemoryWindows
    scaled = False
    own: tuple[str, ...]  # the features that it has of the three variables, in the order of its weights
    features: tuple[str, ...]  # these, then those of further variables

    def make_windows(self, data: DataSet, statistics: Statistics, **options: Any) -> MemoryWindows:
        """Raises UserError for predictors that mean nothing to this model."""
        refuse_predictors(self.trainer, options.get("predictors", tuple(VARIABLES)))
        windows = super().make_windows(data, statistics, **options)
        windows.names = self.features
        return windows

    def input_names(self, settings: Any) -> tuple[str, ...]:
        ahead = channel_names((), (), settings.known_ahead, settings.lead_days)[len(VARIABLES) :]
        return (*self.own, *features_of(settings.variables.daily), *ahead, *STATIC, *settings.static)

    def input_window(self, input_days: int) -> int:
        """The features of the last input day hold all days before it."""
        return 1

    def memory(self, input_days: int) -> int:
        """Its longest mean of past days."""
        return memory_days(self.own)

    def days_of_means(self, split: Split, experiment: str) -> Split:
        """On SMAP, the means are also of the validation days: a short record has no days to spare."""
        if experiment == "ERA5test":
            return split
        return Split((*split.train, *split.val), split.val, split.test)


class Compact(FeatureModel):
    """mean + w·x + b + share · (mean over members of MLP(x, static, w·x + b)), in m3 m-3.

    x has the DYNAMIC features of the last input day, and those of `further` daily variables. A model that knows the
    weather up to the target has that in x too, one number for each variable and day: `ahead` in all. `static` has the
    STATIC features of the cell, and further `maps`. Each of the `members` networks (MLP) has one layer of `hidden`
    units.
    """

    trainer = "compact"
    own = DYNAMIC

    def __init__(
        self,
        ahead: int = 0,
        members: int = 4,
        hidden: int = 16,
        further: tuple[str, ...] = (),
        maps: tuple[str, ...] = (),
    ):
        super().__init__()
        self.features = (*DYNAMIC, *features_of(further))
        self.dynamic, self.static = len(self.features) + ahead, len(STATIC) + len(maps)
        inputs = self.dynamic + self.static + 1
        self.weight, self.bias = nn.Parameter(torch.zeros(self.dynamic)), nn.Parameter(torch.zeros(1))
        self.inner = nn.Parameter(torch.randn(members, inputs, hidden) / inputs**0.5)
        self.inner_bias = nn.Parameter(0.3 * torch.randn(members, 1, hidden))
        self.outer = nn.Parameter(torch.zeros(members, hidden, 1))
        self.outer_bias = nn.Parameter(torch.zeros(members, 1, 1))
        self.register_buffer("share", torch.ones(1))
        self.register_buffer("upwind_in_km", torch.ones(1))  # 0 in weights of earlier versions, which saw IN_CELLS
        self.register_buffer("centre", torch.zeros(inputs))  # and scale, of the networks' inputs: of the first fit
        self.register_buffer("scale", torch.ones(inputs))  # 0: of a new input, which the networks do not see yet

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        earlier = {"upwind_in_km": torch.zeros(1)}
        return super().load_state_dict(earlier | dict(state_dict), strict, assign)

    def make_windows(self, data: DataSet, statistics: Statistics, **options: Any) -> MemoryWindows:
        windows = super().make_windows(data, statistics, **options)
        if not self.upwind_in_km:
            windows.names = (*IN_CELLS, *self.features[len(DYNAMIC) :])
        return windows

    @property
    def networks(self) -> list[nn.Parameter]:
        """The weights of the networks alone."""
        return [self.inner, self.inner_bias, self.outer, self.outer_bias]

    def linear(self, x: Float[Tensor, "*row dynamic"]) -> Float[Tensor, "*row"]:
        """The regression: soil moisture less the cell's mean, m3 m-3."""
        return x @ self.weight + self.bias

    def corrections(
        self, x: Float[Tensor, "row dynamic"], static: Float[Tensor, "row static"], linear: Float[Tensor, "row"]
    ) -> Float[Tensor, "member row"]:
        """What each network adds to the regression before the share is taken, m3 m-3."""
        inputs = torch.cat([x, static, linear[:, None]], dim=1)
        scale = torch.where(self.scale > 0, self.scale, torch.inf)
        z = ((inputs - self.centre) / scale).clamp(-FARTHEST, FARTHEST)
        hidden = nn.functional.silu(z @ self.inner + self.inner_bias)
        return UNIT * (hidden @ self.outer + self.outer_bias)[..., 0]

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        cells = features[:, -1].movedim(1, -1)  # [batch, lat, lon, channel]
        x, static = cells[..., : self.dynamic], cells[..., self.dynamic :]
        linear = self.linear(x)
        correction = self.corrections(x.flatten(0, 2), static.flatten(0, 2), linear.flatten()).mean(dim=0)
        mean = static[..., STATIC.index("mean_soil_moisture")]
        return mean + linear + self.share * correction.view(linear.shape)

    def input_names(self, settings: Any) -> tuple[str, ...]:
        return (*super().input_names(settings), "regression")

    def input_weights(self, inputs: list[int], count: int) -> dict[str, tuple[int, list[int]]]:
        dynamic = [number for number in inputs if number < self.dynamic]
        return {"weight": (0, dynamic), "inner": (1, inputs), "centre": (0, inputs), "scale": (0, inputs)}

    def receptive_radius(self, input_days: int) -> int:
        """It sees its own cell, and the rain upwind, which does not come with the cell's block."""
        return 0 if self.upwind_in_km else REACH
