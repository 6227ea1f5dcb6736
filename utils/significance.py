"""How sure a score is: intervals and tests that stay honest when errors last for weeks.

Errors of soil-moisture forecasts resemble those of the day before, whatever the lead, so neither days nor cells are
independent. All scores here are functions of sums over cells, one row a day; their uncertainty is that of a daily time
series with an autocorrelation that is not known:

series      a score's influence: how much each day pulls it up or down (delta method)
variance    of the series' mean, from its lowest B cosine frequencies (equal-weighted cosines; Lazarus et al. 2018,
            doi:10.1080/07350015.2018.1506926), the smooth form of batch means, with B from the data: the slower the
            series forgets, the fewer frequencies say something about its mean
test        Student's t with B degrees of freedom: a Diebold–Mariano test whose bandwidth does not hang on the lead
seeds       several runs of one model differ by chance too: their variance over the number of seeds is added
            (Satterthwaite's degrees of freedom). It stands in for resampling seeds, which is too narrow for three
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.fft import dct
from scipy.stats import false_discovery_control, t
from torch import Tensor

LEVEL = 0.05  # of the tests; intervals cover 1 − LEVEL
LAGS = (1, 2, 3, 5, 8, 12)  # days at which memory is looked for
BIAS = 0.05  # share of the variance that may be lost to too many frequencies
FEWEST, FEWEST_DAYS = 4, 20  # frequencies; days below which nothing is said
MOMENTS = ("n", "observed", "observed²", "error²", "reference error²")  # columns of daily sums


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
) -> Float[np.ndarray, "time moment"]:
    """The sums over cells, day by day, that all scores below are made of; `reference` is what a forecast is held
    against. Days must follow each other without a gap (see `calendar`)."""
    valid = np.isfinite(observed)
    parts = (np.ones_like(observed), observed, observed**2, (predicted - observed) ** 2, (reference - observed) ** 2)
    cells = tuple(range(1, observed.ndim))
    return np.stack([np.where(valid, part, 0).sum(axis=cells, dtype=np.float64) for part in parts], axis=1)


def calendar(predictions: xr.Dataset) -> xr.Dataset:
    """The same with every day between the first and the last, NaN where there was none."""
    time = predictions["time"].values
    return predictions.reindex(time=np.arange(time[0], time[-1] + np.timedelta64(1, "D"), np.timedelta64(1, "D")))


def rmse(mean: Tensor) -> Tensor:
    return (mean[3] / mean[0]).sqrt()


def r2(mean: Tensor) -> Tensor:
    return 1 - mean[3] / (mean[2] - mean[1] ** 2 / mean[0])


def skill(mean: Tensor) -> Tensor:
    """1 − MSE / MSE of the reference."""
    return 1 - mean[3] / mean[4]


def mse_difference(mean: Tensor) -> Tensor:
    """MSE − MSE of the reference: what a Diebold–Mariano test asks about."""
    return (mean[3] - mean[4]) / mean[0]


def rmse_difference(mean: Tensor) -> Tensor:
    """RMSE minus the reference's, m3 m-3."""
    return rmse(mean) - (mean[4] / mean[0]).sqrt()


def rmse_change(mean: Tensor) -> Tensor:
    """RMSE relative to the reference's, −0.1 for a tenth less."""
    return (mean[3] / mean[4]).sqrt() - 1


def estimate(
    sums: Sequence[Float[np.ndarray, "time moment"]], score: Callable[[Tensor], Tensor], level: float = LEVEL
) -> Estimate:
    """A score of one run, or of a model over several seeds (one array of daily sums each, same days)."""
    values, influences = zip(*(_influence(seed, score) for seed in sums), strict=True)
    value = float(np.mean(values))
    variance, freedom = variance_of_mean(np.mean(influences, axis=0))
    if len(values) > 1:
        between = float(np.var(values, ddof=1)) / len(values)
        total = variance + between
        if total > 0:
            freedom = total**2 / (variance**2 / freedom + between**2 / (len(values) - 1))
        variance = total
    if not np.isfinite(variance):
        return Estimate(value, np.nan, np.nan, np.nan)
    half = float(t.ppf(1 - level / 2, freedom) * np.sqrt(variance))
    return Estimate(value, value - half, value + half, float(_p(value, variance, freedom)))


def compare(
    observed: Float[np.ndarray, "time *cell"],
    one: Sequence[Float[np.ndarray, "time *cell"]],
    other: Sequence[Float[np.ndarray, "time *cell"]],
) -> Estimate:
    """MSE of `one` minus MSE of `other`, on the same cell-days; one array a seed, paired. Negative: `one` is better."""
    return estimate([daily_sums(observed, a, b) for a, b in zip(one, other, strict=True)], mse_difference)


