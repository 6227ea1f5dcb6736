"""Matching of two products' soil moisture: each cell's target climate is carried to the source's and back.

A network that learned on one product meets the other with its bias and range taken off. What differs is estimated from
the training days of both; a cell's own estimate counts by its days, for the mean of n days is as uncertain as one of
n / CORRELATED_DAYS independent ones:

    estimate = (n · own + k · (source's cell + pooled difference)) / (n + k),  k = CORRELATED_DAYS

This is the best such weight where cells differ in their difference between products as much as one day's value
differs from its cell's mean. Where the source has no such cell, on another grid or where it has no value, its climate
there is taken to be the target's less the pooled difference, so that contrasts between cells stay as they are.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from utils.dataset.statistics import CORRELATED_DAYS, MOISTURE, Statistics

Match = Literal["none", "mean", "mean_variance", "cdf"]
LEAST = 1e-3  # m3 m-3: least standard deviation, and least distance of two quantiles


def matched(
    own: Statistics, days: Int[np.ndarray, "lat lon"], source: Statistics, here: bool, how: Match
) -> Statistics:
    """`own` with the knots that carry it to the climate of `source`.

    `days` are the valid training days of each cell, `here` whether both have the same grid. mean: a shift;
    mean_variance: a shift and a stretch; cdf: quantile to quantile, and beyond the outer ones the stretch of them all.
    """
    if how == "none":
        return own
    target, cells = _terms(own, how), _terms(source, how)
    known = np.isfinite(target).all(axis=0) & (days > 0)
    source_known = np.isfinite(cells).all(axis=0)
    there = cells if here else np.full_like(target, np.nan)
    both = known & np.isfinite(there).all(axis=0)
    average = np.average(target[:, known], axis=1, weights=days[known])
    if both.any():
        difference = np.average((target - there)[:, both], axis=1, weights=days[both])
    else:
        difference = average - cells[:, source_known].mean(axis=1)
    average, difference = average[:, None, None], difference[:, None, None]
    there = np.where(np.isfinite(there).all(axis=0), there, np.where(known, target, average) - difference)
    weight = np.where(known, days / (days + CORRELATED_DAYS), 0)
    target = weight * np.where(known, target, 0) + (1 - weight) * (there + difference)
    return replace(own, knots=_knots(np.stack([target, there]), how).astype(np.float32))


def _terms(statistics: Statistics, how: Match) -> Float[np.ndarray, "term lat lon"]:
    """What is compared: the mean, m3 m-3; with it the logarithm of the standard deviation; or the quantiles."""
    mean = statistics.cell_mean[MOISTURE].astype(np.float64)
    if how == "mean":
        return mean[None]
    climate = statistics.climate.astype(np.float64)
    return climate[1:] if how == "cdf" else np.stack([mean, np.log(np.maximum(climate[0], LEAST))])


def _knots(terms: Float[np.ndarray, "2 term lat lon"], how: Match) -> Float[np.ndarray, "2 knot lat lon"]:
    """Values that correspond in the two climates described by these terms, strictly increasing, m3 m-3."""
    if how == "cdf":
        step = LEAST * np.arange(terms.shape[1])[:, None, None]
        quantiles = np.maximum.accumulate(terms - step, axis=1) + step
        reach = quantiles[:, -1:] - quantiles[:, :1]
        return np.concatenate([quantiles[:, :1] - reach, quantiles, quantiles[:, -1:] + reach], axis=1)
    half = np.exp(terms[:, 1]) if how == "mean_variance" else 0.5
    return np.stack([terms[:, 0] - half, terms[:, 0] + half], axis=1)
