"""What is learned from the training period's data alone, of a map in memory or of one read in blocks."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.common.periods import Split, annual_harmonics, format_periods, in_spans
from utils.dataset.prepared import VARIABLES

MOISTURE = list(VARIABLES).index("soil_moisture")
OUTSIDE = 0.0  # the scaled input of every variable in cells that are not scored: the training period's minimum
LEVELS = (np.arange(11) + 0.5) / 11  # of the quantiles: the middles of eleven equal parts of the days
CORRELATED_DAYS = 60  # the mean of n days is as uncertain as the mean of n / CORRELATED_DAYS independent days
PRIOR_STD = 0.05  # m3 m-3: the standard deviation that a cell has while little is known of it …
PRIOR_DAYS = 20  # … which counts as much as this many days of the cell's own
NOT_STORED = ("training_days", "observed_cells", "variables")
Window = tuple[slice, slice]  # rows and columns of a map


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Statistics of a data set from the training period alone; the checkpoint stores them with the weights.

    Of a static map, `cell_mean` holds the map itself; the mean over cells stands in where a scored cell has no value.

    Standard deviations and quantiles are those of soil moisture in the training period, in m3 m-3. A field that an
    older checkpoint does not hold is None.
    """

    low: Float32[np.ndarray, "variable"]  # minimum of each variable over the scored cells in the training period
    high: Float32[np.ndarray, "variable"]  # maximum
    cell_mean: Float32[np.ndarray, "variable lat lon"]  # training mean; where a cell has none, the mean over cells
    scored: Bool[np.ndarray, "lat lon"]  # cells with any valid soil moisture before the test period
    std: Float32[np.ndarray, "lat lon"] | None = None  # standard deviation; NaN where there is no value
    quantiles: Float32[np.ndarray, "level lat lon"] | None = None  # at LEVELS; NaN where there is no value
    shrunk_std: Float32[np.ndarray, "lat lon"] | None = None  # std, drawn to PRIOR_STD where a cell has few days
    mean_season: Float32[np.ndarray, "wave lat lon"] | None = None  # mean cosine and sine of the observed days of year
    matching: Float32[np.ndarray, "2 point lat lon"] | None = None  # values here, and their equals in the source
    variables: tuple[str, ...] = tuple(VARIABLES)  # daily ones, of which VARIABLES come first, then static maps
    training_days: Int[np.ndarray, "lat lon"] | None = None  # training days with valid soil moisture; not stored
    observed_cells: Int[np.ndarray, "time"] | None = None  # scored cells with valid soil moisture; not stored

    @classmethod
    def fit(cls, ds: xr.Dataset, split: Split, variables: tuple[str, ...] = tuple(VARIABLES)) -> "Statistics":
        """The statistics of a whole map in memory; errors as `from_blocks`."""
        return cls.from_blocks([(ds, WHOLE)], (ds.sizes["lat"], ds.sizes["lon"]), split, variables)

    @classmethod
    def from_blocks(
        cls,
        blocks: Iterable[tuple[xr.Dataset, Window]],
        shape: tuple[int, int],
        split: Split,
        variables: tuple[str, ...] = tuple(VARIABLES),
    ) -> "Statistics":
        """The statistics of a map of this shape from its blocks and their rows and columns.

        Raises UserError where a variable has no valid value in the training period.
        """
        accumulator = _Accumulator(shape, split, variables)
        for ds, window in blocks:
            accumulator.add(ds, window)
        return accumulator.statistics()

    def with_scaling_of(self, source: "Statistics") -> "Statistics":
        """These statistics with the minima and maxima of `source`, so that pre-trained weights keep their meaning.

        Variables that `source` does not have keep their own.
        """
        low, high = self.low.copy(), self.high.copy()
        for name in set(self.variables) & set(source.variables):
            own, there = self.number(name), source.number(name)
            low[own], high[own] = source.low[there], source.high[there]
        return replace(self, low=low, high=high)

    def number(self, variable: str) -> int:
        """The position of a variable in `low`, `high` and `cell_mean`."""
        return self.variables.index(variable)

    def static_maps(self, names: Iterable[str]) -> Float32[np.ndarray, "map lat lon"]:
        """Some static maps, scaled; OUTSIDE in cells that are not scored."""
        rows = [self.number(name) for name in names]
        scaled = (self.cell_mean[rows] - self.low[rows, None, None]) / self.span[rows, None, None]
        return np.where(self.scored, scaled, np.float32(OUTSIDE))

    @property
    def span(self) -> Float32[np.ndarray, "variable"]:
        """The divisor of min-max scaling; 1 for a variable that is constant."""
        return np.where(self.high > self.low, self.high - self.low, 1).astype(np.float32)

    def part(self, window: Window) -> "Statistics":
        """The statistics of some rows and columns; low and high stay those of the whole map."""
        maps = ("cell_mean", "scored", "std", "quantiles", "shrunk_std", "mean_season", "matching", "training_days")
        known = {name: getattr(self, name) for name in maps if getattr(self, name) is not None}
        return replace(self, **{name: values[..., *window] for name, values in known.items()})

    def unscaled(self) -> "Statistics":
        """The same for a model that takes its inputs in their units."""
        return replace(self, low=np.zeros_like(self.low), high=np.ones_like(self.high))

    def scoring(self, scored: Bool[np.ndarray, "lat lon"]) -> "Statistics":
        """The same with other cells to score; a cell without a mean gets the mean over cells."""
        means = [np.where(np.isnan(mean), np.nanmean(mean), mean) for mean in self.cell_mean]
        return replace(self, scored=scored, cell_mean=np.where(scored, means, np.float32(np.nan)))

    def to_source(self, moisture: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Soil moisture of this product as the source would have it, m3 m-3 (utils/dataset/bias_correction.py)."""
        return moisture if self.matching is None else map_quantiles(moisture, *self.matching)

    def from_source(self, moisture: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The way back from `to_source`."""
        return moisture if self.matching is None else map_quantiles(moisture, *self.matching[::-1])

    def check(self, shape: tuple[int, int]) -> None:
        """Raises ValueError where these statistics do not fit a map of this shape."""
        count = (len(self.variables),)
        shapes = [getattr(self, name).shape for name in ("low", "high", "cell_mean", "scored")]
        if shapes != [count, count, (*count, *shape), shape] or self.scored.dtype != bool:
            raise ValueError("its statistics do not fit its grid")
        if self.quantiles is not None and self.quantiles.shape != (len(LEVELS), *shape):
            raise ValueError("its quantiles do not fit its grid")
        points = self.matching
        if points is None:
            return
        if (len(points), *points.shape[2:]) != (2, *shape) or points.shape[1] < 2:
            raise ValueError("its matching does not fit its grid")
        if not np.isfinite(points).all() or not (np.diff(points, axis=1) > 0).all():
            raise ValueError("the points of its matching do not increase")

    def to_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint stores; what is not known is left out."""
        names = [field.name for field in fields(self) if field.name not in NOT_STORED]
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {name: torch.from_numpy(np.array(values)) for name, values in known.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], variables: tuple[str, ...] = tuple(VARIABLES)) -> "Statistics":
        """The way back from `to_tensors`, which also reads the names of older checkpoints: climate, seen, knots."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        if "climate" in arrays:
            arrays |= {"std": arrays["climate"][0], "quantiles": arrays["climate"][1:]}
        if "seen" in arrays:
            arrays |= {"shrunk_std": arrays["seen"][0], "mean_season": arrays["seen"][1:]}
        if "knots" in arrays:
            arrays["matching"] = arrays["knots"]
        known = {field.name: arrays[field.name] for field in fields(cls) if field.name in arrays}
        return cls(**known, variables=variables)


class _Accumulator:
    """Collects, block by block, what the statistics of a map are made of."""

    def __init__(self, shape: tuple[int, int], split: Split, variables: tuple[str, ...]):
        count = len(variables)
        self.split, self.variables = split, variables
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.mean = np.full((count, *shape), np.nan)
        self.scored = np.zeros(shape, bool)
        self.std = np.full(shape, np.nan)
        self.quantiles = np.full((len(LEVELS), *shape), np.nan)
        self.mean_season = np.zeros((2, *shape))
        self.training_days = np.zeros(shape, int)
        self.observed_cells: Int[np.ndarray, "time"] | int = 0
        self.record = self.days = np.empty(0, "datetime64[D]")  # all days, and those of the training period

    def add(self, ds: xr.Dataset, window: Window) -> None:
        """Count the values of some rows and columns, which `ds` holds."""
        day = ds["time"].values.astype("datetime64[D]")
        valid = np.isfinite(ds["soil_moisture"].values)
        scored = valid[day < self.split.test[0][0]].any(axis=0)
        training = in_spans(day, self.split.train)
        self.record, self.days = day, day[training]
        for number, name in enumerate(self.variables):
            days = ds[name].values[training] if "time" in ds[name].dims else ds[name].values[None]
            values = days[:, scored].astype(np.float64)
            self.low[number] = np.fmin.reduce(values, axis=None, initial=self.low[number])
            self.high[number] = np.fmax.reduce(values, axis=None, initial=self.high[number])
            self.mean[number, *window][scored] = _mean_of_valid(values)
            if name == "soil_moisture":
                std, *quantiles = std_and_quantiles(values)
                self.std[window][scored] = std
                self.quantiles[:, *window][:, scored] = quantiles
        days = valid[training].sum(axis=0)
        waves = annual_harmonics(day[training], 1)[:, 1:]
        self.scored[window], self.training_days[window] = scored, days
        self.mean_season[:, *window] = np.tensordot(waves.T, valid[training], 1) / np.maximum(days, 1)
        self.observed_cells = self.observed_cells + (valid & scored).sum(axis=(1, 2))

    def statistics(self) -> Statistics:
        """Raises UserError where a variable has no valid value in the training period."""
        self._refuse_empty()
        cell_mean = np.full(self.mean.shape, np.nan, np.float32)
        for number in range(len(self.variables)):
            mean = self.mean[number]
            known = np.isfinite(mean)
            cell_mean[number, self.scored] = np.where(known, mean, mean[known].mean())[self.scored]
        squares = np.nan_to_num(self.std) ** 2 * self.training_days
        shrunk_std = np.sqrt((squares + PRIOR_DAYS * PRIOR_STD**2) / (self.training_days + PRIOR_DAYS))
        return Statistics(
            low=self.low.astype(np.float32),
            high=self.high.astype(np.float32),
            cell_mean=cell_mean,
            scored=self.scored,
            std=self.std.astype(np.float32),
            quantiles=self.quantiles.astype(np.float32),
            shrunk_std=shrunk_std.astype(np.float32),
            mean_season=self.mean_season.astype(np.float32),
            training_days=self.training_days,
            observed_cells=self.observed_cells,
            variables=self.variables,
        )

    def _refuse_empty(self) -> None:
        """Raises UserError where no day lies in the training period, or a variable has no valid value there."""
        period = f"the training period {format_periods(self.split.train)}"
        if not len(self.days):
            first, last = self.record[[0, -1]]
            raise UserError(f"The record has no valid value in {period}, and no day: it runs from {first} to {last}.")
        # soil moisture first: where it is missing, no cell is scored, and the others seem to be missing too
        for name in sorted(self.variables, key=lambda name: name != "soil_moisture"):
            if not np.isfinite(self.mean[self.variables.index(name)]).any():
                raise UserError(f"{name} has no valid value in {period}.")


def _mean_of_valid(values: Float[np.ndarray, "time cell"]) -> Float[np.ndarray, "cell"]:
    """The mean of each cell's valid values; NaN where there is none."""
    valid = np.isfinite(values)
    count = valid.sum(axis=0)
    total = np.where(valid, values, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


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
    start: Float32[np.ndarray, "point lat lon"],
    end: Float32[np.ndarray, "point lat lon"],
) -> Float[Tensor, "*sample lat lon"]:
    """Each cell's values carried from the points `start` to the points `end` by straight lines between them.

    Beyond the outer points, the outer lines go on. With strictly increasing points the way back is
    `map_quantiles(values, end, start)`. NaN stays NaN.
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(points)).to(values.device) for points in (start, end))
    slope = y.diff(dim=0) / x.diff(dim=0)
    carried = y[0] + slope[0] * (values - x[0])
    for i in range(1, len(slope)):
        carried = torch.where(values < x[i], carried, y[i] + slope[i] * (values - x[i]))
    return carried
