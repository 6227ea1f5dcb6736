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
- Nothing of a later day than the last input day is seen, unless a model is to know the weather of the days up to the
  target (`Ahead`): then each of their maps is one more channel, the same on every input day.

Where a run is matched to the climate of its pre-training (utils/dataset/bias_correction.py), soil moisture is carried there by its
cell's knots before it is scaled, as input and as target, and a forecast is carried back.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32
from torch import Tensor

from utils.common.cli import UserError
from utils.common.periods import annual_harmonics, in_spans, named, starts_of_runs
from utils.dataset.prepared import VARIABLES, WHOLE, Grid, grid_of
from utils.dataset.statistics import MOISTURE, Statistics
from utils.settings import SEASON, Span

OUTSIDE = 0.0  # the scaled input of every variable in cells that are not scored: the training period's minimum


class Batch(NamedTuple):
    """Some samples: scaled features and target, and where the target is valid."""

    features: Float[Tensor, "batch day channel lat lon"]
    target: Float[Tensor, "batch lat lon"]  # scaled; 0 where not valid
    valid: Bool[Tensor, "batch lat lon"]


@dataclass(frozen=True, eq=False)
class Ahead:
    """Weather of the days ahead of those of a record: its own days later (a perfect forecast), or forecasts of them."""

    scaled: dict[str, Float32[Tensor, "map lat lon"]]  # by variable; scaled like it, OUTSIDE where nothing is scored
    rows: Int[np.ndarray, "time lead"]  # which maps lie ahead of each day, the next day first; −1: it has none
    statistics: Statistics

    @classmethod
    def of(
        cls, maps: dict[str, Float[np.ndarray, "map lat lon"]], rows: Int[np.ndarray, "time lead"], scale: Statistics
    ) -> "Ahead":
        """From maps in their units; a missing value becomes the cell's mean over the training period."""
        found = {}
        for name, values in maps.items():
            channel = list(VARIABLES).index(name)
            filled = np.where(np.isfinite(values), values, scale.cell_mean[channel])
            scaled = (filled - scale.low[channel]) / scale.span[channel]
            found[name] = torch.from_numpy(np.where(scale.scored, scaled, np.float32(OUTSIDE)).astype(np.float32))
        return cls(found, rows, scale)

    def channels(
        self, last: Int[np.ndarray, "batch"], cells: tuple[slice, slice] = WHOLE
    ) -> Float32[Tensor, "batch map lat lon"]:
        """All maps of the days ahead of these positions in the record: variable by variable, lead by lead."""
        rows = self._rows(last)
        return torch.cat([maps[(rows, *cells)] for maps in self.scaled.values()], dim=1)

    def maps(self, name: str, last: Int[np.ndarray, "batch"]) -> Float32[Tensor, "batch lead lat lon"]:
        """One variable of the days ahead of these positions in the record, in its unit; 0 where nothing is scored."""
        channel, scale = list(VARIABLES).index(name), self.statistics
        maps = self.scaled[name][self._rows(last)] * float(scale.span[channel]) + float(scale.low[channel])
        return torch.where(torch.from_numpy(scale.scored), maps, 0)

    def _rows(self, last: Int[np.ndarray, "batch"]) -> Int[Tensor, "batch lead"]:
        rows = self.rows[last]
        if (rows < 0).any():
            raise IndexError("a day of the record has no weather ahead")
        return torch.from_numpy(rows)


