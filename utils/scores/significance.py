"""Intervals and tests of scores that allow for errors that last for weeks.

The error of a soil-moisture forecast resembles that of the day before, whatever the lead time. So neither days nor
cells are independent. All scores here are functions of sums over cells, one row a day. Their uncertainty is that of a
daily time series with an unknown autocorrelation:

series      the influence of each day on a score: how much the day pulls it up or down (delta method)
season      errors have an annual cycle. Over whole test years the cycle is a fixed part of the mean, not sampling
            noise. So where the scored days span a year or more, the series is regressed on a constant and one annual
            harmonic, and only what is left counts as noise. Over a shorter period, season and noise cannot be told
            apart: nothing is removed, and `spans_a_year` lets tables say so
variance    of the series' mean, from its lowest B cosine frequencies (equal-weighted cosines; Lazarus et al. 2018,
            doi:10.1080/07350015.2018.1506926). This is the smooth form of batch means. The cosines are made orthogonal
            to the constant, the harmonic and each other, in order of frequency; one that loses more than half of its
            length is left out. B follows from the data: the longer errors last, the fewer frequencies say something
            about the mean
test        Student's t with B degrees of freedom: a Diebold–Mariano test whose bandwidth does not depend on the lead
seeds       several runs of one model differ by chance too. Their variance over the number of seeds is added, with
            Satterthwaite's degrees of freedom. A bootstrap over three seeds would give too narrow an interval
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control, t
from torch import Tensor

from utils.common.periods import YEAR

LEVEL = 0.05  # of the tests; intervals cover 1 − LEVEL
LAGS = (1, 2, 3, 5, 8, 12)  # days at which the autocorrelation is taken
BIAS = 0.05  # share of the variance that may be lost to too many frequencies
FEWEST, FEWEST_DAYS = 4, 20  # frequencies, at least; days, with fewer there is no interval
CELL_DAYS = 60  # days of a single cell, with fewer it is not tested
SHORTEST_YEAR = 365  # days from the first scored day to the last that make a year
SHORTEST_COSINE = 0.5  # share of its length that a cosine must keep when it is made orthogonal
CELLS_AT_ONCE = 512  # cells whose variances are made together, to bound memory
DAY, N, OBSERVED, OBSERVED_2, ERROR_2, REFERENCE_2 = range(6)  # columns of daily sums; _2 squared


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval and the p value of "it is zero"; NaN where there are too few days to tell."""

    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        return self.p < LEVEL


def daily_sums(
    observed: Float[np.ndarray, "time *cell"],
    predicted: Float[np.ndarray, "time *cell"],
    reference: Float[np.ndarray, "time *cell"],
    days: np.ndarray,
) -> Float[np.ndarray, "time moment"]:
    """The sums over cells, day by day, that all scores below are made of, in the order of DAY … REFERENCE_2.

    The fields are in m3 m-3; `observed` is NaN where nothing is scored. The forecast is compared with `reference`.
    `days` are the valid days [time].
    """
    valid = np.isfinite(observed)
    parts = (np.ones_like(observed), observed, observed**2, (predicted - observed) ** 2, (reference - observed) ** 2)
    cells = tuple(range(1, observed.ndim))
    sums = [np.where(valid, part, 0).sum(axis=cells, dtype=np.float64) for part in parts]
    return np.stack([number_days(days), *sums], axis=1)


def number_days(days: np.ndarray) -> Float[np.ndarray, "time"]:
    """Days as numbers, counted from the year 2000."""
    return (days.astype("datetime64[D]") - np.datetime64("2000-01-01", "D")).astype(np.float64)


def spans_a_year(days: Float[np.ndarray, "time"]) -> bool:
    """Whether these days, by number, reach over a year or more, so that the annual cycle can be told from noise."""
    return len(days) > 0 and days.max() - days.min() + 1 >= SHORTEST_YEAR


def rmse(mean: Tensor) -> Tensor:
    """Root-mean-square error, m3 m-3. `mean` is everywhere the mean of the daily sums over days."""
    return (mean[ERROR_2] / mean[N]).sqrt()


def r2(mean: Tensor) -> Tensor:
    """1 − MSE / variance of the observations."""
    return 1 - mean[ERROR_2] / (mean[OBSERVED_2] - mean[OBSERVED] ** 2 / mean[N])


def skill(mean: Tensor) -> Tensor:
    """1 − MSE / MSE of the reference."""
    return 1 - mean[ERROR_2] / mean[REFERENCE_2]


def mse_difference(mean: Tensor) -> Tensor:
    """MSE − MSE of the reference, m6 m-6, as in a Diebold–Mariano test (1995, J. Bus. Econ. Stat. 13)."""
    return (mean[ERROR_2] - mean[REFERENCE_2]) / mean[N]


