"""The climatology of a cell: its annual cycle, and how far days of a year that it has not seen lie from the cycle.

cycle        The cell's mean and two harmonics of the year, from all days that the runs learned from.
deviations   Of the days of each year from the cycle of the other years (leave one year out). A short record's own cycle
             follows the weather of its years, so deviations from it are too small: on the synthetic sample, 27 % of
             the next year's days lay below the 10th percentile that three years had given in this way.
percentiles  The cycle plus quantiles of these deviations in the month of the day, the month before and the month after.
             They vary from month to month and from cell to cell.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from utils.dataset.statistics import std_and_quantiles
from utils.forecasts.calibration import FEWEST, OutOfSample
from utils.scores.baselines import HARMONICS, annual_cycle, at_days

DRY, WET = 0.1, 0.9  # levels of the percentiles beyond which a day is unusually dry or wet
PARTS = np.array([0.01, 0.02, 0.05, DRY, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, WET, 0.95, 0.98, 0.99])
FEWEST_YEARS = 2  # with fewer, no year can be left out, and nothing is said of unseen years
YEAR = 365.25  # days
MONTHS = 12


@dataclass(frozen=True)
class Climatology:
    """The climatology of the days that the runs learned from."""

    mean: Float32[np.ndarray, "lat lon"]  # m3 m-3, NaN where nothing was observed
    cycle: Float32[np.ndarray, "lat lon term"]  # added to the mean; 0 where the days do not fill a year
    spread: Float32[np.ndarray, "month part lat lon"]  # quantiles of the deviations at PARTS, m3 m-3
    all_year: bool  # whether the days fill a year
    years: int  # of which each was left out once; 1 where deviations are those of the record's own days

    @classmethod
    def of(cls, sample: OutOfSample) -> "Climatology":
        """From the observations on the held-out days, which together are all days that the runs learned from."""
        mean, cycle = _mean_and_cycle(sample.observed, sample.days, sample.all_year)
        deviation, years = _deviations(sample)
        return cls(
            mean=mean.astype(np.float32),
            cycle=cycle.astype(np.float32),
            spread=_quantiles_by_month(deviation, sample.days),
            all_year=sample.all_year,
            years=years,
        )

    def expected(self, days: np.ndarray) -> Float32[np.ndarray, "time lat lon"]:
        """The climatology at these days, m3 m-3."""
        return (self.mean + at_days(self.cycle, days)).astype(np.float32)

    def quantile(self, level: float, days: np.ndarray) -> Float32[np.ndarray, "time lat lon"]:
        """The percentile of unseen years at these days, m3 m-3: `level` is DRY or WET, or another one of PARTS.

        NaN everywhere where the record has fewer than FEWEST_YEARS years.
        """
        if self.years < FEWEST_YEARS:
            return np.full((len(days), *self.mean.shape), np.nan, np.float32)
        part = int(np.flatnonzero(np.isclose(PARTS, level))[0])
        return self.expected(days) + self.spread[_month_of(days), part]

    def percentile(
        self, anomaly: Float[np.ndarray, "time lat lon"], days: np.ndarray
    ) -> Float32[np.ndarray, "time lat lon"]:
        """Share of the days of unseen years, in per cent, that are drier than this anomaly at that time of the year.

        Linear between the quantiles at PARTS; beyond the outer ones their line goes on, within 0 and 100.
        """
        percentile = np.empty(anomaly.shape, np.float32)
        for row, (values, month) in enumerate(zip(anomaly, _month_of(days), strict=True)):
            quantiles = self.spread[month]
            above = np.clip((values >= quantiles).sum(axis=0), 1, len(PARTS) - 1)  # the quantile above the value
            low = np.take_along_axis(quantiles, above[None] - 1, axis=0)[0]
            high = np.take_along_axis(quantiles, above[None], axis=0)[0]
            fraction = np.where(high > low, (values - low) / np.maximum(high - low, 1e-9), 0.5)
            level = PARTS[above - 1] + fraction * (PARTS[above] - PARTS[above - 1])
            percentile[row] = np.where(np.isfinite(values + low), 100 * level, np.nan)
        return np.clip(percentile, 0, 100)


def _mean_and_cycle(
    observed: Float[np.ndarray, "time lat lon"], days: np.ndarray, all_year: bool
) -> tuple[Float[np.ndarray, "lat lon"], Float[np.ndarray, "lat lon term"]]:
    """Each cell's mean, m3 m-3 (NaN where nothing was observed), and the annual cycle that is added to it."""
    valid = np.isfinite(observed)
    count = valid.sum(axis=0)
    total = np.where(valid, observed, 0).sum(axis=0, dtype=np.float64)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if not all_year:
        return mean, np.zeros((*mean.shape, 2 * HARMONICS + 1))
    return mean, annual_cycle(observed - mean, days)


def _deviations(sample: OutOfSample) -> tuple[Float[np.ndarray, "time lat lon"], int]:
    """Each day's deviation from the climatology of the other years, m3 m-3, and the number of years.

    A year is left out where the others have every month. If fewer than FEWEST_YEARS can be, the number is 1, and the
    deviations are those from the climatology of all days.
    """
    year = _number_years(sample.days)
    deviation, years = np.full(sample.observed.shape, np.nan, np.float32), 0
    for number in np.unique(year):
        inside, others = year == number, year != number
        if len(np.unique(_month_of(sample.days[others]))) < MONTHS:
            continue
        mean, cycle = _mean_and_cycle(sample.observed[others], sample.days[others], all_year=True)
        deviation[inside] = sample.observed[inside] - mean - at_days(cycle, sample.days[inside])
        years += 1
    if years >= FEWEST_YEARS:
        return deviation, years
    mean, cycle = _mean_and_cycle(sample.observed, sample.days, sample.all_year)
    return (sample.observed - mean - at_days(cycle, sample.days)).astype(np.float32), 1


def _number_years(days: np.ndarray) -> Int[np.ndarray, "time"]:
    """The year of each day, counted back from the last day; the oldest one has what is left of the record."""
    ago = (days[-1] - days).astype(int)
    count = max(1, round((ago[0] + 1) / YEAR))
    return np.minimum((ago / YEAR).astype(int), count - 1)


def _quantiles_by_month(
    deviation: Float[np.ndarray, "time lat lon"], days: np.ndarray
) -> Float32[np.ndarray, "month part lat lon"]:
    """Quantiles at PARTS, for each month from its days and those of the month before and after.

    Where no cell has FEWEST days there, from the whole year.
    """
    month, seen = _month_of(days), np.isfinite(deviation).any(axis=(1, 2))
    spread = np.empty((MONTHS, len(PARTS), *deviation.shape[1:]), np.float32)
    for number in range(MONTHS):
        near = (month - number + 1) % MONTHS <= 2
        if seen[near].sum() < FEWEST:
            near = np.ones(len(days), bool)
        values = deviation[near].reshape(near.sum(), -1)
        spread[number] = std_and_quantiles(values, PARTS)[1:].reshape(spread.shape[1:])
    return spread


def _month_of(days: np.ndarray) -> Int[np.ndarray, "time"]:
    """0 for January."""
    return days.astype("datetime64[M]").astype(int) % MONTHS
