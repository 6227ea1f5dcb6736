"""What the antecedent features are made of: a record's past days, and the functions of them.

An anomaly is the observed soil moisture less the cell's training mean. Means of past days are weighted: a day that lies
d days back weighs exp(-d / scale). The mean of past anomalies counts one observation of no anomaly among the others, so
that it fades while nothing is observed. The mean of rain is over the days since the start or the last gap. Of rain, the
square root is taken: the second half of a downpour wets the surface less.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter

from utils.common.periods import annual_harmonics, starts_of_runs
from utils.dataset.predictors import OLDEST
from utils.dataset.record import Record, last_valid
from utils.dataset.statistics import MOISTURE
from utils.dataset.upwind_rain import root_rain, upwind_rain

RECENT = 10  # days: e-folding time of the mean of a further variable
STALE = 7  # days: the compact model learned from no older observation, and counts an older one as of this age
WEST, BOX = 2, 3  # cells: in earlier versions, the mean of BOX × BOX cells whose middle lies this far to the west
REACH = WEST + BOX // 2  # cells: how far these looked
FREEZING = 273.15  # K
AROUND_FREEZING = (-10.0, 15.0)  # K, from the freezing point

Maps = Float[np.ndarray, "time lat lon"]


class Past:
    """A record's days as the features use them: maps [time, lat, lon] in units, made when they are first needed."""

    def __init__(self, record: Record, upwind: Maps | None = None):
        self.record, self._upwind = record, upwind
        self.scored = record.statistics.scored
        self.starts = starts_of_runs(record.days)

    @cached_property
    def anomaly(self) -> Maps:
        """Soil moisture less the training mean, m3 m-3; NaN where it is not observed."""
        record = self.record
        return record.hide(record.around) - record.statistics.cell_mean[MOISTURE]

    @cached_property
    def rain(self) -> Maps:
        """The square root of each day's precipitation."""
        return root_rain(self.record)

    @cached_property
    def upwind(self) -> Maps:
        """The mean of `rain` where the weather comes from."""
        if self._upwind is not None:
            return self._upwind
        return upwind_rain(self.rain, self.scored, self.record.grid)

    @cached_property
    def last(self) -> Int[np.ndarray, "time lat lon"]:
        """Position of the last observation up to each day; -1 where there is none since the start or the last gap."""
        return last_valid(self.anomaly, self.record.days)

    def days_before(self, lag: int) -> Int[np.ndarray, "time"]:
        """Position of the day `lag` days before each day, or of the first day since the start or the last gap."""
        day = np.arange(len(self.starts))
        start = np.maximum.accumulate(np.where(self.starts, day, 0))
        return np.maximum(day - lag, start)

    def age(self, oldest: int) -> Maps:
        """Days since the last observation, at most `oldest`, which also stands for none."""
        day = np.arange(len(self.record.days))[:, None, None]
        age = np.where(self.last >= 0, np.minimum(day - self.last, oldest), oldest)
        return age.astype(np.float32)


# ------------------------------------------------------------------------------------- features of the past, by the day


def past_anomaly(past: Past, scale: int) -> Maps:
    """Weighted mean of the anomalies observed so far."""
    return decayed_mean(past.anomaly, past.starts, scale, prior=1)


def past_rain(past: Past, scale: int) -> Maps:
    """Antecedent precipitation: weighted mean of the rain so far."""
    return decayed_mean(past.rain, past.starts, scale, prior=0)


def rain_before(past: Past, lag: int) -> Maps:
    """The square root of the rain `lag` days before each day.

    Where the record's start or a gap is nearer than that, it is of the first day after it.
    """
    return past.rain[past.days_before(lag)]


def last_anomaly(past: Past, _: int) -> Maps:
    """The last observed anomaly; 0 where nothing has been observed yet."""
    values = np.take_along_axis(past.anomaly, np.maximum(past.last, 0), axis=0)
    return np.where(past.last >= 0, values, np.float32(0))


def moisture_change(past: Past, lag: int) -> Maps:
    """The last observed anomaly less the one that was the last `lag` days before."""
    last = last_anomaly(past, 0)
    return last - last[past.days_before(lag)]


def temperature_change(past: Past, lag: int) -> Maps:
    """Soil temperature less that of `lag` days before."""
    temperature = past.record.physical("soil_temperature")
    return temperature - temperature[past.days_before(lag)]


