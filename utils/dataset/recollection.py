"""What the compact model sees: the memory of utils/dataset/memory.py, and a little more, as maps of the last input day.

rain since the last observation, rain to the west (weather comes from there), the season less its mean over the cell's
own observations (or a record of one summer would take its mean for the year's), and the cell's means and deviation.
Soil temperature is left out: it was of no use on the real record, whatever the model.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.ndimage import uniform_filter

from utils.common.periods import annual_harmonics, starts_of_runs
from utils.dataset.memory import MOISTURE_SCALES, RAIN_LAGS, RAIN_SCALES, Memory, physical
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE, Statistics

PAST = (
    *(f"moisture_anomaly_{days}" for days in MOISTURE_SCALES),
    *(f"root_rain_{days}" for days in RAIN_SCALES),
    *(f"root_rain_lag_{lag}" for lag in RAIN_LAGS),
    "last_anomaly",
    "last_anomaly_age",
)
DYNAMIC = (
    *PAST,
    "root_rain_since",
    "season_cosine",
    "season_sine",
    "root_rain_west",
    f"root_rain_west_{RAIN_SCALES[0]}",
)
STATIC = ("mean_precipitation", "mean_soil_moisture", "deviation")
SHIFTED = np.array([name.endswith("anomaly") or name.startswith("moisture_anomaly") for name in DYNAMIC])
STALE = 7  # days: an older observation counts as one of this age, and rain since it up to then: none were learned from
WEST, BOX = 2, 3  # cells: the rain to the west is that of BOX × BOX cells, as far away
REACH = WEST + BOX // 2


def static_of(statistics: Statistics) -> Float32[np.ndarray, "static lat lon"]:
    fixed = np.stack([statistics.cell_mean[0], statistics.cell_mean[MOISTURE], statistics.seen[0]])
    return np.where(statistics.scored, fixed, 0).astype(np.float32)


def maps_of(record: Record) -> Float32[np.ndarray, "time dynamic lat lon"]:
    """The DYNAMIC features at the end of each day."""
    memory, scored = Memory(record), record.statistics.scored
    found = np.empty((len(record.days), len(DYNAMIC), *scored.shape), np.float32)
    for channel, name in enumerate(PAST):
        found[:, channel] = memory[name]
    age = memory["last_anomaly_age"].copy()
    found[:, DYNAMIC.index("last_anomaly_age")] = np.minimum(age, STALE)
    del memory
    rain = np.where(scored, np.sqrt(np.maximum(physical(record, "precipitation"), 0)), 0)
    seen, since = np.isfinite(record.observed), np.zeros(scored.shape, np.float32)
    for day, starts in enumerate(starts_of_runs(record.days)):
        since = np.where(seen[day] | starts, 0, since + np.where(age[day] <= STALE, rain[day], 0))
        found[day, len(PAST)] = since
    season = annual_harmonics(record.days, 1)[:, 1:, None, None] - record.statistics.seen[1:]
    found[:, len(PAST) + 1 : len(PAST) + 3] = season
    eastward = bool(record.grid.lon[-1] >= record.grid.lon[0])
    recent = found[:, DYNAMIC.index("root_rain_3")]
    for channel, values in ((-2, rain), (-1, recent)):
        found[:, channel] = western(values, scored, eastward)
    found[:, :, ~scored] = 0
    return found


def western(
    values: Float[np.ndarray, "time lat lon"], scored: Bool[np.ndarray, "lat lon"], eastward: bool
) -> Float[np.ndarray, "time lat lon"]:
    """Mean over the scored ones of BOX × BOX cells, WEST cells to the west; 0 where there is none. Columns run eastward
    or westward."""
    size = (BOX, BOX)
    total = uniform_filter(values.astype(np.float32), (0, *size), mode="constant")
    count = uniform_filter(scored.astype(np.float32), size, mode="constant")
    mean = np.where(count > 1e-6, total / np.maximum(count, 1e-6), 0)
    there = np.zeros_like(mean)
    if eastward:
        there[..., WEST:] = mean[..., :-WEST]
    else:
        there[..., :-WEST] = mean[..., WEST:]
    return there
