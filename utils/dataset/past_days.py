"""What the antecedent features are made of: a record's past days, and the functions of them.

An anomaly is the observed soil moisture less the cell's training mean. Means of past days are weighted: a day that lies
d days back weighs exp(-d / scale). The mean of past anomalies counts one observation of no anomaly among the others, so
that it fades while nothing is observed. The mean of rain is over the days since the start or the last gap. Of rain, the
square root is taken: the second half of a downpour wets the surface less.

Where rain is missing, the weighted mean of its root so far stands in: the root of the mean rain is larger than the mean
of the roots, and would make every forecast too wet.

Some inputs may reach us later than soil moisture. From a forecast's initial day, such a variable is then missing on its
last days. So each initial day gets late days of its own behind those of the record: copies of its last days, on which
the late variables are missing. Each day names the day before it; the late days lead back to the record's:

    record     1 Jun  2 Jun  3 Jun  4 Jun            the rain of 4 June is known on its own day
    late                └─── 3 Jun' 4 Jun'           from 4 June, with rain that ends two days earlier
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter

from utils.common.periods import annual_harmonics
from utils.dataset.predictors import OLDEST
from utils.dataset.record import Record, decayed_mean, last_valid
from utils.dataset.statistics import MOISTURE
from utils.dataset.upwind_rain import fill_rain, root_rain, upwind_rain

RECENT = 10  # days: e-folding time of the mean of a further variable
STALE = 7  # days: the compact model learned from no older observation, and counts an older one as of this age
WEST, BOX = 2, 3  # cells: in earlier versions, the mean of BOX × BOX cells whose middle lies this far to the west
REACH = WEST + BOX // 2  # cells: how far these looked
FREEZING = 273.15  # K
AROUND_FREEZING = (-10.0, 15.0)  # K, from the freezing point

Maps = Float[np.ndarray, "time lat lon"]


@dataclass(frozen=True, eq=False)
class LateInputs:
    """Initial days, by their positions in a record, and how many days `behind` them some variables end."""

    inits: Int[np.ndarray, "init"]
    behind: Mapping[str, int]

    @property
    def longest(self) -> int:
        return max(self.behind.values())


class Past:
    """Maps [row, lat, lon] in units, made when they are first needed. The rows are the record's days, then late days.

    day        position in the record of each row's day
    previous   row of the day before; −1 where the record starts, or a gap ends
    init_rows  row of each initial day of `late`, as it is known then; empty without `late`

    `upwind` is the rain upwind of a record that is a part of a larger map.
    """

    def __init__(self, record: Record, upwind: Maps | None = None, late: LateInputs | None = None):
        self.record, self._upwind, self.late = record, upwind, late
        self.scored = record.statistics.scored
        self.day, self.previous = np.arange(len(record.days)), record.previous
        self.init_rows = np.empty(0, int)
        if late:
            self._add_late_days(late)
        self.days = record.days[self.day]

    def _add_late_days(self, late: LateInputs) -> None:
        starts = self.previous < 0
        day = late.inits[:, None] + np.arange(1 - late.longest, 1)  # [init, late day]
        row = len(starts) + np.arange(day.size).reshape(day.shape)
        previous = np.hstack([day[:, :1] - 1, row[:, :-1]])
        day = np.maximum(day, 0)  # where the record starts, the chain does too
        self.init_rows = row[:, -1]
        self.day = np.append(self.day, day)
        self.previous = np.append(self.previous, np.where(starts[day], -1, previous))

    def series(self, name: str) -> Maps:
        """A variable as the inputs have it, filled, in its own unit."""
        values = self.record.physical(name)
        if not self.late:
            return values
        known = values[self.day]
        if behind := self.late.behind.get(name, 0):
            statistics, number = self.record.statistics, self.record.statistics.number(name)
            stand_in = self.record.stand_in(name, self.late.inits, behind)
            known[self._late_rows(behind)] = stand_in[:, None] * statistics.span[number] + statistics.low[number]
        return known

    def _late_rows(self, behind: int) -> Int[np.ndarray, "init late_day"]:
        """The rows on which a variable is missing that ends so many days behind each initial day."""
        return self.init_rows[:, None] + np.arange(1 - behind, 1)

    @cached_property
    def anomaly(self) -> Maps:
        """Soil moisture less the training mean, m3 m-3; NaN where it is not observed."""
        record = self.record
        moisture = record.hide(record.around) - record.statistics.cell_mean[MOISTURE]
        return moisture[self.day] if self.late else moisture

    def _lacks_rain(self) -> Bool[np.ndarray, "time lat lon"]:
        """Where precipitation is missing, or not known yet."""
        missing = self.record.lacks_rain[self.day]
        if self.late and (behind := self.late.behind.get("precipitation", 0)):
            missing[self._late_rows(behind)] = self.scored
        return missing

    @cached_property
    def rain(self) -> Maps:
        """The square root of each day's precipitation, mm0.5 day-0.5."""
        mean = self.record.statistics.cell_mean[self.record.statistics.number("precipitation")]
        return root_rain(self.series("precipitation"), self._lacks_rain(), self.previous, mean)

    @cached_property
    def upwind(self) -> Maps:
        """The mean of `rain` where the weather comes from."""
        if self._upwind is None:
            return upwind_rain(self.rain, self.scored, self.record.grid)
        known = self._upwind[self.day]
        if self.late and (behind := self.late.behind.get("precipitation", 0)):
            missing = np.zeros(known.shape, bool)
            missing[self._late_rows(behind)] = True
            return fill_rain(known, missing, self.previous, usual=np.zeros_like(known[0]))
        return known

    @cached_property
    def last(self) -> Int[np.ndarray, "time lat lon"]:
        """Position of the last observation up to each day; -1 where there is none since the start or the last gap."""
        count = len(self.record.days)
        return last_valid(self.anomaly[:count], self.record.days)[self.day]

    def days_before(self, lag: int) -> Int[np.ndarray, "time"]:
        """Row of the day `lag` days before each day, or of the first day since the start or the last gap."""
        row = np.arange(len(self.day))
        for _ in range(lag):
            row = np.where(self.previous[row] >= 0, self.previous[row], row)
        return row

    def age(self, oldest: int) -> Maps:
        """Days since the last observation, at most `oldest`, which also stands for none."""
        age = np.where(self.last >= 0, np.minimum(self.day[:, None, None] - self.last, oldest), oldest)
        return age.astype(np.float32)


