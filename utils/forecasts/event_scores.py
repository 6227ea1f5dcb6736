"""The chance of unusually dry or wet soil, from a forecast's quantiles; and how good it was.

chance       The quantiles at LEVELS are points of the forecast's distribution function, with straight lines in between.
             Beyond the outer ones the chance decays exponentially, and the density does not jump there.
event        Unusually dry: below the 10th percentile of the climatology; unusually wet: above the 90th.
Brier score  Mean squared difference between the chance and what came, which is 1 or 0 (Brier 1950, Mon. Weather Rev.
             78, 1–3).
skill        1 − Brier score / Brier score of a forecast that always says RARE, as a climatology does.
reliability  How often the event came when the forecast gave it about this chance, in BINS of the chance.
parts        Brier score = reliability − resolution + uncertainty, if all forecasts of a bin are equal (Murphy 1973,
             J. Appl. Meteorol. 12, 595–600).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample
from utils.forecasts.climatology import DRY, WET, Climatology
from utils.forecasts.quantile_scores import estimate_share
from utils.scores import significance
from utils.scores.prediction_file import without_nan
from utils.scores.significance import Estimate

RARE = DRY  # how often each event comes over many years
BINS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])  # edges
NARROWEST = 1e-6  # m3 m-3: quantiles closer than this count as one step

Maps = Float32[np.ndarray, "time lat lon"]


def probability_below(threshold: Maps, quantiles: Iterable[Maps]) -> Maps:
    """The probability of less soil moisture than `threshold`; all in m3 m-3, NaN where any of them is.

    `quantiles` are the forecast's at LEVELS, in order; they are read one after the other, and may be a generator.
    """
    probability = np.zeros(threshold.shape)
    for number, (low, high) in enumerate(pairwise(quantiles)):
        step = LEVELS[number + 1] - LEVELS[number]
        position = (threshold - low) / np.maximum(high - low, NARROWEST)
        probability += step * np.clip(position, 0, 1)
        if number == 0:
            probability += LEVELS[0] * np.exp(np.minimum(position, 0) * step / LEVELS[0])
        if number == len(LEVELS) - 2:
            above = 1 - LEVELS[-1]
            probability += above * (1 - np.exp(-np.maximum(position - 1, 0) * step / above))
    return np.clip(probability, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class EventScores:
    """Scores of the chances of an event, from sums by day and bin. Those of the parts of a map can be joined."""

    days: np.ndarray  # valid days
    n: Float[np.ndarray, "time bin"]  # forecasts
    chance: Float[np.ndarray, "time bin"]  # sum of the chances
    hits: Float[np.ndarray, "time bin"]  # how often the event came
    errors: Float[np.ndarray, "time bin"]  # sum of squared differences

    @classmethod
    def of(cls, chance: Maps, event: Bool[np.ndarray, "time lat lon"], valid: np.ndarray, days: np.ndarray):
        """Of chances and events [time, lat, lon]; where `valid` is false, nothing is counted."""
        shape = (len(days), len(BINS) - 1)
        day = np.broadcast_to(np.arange(len(days))[:, None, None], valid.shape)[valid]
        place = day * shape[1] + np.searchsorted(BINS[1:-1], chance[valid], side="right")
        chance, came = chance[valid].astype(np.float64), event[valid].astype(np.float64)

        def by_bin(values: np.ndarray) -> np.ndarray:
            return np.bincount(place, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(float)

        return cls(days, by_bin(np.ones_like(chance)), by_bin(chance), by_bin(came), by_bin((chance - came) ** 2))

    @classmethod
    def joined(cls, parts: Sequence["EventScores"]) -> "EventScores":
        """Of all cells of these parts of a map; their days are the same."""
        sums = {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(cls)[1:]}
        return cls(days=parts[0].days, **sums)

    @property
    def share(self) -> float:
        """How often the event came."""
        return float(self.hits.sum() / max(self.n.sum(), 1))

    @property
    def brier(self) -> float:
        return float(self.errors.sum() / max(self.n.sum(), 1))

    @property
    def skill(self) -> Estimate:
        """1 − Brier score / that of a forecast that always says RARE."""
        n, hits = self.n.sum(axis=1), self.hits.sum(axis=1)
        return self._skill_over(hits * (1 - RARE) ** 2 + (n - hits) * RARE**2)

    def skill_over(self, other: "EventScores") -> Estimate:
        """1 − Brier score / that of another forecast of the same cells and days."""
        return self._skill_over(other.errors.sum(axis=1))

    def _skill_over(self, errors: Float[np.ndarray, "time"]) -> Estimate:
        """NaN where nothing is scored. The squared differences stand in the place of the squared errors."""
        n = self.n.sum(axis=1)
        if not n.any():
            return Estimate(np.nan, low=np.nan, high=np.nan, p=np.nan)
        sums = significance.pack_daily_sums(self.days, n=n, error_2=self.errors.sum(axis=1), reference_2=errors)
        return significance.estimate([sums], significance.skill)

    @property
    def reliability(self) -> list[dict[str, float]]:
        """For each bin with forecasts: their mean chance, how often the event came with its 95 % interval, and n."""
        rows = []
        for number in np.flatnonzero(self.n.any(axis=0)):
            n, hits = self.n[:, number], self.hits[:, number]
            came, chance = estimate_share(self.days, part=hits, total=n), self.chance[:, number].sum() / n.sum()
            rows.append(
                {"chance": chance, "frequency": came.value, "low": came.low, "high": came.high, "n": int(n.sum())}
            )
        return rows

    @property
    def parts(self) -> dict[str, float]:
        """Reliability (0 is best), resolution (more is better) and uncertainty, of which the Brier score is made."""
        n, total = self.n.sum(axis=0), max(self.n.sum(), 1)
        chance, frequency = (sums.sum(axis=0) / np.maximum(n, 1) for sums in (self.chance, self.hits))
        return {
            "reliability": float(n @ (chance - frequency) ** 2 / total),
            "resolution": float(n @ (frequency - self.share) ** 2 / total),
            "uncertainty": self.share * (1 - self.share),
        }

    def summary(self) -> dict[str, Any]:
        """The scores for JSON, which has no NaN."""
        skill = self.skill
        return {
            "brier": self.brier,
            "skill": skill.value,
            **without_nan({"skill_low": skill.low, "skill_high": skill.high}),
            "share_observed": self.share,
            **self.parts,
            "bins": [without_nan(row) for row in self.reliability],
        }


def score_events(test: OutOfSample, calibration: Calibration, climatology: Climatology) -> dict[str, EventScores]:
    """Scores of the chances of unusually `dry` and of unusually `wet` soil that the calibrated forecasts give."""
    chances = []
    thresholds = [climatology.quantile(level, test.days) for level in (DRY, WET)]
    for threshold in thresholds:
        quantiles = (calibration.quantiles(test.forecast, test.age, test.days, [i])[0] for i in range(len(LEVELS)))
        chances.append(probability_below(threshold, quantiles))
    return score_chances(test.observed, thresholds, (chances[0], 1 - chances[1]), test.days)


def score_chances(
    observed: Maps, thresholds: Sequence[Maps], chances: Sequence[Maps], days: np.ndarray
) -> dict[str, EventScores]:
    """The same from the percentiles DRY and WET, m3 m-3, and the chances below the first and above the second."""
    events = {"dry": observed < thresholds[0], "wet": observed > thresholds[1]}
    valid = np.isfinite(observed) & np.isfinite(chances[0]) & np.isfinite(chances[1])
    pairs = zip(events.items(), chances, strict=True)
    return {name: EventScores.of(chance, event, valid, days) for (name, event), chance in pairs}
