"""A block of a data set in memory. Its inputs are filled and scaled; samples are cut from it."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32
from torch import Tensor

from utils.common.grid import WHOLE, Grid
from utils.common.periods import starts_of_runs
from utils.dataset.predictors import DERIVED, channels_of, channels_of_day, variables_of
from utils.dataset.prepared import VARIABLES, grid_of
from utils.dataset.statistics import MOISTURE, OUTSIDE, Statistics
from utils.dataset.weather_forecasts import WeatherMaps

ORBITS = 117 / 8  # SMAP's in a day: its ground track repeats after 117 orbits in eight days


class Record:
    """Every day of some rows and columns in memory, 4 bytes a cell and day for each channel and for the target.

    features   [time, channel, lat, lon], scaled: the channels of a day, as utils/dataset/predictors.py lists them
    target     [time, lat, lon], soil moisture in m3 m-3, matched to the source where the statistics say so
    observed   [time, lat, lon], soil moisture in m3 m-3; NaN where it is missing or does not count
    around     the same with that of neighbours
    lacks_rain [time, lat, lon], where precipitation is missing in a scored cell

    With `own`, soil moisture counts as observed in these cells alone: the others are neighbours. Where it is `hidden`,
    the inputs lack it as if it were missing; the targets do not. `static` maps and `weather`, which is the known
    weather of later days, stand beside the features of a window (see `beside`).
    """

    def __init__(
        self,
        ds: xr.Dataset,
        statistics: Statistics,
        predictors: tuple[str, ...] = tuple(VARIABLES),
        static: tuple[str, ...] = (),
        own: Bool[np.ndarray, "lat lon"] | None = None,
        hidden: Bool[np.ndarray, "time #lat #lon"] | None = None,
        weather: WeatherMaps | None = None,
    ):
        self.statistics, self.hidden, self.weather = statistics, hidden, weather
        self.grid: Grid = grid_of(ds)
        self.days = ds["time"].values.astype("datetime64[D]")
        moisture: Float32[np.ndarray, "time lat lon"] = ds["soil_moisture"].values
        self.lacks_rain = np.isnan(ds["precipitation"].values) & statistics.scored
        self.around = np.where(statistics.scored, moisture, np.float32(np.nan))
        self.observed = self.around if own is None or own.all() else np.where(own, self.around, np.float32(np.nan))
        self.target = statistics.to_source(torch.from_numpy(self.observed))  # without matching, the same memory
        self.channels = channels_of_day(predictors)
        self.features: Float32[Tensor, "time channel lat lon"] = torch.from_numpy(self._scaled_inputs(ds, predictors))
        self.static = torch.from_numpy(statistics.static_maps(static)) if static else None

    def _scaled_inputs(
        self, ds: xr.Dataset, predictors: tuple[str, ...]
    ) -> Float32[np.ndarray, "time channel lat lon"]:
        """OUTSIDE in cells that are not scored and in variables that are no predictors."""
        statistics, scored = self.statistics, self.statistics.scored
        maps = np.full((len(self.days), len(self.channels), *scored.shape), OUTSIDE, np.float32)
        for name in variables_of(predictors).daily:
            if name in predictors:
                number = statistics.number(name)
                scaled = (self._as_input(name, ds[name].values) - statistics.low[number]) / statistics.span[number]
                maps[:, self.channels.index(name)] = np.where(scored, scaled, np.float32(OUTSIDE))
        derived = [name for name in predictors if name in DERIVED]
        age = self._days_since(self.hide(ds["soil_moisture"].values)) if derived else None
        for name in derived:
            numbers = [self.channels.index(channel) for channel in channels_of(name)]
            maps[:, numbers] = np.where(scored, DERIVED[name].maps(self.days, age), OUTSIDE)
        return maps

    def beside(
        self,
        features: Float[Tensor, "batch day channel lat lon"],
        last: Int[np.ndarray, "batch"],
        cells: tuple[slice, slice] = WHOLE,
    ) -> Float[Tensor, "batch day channels lat lon"]:
        """The features of windows that end at these positions, with the static maps and the weather ahead behind them.

        These are the same on each input day.
        """
        maps = [] if self.static is None else [self.static[(slice(None), *cells)].expand(len(last), -1, -1, -1)]
        if self.weather:
            maps.append(self.weather.channels(last, cells))
        if not maps:
            return features
        behind = torch.cat(maps, dim=1)[:, None].expand(-1, features.shape[1], -1, -1, -1)
        return torch.cat([features, behind], dim=2)

    def _as_input(self, name: str, values: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """A variable as the inputs have it, in its unit."""
        if name != "soil_moisture":
            return self._fill(name, values)
        moisture = self._fill(name, self.hide(values))
        return self.statistics.to_source(torch.from_numpy(moisture)).numpy()

    def _fill(self, name: str, values: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """A variable in its unit, without missing values in scored cells."""
        if name != "precipitation":
            values = fill_forward(values, self.days)
        return np.where(np.isfinite(values), values, self.statistics.cell_mean[self.statistics.number(name)])

    def hide(self, moisture: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """Soil moisture as the inputs may know it: NaN where it is hidden."""
        return moisture if self.hidden is None else np.where(self.hidden, np.float32(np.nan), moisture)

    @property
    def last_observed(self) -> Float32[np.ndarray, "time lat lon"]:
        """Soil moisture of each day or of the last observed day before it, m3 m-3; NaN in cells that are not scored."""
        moisture = self._fill("soil_moisture", self.hide(self.observed))
        return np.where(self.statistics.scored, moisture, np.float32(np.nan))

    @cached_property
    def age(self) -> Int16[np.ndarray, "time lat lon"]:
        """Days since soil moisture was last observed; -1 where it was not since the start or the last gap."""
        return self._days_since(self.observed)

    @property
    def input_age(self) -> Int16[np.ndarray, "time lat lon"]:
        """The same as the inputs know it, which lack soil moisture where it is hidden."""
        return self.age if self.hidden is None else self._days_since(self.hide(self.observed))

    def _days_since(self, moisture: Float32[np.ndarray, "time lat lon"]) -> Int16[np.ndarray, "time lat lon"]:
        """Days since the last valid value; -1 where there is none since the start or the last gap."""
        source = last_valid(moisture, self.days)
        return np.where(source >= 0, np.arange(len(self.days))[:, None, None] - source, -1).astype(np.int16)

    def with_late_inputs(
        self,
        features: Float32[Tensor, "batch day channel lat lon"],
        last: Int[np.ndarray, "batch"],
        behind: Mapping[str, int],
    ) -> Float32[Tensor, "batch day channel lat lon"]:
        """Features of windows that end at these positions, where variables end some days `behind` the last one."""
        features = features.clone() if behind else features
        for name, days in behind.items():
            stand_in = torch.from_numpy(self.stand_in(name, last, days))
            features[:, -days:, self.channels.index(name)] = stand_in[:, None]
        return features

    def stand_in(self, name: str, last: Int[np.ndarray, "init"], behind: int) -> Float32[np.ndarray, "init lat lon"]:
        """What stands for a variable, scaled, on the last `behind` days up to these positions: they are not known.

        It is what stands for any missing value: the last value known, of precipitation the cell's training mean.
        """
        scale, number = self.statistics, self.statistics.number(name)
        mean = (scale.cell_mean[number] - scale.low[number]) / scale.span[number]
        mean = np.where(scale.scored, mean, np.float32(OUTSIDE)).astype(np.float32)
        if name == "precipitation":
            return np.repeat(mean[None], len(last), axis=0)
        known = last - behind
        values = self.features.numpy()[np.maximum(known, 0), self.channels.index(name)]
        in_run = known >= self.start_of_run[last]
        return np.where(in_run[:, None, None], values, mean)

    @property
    def previous(self) -> Int[np.ndarray, "time"]:
        """For each day, the position of the day before; −1 where the record starts, or a gap ends."""
        return np.where(starts_of_runs(self.days), -1, np.arange(len(self.days)) - 1)

    @property
    def start_of_run(self) -> Int[np.ndarray, "time"]:
        """For each day, the position of the first day since the start of the record or the last gap."""
        return np.maximum.accumulate(np.where(starts_of_runs(self.days), np.arange(len(self.days)), 0))

    def physical(
        self, name: str, days: slice | Int[np.ndarray, "day"] = slice(None)
    ) -> Float[np.ndarray, "day lat lon"]:
        """A variable of these days as its inputs have it, filled, in its own unit."""
        number, scaled = self.statistics.number(name), self.features.numpy()[days, self.channels.index(name)]
        return scaled * self.statistics.span[number] + self.statistics.low[number]

    def unscale(self, forecast: Tensor) -> Tensor:
        """A model's output in m3 m-3."""
        scale = self.statistics
        return scale.from_source(forecast * float(scale.span[MOISTURE]) + float(scale.low[MOISTURE]))


