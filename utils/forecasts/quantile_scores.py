"""How good quantile forecasts were: coverage of intervals, reliability of quantiles, CRPS.

CRPS         The continuous ranked probability score, m3 m-3, between the outer quantiles: twice the integral of the
             pinball loss over the levels from 0.05 to 0.95, by the trapezoidal rule. It is the quantile-weighted score
             of Gneiting and Ranjan (2011, doi:10.1198/jbes.2010.08110) with the weight 1 there and 0 in the tails.
reliability  The share of observations below each quantile. It should be the quantile's level.
coverage     The share of observations inside the 90 % interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from utils.common.periods import season_of
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample
from utils.scores.metrics import SEASONS
from utils.scores.significance import OBSERVED, Estimate, N, estimate, pack_daily_sums
from utils.scores.sums import REGIONS

NOMINAL = float(LEVELS[-1] - LEVELS[0])  # coverage that the interval between the outer quantiles should have
WEIGHTS = np.convolve(np.diff(LEVELS), (0.5, 0.5))  # of the levels in the trapezoidal rule


@dataclass(frozen=True)
class QuantileScores:
    """Scores of quantile forecasts, from sums by day and region."""

    n: Float[np.ndarray, "time region"]  # observations
    inside: Float[np.ndarray, "time region"]  # of them inside the 90 % interval
    lower: Float[np.ndarray, "time level"]  # of them below each quantile
    crps: Float[np.ndarray, "time"]  # sum over observations, m3 m-3
    width: float  # mean width of the 90 % interval at the observations, m3 m-3
    days: np.ndarray  # valid days

    @classmethod
    def of(cls, test: OutOfSample, calibration: Calibration) -> "QuantileScores":
        """Score the quantiles that a calibration gives to these forecasts.

        Goes level by level, so that all quantiles are never in memory together.
        """
        valid = np.isfinite(test.observed) & (test.region >= 0)
        belongs = (test.region.ravel()[:, None] == np.arange(len(REGIONS))).astype(np.float64)

        def by_region(flags: np.ndarray) -> np.ndarray:
            return flags.reshape(len(flags), -1).astype(np.float64) @ belongs

        below, crps, ends = np.zeros((len(valid), len(LEVELS))), np.zeros(len(valid)), []
        for number, level in enumerate(LEVELS):
            (quantile,) = calibration.quantiles(test.forecast, test.age, test.days, [number])
            lower = valid & (test.observed < quantile)
            below[:, number] = lower.sum(axis=(1, 2))
            error = np.where(valid, test.observed - quantile, 0).astype(np.float64)
            crps += 2 * WEIGHTS[number] * (error * (level - lower)).sum(axis=(1, 2))
            if number in (0, len(LEVELS) - 1):
                ends.append(quantile)
        inside = valid & (ends[0] <= test.observed) & (test.observed <= ends[1])
        width = float((ends[1] - ends[0])[valid].mean()) if valid.any() else np.nan
        return cls(
            n=by_region(valid),
            inside=by_region(inside),
            lower=below,
            crps=crps,
            width=width,
            days=test.days,
        )

    @property
    def below(self) -> list[Estimate]:
        """Share of the observations below each quantile, with its 95 % interval."""
        return [estimate_share(self.days, part=below, total=self.n.sum(axis=1)) for below in self.lower.T]

    @property
    def coverage(self) -> float:
        """Share of all observations inside the 90 % interval."""
        return float(self.inside.sum() / max(self.n.sum(), 1))

    @property
    def covered(self) -> Estimate:
        """The coverage with its 95 % interval; p is that of "it is NOMINAL"."""
        return estimate_share(self.days, part=self.inside.sum(axis=1), total=self.n.sum(axis=1), expected=NOMINAL)

    @property
    def by_season(self) -> dict[str, float]:
        """Coverage in the seasons that have an observation."""
        coverage, season = {}, season_of(self.days)
        for number, name in enumerate(SEASONS):
            days = season == number
            if self.n[days].any():
                coverage[name] = float(self.inside[days].sum() / self.n[days].sum())
        return coverage

    @property
    def by_region(self) -> dict[str, float]:
        """Coverage in the climate regions that have an observation."""
        total = self.n.sum(axis=0)
        return {name: float(self.inside[:, i].sum() / total[i]) for i, name in enumerate(REGIONS) if total[i]}

    @property
    def mean_crps(self) -> float:
        """Mean CRPS of all observations, m3 m-3."""
        return float(self.crps.sum() / max(self.n.sum(), 1))

    def daily_sums(self, reference: "QuantileScores") -> Float[np.ndarray, "time moment"]:
        """What utils/scores/significance.py takes, with the CRPS in the place of the squared error."""
        return pack_daily_sums(self.days, n=self.n.sum(axis=1), error_2=self.crps, reference_2=reference.crps)


def coverage_by_age(
    test: OutOfSample, calibration: Calibration, ages: Sequence[tuple[int, int]]
) -> list[tuple[Estimate, int]]:
    """The share of observations inside the 90 % interval, and their number, by the age of the last observation.

    `ages` are the youngest and the oldest age of each class, in days.
    """
    low, high = calibration.quantiles(test.forecast, test.age, test.days, [0, len(LEVELS) - 1])
    valid = np.isfinite(test.observed) & (test.region >= 0)
    inside = valid & (low <= test.observed) & (test.observed <= high)
    shares = []
    for youngest, oldest in ages:
        of_age = (test.age >= youngest) & (test.age <= oldest)
        part, total = ((flags & of_age).sum(axis=(1, 2)).astype(float) for flags in (inside, valid))
        shares.append((estimate_share(test.days, part=part, total=total, expected=NOMINAL), int(total.sum())))
    return shares


def estimate_share(
    days: np.ndarray, part: Float[np.ndarray, "time"], total: Float[np.ndarray, "time"], expected: float = 0.0
) -> Estimate:
    """The share of `part` in `total` over all days, with its 95 % interval within 0 and 1; NaN where the total is 0.

    p is that of "the share is as expected".
    """
    if not total.any():
        return Estimate(np.nan, low=np.nan, high=np.nan, p=np.nan)
    excess = estimate([pack_daily_sums(days, n=total, observed=part)], lambda mean: _share(mean) - expected)
    value, low, high = (expected + end for end in (excess.value, excess.low, excess.high))
    return Estimate(value, low=float(np.clip(low, 0, 1)), high=float(np.clip(high, 0, 1)), p=excess.p)


def _share(mean: Tensor) -> Tensor:
    """From the mean of the daily sums: their OBSERVED is the part, their N the total."""
    return mean[OBSERVED] / mean[N]
