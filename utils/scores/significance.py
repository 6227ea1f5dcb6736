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
test        Student's t with B degrees of freedom: a Diebold–Mariano test whose bandwidth does not depend on the lead.
            Skill, change of RMSE and verdict come from one statistic, the logarithm of the ratio of mean squared
            errors, so that they never contradict each other
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

from utils.common.periods import annual_harmonics

LEVEL = 0.05  # of the tests; intervals cover 1 − LEVEL
LAGS = (1, 2, 3, 5, 8, 12)  # days at which the autocorrelation is taken
BIAS = 0.05  # share of the variance that may be lost to too many frequencies
FEWEST, FEWEST_DAYS = 4, 20  # frequencies, at least; days, with fewer there is no interval
CELL_DAYS = 60  # days of a single cell, with fewer it is not tested
EPOCH = np.datetime64("2000-01-01", "D")  # days are numbered from here
SHORTEST_YEAR = 365  # days from the first scored day to the last that make a year
TINY = 1e-30  # m6 m-6, added to both errors of a ratio: a forecast may be without any
SHORTEST_COSINE = 0.5  # share of its length that a cosine must keep when it is made orthogonal
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

    def transform(self, function: Callable[[float], float]) -> "Estimate":
        """The same statement in another scale, by a monotone function: the interval's ends move, p stays."""
        low, high = sorted((function(self.low), function(self.high)))
        return Estimate(function(self.value), low=low, high=high, p=self.p)


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
    return (days.astype("datetime64[D]") - EPOCH).astype(np.float64)


def spans_a_year(days: Float[np.ndarray, "time"]) -> bool:
    """Whether these days, by number, reach over a year or more, so that the annual cycle can be told from noise."""
    return bool(len(days) and days.max() - days.min() + 1 >= SHORTEST_YEAR)


def rmse(mean: Tensor) -> Tensor:
    """Root-mean-square error, m3 m-3. `mean` is everywhere the mean of the daily sums over days."""
    return (mean[ERROR_2] / mean[N]).sqrt()


def r2(mean: Tensor) -> Tensor:
    """1 − MSE / variance of the observations."""
    return 1 - mean[ERROR_2] / (mean[OBSERVED_2] - mean[OBSERVED] ** 2 / mean[N])


def mse_difference(mean: Tensor) -> Tensor:
    """MSE − MSE of the reference, m6 m-6, as in a Diebold–Mariano test (1995, J. Bus. Econ. Stat. 13)."""
    return (mean[ERROR_2] - mean[REFERENCE_2]) / mean[N]


def log_mse_ratio(mean: Tensor) -> Tensor:
    """The logarithm of MSE / MSE of the reference: 0 where both are as good, negative where the forecast is better."""
    return ((mean[ERROR_2] + TINY) / (mean[REFERENCE_2] + TINY)).log()


def rmse_difference(mean: Tensor) -> Tensor:
    """RMSE minus the reference's, m3 m-3."""
    return rmse(mean) - (mean[REFERENCE_2] / mean[N]).sqrt()


@dataclass(frozen=True)
class RatioScore:
    """A score that is a function of the logarithm of the ratio of mean squared errors; it has the ratio's p value.

    So the interval of the skill leaves out 0 exactly where the RMSE changes significantly.
    """

    function: Callable[[float], float]  # monotone


skill = RatioScore(lambda ratio: -float(np.expm1(ratio)))  # 1 − MSE / MSE of the reference
rmse_change = RatioScore(lambda ratio: float(np.expm1(ratio / 2)))  # relative to the reference: −0.1 is a tenth less
Score = Callable[[Tensor], Tensor] | RatioScore