class Record:
    """A data set in memory with its inputs filled and scaled, from which windows are cut; 16 bytes a cell and day.

    With `own`, soil moisture counts as observed in these cells alone: the others are neighbours. Where it is `hidden`,
    inputs lack it, as if it were missing; targets do not. `ahead` is the weather of later days that its samples may
    see.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        statistics: Statistics,
        predictors: tuple[str, ...] = tuple(VARIABLES),
        own: Bool[np.ndarray, "lat lon"] | None = None,
        hidden: Bool[np.ndarray, "time #lat #lon"] | None = None,
        ahead: Ahead | None = None,
    ):
        self.statistics, self.hidden, self.ahead = statistics, hidden, ahead
        self.grid: Grid = grid_of(ds)
        self.days = ds["time"].values.astype("datetime64[D]")
        scored = statistics.scored
        counts = scored if own is None else scored & own
        self.observed: Float32[np.ndarray, "time lat lon"] = np.where(
            counts, ds["soil_moisture"].values, np.float32(np.nan)
        )
        self.target = statistics.matched(torch.from_numpy(self.observed))  # without matching, the same memory
        season = annual_harmonics(self.days, 1)[:, 1:] if SEASON in predictors else np.empty((len(self.days), 0))
        maps = np.full((len(self.days), 3 + season.shape[1], *scored.shape), OUTSIDE, np.float32)
        for channel, name in enumerate(VARIABLES):
            if name in predictors:
                scaled = (self.given(name, ds[name].values) - statistics.low[channel]) / statistics.span[channel]
                maps[:, channel] = np.where(scored, scaled, np.float32(OUTSIDE))
        maps[:, 3:] = np.where(scored, (season[..., None, None] + 1) / 2, OUTSIDE)
        self.features: Float32[Tensor, "time channel lat lon"] = torch.from_numpy(maps)

    def given(self, name: str, values: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """A variable as the inputs have it, in its unit."""
        if name != "soil_moisture":
            return self.filled(name, values)
        return self.statistics.matched(torch.from_numpy(self.filled(name, self.shown(values)))).numpy()

    def filled(self, name: str, values: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """A variable in its unit, without missing values in scored cells."""
        if name != "precipitation":
            values = fill_forward(values, self.days)
        return np.where(np.isfinite(values), values, self.statistics.cell_mean[list(VARIABLES).index(name)])

    def shown(self, moisture: Float[np.ndarray, "time lat lon"]) -> Float[np.ndarray, "time lat lon"]:
        """Soil moisture as inputs may know it: NaN where it is hidden."""
        return moisture if self.hidden is None else np.where(self.hidden, np.float32(np.nan), moisture)

    @property
    def last_observed(self) -> Float32[np.ndarray, "time lat lon"]:
        """Soil moisture of each day or the last one before it, m3 m-3; NaN in cells that are not scored."""
        return np.where(self.statistics.scored, self.filled("soil_moisture", self.observed), np.float32(np.nan))

    @property
    def age(self) -> Int16[np.ndarray, "time lat lon"]:
        """Days since soil moisture was last observed; -1 where it was not since the start or the last gap."""
        source = last_valid(self.observed, self.days)
        return np.where(source >= 0, np.arange(len(self.days))[:, None, None] - source, -1).astype(np.int16)

    def unscale(self, forecast: Tensor) -> Tensor:
        """A model's output in m3 m-3."""
        scale = self.statistics
        return scale.unmatched(forecast * float(scale.span[MOISTURE]) + float(scale.low[MOISTURE]))


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

    @property
    def input_age(self) -> Int16[np.ndarray, "sample lat lon"]:
        """Days from the last observation of soil moisture to the last input day; -1 where there is none."""
        return self.record.age[self.target_index - self.lead_days]

    def input_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch day"]:
        """Positions in the record of each sample's input days, oldest first."""
        return self.last_index(samples)[:, None] + np.arange(1 - self.input_days, 1)

    def last_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch"]:
        """Positions in the record of each sample's last input day."""
        return self.target_index[samples] - self.lead_days

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        target = self.record.target[torch.from_numpy(self.target_index[samples])]
        features = self.record.features[torch.from_numpy(self.input_index(samples))]
        if self.record.ahead:
            features = beside(features, self.record.ahead.channels(self.last_index(samples)))
        return scaled_batch(features, target, self.record.statistics)


class Permuted(Windows):
    """Windows whose maps of one channel come from another sample each: its values, without their link to the target."""

    def __init__(self, windows: Windows, channel: int, seed: int = 0):
        self.__dict__.update(windows.__dict__)
        self.channel, self.order = channel, np.random.default_rng(seed).permutation(len(windows))

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        batch, other = super().batch(samples), super().batch(self.order[samples])
        batch.features[:, :, self.channel] = other.features[:, :, self.channel]
        return batch


def beside(
    features: Float[Tensor, "batch day channel lat lon"], ahead: Float[Tensor, "batch map lat lon"]
) -> Float[Tensor, "batch day channels lat lon"]:
    """The features with the maps of the days ahead added to each input day, the same on each."""
    return torch.cat([features, ahead[:, None].expand(-1, features.shape[1], -1, -1, -1)], dim=2)


def scaled_batch(
    features: Float[Tensor, "batch day channel lat lon"], target: Float[Tensor, "batch lat lon"], scale: Statistics
) -> Batch:
    """`target` is in m3 m-3, matched, NaN where it does not count."""
    scaled = (target - float(scale.low[MOISTURE])) / float(scale.span[MOISTURE])
    valid = torch.isfinite(target)
    return Batch(features, torch.where(valid, scaled, 0), valid)


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
            f"The {name} period {named(periods)} has {len(wanted)} days in the record ({days[0]} to {days[-1]}) but "
            f"no full window: {input_days} input days and a lead of {lead_days} need {reach + 1} days in a row."
        )
    return index, len(wanted) - len(index)


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
