"""Pseudo-satellite years: parts of the land model, with a satellite's gaps and noise and the means of a short record.

The land model has no gaps and years of days. A model that learns from it as it is would not know what to do with a
satellite's record of some months. So it learns from such years of the land model, and its target is the truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float32, Int

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.common.periods import Span, Split, in_spans, starts_of_runs
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import DIMENSIONS
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.models.compact import MemoryWindows

YEAR, SHORTEST, LEAST = 366, 90, 60  # days of a pseudo-satellite year at most, of its stretch and of it at least
SPANS = (30, 60, 90, 180, 270)  # days from which a year takes the cells' means
RECENT = 7  # days: age of the last observation up to which a year's samples count


@dataclass(frozen=True)
class View:
    """How much a satellite sees of a cell, and how well. Each cell has its own share and noise between the two."""

    share_observed: tuple[float, float]  # of the days
    noise: tuple[float, float]  # m3 m-3, standard deviation of white noise


SATELLITE = View(share_observed=(0.25, 0.6), noise=(0.01, 0.03))
COMPLETE = View(share_observed=(1.0, 1.0), noise=(0.0, 0.0))  # the land model as it is


@dataclass(frozen=True)
class PseudoSatelliteYear:
    """A year as a model sees it, and the land model's soil moisture in it."""

    windows: MemoryWindows  # of one block, in memory
    truth: Float32[np.ndarray, "day lat lon"]  # m3 m-3


def draw_years(
    samples: MemoryWindows, number: int, rng: np.random.Generator, view: View = SATELLITE
) -> Iterator[PseudoSatelliteYear]:
    """Years of the land model in the periods of `samples`, each of a block of the map drawn at random.

    No other day is read, not even for the cells' means. Up to `number` years are drawn; those without an observation
    to take the means from are left out. Raises UserError where no year is left, or no stretch of SHORTEST days.
    """
    data, drawn = samples.data, 0
    stretches = [stretch for stretch in _days_in_a_row(data.days, samples.periods) if len(stretch) >= SHORTEST]
    if not stretches:
        raise UserError(
            f"{data.path} has no {SHORTEST} days in a row in the {samples.name} period, which pre-training needs."
        )
    for k in range(number):
        part = samples.of(samples.blocks[int(rng.integers(len(samples.blocks)))])
        year = _Draw.make(part.record, stretches[k % len(stretches)], rng, view)
        if np.isfinite(year.moisture[: year.span]).any():
            drawn += 1
            yield PseudoSatelliteYear(year.make_windows(part), part.record.observed[year.index])
    if not drawn:
        raise UserError(f"The training period of {data.path} is too short to pre-train on.")


def _days_in_a_row(days: np.ndarray, periods: tuple[Span, ...]) -> list[Int[np.ndarray, "day"]]:
    """Positions of the days of each stretch without a gap inside the periods."""
    inside = np.flatnonzero(in_spans(days, periods))
    return np.split(inside, np.flatnonzero(starts_of_runs(days[inside]))[1:])


@dataclass(frozen=True)
class _Draw:
    """Days of the land model as a satellite would see them."""

    record: Record  # of the land model
    index: Int[np.ndarray, "day"]  # positions of the days in the record
    span: int  # the first days, from which the cells' means are taken
    moisture: Float32[np.ndarray, "day lat lon"]  # m3 m-3, with noise; NaN where it is not observed

    @classmethod
    def make(cls, record: Record, stretch: Int[np.ndarray, "day"], rng: np.random.Generator, view: View) -> "_Draw":
        """A year somewhere in a stretch of days, with cells' means from some of its first days."""
        if len(stretch) > YEAR:
            start = int(rng.integers(len(stretch) - YEAR + 1))
            stretch = stretch[start : start + YEAR]
        span = min(int(rng.choice(SPANS)), len(stretch) - LEAST)
        first = min(int(rng.integers(len(stretch) - span + 1)), len(stretch) - LEAST)
        index = stretch[first:]
        truth = record.around[index]
        cells = truth.shape[1:]
        seen = rng.random(truth.shape, np.float32) < rng.uniform(*view.share_observed, cells)
        noise = rng.uniform(*view.noise, cells) * rng.standard_normal(truth.shape, np.float32)
        return cls(record, index, span, moisture=np.where(seen, truth + noise, np.nan).astype(np.float32))

    def make_windows(self, samples: MemoryWindows) -> MemoryWindows:
        """Its days as windows of the same kind as `samples`."""
        days = self.record.days[self.index]
        daily, own = variables_of(samples.predictors).daily, self.record.statistics
        maps = {name: self.record.physical(name, self.index) for name in daily} | {"soil_moisture": self.moisture}
        coords = {"time": days.astype("datetime64[ns]"), "lat": self.record.grid.lat, "lon": self.record.grid.lon}
        ds = xr.Dataset({name: (DIMENSIONS, values) for name, values in maps.items()}, coords)
        ds = ds.assign({name: (DIMENSIONS[1:], own.cell_mean[own.number(name)]) for name in samples.static})
        split = Split(((days[0], days[self.span - 1]),), (), ((days[-1] + 1, days[-1] + 1),))
        statistics = Statistics.fit(ds, split, (*daily, *samples.static)).unscaled()
        weather = samples.weather.read(ds, statistics, WHOLE) if samples.weather else None
        windows = type(samples)(
            Record(ds, statistics, samples.predictors, weather=weather),
            lead_days=samples.lead_days,
            input_days=1,
            periods=samples.periods,
            name=samples.name,
            predictors=samples.predictors,
            static=samples.static,
        )
        windows.names, upwind = samples.names, samples.find_upwind()
        windows.upwind = None if upwind is None else upwind[self.index]
        return windows