# ------------------------------------------------------------------------------------- features of the past, by the day


def past_anomaly(past: Past, scale: int) -> Maps:
    """Weighted mean of the anomalies observed so far."""
    return decayed_mean(past.anomaly, past.previous, scale, prior=1)


def past_rain(past: Past, scale: int) -> Maps:
    """Antecedent precipitation: weighted mean of the rain so far."""
    return decayed_mean(past.rain, past.previous, scale, prior=0)


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
    temperature = past.series("soil_temperature")
    return temperature - temperature[past.days_before(lag)]


def near_freezing(past: Past, _: int) -> Maps:
    """Soil temperature above the freezing point, cut where frost and thaw are far away."""
    return np.clip(past.series("soil_temperature") - FREEZING, *AROUND_FREEZING)


def past_near_freezing(past: Past, scale: int) -> Maps:
    """Weighted mean of that: whether there may be snow or frozen ground."""
    return decayed_mean(near_freezing(past, 0), past.previous, scale, prior=0)


def variable_anomaly(past: Past, name: str) -> Maps:
    """A daily variable less the cell's training mean."""
    statistics = past.record.statistics
    return past.series(name) - statistics.cell_mean[statistics.number(name)]


def past_variable_anomaly(past: Past, name: str) -> Maps:
    """Weighted mean of such anomalies so far, with RECENT as its scale."""
    return decayed_mean(variable_anomaly(past, name), past.previous, RECENT, prior=0)


def rain_since_observation(past: Past, _: int) -> Maps:
    """Sum of the rain since the last observation, while that is at most STALE days old."""
    observed, age = np.isfinite(past.anomaly), past.age(OLDEST)
    rain = np.where(age <= STALE, past.rain, 0)
    sums = np.zeros_like(past.rain)
    for row, before in enumerate(past.previous):
        if before >= 0:
            sums[row] = np.where(observed[row], 0, sums[before] + rain[row])
    return sums


def season_anomaly(past: Past, wave: int) -> Maps:
    """Cosine (0) or sine (1) of the day of the year, less its mean over the cell's observed days.

    Without the mean, a record of one summer would take its own season for the year's.
    """
    waves = annual_harmonics(past.days, 1)[:, 1:]
    return waves[:, wave, None, None] - past.record.statistics.mean_season[wave]


def rain_upwind(past: Past, _: int) -> Maps:
    """Today's rain where the weather comes from."""
    return past.upwind


def past_rain_upwind(past: Past, scale: int) -> Maps:
    """Antecedent precipitation where the weather comes from."""
    return decayed_mean(past.upwind, past.previous, scale, prior=0)


def rain_to_the_west(past: Past, _: int) -> Maps:
    """Today's rain some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past.rain)


def past_rain_to_the_west(past: Past, scale: int) -> Maps:
    """Antecedent precipitation some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past_rain(past, scale))


# ------------------------------------------------------------------------------------------------------------- helpers


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
