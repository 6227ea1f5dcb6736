"""From a prepared data set to the models' samples (contract 2).

A sample is a window of `input_days` daily maps of precipitation, soil moisture and soil temperature, and the
soil-moisture map `lead_days` after its last day: features [N, input_days, 3, H, W], target [N, H, W].

How missing values are met:
- A cell is scored if it has any valid soil moisture before the test period. In all other cells every input is
  OUTSIDE, and nothing is learned or scored there.
- Missing soil moisture and temperature of a scored cell become its last earlier valid value, never across a gap in
  `time` and never a later one; before the first valid value, the cell's mean over the training period; where there is
  none, the mean over cells. Missing precipitation becomes that mean at once: rain does not persist.
- A variable that is not among the predictors is OUTSIDE everywhere, so that the model and its first weights stay what
  they are with it; the season, if it is one, adds two channels.
- Missing targets are left out of the loss and of the metrics.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from utils.console import UserError
from utils.prepared_data import VARIABLES, Grid, grid_of
from utils.settings import SEASON, Span, Split

OUTSIDE = 0.0  # the scaled input of every variable in cells that are not scored: the training period's minimum
YEAR = 365.2425  # days
MOISTURE = list(VARIABLES).index("soil_moisture")


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is learned from the training period's data alone, and travels inside the checkpoint."""

    low: Float32[np.ndarray, "3"]  # minimum of each variable over the training period
    high: Float32[np.ndarray, "3"]  # maximum
    cell_mean: Float32[np.ndarray, "3 lat lon"]  # mean over the training period, mean over cells where there is none
    scored: Bool[np.ndarray, "lat lon"]  # cells with any valid soil moisture before the test period

    @classmethod
    def fit(cls, ds: xr.Dataset, split: Split) -> "Statistics":
        """Of a data set in memory. Raises UserError where the training period has no valid value of a variable."""
        whole = Summary.of(ds, split)
        return Summary.joined([(whole, (slice(None), slice(None)))], whole.scored.shape).statistics(split)

    def with_scaling_of(self, source: "Statistics") -> "Statistics":
        """The same cells and means, scaled as the pre-training run scaled: its weights keep their physical meaning."""
        return replace(self, low=source.low, high=source.high)

    @property
    def span(self) -> Float32[np.ndarray, "3"]:
        """The divisor of min-max scaling; 1 for a variable that is constant."""
        return np.where(self.high > self.low, self.high - self.low, 1).astype(np.float32)

    def part(self, window: tuple[slice, slice]) -> "Statistics":
        """Those of some rows and columns; low and high stay the whole map's."""
        return replace(self, cell_mean=self.cell_mean[:, *window], scored=self.scored[window])

    def to_tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(getattr(self, name))) for name in self.__dataclass_fields__}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Statistics":
        return cls(**{name: tensors[name].numpy() for name in cls.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
class Summary:
    """What Statistics are made of, of a whole map or of a part of it."""

    low: Float[np.ndarray, "3"]  # over scored cells in the training period; inf where there is no value
    high: Float[np.ndarray, "3"]  # the same, -inf
    mean: Float[np.ndarray, "3 lat lon"]  # over the training period; NaN where there is no value
    scored: Bool[np.ndarray, "lat lon"]
    observed: Int[np.ndarray, "time"]  # scored cells with valid soil moisture, each day

    @classmethod
    def of(cls, ds: xr.Dataset, split: Split) -> "Summary":
        day = ds["time"].values.astype("datetime64[D]")
        valid = np.isfinite(ds["soil_moisture"].values)
        scored = valid[day < split.test[0][0]].any(axis=0)
        training = in_spans(day, split.train)
        low, high, means = [], [], []
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
        return cls(np.array(low), np.array(high), np.stack(means), scored, (valid & scored).sum(axis=(1, 2)))

    @classmethod
    def joined(cls, parts: Iterable[tuple["Summary", tuple[slice, slice]]], shape: tuple[int, int]) -> "Summary":
        """That of a map of this shape from those of its parts and where they lie."""
        low, high, observed = np.full(3, np.inf), np.full(3, -np.inf), 0
        mean, scored = np.full((3, *shape), np.nan), np.zeros(shape, bool)
        for part, window in parts:
            low, high = np.minimum(low, part.low), np.maximum(high, part.high)
            mean[:, *window], scored[window] = part.mean, part.scored
            observed = observed + part.observed
        return cls(low, high, mean, scored, observed)

    def statistics(self, split: Split) -> Statistics:
        """Raises UserError where the training period has no valid value of a variable."""
        means = np.full(self.mean.shape, np.nan, np.float32)
        for mean, found, name in zip(means, self.mean, VARIABLES, strict=True):
            known = np.isfinite(found)
            if not known.any():
                raise UserError(f"{name} has no valid value in the training period {_named(split.train)}.")
            mean[self.scored] = np.where(known, found, found[known].mean())[self.scored]
        return Statistics(np.float32(self.low), np.float32(self.high), means, self.scored)


class Batch(NamedTuple):
    """Some samples: scaled features and target, and where the target is valid."""

    features: Float[Tensor, "batch day channel lat lon"]
    target: Float[Tensor, "batch lat lon"]  # scaled; 0 where not valid
    valid: Bool[Tensor, "batch lat lon"]


class Record:
    """A data set in memory with its inputs filled and scaled, from which windows are cut; 16 bytes a cell and day.

    With `own`, soil moisture counts as observed in these cells alone: the others are neighbours.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        statistics: Statistics,
        predictors: tuple[str, ...] = tuple(VARIABLES),
        own: Bool[np.ndarray, "lat lon"] | None = None,
    ):
        self.statistics = statistics
        self.grid: Grid = grid_of(ds)
        self.days = ds["time"].values.astype("datetime64[D]")
        scored = statistics.scored
        counts = scored if own is None else scored & own
        self.observed: Float32[np.ndarray, "time lat lon"] = np.where(
            counts, ds["soil_moisture"].values, np.float32(np.nan)
        )
        season = annual_harmonics(self.days, 1)[:, 1:] if SEASON in predictors else np.empty((len(self.days), 0))
        maps = np.full((len(self.days), 3 + season.shape[1], *scored.shape), OUTSIDE, np.float32)
        for channel, name in enumerate(VARIABLES):
            if name in predictors:
                scaled = (self.filled(name, ds[name].values) - statistics.low[channel]) / statistics.span[channel]
                maps[:, channel] = np.where(scored, scaled, np.float32(OUTSIDE))
        maps[:, 3:] = np.where(scored, (season[..., None, None] + 1) / 2, OUTSIDE)
        self.features: Float32[Tensor, "time channel lat lon"] = torch.from_numpy(maps)

    def filled(self, name: str, values: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """A variable in its unit, without missing values in scored cells."""
        if name != "precipitation":
            values = fill_forward(values, self.days)
        return np.where(np.isfinite(values), values, self.statistics.cell_mean[list(VARIABLES).index(name)])

    @property
    def last_observed(self) -> Float32[np.ndarray, "time lat lon"]:
        """Soil moisture of each day or the last one before it, m3 m-3; NaN in cells that are not scored."""
        return np.where(self.statistics.scored, self.filled("soil_moisture", self.observed), np.float32(np.nan))

    def unscale(self, forecast: Tensor) -> Tensor:
        """A model's output in m3 m-3."""
        return forecast * float(self.statistics.span[MOISTURE]) + float(self.statistics.low[MOISTURE])


class Windows:
    """The samples of a record whose target days lie in `periods`, as index arithmetic: nothing is copied.

    Target days without a full window, because the record starts there or has a gap, are left out and counted in
    `skipped`. Raises UserError when no sample is left.
    """

    def __init__(self, record: Record, periods: tuple[Span, ...], lead_days: int, input_days: int, name: str):
        self.record, self.lead_days, self.input_days = record, lead_days, input_days
        self.target_index, self.skipped = target_days(record.days, periods, lead_days, input_days, name)

    def __len__(self) -> int:
        return len(self.target_index)

    @property
    def valid_time(self) -> np.ndarray:
        """The target days."""
        return self.record.days[self.target_index]

    @property
    def init_time(self) -> np.ndarray:
        """The last input days."""
        return self.record.days[self.target_index - self.lead_days]

    @property
    def observed(self) -> Float32[np.ndarray, "sample lat lon"]:
        """The target in m3 m-3, NaN where not scored."""
        return self.record.observed[self.target_index]

    def input_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch day"]:
        """Positions in the record of each sample's input days, oldest first."""
        last = self.target_index[samples] - self.lead_days
        return last[:, None] + np.arange(1 - self.input_days, 1)

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        observed = torch.from_numpy(self.record.observed)[torch.from_numpy(self.target_index[samples])]
        features = self.record.features[torch.from_numpy(self.input_index(samples))]
        return scaled_batch(features, observed, self.record.statistics)


class Permuted(Windows):
    """Windows whose maps of one channel come from another sample each: its values, without their link to the target."""

    def __init__(self, windows: Windows, channel: int, seed: int = 0):
        self.__dict__.update(windows.__dict__)
        self.channel, self.order = channel, np.random.default_rng(seed).permutation(len(windows))

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        batch, other = super().batch(samples), super().batch(self.order[samples])
        batch.features[:, :, self.channel] = other.features[:, :, self.channel]
        return batch


def scaled_batch(
    features: Float[Tensor, "batch day channel lat lon"], observed: Float[Tensor, "batch lat lon"], scale: Statistics
) -> Batch:
    """`observed` is in m3 m-3, NaN where it does not count."""
    target = (observed - float(scale.low[MOISTURE])) / float(scale.span[MOISTURE])
    valid = torch.isfinite(observed)
    return Batch(features, torch.where(valid, target, 0), valid)


def target_days(
    days: np.ndarray, periods: tuple[Span, ...], lead_days: int, input_days: int, name: str
) -> tuple[Int[np.ndarray, "sample"], int]:
    """Positions of the target days in these periods that have a full window, and how many have none.

    Raises UserError when none has.
    """
    reach = lead_days + input_days - 1
    wanted = np.flatnonzero(in_spans(days, periods))
    later = wanted[wanted >= reach]
    index = later[days[later] - days[later - reach] == np.timedelta64(reach, "D")]
    if not len(index):
        raise UserError(
            f"The {name} period {_named(periods)} has {len(wanted)} days in the record ({days[0]} to {days[-1]}) but "
            f"no full window: {input_days} input days and a lead of {lead_days} need {reach + 1} days in a row."
        )
    return index, len(wanted) - len(index)


def in_spans(days: np.ndarray, periods: tuple[Span, ...]) -> Bool[np.ndarray, "time"]:
    """Which days lie in any of the periods."""
    inside = np.zeros(len(days), bool)
    for start, end in periods:
        inside |= (days >= start) & (days <= end)
    return inside


def annual_harmonics(days: np.ndarray, harmonics: int) -> Float[np.ndarray, "time term"]:
    """1 and the cosine and sine of the first harmonics of the year, at each day."""
    angle = 2 * np.pi * (days - np.datetime64("2000-01-01", "D")).astype(float)[:, None] / YEAR
    waves = [wave(k * angle) for k in range(1, harmonics + 1) for wave in (np.cos, np.sin)]
    return np.concatenate([np.ones_like(angle), *waves], axis=1)


def starts_of_runs(days: np.ndarray) -> Bool[np.ndarray, "time"]:
    """Which days do not follow the day before: the first, and the first behind each gap."""
    return np.diff(days, prepend=days[0] - 2) != np.timedelta64(1, "D")


def fill_forward(values: Float[np.ndarray, "time lat lon"], days: np.ndarray) -> Float[np.ndarray, "time lat lon"]:
    """Missing values become the last earlier valid one, never across a gap in `days`; NaN before the first."""
    source = np.where(np.isfinite(values), np.arange(len(days), dtype=np.int32)[:, None, None], -1)
    np.maximum.accumulate(source, axis=0, out=source)
    start_of_run = np.maximum.accumulate(np.where(starts_of_runs(days), np.arange(len(days), dtype=np.int32), 0))
    filled = np.take_along_axis(values, np.maximum(source, 0), axis=0)
    return np.where(source >= start_of_run[:, None, None], filled, np.float32(np.nan))


def _named(periods: tuple[Span, ...]) -> str:
    return ", ".join(f"{start} to {end}" for start, end in periods)