def rmse_difference(mean: Tensor) -> Tensor:
    """RMSE minus the reference's, m3 m-3."""
    return rmse(mean) - (mean[REFERENCE_2] / mean[N]).sqrt()


def rmse_change(mean: Tensor) -> Tensor:
    """RMSE relative to the reference's, −0.1 for a tenth less."""
    return (mean[ERROR_2] / mean[REFERENCE_2]).sqrt() - 1


def estimate(sums: Sequence[Float[np.ndarray, "time moment"]], score: Callable[[Tensor], Tensor]) -> Estimate:
    """A score of one run, or of a model over several seeds, with its interval.

    `sums` has one array of daily sums for each seed, of the same days.
    """
    scored = sums[0][:, N] > 0  # a day without an observation would count as a day without error
    values, influences = zip(*(_measure_influence(seed[scored], score) for seed in sums), strict=True)
    value = float(np.mean(values))
    variance, freedom = variance_of_mean(np.mean(influences, axis=0), sums[0][scored, DAY])
    if len(values) > 1:
        between = float(np.var(values, ddof=1)) / len(values)
        total = variance + between
        if total > 0:
            freedom = total**2 / (variance**2 / freedom + between**2 / (len(values) - 1))
        variance = total
    if not np.isfinite(variance):
        return Estimate(value, low=np.nan, high=np.nan, p=np.nan)
    half = float(t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(variance))
    return Estimate(value, low=value - half, high=value + half, p=float(_p_value(value, variance, freedom)))


def compare(
    observed: Float[np.ndarray, "time *cell"],
    one: Sequence[Float[np.ndarray, "time *cell"]],
    other: Sequence[Float[np.ndarray, "time *cell"]],
    days: np.ndarray,
) -> Estimate:
    """MSE of `one` minus MSE of `other` on the same cell-days, m6 m-6; negative where `one` is better.

    Both have one array for each seed, in m3 m-3. They are paired by seed.
    """
    return estimate([daily_sums(observed, a, b, days) for a, b in zip(one, other, strict=True)], mse_difference)


def verdict(difference: Estimate) -> str:
    """Whether the first of two forecasts is better or worse, from the difference of their squared errors."""
    if np.isnan(difference.p):
        return "too few days"
    if not difference.significant:
        return "not significant"
    return "better" if difference.value < 0 else "worse"


def better_and_worse(
    difference: Float[np.ndarray, "time lat lon"],
    days: np.ndarray,
) -> tuple[Bool[np.ndarray, "lat lon"], Bool[np.ndarray, "lat lon"], Bool[np.ndarray, "lat lon"]]:
    """Cells where a forecast is significantly better, where it is significantly worse, and those that were tested.

    `difference` is its squared error minus that of another forecast, NaN where nothing is scored; `days` are the valid
    days. Cells with fewer than CELL_DAYS days are not tested. The share of false discoveries among all cells found is
    kept at LEVEL (Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57).
    """
    valid = np.isfinite(difference)
    tested = valid.sum(axis=0) >= CELL_DAYS
    p, mean = np.ones(tested.shape), np.zeros(tested.shape)
    if tested.any():
        cells = difference[:, tested].astype(np.float64)
        mean[tested] = np.nanmean(cells, axis=0)
        p[tested] = false_discovery_control(_p_value(mean[tested], *variance_of_mean(cells, number_days(days))))
    return (p < LEVEL) & (mean < 0), (p < LEVEL) & (mean > 0), tested


