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
        """Raises UserError where the training period has no valid value of a variable."""
        day = ds["time"].values.astype("datetime64[D]")
        scored = np.isfinite(ds["soil_moisture"].values[day < split.test[0][0]]).any(axis=0)
        training = in_spans(day, split.train)
        low, high, means = [], [], []
        for name in VARIABLES:
            values = ds[name].values[training][:, scored].astype(np.float64)
            valid = np.isfinite(values)
            if not valid.any():
                raise UserError(f"{name} has no valid value in the training period {_named(split.train)}.")
            count = valid.sum(axis=0)
            mean = np.where(valid, values, 0).sum(axis=0) / np.maximum(count, 1)
            cell_mean = np.full(scored.shape, np.nan, np.float32)
            cell_mean[scored] = np.where(count > 0, mean, mean[count > 0].mean())
            low.append(values[valid].min())
            high.append(values[valid].max())
            means.append(cell_mean)
        return cls(np.float32(low), np.float32(high), np.stack(means), scored)

    def with_scaling_of(self, source: "Statistics") -> "Statistics":
        """The same cells and means, scaled as the pre-training run scaled: its weights keep their physical meaning."""
        return replace(self, low=source.low, high=source.high)

    @property
    def span(self) -> Float32[np.ndarray, "3"]:
        """The divisor of min-max scaling; 1 for a variable that is constant."""
        return np.where(self.high > self.low, self.high - self.low, 1).astype(np.float32)

    def to_tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(getattr(self, name))) for name in self.__dataclass_fields__}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "Statistics":
        return cls(**{name: tensors[name].numpy() for name in cls.__dataclass_fields__})


class Batch(NamedTuple):
    """Some samples: scaled features and target, and where the target is valid."""

    features: Float[Tensor, "batch day channel lat lon"]
    target: Float[Tensor, "batch lat lon"]  # scaled; 0 where not valid
    valid: Bool[Tensor, "batch lat lon"]


class Record:
    """A data set in memory with its inputs filled and scaled, from which windows are cut."""

    def __init__(self, ds: xr.Dataset, statistics: Statistics, predictors: tuple[str, ...] = tuple(VARIABLES)):
        self.statistics = statistics
        self.grid: Grid = grid_of(ds)
        self.days = ds["time"].values.astype("datetime64[D]")
        scored = statistics.scored
        moisture = ds["soil_moisture"].values
        self.observed: Float32[np.ndarray, "time lat lon"] = np.where(scored, moisture, np.float32(np.nan))
        maps = []
        for channel, name in enumerate(VARIABLES):
            values = ds[name].values
            filled = values if name == "precipitation" else fill_forward(values, self.days)
            filled = np.where(np.isfinite(filled), filled, statistics.cell_mean[channel])
            if channel == MOISTURE:
                self.last_observed: Float32[np.ndarray, "time lat lon"] = np.where(scored, filled, np.nan)
            filled = (filled - statistics.low[channel]) / statistics.span[channel]
            maps.append(np.where(scored & (name in predictors), filled, np.float32(OUTSIDE)))
        if SEASON in predictors:
            waves = (annual_harmonics(self.days, 1)[:, 1:] + 1) / 2
            maps += [np.where(scored, wave[:, None, None], OUTSIDE).astype(np.float32) for wave in waves.T]
        self.features: Float32[Tensor, "time channel lat lon"] = torch.from_numpy(np.stack(maps, axis=1))
        self.valid = torch.from_numpy(np.isfinite(self.observed))
        self.target = torch.from_numpy(self.scale(np.nan_to_num(self.observed)))

    def scale(self, moisture: np.ndarray) -> np.ndarray:
        """Soil moisture in m3 m-3 as the models see it."""
        return (moisture - self.statistics.low[MOISTURE]) / self.statistics.span[MOISTURE]

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
        reach = lead_days + input_days - 1
        wanted = np.flatnonzero(in_spans(record.days, periods))
        later = wanted[wanted >= reach]
        full = record.days[later] - record.days[later - reach] == np.timedelta64(reach, "D")
        self.target_index: Int[np.ndarray, "sample"] = later[full]
        self.skipped = len(wanted) - len(self.target_index)
        if not len(self.target_index):
            raise UserError(
                f"The {name} period {_named(periods)} has {len(wanted)} days in the record ({record.days[0]} to "
                f"{record.days[-1]}) but no full window: {input_days} input days and a lead of {lead_days} need "
                f"{reach + 1} days in a row."
            )

    def __len__(self) -> int:
        return len(self.target_index)

    def require_targets(self, name: str) -> "Windows":
        """These windows, or a UserError when no target is valid: there is nothing to learn or to choose by."""
        if not self.record.valid[torch.from_numpy(self.target_index)].any():
            days = f"{self.valid_time[0]} to {self.valid_time[-1]}"
            raise UserError(f"The {name} period has no valid soil moisture on its target days, {days}.")
        return self

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
        target = torch.from_numpy(self.target_index[samples])
        features = self.record.features[torch.from_numpy(self.input_index(samples))]
        return Batch(features, self.record.target[target], self.record.valid[target])


class Permuted(Windows):
    """Windows whose maps of one channel come from another sample each: its values, without their link to the target."""

    def __init__(self, windows: Windows, channel: int, seed: int = 0):
        self.__dict__.update(windows.__dict__)
        self.channel, self.order = channel, np.random.default_rng(seed).permutation(len(windows))

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        batch, other = super().batch(samples), super().batch(self.order[samples])
        batch.features[:, :, self.channel] = other.features[:, :, self.channel]
        return batch


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
