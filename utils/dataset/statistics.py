"""What is learned from the training period's data alone, of a map in memory or of one read in blocks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.common.periods import Split, annual_harmonics, in_spans, named
from utils.dataset.prepared import VARIABLES

MOISTURE = list(VARIABLES).index("soil_moisture")
USUAL, FEW = 0.05, 20  # m3 m-3: deviation of a cell's soil moisture while little is known, as from so many days


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is learned from the training period's data alone, and travels inside the checkpoint."""

    low: Float32[np.ndarray, "3"]  # minimum of each variable over the training period
    high: Float32[np.ndarray, "3"]  # maximum
    cell_mean: Float32[np.ndarray, "3 lat lon"]  # mean over the training period, mean over cells where there is none
    scored: Bool[np.ndarray, "lat lon"]  # cells with any valid soil moisture before the test period
    climate: Float32[np.ndarray, "term lat lon"] | None = (
        None  # of soil moisture (see std_and_quantiles); older runs: None
    )
    knots: Float32[np.ndarray, "2 knot lat lon"] | None = None  # soil moisture here, and in the source's climate
    seen: Float32[np.ndarray, "3 lat lon"] | None = None  # of the observations: deviation, mean cosine, sine of season

    @classmethod
    def fit(cls, ds: xr.Dataset, split: Split) -> "Statistics":
        """Of a data set in memory. Raises UserError where the training period has no valid value of a variable."""
        whole = Summary.of(ds, split)
        return Summary.joined([(whole, WHOLE)], whole.scored.shape).statistics(split)

    def with_scaling_of(self, source: "Statistics") -> "Statistics":
        """The same cells and means, scaled as the pre-training run scaled: its weights keep their physical meaning."""
        return replace(self, low=source.low, high=source.high)

    @property
    def span(self) -> Float32[np.ndarray, "3"]:
        """The divisor of min-max scaling; 1 for a variable that is constant."""
        return np.where(self.high > self.low, self.high - self.low, 1).astype(np.float32)

    def part(self, window: tuple[slice, slice]) -> "Statistics":
        """Those of some rows and columns; low and high stay the whole map's."""
        maps = {name: getattr(self, name) for name in ("cell_mean", "scored", "climate", "knots", "seen")}
        return replace(self, **{name: found[..., *window] for name, found in maps.items() if found is not None})

    def unscaled(self) -> "Statistics":
        """The same for a model that meets its inputs in their units."""
        return replace(self, low=np.zeros(3, np.float32), high=np.ones(3, np.float32))

    def matched(self, moisture: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Soil moisture in the climate the weights know, m3 m-3."""
        return moisture if self.knots is None else map_quantiles(moisture, *self.knots)

    def unmatched(self, moisture: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Back from `matched`."""
        return moisture if self.knots is None else map_quantiles(moisture, *self.knots[::-1])

    def to_tensors(self) -> dict[str, Tensor]:
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: torch.from_numpy(np.array(array)) for name, array in found.items() if array is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Statistics":
        return cls(**{name: tensors[name].numpy() for name in cls.__dataclass_fields__ if name in tensors})


@dataclass(frozen=True, eq=False)
class Summary:
    """What Statistics are made of, of a whole map or of a part of it."""

    low: Float[np.ndarray, "3"]  # over scored cells in the training period; inf where there is no value
    high: Float[np.ndarray, "3"]  # the same, -inf
    mean: Float[np.ndarray, "3 lat lon"]  # over the training period; NaN where there is no value
    scored: Bool[np.ndarray, "lat lon"]
    observed: Int[np.ndarray, "time"]  # scored cells with valid soil moisture, each day
    days: Int[np.ndarray, "lat lon"]  # training days with valid soil moisture, each cell
    climate: Float[np.ndarray, "term lat lon"]  # of soil moisture in the training period, NaN where there is no value
    season: Float[np.ndarray, "2 lat lon"]  # mean cosine and sine of the day of the year at those days; 0 without any

    @classmethod
    def of(cls, ds: xr.Dataset, split: Split) -> "Summary":
        day = ds["time"].values.astype("datetime64[D]")
        valid = np.isfinite(ds["soil_moisture"].values)
        scored = valid[day < split.test[0][0]].any(axis=0)
        training = in_spans(day, split.train)
        low, high, means = [], [], []
        climate = np.full((TERMS, *scored.shape), np.nan)
        for name in VARIABLES:
            values = ds[name].values[training][:, scored].astype(np.float64)
            low.append(np.fmin.reduce(values, axis=None, initial=np.inf))
            high.append(np.fmax.reduce(values, axis=None, initial=-np.inf))
            there = np.isfinite(values)
            count = there.sum(axis=0)
            mean = np.full(scored.shape, np.nan)
            total = np.where(there, values, 0).sum(axis=0)
            mean[scored] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            means.append(mean)
            if name == "soil_moisture":
                climate[:, scored] = std_and_quantiles(values)
        observed, days = (valid & scored).sum(axis=(1, 2)), valid[training].sum(axis=0)
        waves = annual_harmonics(day[training], 1)[:, 1:]
        season = np.tensordot(waves.T, valid[training], 1) / np.maximum(days, 1)
        return cls(np.array(low), np.array(high), np.stack(means), scored, observed, days, climate, season)

    @classmethod
    def joined(cls, parts: Iterable[tuple["Summary", tuple[slice, slice]]], shape: tuple[int, int]) -> "Summary":
        """That of a map of this shape from those of its parts and where they lie."""
        low, high, observed = np.full(3, np.inf), np.full(3, -np.inf), 0
        mean, scored = np.full((3, *shape), np.nan), np.zeros(shape, bool)
        days, climate, season = np.zeros(shape, int), np.full((TERMS, *shape), np.nan), np.zeros((2, *shape))
        for part, window in parts:
            low, high = np.minimum(low, part.low), np.maximum(high, part.high)
            mean[:, *window], scored[window] = part.mean, part.scored
            days[window], climate[:, *window], season[:, *window] = part.days, part.climate, part.season
            observed = observed + part.observed
        return cls(low, high, mean, scored, observed, days, climate, season)

    def statistics(self, split: Split) -> Statistics:
        """Raises UserError where the training period has no valid value of a variable."""
        means = np.full(self.mean.shape, np.nan, np.float32)
        for mean, found, name in zip(means, self.mean, VARIABLES, strict=True):
            known = np.isfinite(found)
            if not known.any():
                raise UserError(f"{name} has no valid value in the training period {named(split.train)}.")
            mean[self.scored] = np.where(known, found, found[known].mean())[self.scored]
        squares = np.nan_to_num(self.climate[0]) ** 2 * self.days
        deviation = np.sqrt((squares + FEW * USUAL**2) / (self.days + FEW))
        found = np.float32(self.low), np.float32(self.high), means, self.scored, np.float32(self.climate)
        return Statistics(*found, seen=np.stack([deviation, *self.season]).astype(np.float32))


CORRELATED_DAYS = 60  # the mean of n days is as uncertain as one of n / CORRELATED_DAYS independent days


LEVELS = (np.arange(11) + 0.5) / 11  # of the quantiles: the middles of eleven equal parts of the days


TERMS = 1 + len(LEVELS)


def std_and_quantiles(
    values: Float[np.ndarray, "time cell"], levels: Float[np.ndarray, "level"] = LEVELS
) -> Float[np.ndarray, "term cell"]:
    """The standard deviation of each cell's valid values, then their quantiles; NaN where there is none.

    Quantiles are interpolated between order statistics as numpy does by default. Sorts `values` in place.
    """
    if not len(values):
        return np.full((1 + len(levels), values.shape[1]), np.nan)
    values.sort(axis=0)  # NaN last
    count = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(count, 1)
    deviation = np.sqrt(np.nansum(np.square(values - mean), axis=0) / np.maximum(count, 1))
    position = levels[:, None] * np.maximum(count - 1, 0)
    below: Int[np.ndarray, "level cell"] = position.astype(int)
    low, high = (np.take_along_axis(values, np.minimum(below + i, np.maximum(count - 1, 0)), axis=0) for i in (0, 1))
    return np.where(count > 0, np.vstack([deviation, low + (position - below) * (high - low)]), np.nan)


def map_quantiles(
    values: Float[Tensor, "*sample lat lon"],
    start: Float32[np.ndarray, "knot lat lon"],
    end: Float32[np.ndarray, "knot lat lon"],
) -> Float[Tensor, "*sample lat lon"]:
    """Each cell's values by the straight lines between its knots, from `start` to `end`; the outer lines go on.

    With strictly increasing knots the way back is `map_quantiles(values, end, start)`. NaN stays NaN.
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(knots)).to(values.device) for knots in (start, end))
    slope = y.diff(dim=0) / x.diff(dim=0)
    found = y[0] + slope[0] * (values - x[0])
    for i in range(1, len(slope)):
        found = torch.where(values < x[i], found, y[i] + slope[i] * (values - x[i]))
    return found


OUTSIDE = 0.0  # the scaled input of every variable in cells that are not scored: the training period's minimum