def variance_of_mean(
    series: Float[np.ndarray, "time *cell"], days: Float[np.ndarray, "time"]
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Variance of the time mean of an autocorrelated series, and its degrees of freedom; NaN for few days.

    `days` are the days by number. Days without a value (NaN) are taken out of each cell's series. If they stayed as
    zeros, a season without values would count as one without errors.
    """
    shape = series.shape[1:]
    flat = series.reshape(len(series), -1)
    parts = [
        _variance_of_cells(flat[:, first : first + CELLS_AT_ONCE], days)
        for first in range(0, max(flat.shape[1], 1), CELLS_AT_ONCE)
    ]
    variance, freedom = (np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True))
    return variance, freedom


def _variance_of_cells(
    series: Float[np.ndarray, "time cell"], days: Float[np.ndarray, "time"]
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    values, day, count = _take_out_gaps(series, days)
    basis = _Basis(inside=np.arange(len(values))[:, None] < count)
    basis.add(np.ones_like(values))
    last = np.maximum(count - 1, 0).astype(int)
    a_year = np.take_along_axis(day, last[None], axis=0)[0] - day[0] + 1 >= SHORTEST_YEAR
    angle = 2 * np.pi * day / YEAR
    basis.add(np.where(a_year, np.cos(angle), 0))
    basis.add(np.where(a_year, np.sin(angle), 0))
    noise = basis.remove_from(values)
    wanted = _count_frequencies(noise, count)
    clock = np.arange(len(values))[:, None] + 0.5
    power, used, frequency = np.zeros(len(count)), np.zeros(len(count)), 0
    while (used < wanted).any() and frequency < len(values):
        frequency += 1
        cosine, kept = basis.add(np.cos(np.pi * frequency * clock / np.maximum(count, 1)), least=SHORTEST_COSINE)
        chosen = kept & (used < wanted)
        power += np.where(chosen, (noise * cosine).sum(axis=0) ** 2, 0)
        used += chosen
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(count < FEWEST_DAYS, np.nan, power / used / count)
    return variance, used


class _Basis:
    """Orthonormal series, [time, cell], each made orthogonal to the earlier ones of its cell (Gram and Schmidt)."""

    def __init__(self, inside: Bool[np.ndarray, "time cell"]):
        self.inside, self.vectors = inside, []

    def add(
        self, series: Float[np.ndarray, "time cell"], least: float = 1e-6
    ) -> tuple[Float[np.ndarray, "time cell"], Bool[np.ndarray, "cell"]]:
        """Add what of a series is new; zero where less than the share `least` of its length is. Tells where it is."""
        series = np.where(self.inside, series, 0)
        rest = self.remove_from(series)
        length, whole = (np.sqrt((one**2).sum(axis=0)) for one in (rest, series))
        kept = (length > least * whole) & (length > 0)
        vector = np.where(kept, rest / np.where(kept, length, 1), 0)
        self.vectors.append(vector)
        return vector, kept

    def remove_from(self, series: Float[np.ndarray, "time cell"]) -> Float[np.ndarray, "time cell"]:
        """The part of a series that is orthogonal to the basis: the residual of a regression on it."""
        for vector in self.vectors:
            series = series - vector * (vector * series).sum(axis=0)
        return series


def _take_out_gaps(
    series: Float[np.ndarray, "time cell"], days: Float[np.ndarray, "time"]
) -> tuple[Float[np.ndarray, "time cell"], Float[np.ndarray, "time cell"], Float[np.ndarray, "cell"]]:
    """Each cell's values and their days, moved together to the start, zeros behind the values; and their number."""
    valid = np.isfinite(series)
    order = np.argsort(~valid, axis=0, kind="stable")
    values = np.take_along_axis(np.where(valid, series, 0), order, axis=0)
    return values, days[order], valid.sum(axis=0).astype(float)


def _count_frequencies(
    values: Float[np.ndarray, "time cell"], count: Float[np.ndarray, "cell"]
) -> Float[np.ndarray, "cell"]:
    """How many cosine frequencies to use: as many as keep the bias below BIAS, for an AR(1) with the series' decay.

    The decay is the slowest one seen at any of LAGS. Fast noise on top of a slow error then does not hide the slow one.
    """
    days = np.maximum(count, 1)
    variance, decay = (values**2).sum(axis=0), np.zeros(len(count))
    for lag in LAGS:
        covariance = (values[lag:] * values[:-lag]).sum(axis=0)
        correlation = np.divide(covariance, variance, out=np.zeros(len(count)), where=variance > 0)
        seen = (correlation > 2 / np.sqrt(days)) & (lag < days / 4)
        decay = np.maximum(decay, np.where(seen, np.maximum(correlation, 0) ** (1 / lag), 0))
    decay = np.minimum(decay + (1 + 3 * decay) / days, 0.99)  # sample autocorrelation is too low by about this
    # spectrum of an AR(1) at frequency w over that at 0: 1 − decay / (1 − decay)² w², averaged from 0 to w
    highest = np.sqrt(3 * BIAS / decay) * (1 - decay)
    most = np.maximum(FEWEST, np.floor(0.4 * days ** (2 / 3)))
    return np.clip(np.floor(highest * days / np.pi), FEWEST, most)


def _measure_influence(
    sums: Float[np.ndarray, "time moment"], score: Callable[[Tensor], Tensor]
) -> tuple[float, np.ndarray]:
    """The score over all days, and how far each day pulls it: the gradient at the mean times the day's deviation."""
    mean = torch.from_numpy(sums.mean(axis=0)).requires_grad_()
    value = score(mean)
    (gradient,) = torch.autograd.grad(value, mean)
    return value.item(), (sums - sums.mean(axis=0)) @ gradient.numpy()


def _p_value(mean: ArrayLike, variance: ArrayLike, freedom: ArrayLike) -> np.ndarray:
    """Two-sided p value; 1 where mean and variance are both 0 (identical forecasts)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(mean == 0, 0, np.abs(mean) / np.sqrt(variance))
    return np.asarray(2 * t.sf(statistic, freedom))
