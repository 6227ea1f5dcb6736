"""What the compact model learns from: cells on single days, of SMAP or of the land model as a satellite sees it."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float32, Int

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.common.periods import Split, starts_of_runs
from utils.data_processing import index_batches
from utils.dataset.antecedent_features import OLDEST
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE, Statistics
from utils.models.compact import STATIC, MemoryWindows

ROWS = 1_500_000  # samples of single cells to learn from, at most
EPISODE_ROWS = 150_000
EPISODE_DAYS, SHORTEST = 366, 120  # of an episode at most, and of a stretch without a gap that one is taken from
SPANS = (30, 60, 90, 180, 270)  # days from which an episode takes the cells' means
SEEN, NOISE = (0.25, 0.6), (0.01, 0.03)  # of a cell: share of days observed, and deviation of white noise, m3 m-3
RECENT = 7  # days: age of the last observation up to which an episode's samples count


@dataclass(frozen=True)
class CellSamples:
    """Samples of single cells."""

    x: Float32[np.ndarray, "row dynamic"]
    static: Float32[np.ndarray, "row static"]
    y: Float32[np.ndarray, "row"]  # soil moisture less the cell's mean, m3 m-3
    day: Int[np.ndarray, "row"]  # number of the target day

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: Bool[np.ndarray, "row"]) -> "CellSamples":
        return CellSamples(self.x[chosen], self.static[chosen], self.y[chosen], self.day[chosen])

    @classmethod
    def joined(cls, parts: list["CellSamples"]) -> "CellSamples":
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def rows_of(samples: MemoryWindows, rng: np.random.Generator) -> CellSamples:
    """Every sample of every cell, or as many as ROWS drawn at random."""
    possible = len(samples.target_index) * int(samples.statistics.scored.sum())
    return CellSamples.joined([rows_in(windows, None, OLDEST, ROWS / max(possible, 1), rng) for windows in samples])


def rows_in(
    windows: MemoryWindows, truth: np.ndarray | None, oldest: int, share: float, rng: np.random.Generator
) -> CellSamples:
    """Samples whose last observation is at most `oldest` days old, a share of them; `truth` [time, lat, lon] stands in
    for the observation."""
    mean, parts = windows.record.statistics.cell_mean[MOISTURE], []
    for samples in index_batches(len(windows), 32):
        batch, target = windows.batch(samples), windows.target_index[samples]
        cells = batch.features[:, 0].movedim(1, -1).numpy()
        values = windows.record.observed[target] if truth is None else truth[target]
        chosen = np.isfinite(values) & windows.record.statistics.scored
        chosen &= windows.age[target - windows.lead_days] <= oldest
        if share < 1:
            chosen &= rng.random(chosen.shape) < share
        day, row, column = np.nonzero(chosen)
        found, statics = cells[day, row, column], len(STATIC)
        y = (values - mean)[day, row, column].astype(np.float32)
        days = windows.record.days[target[day]].astype(int)
        parts.append(CellSamples(found[:, :-statics], found[:, -statics:], y, days))
    return CellSamples.joined(parts)


def episodes(samples: MemoryWindows, number: int, rng: np.random.Generator) -> CellSamples:
    """The land model as a satellite would see it, on target days of `samples`."""
    found, days = [], samples.data.days
    stretches = [
        s for s in np.split(np.arange(len(days)), np.flatnonzero(starts_of_runs(days))[1:]) if len(s) >= SHORTEST
    ]
    if not stretches:
        raise UserError(f"{samples.data.path} has no {SHORTEST} days in a row, which pre-training needs.")
    for k in range(number):
        record = samples.of(samples.blocks[int(rng.integers(len(samples.blocks)))]).record
        stretch = stretches[k % len(stretches)]
        if len(stretch) > EPISODE_DAYS:
            stretch = stretch[(start := int(rng.integers(len(stretch) - EPISODE_DAYS + 1))) : start + EPISODE_DAYS]
        span = min(int(rng.choice(SPANS)), len(stretch) - 60)
        begin = min(int(rng.integers(len(stretch) - span + 1)), len(stretch) - 60)
        try:
            found.append(episode(samples, record, stretch[begin:], span, rng))
        except UserError:
            continue  # its days are none of the samples'
    if not found:
        raise UserError(f"The training period of {samples.data.path} is too short to pre-train on.")
    return CellSamples.joined(found)


def episode(
    samples: MemoryWindows, record: Record, index: np.ndarray, span: int, rng: np.random.Generator
) -> CellSamples:
    """One of them, of these days of a record; the cells' means are of its first `span` days."""
    days = record.days[index]
    truth = record.observed[index]
    cells = truth.shape[1:]
    seen = rng.random(truth.shape, np.float32) < rng.uniform(*SEEN, cells)
    noise = rng.uniform(*NOISE, cells) * rng.standard_normal(truth.shape, np.float32)
    maps = {name: record.physical(name, index) for name in VARIABLES}
    maps["soil_moisture"] = np.where(seen, truth + noise, np.nan).astype(np.float32)
    coords = {"time": days.astype("datetime64[ns]"), "lat": record.grid.lat, "lon": record.grid.lon}
    ds = xr.Dataset({name: (("time", "lat", "lon"), values) for name, values in maps.items()}, coords)
    split = Split(((days[0], days[span - 1]),), (), ((days[-1] + 1, days[-1] + 1),))
    statistics = Statistics.fit(ds, split).unscaled()
    weather = samples.weather.read(ds, statistics, WHOLE) if samples.weather else None
    windows = MemoryWindows(
        Record(ds, statistics, weather=weather),
        periods=samples.periods,
        lead_days=samples.lead_days,
        input_days=1,
        name=samples.name,
    )
    possible = len(windows) * statistics.scored.sum()
    return rows_in(windows, truth, RECENT, EPISODE_ROWS / possible, rng)
