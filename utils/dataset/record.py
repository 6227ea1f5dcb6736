"""A block of a data set in memory. Its inputs are filled and scaled; samples are cut from it."""

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32
from torch import Tensor

from utils.common.grid import Grid
from utils.common.periods import annual_harmonics, starts_of_runs
from utils.dataset.prepared import SEASON, VARIABLES, grid_of
from utils.dataset.statistics import MOISTURE, OUTSIDE, Statistics
from utils.dataset.weather_forecasts import WeatherMaps

ORBITS = 117 / 8  # SMAP's in a day: its ground track repeats after 117 orbits in eight days


class Record:
    """Every day of some rows and columns in memory, 16 bytes a cell and day.

    features   [time, channel, lat, lon], scaled: one channel a variable, and two for the season if it is a predictor
    target     [time, lat, lon], soil moisture in m3 m-3, matched to the source where the statistics say so
    observed   [time, lat, lon], soil moisture in m3 m-3; NaN where it is missing or does not count

    With `own`, soil moisture counts as observed in these cells alone: the others are neighbours. Where it is `hidden`,
    the inputs lack it as if it were missing; the targets do not. `weather` is the known weather of later days.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        statistics: Statistics,
        predictors: tuple[str, ...] = tuple(VARIABLES),
        own: Bool[np.ndarray, "lat lon"] | None = None,
        hidden: Bool[np.ndarray, "time #lat #lon"] | None = None,
        weather: WeatherMaps | None = None,
    ):
        self.statistics, self.hidden, self.weather = statistics, hidden, weather
        self.grid: Grid = grid_of(ds)
        self.days = ds["time"].values.astype("datetime64[D]")
        counts = statistics.scored if own is None else statistics.scored & own
        self.observed: Float32[np.ndarray, "time lat lon"] = np.where(
            counts, ds["soil_moisture"].values, np.float32(np.nan)
        )
        self.target = statistics.to_source(torch.from_numpy(self.observed))  # without matching, the same memory
        self.features: Float32[Tensor, "time channel lat lon"] = torch.from_numpy(self._scaled_inputs(ds, predictors))

    def _scaled_inputs(
        self, ds: xr.Dataset, predictors: tuple[str, ...]
    ) -> Float32[np.ndarray, "time channel lat lon"]:
        """OUTSIDE in cells that are not scored and in variables that are no predictors."""
        statistics, scored = self.statistics, self.statistics.scored
        channels = len(VARIABLES) + 2 * (SEASON in predictors)
        maps = np.full((len(self.days), channels, *scored.shape), OUTSIDE, np.float32)
        for channel, name in enumerate(VARIABLES):
            if name in predictors:
                scaled = (self._as_input(name, ds[name].values) - statistics.low[channel]) / statistics.span[channel]
                maps[:, channel] = np.where(scored, scaled, np.float32(OUTSIDE))
        if SEASON in predictors:
            season = annual_harmonics(self.days, 1)[:, 1:, None, None]
            maps[:, len(VARIABLES) :] = np.where(scored, (season + 1) / 2, OUTSIDE)
        return maps

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
        return np.where(np.isfinite(values), values, self.statistics.cell_mean[list(VARIABLES).index(name)])

    def hide(self, moisture: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """Soil moisture as the inputs may know it: NaN where it is hidden."""
        return moisture if self.hidden is None else np.where(self.hidden, np.float32(np.nan), moisture)

    @property
    def last_observed(self) -> Float32[np.ndarray, "time lat lon"]:
        """Soil moisture of each day or of the last observed day before it, m3 m-3; NaN in cells that are not scored."""
        return np.where(self.statistics.scored, self._fill("soil_moisture", self.observed), np.float32(np.nan))

    @property
    def age(self) -> Int16[np.ndarray, "time lat lon"]:
        """Days since soil moisture was last observed; -1 where it was not since the start or the last gap."""
        source = last_valid(self.observed, self.days)
        return np.where(source >= 0, np.arange(len(self.days))[:, None, None] - source, -1).astype(np.int16)

    def physical(
        self, name: str, days: slice | Int[np.ndarray, "day"] = slice(None)
    ) -> Float[np.ndarray, "day lat lon"]:
        """A variable of these days as its inputs have it, filled, in its own unit."""
        channel = list(VARIABLES).index(name)
        return self.features.numpy()[days, channel] * self.statistics.span[channel] + self.statistics.low[channel]

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
