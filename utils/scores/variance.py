"""The variance of a mean over days whose errors last for weeks, and over the seeds of a model.

season      errors have an annual cycle. Over whole test years the cycle is a fixed part of the mean, not sampling
            noise. So where the scored days span a year or more, the series is regressed on a constant and one annual
            harmonic, and only what is left counts as noise. Over a shorter period, season and noise cannot be told
            apart: nothing is removed, and `spans_a_year` lets tables say so. A second harmonic counts as noise: to
            remove it too would make the test of long-lived errors reject too often
weights     a day weighs as much as it has cell-days, and their number has an annual cycle as well (frozen soil). So
            the regression is on constant and harmonic times the weights, and the cosines are orthogonal in them
variance    of the series' mean, from its lowest B cosine frequencies (equal-weighted cosines; Lazarus et al. 2018,
            doi:10.1080/07350015.2018.1506926). This is the smooth form of batch means. The cosines are made orthogonal
            to the constant, the harmonic and each other, in order of frequency; one that loses more than half of its
            length is left out. B follows from the data: the longer errors last, the fewer frequencies say something
            about the mean
seeds       several runs of one model differ by chance too: each seed is a draw of its training. The days' noise of
            the mean over K seeds is that of their mean series. It already holds a K-th of the noise that each seed
            has of its own; only what the seeds differ by beyond that is added, over K. Two models that learned
            independently bring a part each. Degrees of freedom are Satterthwaite's. A bootstrap over a few seeds would
            give too narrow an interval
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.linalg import orth

from utils.common.periods import annual_harmonics

LAGS = (1, 2, 3, 5, 8, 12)  # days at which the autocorrelation is taken
BIAS = 0.05  # share of the variance that may be lost to too many frequencies
FEWEST, FEWEST_DAYS = 4, 20  # frequencies, at least; days, with fewer there is no interval
EPOCH = np.datetime64("2000-01-01", "D")  # days are numbered from here
SHORTEST_YEAR = 365  # days from the first scored day to the last that make a year
SHORTEST_COSINE = 0.5  # share of its length that a cosine must keep when it is made orthogonal


def number_days(days: np.ndarray) -> Float[np.ndarray, "time"]:
    """Days as numbers, counted from the year 2000."""
    return (days.astype("datetime64[D]") - EPOCH).astype(np.float64)


def spans_a_year(days: Float[np.ndarray, "time"]) -> bool:
    """Whether these days, by number, reach over a year or more, so that the annual cycle can be told from noise."""
    return bool(len(days) and days.max() - days.min() + 1 >= SHORTEST_YEAR)


def variance_over_seeds(
    series: Float[np.ndarray, "time *cell"],
    *,
    draws: Sequence[tuple[Float[np.ndarray, "_ *cell"], Float[np.ndarray, "_ time *cell"]]],
    days: Float[np.ndarray, "time"],
    weights: Float[np.ndarray, "time"] | None = None,
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Variance of a mean over days and over seeds, and its degrees of freedom; NaN for few days.

    `series` is the mean over seeds. `draws` has, for each model that learned independently, the score and the series
    of each of its seeds. A model of one seed adds nothing: the statement is about that trained network.
    """
    draws = [(values, own) for values, own in draws if len(values) > 1]
    own_noise = [seed - own.mean(axis=0) for _, own in draws for seed in own]
    # in one call: the cosines of cells with gaps take most of the time
    (variance, *noise), (freedom, *_) = variance_of_mean(np.stack([series, *own_noise], axis=1), days, weights)
    spread = variance**2 / freedom  # Satterthwaite
    for values, _ in draws:
        count = len(values)
        of_days = sum(noise[:count]) / (count - 1)  # variance between seeds by the days' noise of each alone
        noise = noise[count:]
        between = values.var(axis=0, ddof=1)
        variance = variance + np.maximum(between - of_days, 0) / count
        spread = spread + np.where(between > of_days, between / count, 0) ** 2 / (count - 1)
    return np.asarray(variance), np.divide(variance**2, spread, out=np.array(freedom), where=spread > 0)


def variance_of_mean(
    series: Float[np.ndarray, "time *cell"],
    days: Float[np.ndarray, "time"],
    weights: Float[np.ndarray, "time"] | None = None,
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Variance of the time mean of an autocorrelated series, and its degrees of freedom; NaN for few days.

    `days` are the days by number. Days without a value (NaN) are taken out of each cell's series. If they stayed as
    zeros, a season without values would count as one without errors. `weights` say how much each day counts in the
    series, if not all alike.
    """
    flat = series.reshape(len(series), -1)
    weights = np.ones(len(series)) if weights is None else weights
    valid = np.isfinite(flat)
    variance, freedom = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], float(FEWEST))
    pattern = np.zeros(flat.shape[1], int)
    if not valid.all():
        _, pattern = np.unique(np.packbits(valid, axis=0), axis=1, return_inverse=True)
    for number in range(pattern.max(initial=-1) + 1):  # cells with values on the same days share their cosines
        cells = np.flatnonzero(pattern == number)
        there = valid[:, cells[0]]
        if there.sum() >= FEWEST_DAYS:
            found = _variance_without_gaps(flat[there][:, cells], days=days[there], weights=weights[there])
            variance[cells], freedom[cells] = found
    return variance.reshape(series.shape[1:]), freedom.reshape(series.shape[1:])


def _variance_without_gaps(
    values: Float[np.ndarray, "time cell"], days: Float[np.ndarray, "time"], weights: Float[np.ndarray, "time"]
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """The same for cells that have a value on each of these days."""
    dates, weights = EPOCH + days.astype("timedelta64[D]"), weights / weights.mean()
    fixed = annual_harmonics(dates, 1) if spans_a_year(days) else np.ones((len(days), 1))
    fixed, _ = np.linalg.qr(weights[:, None] * fixed)
    noise = values - fixed @ (fixed.T @ values)
    wanted = _count_frequencies(noise)
    cosines = _orthogonal_cosines(fixed, weights=weights, count=int(wanted.max()))
    used = np.minimum(wanted, cosines.shape[1]).astype(int)
    power = np.cumsum((cosines.T @ noise) ** 2, axis=0)
    variance = power[used - 1, np.arange(len(used))] / used * (weights**2).sum() / len(days) ** 2
    return variance, used.astype(float)


def _orthogonal_cosines(
    fixed: Float[np.ndarray, "time term"], *, weights: Float[np.ndarray, "time"], count: int
) -> Float[np.ndarray, "time frequency"]:
    """The lowest cosines of the series' length, orthogonal to `fixed` and to the mean (Gram and Schmidt).

    They are orthonormal to each other once multiplied by the weights, as the noise is. One that keeps no more than
    SHORTEST_COSINE of its length is left out, and the next one takes its place.
    """
    fixed = orth(np.column_stack([fixed, weights**2]))  # a weighted mean has weights too: squared
    basis, clock = np.empty((len(fixed), 0)), np.arange(len(fixed)) + 0.5
    for frequency in range(1, len(fixed)):
        if basis.shape[1] == count:
            break
        cosine = np.cos(np.pi * frequency * clock / len(fixed))
        rest = cosine - fixed @ (fixed.T @ cosine)
        rest = rest - basis @ (basis.T @ (weights**2 * rest))
        length = np.linalg.norm(weights * rest)
        if length > SHORTEST_COSINE * np.linalg.norm(weights * cosine):
            basis = np.column_stack([basis, rest / length])
    return basis


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
