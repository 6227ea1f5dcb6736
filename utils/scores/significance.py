"""Intervals and tests of scores that allow for errors that last for weeks.

The error of a soil-moisture forecast resembles that of the day before, whatever the lead time. So neither days nor
cells are independent. All scores here are functions of sums over cells, one row a day. Their uncertainty is that of a
daily time series with an unknown autocorrelation:

series      the influence of each day on a score: how much the day pulls it up or down (delta method)
variance    of the series' mean, without its annual cycle: `variance_of_mean`
test        Student's t: a Diebold–Mariano test whose bandwidth does not depend on the lead. Skill, change of RMSE and
            verdict come from one statistic, the logarithm of the ratio of mean squared errors, so that they never
            contradict each other
seeds       several runs of one model differ by chance too: `variance_over_seeds`
many        one sentence may count many comparisons: `correct` keeps the share of false discoveries at LEVEL
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control, t
from torch import Tensor

from utils.scores.variance import number_days, variance_over_seeds

LEVEL = 0.05  # of the tests; intervals cover 1 − LEVEL
CELL_DAYS = 60  # days of a single cell, with fewer it is not tested
TINY = 1e-30  # m6 m-6, added to both errors of a ratio: a forecast may be without any
DAY, N, OBSERVED, OBSERVED_2, ERROR_2, REFERENCE_2 = range(6)  # columns of daily sums; _2 squared
DaySums = Float[np.ndarray, "time"]


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

    def to_per_cent(self, value: str = "value", low: str = "low", high: str = "high") -> dict[str, float]:
        """A relative change and its interval in per cent, under these names of columns."""
        return {value: 100 * self.value, low: 100 * self.low, high: 100 * self.high}


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
    cells = tuple(range(1, observed.ndim))

    def by_day(values: np.ndarray) -> DaySums:
        return np.where(valid, values, 0).sum(axis=cells, dtype=np.float64)

    return pack_daily_sums(
        days,
        n=by_day(np.ones_like(observed)),
        observed=by_day(observed),
        observed_2=by_day(observed**2),
        error_2=by_day((predicted - observed) ** 2),
        reference_2=by_day((reference - observed) ** 2),
    )


def pack_daily_sums(
    days: np.ndarray,
    *,
    n: DaySums,
    observed: DaySums | float = 0.0,
    observed_2: DaySums | float = 0.0,
    error_2: DaySums | float = 0.0,
    reference_2: DaySums | float = 0.0,
) -> Float[np.ndarray, "time moment"]:
    """Sums over cells, one of each valid day, in the order of DAY … REFERENCE_2; 0 for those that no score asks for.

    Another error may stand in the place of the squared one, such as the CRPS. Then the scores are of that error.
    """
    columns = {DAY: number_days(days), N: n, OBSERVED: observed, OBSERVED_2: observed_2}
    columns |= {ERROR_2: error_2, REFERENCE_2: reference_2}
    sums = np.empty((len(days), len(columns)))
    for column, values in columns.items():
        sums[:, column] = values
    return sums


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
WITH_INTERVALS: dict[str, Score] = {"rmse": rmse, "r2": r2, "skill": skill}  # in metrics.json and in the table


def estimate(sums: Sequence[Float[np.ndarray, "*rival time moment"]], score: Score) -> Estimate:
    """A score of one run, or of a model over several seeds, with its interval.

    `sums` has one array of daily sums for each seed, of the same days. Where the model is compared with another that
    learned independently, it has one for each seed and each seed of the rival (`cross_seeds`).
    """
    if isinstance(score, RatioScore):
        return estimate(sums, log_mse_ratio).transform(score.function)
    grid = np.asarray(sums)
    grid = grid.reshape(len(grid), -1, *grid.shape[-2:])  # seed, seed of the rival, time, moment
    grid = grid[:, :, grid[0, 0, :, N] > 0]  # a day without an observation would count as a day without error
    found = [[_measure_influence(pair, score) for pair in row] for row in grid]
    values = np.array([[value for value, _ in row] for row in found])
    influences = np.array([[influence for _, influence in row] for row in found])
    value = float(values.mean())
    variance, freedom = variance_over_seeds(
        influences.mean(axis=(0, 1)),
        draws=[(values.mean(axis=other), influences.mean(axis=other)) for other in (1, 0)],
        days=grid[0, 0, :, DAY],
        weights=grid[0, 0, :, N],
    )
    if not np.isfinite(variance):
        return Estimate(value, low=np.nan, high=np.nan, p=np.nan)
    half = float(t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(variance))
    return Estimate(value, low=value - half, high=value + half, p=float(_p_value(value, variance, freedom)))


def cross_seeds(
    one: Sequence[Float[np.ndarray, "time moment"]], other: Sequence[Float[np.ndarray, "time moment"]]
) -> list[Float[np.ndarray, "rival time moment"]]:
    """Daily sums of every seed of one model against every seed of another, which learned independently.

    Both have one array of `daily_sums` for each seed, on the same samples.
    """
    errors = [sums[:, ERROR_2] for sums in other]
    return [np.stack([np.column_stack([own[:, :REFERENCE_2], error]) for error in errors]) for own in one]


def verdict(difference: Estimate) -> str:
    """Whether the first of two forecasts is better or worse, from the difference of their squared errors."""
    if np.isnan(difference.p):
        return "too few days"
    if not difference.significant:
        return "not significant"
    return "better" if difference.value < 0 else "worse"


def correct(differences: Sequence[Estimate]) -> list[Estimate]:
    """The comparisons that one sentence counts, with p values corrected for their number; the intervals stay.

    Of those still significant, a share of LEVEL at most is expected to be false (Benjamini and Hochberg 1995).
    """
    p = np.array([difference.p for difference in differences])
    known = np.isfinite(p)
    p[known] = false_discovery_control(p[known]) if known.any() else p[known]
    return [replace(difference, p=float(corrected)) for difference, corrected in zip(differences, p, strict=True)]


def better_and_worse(
    one: Float[np.ndarray, "seed time lat lon"],
    other: Float[np.ndarray, "rival time lat lon"],
    days: np.ndarray,
) -> tuple[Bool[np.ndarray, "lat lon"], Bool[np.ndarray, "lat lon"], Bool[np.ndarray, "lat lon"]]:
    """Cells where a model is significantly better, where it is significantly worse, and those that were tested.

    `one` has its squared errors for each seed, `other` those of another model, NaN where nothing is scored; `days` are
    the valid days. Cells with fewer than CELL_DAYS days are not tested. The share of false discoveries among all cells
    found is kept at LEVEL (Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57).
    """
    difference = one.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)
    tested = np.isfinite(difference).sum(axis=0) >= CELL_DAYS
    p, mean = np.ones(tested.shape), np.zeros(tested.shape)
    if tested.any():
        models = [errors[:, :, tested].astype(np.float64) for errors in (one, other)]
        mean[tested] = np.nanmean(difference[:, tested], axis=0)
        draws = [(np.nanmean(errors, axis=1), errors) for errors in models]
        variance, freedom = variance_over_seeds(difference[:, tested], draws=draws, days=number_days(days))
        p[tested] = false_discovery_control(_p_value(mean[tested], variance, freedom))
    return (p < LEVEL) & (mean < 0), (p < LEVEL) & (mean > 0), tested


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
