"""Daily totals and means of fields that come in pieces, on the cells of the data set."""

from collections import defaultdict

import numpy as np
from jaxtyping import Float

from utils.products.regrid import Regridder

DAY = np.timedelta64(1, "D")
OVERPASSES = 2  # a day: satellites see a cell in some of them, so that any will do; of hours, all are needed
RISES = 100  # steps with more rain than the step before, to say that rain is a running sum


def day_of(stamps: np.ndarray, next_day: bool) -> np.ndarray:
    """The day of each time stamp. With `next_day`, a value stamped 00 UTC is of the day that ends there."""
    if next_day:
        stamps = stamps - np.timedelta64(1, "s")
    return stamps.astype("datetime64[D]")


class Days:
    """Adds up the steps of each day and puts finished days on the cells of the data set."""

    def __init__(self, steps: int, total: bool, regrid: Regridder | None):
        """`steps` a day are usual; `total`: they are added up, else averaged; without `regrid`, cells are kept."""
        self.steps, self.total, self.regrid = steps, total, regrid
        self.finished: dict[np.datetime64, Float[np.ndarray, "lat lon"]] = {}
        self._sum: dict[np.datetime64, Float[np.ndarray, "rows columns"]] = {}
        self._valid: dict[np.datetime64, np.ndarray] = {}
        self._steps: dict[np.datetime64, int] = defaultdict(int)

    def add(self, days: np.ndarray, values: Float[np.ndarray, "step rows columns"]) -> None:
        """Count steps; `days` has the day of each."""
        for day in np.unique(days):
            inside = values[days == day]
            valid = np.isfinite(inside)
            self._sum[day] = self._sum.get(day, 0.0) + np.where(valid, inside, 0.0).sum(axis=0)
            self._valid[day] = self._valid.get(day, 0) + valid.sum(axis=0)
            self._steps[day] += len(inside)

    def finish(self, before: np.datetime64 | None = None) -> None:
        """Finish the days before a day, or all: no later step is of them."""
        for day in sorted(day for day in self._sum if before is None or day < before):
            total, valid, steps = self._sum.pop(day), self._valid.pop(day), self._steps.pop(day)
            needed = 1 if self.steps <= OVERPASSES and not self.total else self.steps
            mean = np.where(valid >= needed, total / (1 if self.total else np.maximum(valid, 1)), np.nan)
            if steps < self.steps:
                mean[:] = np.nan
            self.finished[day] = self.regrid(mean[None])[0] if self.regrid else mean.astype(np.float32)

    @property
    def span(self) -> tuple[np.datetime64, np.datetime64] | None:
        """The first and the last finished day with a value; None where there is none."""
        valid = [day for day, values in self.finished.items() if np.isfinite(values).any()]
        return (min(valid), max(valid)) if valid else None

    def on(self, days: np.ndarray, shape: tuple[int, int]) -> Float[np.ndarray, "time lat lon"]:
        """The finished values of these days; NaN where there are none."""
        values = np.full((len(days), *shape), np.nan, np.float32)
        for row, day in enumerate(days):
            if day in self.finished:
                values[row] = self.finished[day]
        return values


class RunningSums:
    """Looks whether rain is a running sum since midnight: within a day it rises and never falls."""

    def __init__(self):
        self.rises = self.falls = 0

    def add(self, days: np.ndarray, rain: Float[np.ndarray, "step rows columns"], noise: float) -> None:
        """Look at steps that follow each other on a day, but for the first two: there the sum starts again."""
        for day in np.unique(days):
            change = np.diff(rain[days == day], axis=0)[1:]
            self.rises += int((change > noise).sum())
            self.falls += int((change < -noise).sum())

    @property
    def found(self) -> bool:
        return self.rises >= RISES and self.falls <= 0.001 * self.rises
