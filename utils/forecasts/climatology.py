"""The climatology of a cell: the annual cycle of its soil moisture, and the spread of its anomalies in each season."""

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
    """The climatology of the days that the runs learned from."""

    mean: Float32[np.ndarray, "lat lon"]  # m3 m-3, NaN where nothing was observed
    cycle: Float32[np.ndarray, "lat lon term"]  # added to the mean; 0 where the days do not fill a year
    spread: Float32[np.ndarray, "season part lat lon"]  # quantiles of the anomalies from the cycle, m3 m-3
    all_year: bool  # whether the days fill a year

    @classmethod
    def of(cls, sample: OutOfSample) -> "Climatology":
        """From the observations on the held-out days, which together are all days that the runs learned from."""
        valid = np.isfinite(sample.observed)
        count = valid.sum(axis=0)
        total = np.where(valid, sample.observed, 0).sum(axis=0, dtype=np.float64)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        anomaly, shape = sample.observed - mean, sample.region.shape
        cycle = annual_cycle(anomaly, sample.days) if sample.all_year else np.zeros((*shape, 2 * HARMONICS + 1))
        deviation, season = anomaly - at_days(cycle, sample.days), season_of(sample.days)
        spread = []
        for number in range(len(SEASONS)):
            days = season == number
            if valid[days].any(axis=(1, 2)).sum() < FEWEST:  # too few for quantiles: those of the whole year
                days = np.ones(len(days), bool)
            values = deviation[days].reshape(days.sum(), -1)
            spread.append(std_and_quantiles(values, PARTS)[1:].reshape(len(PARTS), *shape))
        return cls(
            mean=mean.astype(np.float32),
            cycle=cycle.astype(np.float32),
            spread=np.stack(spread).astype(np.float32),
            all_year=sample.all_year,
        )

    def expected(self, days: np.ndarray) -> Float32[np.ndarray, "time lat lon"]:
        """The climatology at these days, m3 m-3."""
        return (self.mean + at_days(self.cycle, days)).astype(np.float32)

    def percentile(
        self, anomaly: Float[np.ndarray, "time lat lon"], days: np.ndarray
    ) -> Float32[np.ndarray, "time lat lon"]:
        """Share of the season's days, in per cent, on which the cell's anomaly was smaller than this one.

        Linear between the quantiles at PARTS; beyond the outer ones their line goes on, within 0 and 100.
        """
        percentile = np.empty(anomaly.shape, np.float32)
        step = 100 / len(PARTS)
        for row, (values, number) in enumerate(zip(anomaly, season_of(days), strict=True)):
            quantiles = self.spread[number]
            above = np.clip((values >= quantiles).sum(axis=0), 1, len(PARTS) - 1)  # the quantile above the value
            low = np.take_along_axis(quantiles, above[None] - 1, axis=0)[0]
            high = np.take_along_axis(quantiles, above[None], axis=0)[0]
            fraction = np.where(high > low, (values - low) / np.maximum(high - low, 1e-9), 0.5)
            percentile[row] = np.where(np.isfinite(values + low), step * (above - 0.5 + fraction), np.nan)
        return np.clip(percentile, 0, 100)
