"""CDF matching: soil moisture of one product is carried to the distribution of another, and forecasts are carried back.

A network that learned on one product sees the other without its bias and its different range. For each cell, matching
names points of soil moisture in the target product, and the values that correspond to them in the source product.
Between two points the relation is a straight line (`map_quantiles`). There are three kinds of points:

mean            the means correspond: a shift
mean_variance   mean ± one standard deviation: a shift and a stretch
cdf             the quantiles at LEVELS: cumulative distribution functions are matched (Reichle and Koster,
                2004, Geophysical Research Letters); beyond the outer quantiles, the stretch of the whole range

What differs between the products is estimated from the training days of both. A cell's own estimate counts by its days,
for the mean of n days is as uncertain as the mean of n / CORRELATED_DAYS independent days:

    estimate = (n · own + k · (source's cell + pooled difference)) / (n + k),  k = CORRELATED_DAYS

This weight is the best one where cells differ in their difference between the products as much as the value of a day
differs from the mean of its cell. Where the source has no such cell (on another grid, or without a value there), its
distribution is taken to be the target's less the pooled difference, so that contrasts between cells stay as they are.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from utils.dataset.statistics import CORRELATED_DAYS, MOISTURE, Statistics

Match = Literal["none", "mean", "mean_variance", "cdf"]
LEAST = 1e-3  # m3 m-3: least standard deviation, and least distance of two quantiles
Terms = Float[np.ndarray, "term lat lon"]


def match_statistics(target: Statistics, source: Statistics, same_grid: bool, match: Match) -> Statistics:
    """`target` with the points that carry its soil moisture to the distribution of `source`.

    `target` was made of its data set, and so knows its training days.
    """
    if match == "none":
        return target
    days = target.training_days
    own, elsewhere = _terms(target, match), _terms(source, match)
    known = np.isfinite(own).all(axis=0) & (days > 0)
    there = elsewhere if same_grid else np.full_like(own, np.nan)
    average = np.average(own[:, known], axis=1, weights=days[known])
    both = known & np.isfinite(there).all(axis=0)
    if both.any():
        difference = np.average((own - there)[:, both], axis=1, weights=days[both])
    else:
        source_known = np.isfinite(elsewhere).all(axis=0)
        difference = average - elsewhere[:, source_known].mean(axis=1)
    average, difference = average[:, None, None], difference[:, None, None]
    there = np.where(np.isfinite(there).all(axis=0), there, np.where(known, own, average) - difference)
    weight = np.where(known, days / (days + CORRELATED_DAYS), 0)
    estimate = weight * np.where(known, own, 0) + (1 - weight) * (there + difference)
    points = np.stack([_points(estimate, match), _points(there, match)])
    return replace(target, matching=points.astype(np.float32))


def _terms(statistics: Statistics, match: Match) -> Terms:
    """What is compared: the mean, m3 m-3; the mean and the logarithm of the standard deviation; or the quantiles."""
    mean = statistics.cell_mean[MOISTURE].astype(np.float64)
    if match == "mean":
        return mean[None]
    if match == "mean_variance":
        return np.stack([mean, np.log(np.maximum(statistics.std.astype(np.float64), LEAST))])
    return statistics.quantiles.astype(np.float64)


def _points(terms: Terms, match: Match) -> Float[np.ndarray, "point lat lon"]:
    """The points of one product that these terms describe, strictly increasing, m3 m-3."""
    if match == "cdf":
        return _quantile_points(terms)
    mean = terms[0]
    half = np.exp(terms[1]) if match == "mean_variance" else 0.5
    return np.stack([mean - half, mean + half])


def _quantile_points(quantiles: Terms) -> Float[np.ndarray, "point lat lon"]:
    """Quantiles at least LEAST apart, and a point as far beyond each outer one as all of them span."""
    step = LEAST * np.arange(len(quantiles))[:, None, None]
    apart = np.maximum.accumulate(quantiles - step, axis=0) + step
    span = apart[-1:] - apart[:1]
    return np.concatenate([apart[:1] - span, apart, apart[-1:] + span])