def estimate(sums: Sequence[Float[np.ndarray, "time moment"]], score: Score) -> Estimate:
    """A score of one run, or of a model over several seeds, with its interval.

    `sums` has one array of daily sums for each seed, of the same days.
    """
    if isinstance(score, RatioScore):
        return estimate(sums, log_mse_ratio).transform(score.function)
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
    """RMSE of `one` relative to that of `other` on the same cell-days; negative where `one` is better.

    Both have one array for each seed, in m3 m-3. They are paired by seed.
    """
    return estimate([daily_sums(observed, a, b, days) for a, b in zip(one, other, strict=True)], rmse_change)


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
    flat = series.reshape(len(series), -1)
    valid = np.isfinite(flat)
    variance, freedom = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], float(FEWEST))
    _, pattern = np.unique(np.packbits(valid, axis=0), axis=1, return_inverse=True)
    for number in range(pattern.max(initial=-1) + 1):  # cells with values on the same days share their cosines
        cells = np.flatnonzero(pattern == number)
        there = valid[:, cells[0]]
        if there.sum() >= FEWEST_DAYS:
            variance[cells], freedom[cells] = _variance_without_gaps(flat[there][:, cells], days[there])
    return variance.reshape(series.shape[1:]), freedom.reshape(series.shape[1:])


def _variance_without_gaps(
    values: Float[np.ndarray, "time cell"], days: Float[np.ndarray, "time"]
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """The same for cells that have a value on each of these days."""
    dates = EPOCH + days.astype("timedelta64[D]")
    fixed = annual_harmonics(dates, 1) if spans_a_year(days) else np.ones((len(days), 1))
    fixed, _ = np.linalg.qr(fixed)
    noise = values - fixed @ (fixed.T @ values)
    wanted = _count_frequencies(noise)
    cosines = _orthogonal_cosines(fixed, int(wanted.max()))
    used = np.minimum(wanted, cosines.shape[1]).astype(int)
    power = np.cumsum((cosines.T @ noise) ** 2, axis=0)
    return power[used - 1, np.arange(len(used))] / used / len(days), used.astype(float)


def _orthogonal_cosines(fixed: Float[np.ndarray, "time term"], count: int) -> Float[np.ndarray, "time frequency"]:
    """The lowest cosines of the series' length, orthonormal to `fixed` and to each other (Gram and Schmidt).

    One that keeps no more than SHORTEST_COSINE of its length is left out, and the next one takes its place.
    """
    basis, clock = fixed, np.arange(len(fixed)) + 0.5
    for frequency in range(1, len(fixed)):
        if basis.shape[1] == fixed.shape[1] + count:
            break
        cosine = np.cos(np.pi * frequency * clock / len(fixed))
        rest = cosine - basis @ (basis.T @ cosine)
        length = np.linalg.norm(rest)
        if length > SHORTEST_COSINE * np.linalg.norm(cosine):
            basis = np.column_stack([basis, rest / length])
    return basis[:, fixed.shape[1] :]


def _count_frequencies(values: Float[np.ndarray, "time cell"]) -> Float[np.ndarray, "cell"]:
    """How many cosine frequencies to use: as many as keep the bias below BIAS, for an AR(1) with the series' decay.

    The decay is the slowest one seen at any of LAGS. Fast noise on top of a slow error then does not hide the slow one.
    """
    days = len(values)
    variance, decay = (values**2).sum(axis=0), np.zeros(values.shape[1])
    for lag in LAGS:
        covariance = (values[lag:] * values[:-lag]).sum(axis=0)
        correlation = np.divide(covariance, variance, out=np.zeros(len(variance)), where=variance > 0)
        seen = (correlation > 2 / np.sqrt(days)) & (lag < days / 4)
        decay = np.maximum(decay, np.where(seen, np.maximum(correlation, 0) ** (1 / lag), 0))
    decay = np.minimum(decay + (1 + 3 * decay) / days, 0.99)  # sample autocorrelation is too low by about this
    # spectrum of an AR(1) at frequency w over that at 0: 1 − decay / (1 − decay)² w², averaged from 0 to w
    highest = np.sqrt(3 * BIAS / decay) * (1 - decay)
    most = max(FEWEST, np.floor(0.4 * days ** (2 / 3)))
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