def fill_forward(values: Float[np.ndarray, "time lat lon"], days: np.ndarray) -> Float[np.ndarray, "time lat lon"]:
    """Missing values become the last earlier valid one, never across a gap in `days`; NaN before the first."""
    source = last_valid(values, days)
    filled = np.take_along_axis(values, np.maximum(source, 0), axis=0)
    return np.where(source >= 0, filled, np.float32(np.nan))


def last_valid(values: Float[np.ndarray, "time lat lon"], days: np.ndarray) -> Int32[np.ndarray, "time lat lon"]:
    """Position of the last valid value up to each day; -1 where there is none since the start or the last gap."""
    source = np.where(np.isfinite(values), np.arange(len(days), dtype=np.int32)[:, None, None], -1)
    np.maximum.accumulate(source, axis=0, out=source)
    start_of_run = np.maximum.accumulate(np.where(starts_of_runs(days), np.arange(len(days), dtype=np.int32), 0))
    return np.where(source >= start_of_run[:, None, None], source, np.int32(-1))


def swath_gaps(
    days: np.ndarray, lon: Float[np.ndarray, "lon"], share: float, seed: int
) -> Bool[np.ndarray, "time lon"]:
    """Where the satellite saw nothing: on each day the gaps between its swaths, `share` of each orbit's width.

    Where the gaps of a day lie is drawn from the seed. Real gaps move on by a fixed step. Drawn ones differ more in how
    long a cell remains unseen, as real gaps do, which frozen ground and interference make longer.
    """
    shift = np.random.default_rng(seed).random(len(days))
    return (lon * ORBITS / 360 + shift[:, None]) % 1 < share


def decayed_mean(
    values: Float[np.ndarray, "time lat lon"], previous: Int[np.ndarray, "time"], scale: int, prior: float
) -> Float[np.ndarray, "time lat lon"]:
    """Exponentially weighted mean of the finite values up to each day, since the start or the last gap.

    `previous` is the row of the day before, `scale` the e-folding time in days, `prior` the weight of a value of 0 that
    is always among the others. The mean is 0 where there is nothing to average.
    """
    decay = np.exp(-1 / np.float32(scale))
    weight = np.isfinite(values).astype(np.float32)
    total = np.where(weight > 0, values, np.float32(0))
    for row, before in enumerate(previous):
        if before >= 0:
            total[row] += decay * total[before]
            weight[row] += decay * weight[before]
    return total / np.maximum(weight + prior, np.finfo(np.float32).tiny)