def near_freezing(past: Past, _: int) -> Maps:
    """Soil temperature above the freezing point, cut where frost and thaw are far away."""
    return np.clip(past.record.physical("soil_temperature") - FREEZING, *AROUND_FREEZING)


def past_near_freezing(past: Past, scale: int) -> Maps:
    """Weighted mean of that: whether there may be snow or frozen ground."""
    return decayed_mean(near_freezing(past, 0), past.starts, scale, prior=0)


def variable_anomaly(past: Past, name: str) -> Maps:
    """A daily variable less the cell's training mean."""
    statistics = past.record.statistics
    return past.record.physical(name) - statistics.cell_mean[statistics.number(name)]


def past_variable_anomaly(past: Past, name: str) -> Maps:
    """Weighted mean of such anomalies so far, with RECENT as its scale."""
    return decayed_mean(variable_anomaly(past, name), past.starts, RECENT, prior=0)


def rain_since_observation(past: Past, _: int) -> Maps:
    """Sum of the rain since the last observation, while that is at most STALE days old."""
    observed, age = np.isfinite(past.anomaly), past.age(OLDEST)
    rain = np.where(age <= STALE, past.rain, 0)
    total = np.zeros(past.scored.shape, np.float32)
    sums = np.empty_like(past.rain)
    for day, starts in enumerate(past.starts):
        total = np.where(observed[day] | starts, 0, total + rain[day])
        sums[day] = total
    return sums


def season_anomaly(past: Past, wave: int) -> Maps:
    """Cosine (0) or sine (1) of the day of the year, less its mean over the cell's observed days.

    Without the mean, a record of one summer would take its own season for the year's.
    """
    waves = annual_harmonics(past.record.days, 1)[:, 1:]
    return waves[:, wave, None, None] - past.record.statistics.mean_season[wave]


def rain_upwind(past: Past, _: int) -> Maps:
    """Today's rain where the weather comes from."""
    return past.upwind


def past_rain_upwind(past: Past, scale: int) -> Maps:
    """Antecedent precipitation where the weather comes from."""
    return decayed_mean(past.upwind, past.starts, scale, prior=0)


def rain_to_the_west(past: Past, _: int) -> Maps:
    """Today's rain some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past.rain)


def past_rain_to_the_west(past: Past, scale: int) -> Maps:
    """Antecedent precipitation some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past_rain(past, scale))


# ------------------------------------------------------------------------------------------------------------- helpers


def decayed_mean(values: Maps, starts: Bool[np.ndarray, "time"], scale: int, prior: float) -> Maps:
    """Exponentially weighted mean of the finite values up to each day, since the start or the last gap.

    `scale` is the e-folding time in days, `prior` the weight of a value of 0 that is always among the others. The mean
    is 0 where there is nothing to average.
    """
    decay = np.exp(-1 / np.float32(scale))
    valid = np.isfinite(values)
    total = weight = np.zeros(values.shape[1:], np.float32)
    means = np.empty_like(values)
    for day, starts_here in enumerate(starts):
        if starts_here:
            total = weight = np.zeros(values.shape[1:], np.float32)
        total = total * decay + np.where(valid[day], values[day], 0)
        weight = weight * decay + valid[day]
        means[day] = total / np.maximum(weight + prior, np.finfo(np.float32).tiny)
    return means


def mean_to_the_west(past: Past, values: Maps) -> Maps:
    """Mean of `values` over a box of BOX × BOX cells whose middle lies WEST cells to the west, in the same unit.

    Only scored cells count; the mean is 0 where the box has none.
    """
    scored, grid = past.scored, past.record.grid
    inside = np.where(scored, values, 0).astype(np.float32)
    total = uniform_filter(inside, (0, BOX, BOX), mode="constant")
    count = uniform_filter(scored.astype(np.float32), (BOX, BOX), mode="constant")
    mean = np.where(count > 1e-6, total / np.maximum(count, 1e-6), 0)
    western = np.zeros_like(mean)
    if grid.lon[-1] >= grid.lon[0]:  # columns run eastward
        western[..., WEST:] = mean[..., :-WEST]
    else:
        western[..., :-WEST] = mean[..., WEST:]
    return western
