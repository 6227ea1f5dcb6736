"""What a cell's past says about its next days, as maps a regression or a small network can read.

A recurrent network has to find out for itself that a soil remembers; here the memory is written down. Every feature is
known at the end of its day and is updated from the day before, so that one pass over the days gives all of them. No
memory crosses a gap in `time`: it starts afresh behind it.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from utils.common.periods import annual_harmonics, starts_of_runs
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE


class Feature(NamedTuple):
    """One map of the memory: its unit, and how far back it reaches."""

    name: str
    unit: str
    days: int  # e-folding time of an exponentially weighted mean, the lag of a daily value, OLDEST for the age


MOISTURE_SCALES = (5, 20, 60)  # days
RAIN_SCALES = (3, 10, 30)  # days
RAIN_LAGS = (0, 1, 2)  # days before the last input day
OLDEST = 30  # days; the age of an older observation, and of none
ROOT_RAIN = "mm0.5 day-0.5"  # the root of a day's rain: the second half of a downpour wets the surface less
DAILY = (
    *(Feature(f"moisture_anomaly_{days}", "m3 m-3", days) for days in MOISTURE_SCALES),
    *(Feature(f"root_rain_{days}", ROOT_RAIN, days) for days in RAIN_SCALES),
    *(Feature(f"root_rain_lag_{lag}", ROOT_RAIN, lag) for lag in RAIN_LAGS),
    Feature("last_anomaly", "m3 m-3", OLDEST),
    Feature("last_anomaly_age", "day", OLDEST),
    Feature("soil_temperature_anomaly", "K", 0),
)
FIXED = (
    Feature("mean_precipitation", "mm day-1", 0),
    Feature("mean_soil_moisture", "m3 m-3", 0),
    Feature("mean_soil_temperature", "K", 0),
)
SEASONAL = (Feature("season_cosine", "1", 0), Feature("season_sine", "1", 0))
FEATURES = (*DAILY, *FIXED, *SEASONAL)


class Memory:
    """The FEATURES of every day of a record, in their units; 0 in cells that are not scored, finite everywhere.

    An anomaly is from the cell's training mean. The mean of past anomalies counts one observation of no anomaly among
    the others, so that it fades by day while nothing is observed; the mean of rain is over the days since the start or
    the last gap, which also bound the lags. Where nothing has been observed yet, the last anomaly is 0 and OLDEST days
    old.

    DAILY features take 48 bytes a cell and day; those that are the same every day or everywhere are added by `at`.
    """

    def __init__(self, record: Record):
        self.record = record
        scored = record.statistics.scored
        anomaly = record.shown(record.observed) - record.statistics.cell_mean[MOISTURE]
        rain = np.sqrt(np.maximum(physical(record, "precipitation"), 0))
        temperature = physical(record, "soil_temperature") - record.statistics.cell_mean[-1]
        self.daily: Float32[np.ndarray, "time feature lat lon"] = np.empty(
            (len(record.days), len(DAILY), *scored.shape), np.float32
        )
        every = np.ones(scored.shape, bool)
        for day, starts in enumerate(starts_of_runs(record.days)):
            if starts:
                start = day
                moist, wet = DecayedMean(MOISTURE_SCALES, 1, scored.shape), DecayedMean(RAIN_SCALES, 0, scored.shape)
                last, age = np.zeros(scored.shape, np.float32), np.full(scored.shape, OLDEST, np.float32)
            seen = np.isfinite(anomaly[day])
            last = np.where(seen, anomaly[day], last)
            age = np.where(seen, 0, np.minimum(age + 1, OLDEST))
            recent = [rain[max(day - lag, start)] for lag in RAIN_LAGS]
            means = *moist.update(anomaly[day], seen), *wet.update(rain[day], every)
            self.daily[day] = np.stack([*means, *recent, last, age, temperature[day]])
        self.daily[:, :, ~scored] = 0

    def __getitem__(self, name: str) -> Float32[np.ndarray, "time lat lon"]:
        """One DAILY feature by its name."""
        return self.daily[:, [feature.name for feature in DAILY].index(name)]

    def at(self, index: Int[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch feature lat lon"]:
        """All FEATURES at the end of the days at these positions in the record."""
        statistics = self.record.statistics
        fixed = np.where(statistics.scored, statistics.cell_mean, 0)
        season = annual_harmonics(self.record.days[index], 1)[:, 1:, None, None] * statistics.scored
        fixed = np.broadcast_to(fixed, (len(index), *fixed.shape))
        return np.concatenate([self.daily[index], fixed, season], axis=1, dtype=np.float32)


class DecayedMean:
    """Exponentially weighted means of what was seen: a value of d days ago weighs exp(-d / scale).

    `prior` is the weight of a value of 0 that is always among them. 0 where there is nothing to average.
    """

    def __init__(self, scales: tuple[int, ...], prior: float, shape: tuple[int, ...]):
        self.decay = np.exp(-1 / np.float32(scales))[:, None, None]
        self.prior = prior
        self.total = np.zeros((len(scales), *shape), np.float32)
        self.weight = np.zeros_like(self.total)

    def update(
        self, values: Float[np.ndarray, "lat lon"], seen: Bool[np.ndarray, "lat lon"]
    ) -> Float[np.ndarray, "scale lat lon"]:
        """The means after one more day, whose values count where they were seen."""
        self.total = self.total * self.decay + np.where(seen, values, 0)
        self.weight = self.weight * self.decay + seen
        return self.total / np.maximum(self.weight + self.prior, np.finfo(np.float32).tiny)


def physical(
    record: Record, name: str, days: slice | Int[np.ndarray, "day"] = slice(None)
) -> Float[np.ndarray, "day lat lon"]:
    """A variable of these days of the record as its inputs have it, filled, in its own unit."""
    channel = list(VARIABLES).index(name)
    return record.features.numpy()[days, channel] * record.statistics.span[channel] + record.statistics.low[channel]
