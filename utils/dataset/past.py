"""A record's days as antecedent features see them: a chain of days, each with the day before it.

Some inputs may reach us later than soil moisture. From a forecast's initial day, such a variable is then missing on its
last days. So each initial day gets late days of its own behind those of the record: copies of its last days, on which
the late variables are missing. The chain of an initial day runs over its late days back to the record's days:

    record     1 Jun  2 Jun  3 Jun  4 Jun            4 Jun's rain is known on its own row
    late                └─── 3 Jun' 4 Jun'           from 4 June, with rain that ends two days earlier
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from utils.common.periods import starts_of_runs
from utils.dataset.record import Record, last_valid
from utils.dataset.statistics import MOISTURE
from utils.dataset.upwind_rain import root_rain, upwind_rain

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

    `upwind` is the rain upwind of a record that is a part of a larger map, with that of the mean rain in the last row.
    """

    def __init__(self, record: Record, upwind: Maps | None = None, late: LateInputs | None = None):
        self.record, self._upwind, self.late = record, upwind, late
        self.scored = record.statistics.scored
        starts = starts_of_runs(record.days)
        self.day = np.arange(len(starts))
        self.previous = np.where(starts, -1, self.day - 1)
        self.init_rows = np.empty(0, int)
        if late:
            self._add_late_days(late, starts)
        self.days = record.days[self.day]

    def _add_late_days(self, late: LateInputs, starts: Bool[np.ndarray, "time"]) -> None:
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

    @cached_property
    def rain(self) -> Maps:
        """The square root of each day's precipitation, mm0.5 day-0.5."""
        return root_rain(self.series("precipitation"))

    @cached_property
    def upwind(self) -> Maps:
        """The mean of `rain` where the weather comes from."""
        if self._upwind is None:
            return upwind_rain(self.rain, self.scored, self.record.grid)
        known = self._upwind[self.day]
        if self.late and (behind := self.late.behind.get("precipitation", 0)):
            known[self._late_rows(behind)] = self._upwind[-1]
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


def decayed_mean(values: Maps, previous: Int[np.ndarray, "time"], scale: int, prior: float) -> Maps:
    """Exponentially weighted mean of the finite values up to each day, since the start or the last gap.

    `previous` is the row of the day before, `scale` the e-folding time in days, `prior` the weight of a value of 0 that
    is always among the others. The mean is 0 where there is nothing to average.
    """
    decay = np.exp(-1 / np.float32(scale))
    weight = np.isfinite(values).astype(np.float32)
    total = np.where(weight > 0, values, np.float32(0))
    for row, before in enumerate(previous):
        if before >= 0:
            total[row] += decay * total[before]
            weight[row] += decay * weight[before]
    return total / np.maximum(weight + prior, np.finfo(np.float32).tiny)