def verdict(difference: Estimate) -> str:
    """What a difference in errors says about the first of the two."""
    if np.isnan(difference.p):
        return "too few days"
    return "not significant" if not difference.significant else "better" if difference.value < 0 else "worse"


def better_and_worse(
    difference: Float[np.ndarray, "time lat lon"], fewest: int = 60
) -> tuple[Bool[np.ndarray, "lat lon"], Bool[np.ndarray, "lat lon"]]:
    """Cells whose squared errors' difference over time is significantly negative, and positive.

    `difference` is NaN where nothing is scored; cells with fewer than `fewest` days are left out. The share of false
    discoveries among all cells named is held at LEVEL (Benjamini and Hochberg 1995).
    """
    valid = np.isfinite(difference)
    count = valid.sum(axis=0)
    tested = count >= max(fewest, FEWEST_DAYS)
    p, mean = np.ones(tested.shape), np.zeros(tested.shape)
    if tested.any():
        cells, there = difference[:, tested].astype(np.float64), valid[:, tested]
        mean[tested] = np.where(there, cells, 0).sum(axis=0) / count[tested]
        influence = np.where(there, cells - mean[tested], 0) * len(cells) / count[tested]
        p[tested] = false_discovery_control(_p(mean[tested], *variance_of_mean(influence)))
    return (p < LEVEL) & (mean < 0), (p < LEVEL) & (mean > 0)


def variance_of_mean(
    series: Float[np.ndarray, "time *cell"],
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Variance of the time mean of an autocorrelated daily series and its degrees of freedom; NaN for few days."""
    days = len(series)
    if days < FEWEST_DAYS:
        return np.full(series.shape[1:], np.nan), np.ones(series.shape[1:])
    cosines = dct(series - series.mean(axis=0), axis=0, norm="ortho")[1:]  # the mean itself left out
    number = frequencies(series)
    power = np.cumsum(cosines**2, axis=0)
    index = np.asarray(number, dtype=int)[None] - 1
    return np.asarray(np.take_along_axis(power, index, axis=0)[0] / number / days), number


def frequencies(series: Float[np.ndarray, "time *cell"]) -> Float[np.ndarray, "*cell"]:
    """How many cosine frequencies to use: as many as keep the bias of an AR(1) with the series' memory below BIAS.

    The memory is the slowest decay seen at any of LAGS, so that fast noise on top of a slow error does not hide it.
    """
    days = len(series)
    centred = series - series.mean(axis=0)
    variance = (centred**2).mean(axis=0)
    decay = np.zeros(series.shape[1:])
    for lag in LAGS:
        if lag < days / 4:
            covariance = (centred[lag:] * centred[:-lag]).sum(axis=0) / days
            correlation = np.divide(covariance, variance, out=np.zeros_like(decay), where=variance > 0)
            seen = correlation > 2 / np.sqrt(days)
            decay = np.maximum(decay, np.where(seen, np.maximum(correlation, 0) ** (1 / lag), 0))
    decay = np.minimum(decay + (1 + 3 * decay) / days, 0.99)  # sample autocorrelation is too low by about this
    # spectrum of an AR(1) at frequency w over that at 0: 1 − decay / (1 − decay)² w², averaged from 0 to w
    highest = np.sqrt(3 * BIAS / decay) * (1 - decay)
    most = max(FEWEST, np.floor(0.4 * days ** (2 / 3)))
    return np.asarray(np.clip(np.floor(highest * days / np.pi), FEWEST, most))


def _influence(sums: Float[np.ndarray, "time moment"], score: Callable[[Tensor], Tensor]) -> tuple[float, np.ndarray]:
    """The score of all days, and how far each day pulls it: gradient at the mean times the day's deviation."""
    mean = torch.from_numpy(sums.mean(axis=0)).requires_grad_()
    value = score(mean)
    (gradient,) = torch.autograd.grad(value, mean)
    return value.item(), (sums - sums.mean(axis=0)) @ gradient.numpy()


def _p(mean: ArrayLike, variance: ArrayLike, freedom: ArrayLike) -> np.ndarray:
    """Two-sided p value; 1 where mean and variance are both 0 (identical forecasts)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(mean == 0, 0, np.abs(mean) / np.sqrt(variance))
    return np.asarray(2 * t.sf(statistic, freedom))
