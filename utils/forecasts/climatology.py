"""What is usual for a cell on a day of the year: the annual cycle of its soil moisture, and how far it strays."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from utils.common.periods import season_of
from utils.dataset.statistics import std_and_quantiles
from utils.forecasts.calibration import FEWEST, OutOfSample
from utils.scores.baselines import HARMONICS, annual_cycle, at_days
from utils.scores.metrics import SEASONS

PARTS = (np.arange(41) + 0.5) / 41  # of the quantiles: the middles of equal parts of the days


@dataclass(frozen=True)
class Climatology:
    """The climatology of the days that runs learned from."""

    mean: Float32[np.ndarray, "lat lon"]  # m3 m-3, NaN where nothing was observed
    cycle: Float32[np.ndarray, "lat lon term"]  # added to the mean; 0 where the days do not fill a year
    spread: Float32[np.ndarray, "season part lat lon"]  # quantiles of what is left, m3 m-3
    all_year: bool

    @classmethod
    def of(cls, held: OutOfSample) -> "Climatology":
        """Of the observations on the days held out, which are all days learned from."""
        valid = np.isfinite(held.observed)
        count = valid.sum(axis=0)
        total = np.where(valid, held.observed, 0).sum(axis=0, dtype=np.float64)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        anomaly, shape = held.observed - mean, held.region.shape
        cycle = np.zeros((*shape, 2 * HARMONICS + 1))
        if held.all_year:
            cycle = annual_cycle(anomaly, held.days)
        left, season = anomaly - at_days(cycle, held.days), season_of(held.days)
        spread = []
        for number in range(len(SEASONS)):
            days = season == number
            if valid[days].any(axis=(1, 2)).sum() < FEWEST:
                days = np.ones(len(days), bool)
            values = left[days].reshape(days.sum(), -1)
            spread.append(std_and_quantiles(values, PARTS)[1:].reshape(len(PARTS), *shape))
        return cls(*(np.float32(part) for part in (mean, cycle, np.stack(spread))), held.all_year)

    def expected(self, days: np.ndarray) -> Float32[np.ndarray, "time lat lon"]:
        """The climatology at these days, m3 m-3."""
        return (self.mean + at_days(self.cycle, days)).astype(np.float32)

    def percentile(
        self, anomaly: Float[np.ndarray, "time lat lon"], days: np.ndarray
    ) -> Float32[np.ndarray, "time lat lon"]:
        """Share of the season's days, 0 to 100, on which the cell strayed less from its cycle than by this anomaly.

        Between the quantiles at PARTS by straight lines, beyond them by the last line, within 0 and 100.
        """
        found = np.empty(anomaly.shape, np.float32)
        step = 100 / len(PARTS)
        for row, (values, number) in enumerate(zip(anomaly, season_of(days), strict=True)):
            knots = self.spread[number]
            below = np.clip((values >= knots).sum(axis=0), 1, len(PARTS) - 1)
            low, high = (np.take_along_axis(knots, below[None] - i, axis=0)[0] for i in (1, 0))
            part = np.where(high > low, (values - low) / np.maximum(high - low, 1e-9), 0.5)
            found[row] = np.where(np.isfinite(values + low), step * (below - 0.5 + part), np.nan)
        return np.clip(found, 0, 100)
