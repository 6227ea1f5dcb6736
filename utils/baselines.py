"""What every model has to beat: simple forecasts fitted on the training period alone, for exactly the same samples.

persistence   the last valid observation at or before the last input day
climatology   each cell's mean annual cycle, a mean and two harmonics by least squares; where the training days leave
              out part of the year, the cell's training mean
ridge         a linear regression, one for all cells, on the three variables of every input day and the cell's means
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve

from utils.data_processing import MOISTURE, Windows, annual_harmonics, in_spans
from utils.forecasting import batches
from utils.settings import Span

HARMONICS = 2
SHRINKAGE = 1.0  # pulls the harmonics towards 0 as one more day without a cycle would; holds cells with few days
PENALTY = 1.0  # of ridge, on standardised predictors
_BATCH = 64


def baselines(
    training: Windows, test: Windows, days: tuple[Span, ...]
) -> dict[str, tuple[Float[np.ndarray, "sample lat lon"], str]]:
    """Each baseline's forecasts, m3 m-3, for the samples of `test`, and a note where one is less than its name says.

    `training` are the samples that ridge learns from, `days` the training period whose observations climatology uses.
    """
    climate, note = climatology(training, test, days)
    return {
        "persistence": (persistence(test), ""),
        "climatology": (climate, note),
        "ridge": (ridge(training, test), ""),
    }


def persistence(test: Windows) -> Float[np.ndarray, "sample lat lon"]:
    return test.record.last_observed[test.target_index - test.lead_days]


def climatology(
    training: Windows, test: Windows, days: tuple[Span, ...]
) -> tuple[Float[np.ndarray, "sample lat lon"], str]:
    """The annual cycle at the target days, and "training mean" as a note where the training days fill no year."""
    record = training.record
    inside = in_spans(record.days, days)
    mean = np.where(record.statistics.scored, record.statistics.cell_mean[MOISTURE], np.float32(np.nan))
    days_of_year = (record.days[inside] - record.days[inside].astype("datetime64[Y]")).astype(int)
    if len(np.unique(days_of_year)) < 365:
        return np.broadcast_to(mean, (len(test), *mean.shape)), "training mean: the training days do not fill a year"
    observed = record.observed[inside] - mean
    valid = np.isfinite(observed)
    basis = annual_harmonics(record.days[inside], HARMONICS)
    penalty = SHRINKAGE * np.diag([0.0] + [1.0] * 2 * HARMONICS) + 1e-6 * np.eye(basis.shape[1])
    gram = np.einsum("tij,ta,tb->ijab", valid, basis, basis, optimize=True) + penalty
    moment = np.einsum("tij,ta->ija", np.where(valid, observed, 0), basis, optimize=True)
    cycle = np.linalg.solve(gram, moment[..., None])[..., 0]
    return (mean + np.tensordot(annual_harmonics(test.valid_time, HARMONICS), cycle, (1, 2))).astype(np.float32), ""


def ridge(training: Windows, test: Windows) -> Float[np.ndarray, "sample lat lon"]:
    """Fitted by normal equations summed over batches, so that it needs no more memory for more days."""
    terms = 3 * training.input_days + 4  # predictors and, last, the target
    count, sums, products = 0, np.zeros(terms), np.zeros((terms, terms))
    for samples in batches(len(training), _BATCH):
        batch = training.batch(samples)
        valid = batch.valid.numpy()
        rows = np.column_stack([_predictors(training, samples)[valid], batch.target.numpy()[valid]])
        count, sums, products = count + len(rows), sums + rows.sum(axis=0), products + rows.T @ rows
    mean = sums / count
    covariance = products - count * np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance)[:-1] / count, 0))
    deviation[deviation < 1e-9] = np.inf  # a constant predictor gets no weight
    gram = covariance[:-1, :-1] / np.outer(deviation, deviation) + PENALTY * np.eye(terms - 1)
    weights = solve(gram, covariance[:-1, -1] / deviation, assume_a="pos") / deviation
    intercept = mean[-1] - mean[:-1] @ weights
    statistics = test.record.statistics
    maps = [_predictors(test, samples) @ weights + intercept for samples in batches(len(test), _BATCH)]
    forecast = np.concatenate(maps) * statistics.span[MOISTURE] + statistics.low[MOISTURE]
    return np.where(statistics.scored, forecast, np.nan).astype(np.float32)


def _predictors(windows: Windows, samples: np.ndarray) -> Float[np.ndarray, "batch lat lon predictor"]:
    """The scaled variables of every input day, and the cell's scaled training means."""
    statistics = windows.record.statistics
    inputs = windows.batch(samples).features.flatten(1, 2).numpy()
    means = (statistics.cell_mean - statistics.low[:, None, None]) / statistics.span[:, None, None]
    means = np.broadcast_to(np.nan_to_num(means), (len(samples), *means.shape))
    return np.moveaxis(np.concatenate([inputs, means], axis=1), 1, -1).astype(np.float64)
