"""What the compact model learns from: cells on single days, of SMAP or of the land model as a satellite sees it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float32, Int

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.common.periods import Span, Split, in_spans, starts_of_runs
from utils.data_processing import index_batches
from utils.dataset.antecedent_features import OLDEST
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import DIMENSIONS
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE, Statistics
from utils.models.compact import STATIC, MemoryWindows

MOST_SAMPLES = 1_500_000  # to learn from
MOST_SAMPLES_OF_A_YEAR = 150_000
YEAR, SHORTEST, LEAST = 366, 90, 60  # days of a pseudo-satellite year at most, of its stretch and of it at least
SPANS = (30, 60, 90, 180, 270)  # days from which a year takes the cells' means
SHARE_OBSERVED = (0.25, 0.6)  # of a cell's days
NOISE = (0.01, 0.03)  # m3 m-3, standard deviation of a cell's white noise
RECENT = 7  # days: age of the last observation up to which a year's samples count


@dataclass(frozen=True)
class CellSamples:
    """Samples of single cells on single days."""

    x: Float32[np.ndarray, "row dynamic"]  # antecedent features, in their units
    static: Float32[np.ndarray, "row static"]  # what is the cell's own
    y: Float32[np.ndarray, "row"]  # soil moisture less the cell's mean, m3 m-3
    day: Int[np.ndarray, "row"]  # target day, in days since 1970-01-01

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: Bool[np.ndarray, "row"]) -> "CellSamples":
        """The chosen samples."""
        return CellSamples(x=self.x[chosen], static=self.static[chosen], y=self.y[chosen], day=self.day[chosen])

    @classmethod
    def concatenate(cls, parts: list["CellSamples"]) -> "CellSamples":
        """All samples of the parts."""
        return cls(
            x=np.concatenate([part.x for part in parts]),
            static=np.concatenate([part.static for part in parts]),
            y=np.concatenate([part.y for part in parts]),
            day=np.concatenate([part.day for part in parts]),
        )


def draw_observations(samples: MemoryWindows, rng: np.random.Generator) -> CellSamples:
    """Every valid target of every cell, or as many of them as MOST_SAMPLES, drawn at random."""
    possible = len(samples.target_index) * int(samples.statistics.scored.sum())
    share = MOST_SAMPLES / max(possible, 1)
    return CellSamples.concatenate([_draw_cells(windows, rng, share, oldest=OLDEST) for windows in samples])


def _draw_cells(
    windows: MemoryWindows,
    rng: np.random.Generator,
    share: float,
    oldest: int,
    truth: Float32[np.ndarray, "time lat lon"] | None = None,
) -> CellSamples:
    """A random share of the windows' cells and days.

    Their last observation is at most `oldest` days old. The target is the observation, or else the `truth`, m3 m-3.
    """
    record, parts = windows.record, []
    mean, scored = record.statistics.cell_mean[MOISTURE], record.statistics.scored
    truth = record.observed if truth is None else truth
    for samples in index_batches(len(windows), 32):
        target = windows.target_index[samples]
        features = windows.batch(samples).features[:, 0].movedim(1, -1).numpy()
        chosen = np.isfinite(truth[target]) & scored & (windows.age[target - windows.lead_days] <= oldest)
        if share < 1:
            chosen &= rng.random(chosen.shape) < share
        cells, dynamic = features[chosen], features.shape[-1] - len(STATIC) - len(windows.static)
        target_day = target[np.nonzero(chosen)[0]]
        parts.append(
            CellSamples(
                x=cells[:, :dynamic],
                static=cells[:, dynamic:],
                y=(truth[target] - mean)[chosen].astype(np.float32),
                day=record.days[target_day].astype(int),
            )
        )
    return CellSamples.concatenate(parts)


# -------------------------------------------------------------------------------------------- pseudo-satellite years


def draw_pseudo_satellite_years(samples: MemoryWindows, number: int, rng: np.random.Generator) -> CellSamples:
    """The land model as a satellite would see it, in the periods of `samples`: with gaps, with noise, and for a year.

    No other day is read, not even for the cells' means. Up to `number` years are drawn; those without an observation
    to take the means from are left out. Raises UserError where no year is left, or no stretch of SHORTEST days.
    """
    parts, data = [], samples.data
    stretches = [stretch for stretch in _days_in_a_row(data.days, samples.periods) if len(stretch) >= SHORTEST]
    if not stretches:
        raise UserError(
            f"{data.path} has no {SHORTEST} days in a row in the {samples.name} period, which pre-training needs."
        )
    for k in range(number):
        part = samples.of(samples.blocks[int(rng.integers(len(samples.blocks)))])
        year = PseudoSatelliteYear.draw(part.record, stretches[k % len(stretches)], rng)
        if np.isfinite(year.moisture[: year.span]).any():
            parts.append(year.draw_samples(part, rng))
    if not parts:
        raise UserError(f"The training period of {data.path} is too short to pre-train on.")
    return CellSamples.concatenate(parts)


def _days_in_a_row(days: np.ndarray, periods: tuple[Span, ...]) -> list[Int[np.ndarray, "day"]]:
    """Positions of the days of each stretch without a gap inside the periods."""
    inside = np.flatnonzero(in_spans(days, periods))
    return np.split(inside, np.flatnonzero(starts_of_runs(days[inside]))[1:])


@dataclass(frozen=True)
class PseudoSatelliteYear:
    """Days of the land model as a satellite would see them."""

    record: Record  # of the land model
    index: Int[np.ndarray, "day"]  # positions of the days in the record
    span: int  # the first days, from which the cells' means are taken
    moisture: Float32[np.ndarray, "day lat lon"]  # m3 m-3, with noise; NaN where it is not observed

    @classmethod
    def draw(cls, record: Record, stretch: Int[np.ndarray, "day"], rng: np.random.Generator) -> "PseudoSatelliteYear":
        """A year somewhere in a stretch of days, with cells' means from some of its first days."""
        if len(stretch) > YEAR:
            start = int(rng.integers(len(stretch) - YEAR + 1))
            stretch = stretch[start : start + YEAR]
        span = min(int(rng.choice(SPANS)), len(stretch) - LEAST)
        first = min(int(rng.integers(len(stretch) - span + 1)), len(stretch) - LEAST)
        index = stretch[first:]
        truth = record.observed[index]
        cells = truth.shape[1:]
        seen = rng.random(truth.shape, np.float32) < rng.uniform(*SHARE_OBSERVED, cells)
        noise = rng.uniform(*NOISE, cells) * rng.standard_normal(truth.shape, np.float32)
        return cls(record, index, span, moisture=np.where(seen, truth + noise, np.nan).astype(np.float32))

    @property
    def days(self) -> np.ndarray:
        return self.record.days[self.index]

    def draw_samples(self, samples: MemoryWindows, rng: np.random.Generator) -> CellSamples:
        """Its days as samples; the target is the land model's soil moisture without noise."""
        days = self.days
        daily, own = variables_of(samples.predictors).daily, self.record.statistics
        maps = {name: self.record.physical(name, self.index) for name in daily} | {"soil_moisture": self.moisture}
        coords = {"time": days.astype("datetime64[ns]"), "lat": self.record.grid.lat, "lon": self.record.grid.lon}
        ds = xr.Dataset({name: (DIMENSIONS, values) for name, values in maps.items()}, coords)
        ds = ds.assign({name: (DIMENSIONS[1:], own.cell_mean[own.number(name)]) for name in samples.static})
        split = Split(((days[0], days[self.span - 1]),), (), ((days[-1] + 1, days[-1] + 1),))
        statistics = Statistics.fit(ds, split, (*daily, *samples.static)).unscaled()
        weather = samples.weather.read(ds, statistics, WHOLE) if samples.weather else None
        windows = MemoryWindows(
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
        share = MOST_SAMPLES_OF_A_YEAR / (len(windows) * statistics.scored.sum())
        return _draw_cells(windows, rng, share, oldest=RECENT, truth=self.record.observed[self.index])
