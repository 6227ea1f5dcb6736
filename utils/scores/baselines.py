"""What every model has to beat: simple forecasts, for exactly the same samples.

persistence         the last valid observation at or before the last input day
damped_persistence  the cell's training mean and the anomaly of the last observation; the anomaly decays by day as it
                    did in the cell's training days
climatology         each cell's mean annual cycle: a mean and two harmonics, by least squares. Where the training days
                    leave out part of the year, it is the cell's training mean
ridge               a linear regression, one for all cells, on the three variables of every input day and the cell's
                    means
ridge_memory        a linear regression of the anomaly on antecedent soil moisture and rain
                    (dataset/antecedent_features.py). Where the training days say little, it stays close to damped
                    persistence
ridge_memory_train  the same, from fewer days
boosting            gradient boosting of the anomaly on the same features (scores/boosting.py)

All learn from the training days alone but ridge_memory and boosting: they learn from training and validation days, as
the compact model does. For them, "training days" and "training mean" below are of both. No baseline chooses anything by
the validation days alone.

To add a baseline, write a function of a `Fitting` and add one row to BASELINES.

An anomaly is the difference from the cell's mean, not from its annual cycle. A cycle fitted to two years also follows
the weather of those two years. On the synthetic sample, the RMSE of damped persistence in the third year, a week ahead,
was 0.037 m3 m-3 with the cycle and 0.035 with the mean.

The mean of a short record follows the weather of the record, so it differs from the true mean. Anomalies then seem to
fade faster than they do, and forecasts of later days are pulled to a wrong mean. The fits of damped_persistence and
ridge_memory allow for that. They count extra samples in which the mean has the error to be expected
(`Pooled.mean_error`): all anomalies are off by the same amount, and persistence is right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from utils.common.periods import annual_harmonics
from utils.common.ridge import PENALTIES, Regression
from utils.data_processing import Windows, index_batches
from utils.dataset.antecedent_features import shifts
from utils.dataset.predictors import OLDEST
from utils.scores.boosting import fit_boosting
from utils.scores.fitting import (
    BATCH,
    Fitting,
    Predictors,
    last_input_days,
    memory_predictors,
    sum_by_age,
    training_mean,
    window_predictors,
)

HARMONICS = 2
SHRINKAGE = 1.0  # pulls the harmonics towards 0 as one more day without a cycle would; holds cells with few days
DECAY_SCALES = np.geomspace(1, 1000, 100)  # days: candidates of a cell's e-folding time
DECAY_SHRINKAGE = 40  # samples of the mean over cells that count in a cell's decay
PENALTY = 1.0  # of ridge, on standardised predictors

Forecasts = Float[np.ndarray, "sample lat lon"]  # m3 m-3, of the samples of `Fitting.test`


# -------------------------------------------------------------------------------------- persistence and climatology


def persistence(fitting: Fitting) -> Forecasts:
    """The last valid observation at or before the last input day."""
    test = fitting.test
    return test.record.last_observed[last_input_days(test)]


def climatology(fitting: Fitting) -> Forecasts:
    """The annual cycle of the training days at the target days; the training mean where they do not fill a year.

    Source: harmonic analysis by least squares, as in Wilks (2011), Statistical Methods in the Atmospheric Sciences,
    chapter 9.
    """
    record, test = fitting.training.record, fitting.test
    mean = training_mean(record)
    if not fitting.all_year:
        return np.broadcast_to(mean, (len(test), *mean.shape))
    anomaly = record.observed[fitting.training_days] - mean
    cycle = annual_cycle(anomaly, record.days[fitting.training_days])
    return (mean + at_days(cycle, test.valid_time)).astype(np.float32)


def note_short_year(fitting: Fitting) -> str:
    """The note of a climatology whose training days do not fill a year."""
    return "" if fitting.all_year else "training mean: the training days do not fill a year"


def annual_cycle(anomaly: Float[np.ndarray, "time lat lon"], days: np.ndarray) -> Float[np.ndarray, "lat lon term"]:
    """Mean and HARMONICS of each cell's annual cycle, in the unit of `anomaly`; NaN does not count.

    Least squares by the normal equations, (BᵀB + penalty) cycle = Bᵀ anomaly, with B the harmonics at each cell's valid
    days. The penalty is SHRINKAGE on the harmonics, and next to nothing on the mean.
    """
    valid = np.isfinite(anomaly)
    basis = annual_harmonics(days, HARMONICS)  # [time, term]
    shrunk = np.append(0.0, np.ones(2 * HARMONICS))
    penalty = SHRINKAGE * np.diag(shrunk) + 1e-6 * np.eye(len(shrunk))
    # t: day; i, j: cell; a, b: term
    gram = np.einsum("tij,ta,tb->ijab", valid, basis, basis, optimize=True) + penalty
    moment = np.einsum("tij,ta->ija", np.where(valid, anomaly, 0), basis, optimize=True)
    return np.linalg.solve(gram, moment[..., None])[..., 0]


def at_days(cycle: Float[np.ndarray, "lat lon term"], days: np.ndarray) -> Float[np.ndarray, "time lat lon"]:
    """The values of an annual cycle on these days."""
    basis = annual_harmonics(days, HARMONICS)  # [time, term]
    return np.tensordot(basis, cycle, axes=(1, 2))


# ------------------------------------------------------------------------------------------------ damped persistence


def damped_persistence(fitting: Fitting) -> Forecasts:
    """mean + exp(−(age + lead) / scale) · last anomaly, with each cell's own e-folding time `scale`, in days.

    Source: soil moisture as a first-order Markov process (Delworth and Manabe 1988, J. Climate 1).
    """
    test, memory = fitting.test, fitting.test_memory
    scale = decay_scale(fitting)
    start = last_input_days(test)
    weight = np.exp(-(memory["last_anomaly_age"][start] + test.lead_days) / scale)
    return (training_mean(test.record) + weight * memory["last_anomaly"][start]).astype(np.float32)


def decay_scale(fitting: Fitting) -> Float[np.ndarray, "lat lon"]:
    """e-folding time of each cell's anomalies, days: the one of DECAY_SCALES that forecasts its training samples best.

    The squared errors of a cell count together with DECAY_SHRINKAGE samples of the mean error over all cells. Where a
    cell has no sample, this mean error alone decides.
    """
    training, pooled = fitting.training, fitting.pooled
    decay = np.exp(-(np.arange(OLDEST + 1) + training.lead_days) / DECAY_SCALES[:, None])  # [scale, age]

    def squared_errors(sums: Float[np.ndarray, "3 age *cell"]) -> Float[np.ndarray, "scale *cell"]:
        """Sums over samples of (target − decay · last)², less the target's own square, which no scale changes."""
        agreement, power, count = sums
        from_mean = pooled.mean_error * count  # of the extra samples that stand for the error of the mean
        return np.tensordot(decay**2, power + from_mean, 1) - 2 * np.tensordot(decay, agreement + from_mean, 1)

    samples = max(pooled.by_age[2].sum(), 1)
    mean_error = squared_errors(pooled.by_age) / samples
    cell_errors = squared_errors(sum_by_age(training, fitting.training_memory))
    best = np.argmin(cell_errors + DECAY_SHRINKAGE * mean_error[:, None, None], axis=0)
    return DECAY_SCALES[best]


# --------------------------------------------------------------------------------------------------------- regression


def ridge(fitting: Fitting) -> Forecasts:
    """Ridge regression (Hoerl and Kennard 1970, Technometrics 12) on the scaled inputs, with the penalty PENALTY."""
    weights = Regression(fitting.pooled.window).fit(PENALTY)
    return _predict(fitting.test, lambda samples: window_predictors(fitting.test, samples), weights)


def ridge_memory(fitting: Fitting) -> Forecasts:
    """Ridge regression of the anomaly on antecedent features; the penalty is chosen on held-out thirds of the days.

    The days are those that the fitting learns from, without any test day.

    Season and soil temperature are left out where the training days do not fill a year. What a regression makes of the
    seasons it knows says nothing of the others.
    """
    test, memory, pooled = fitting.test, fitting.test_memory, fitting.pooled
    features = fitting.features
    shift = np.array([0, *shifts(features), 1])  # of 1, features and target, where a cell's mean is 1 m3 m-3 too low
    samples_by_block = pooled.memory[:, :1, :1]  # the sum of 1 · 1
    from_mean = samples_by_block * pooled.mean_error * np.outer(shift, shift)  # of the extra samples
    products = pooled.memory + from_mean
    regression = Regression(products, fitting.used, towards=features.index("last_anomaly"))
    penalty = regression.best(np.array(PENALTIES) * regression.rows / pooled.samples)
    start = last_input_days(test)
    anomaly = _predict(test, lambda samples: memory_predictors(memory, start[samples]), regression.fit(penalty))
    return anomaly + training_mean(test.record)


def boosting(fitting: Fitting) -> Forecasts:
    """Gradient boosting of the anomaly on the features of ridge_memory; the number of trees is chosen as its penalty.

    It learns from CELL_DAYS cell-days at most.
    """
    test, pooled = fitting.test, fitting.pooled
    scored, start = test.record.statistics.scored, last_input_days(test)
    used = tuple(int(number) for number in np.flatnonzero(fitting.used))
    last = fitting.features.index("last_anomaly")
    trees = fit_boosting(pooled.cell_days, used, last, pooled.mean_error)
    anomaly = np.full((len(test), *scored.shape), np.nan, np.float32)
    for samples in index_batches(len(test), BATCH):
        predictors = memory_predictors(fitting.test_memory, start[samples])[:, scored][..., used]
        forecasts = trees.predict(predictors.reshape(-1, len(used)))
        anomaly[samples[0] : samples[-1] + 1, scored] = forecasts.reshape(len(samples), -1)
    return anomaly + training_mean(test.record)


def _predict(test: Windows, predictors: Predictors, weights: np.ndarray) -> Forecasts:
    maps = [predictors(samples) @ weights[1:] + weights[0] for samples in index_batches(len(test), BATCH)]
    return np.where(test.record.statistics.scored, np.concatenate(maps), np.nan).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------- registry

TRAINING, ALL_DAYS = "training days", "training and validation days"  # what a baseline learns from


def no_note(fitting: Fitting) -> str:
    """The note of a baseline that is always what its name says."""
    return ""


@dataclass(frozen=True)
class Baseline:
    """One row of BASELINES: what a baseline is, and how it looks in figures and tables."""

    name: str  # of its rows in table.csv, its folders and its part of metrics.json
    long_name: str
    forecast: Callable[[Fitting], Forecasts]
    colour: str
    line: str | tuple  # Matplotlib's line style; the lines differ in grey too
    learns_from: str = TRAINING  # or ALL_DAYS
    note: Callable[[Fitting], str] = no_note  # where the forecast is less than the name says; "": nowhere
    heading: str = ""  # of the report's column of tests against it; "": it has none


BASELINES = {  # in the order of tables and legends
    row.name: row
    for row in (
        Baseline(
            name="persistence",
            long_name="last observation",
            forecast=persistence,
            colour="#a50026",
            line="solid",
            heading="against persistence",
        ),
        Baseline(
            name="damped_persistence",
            long_name="training mean and decaying anomaly of the last observation",
            forecast=damped_persistence,
            colour="#d6604d",
            line=(0, (4, 1, 1, 1)),
        ),
        Baseline(
            name="climatology",
            long_name="training climatology",
            forecast=climatology,
            colour="#e08214",
            line=(0, (3, 1.2)),
            note=note_short_year,
        ),
        Baseline(
            name="ridge",
            long_name="ridge regression on the inputs",
            forecast=ridge,
            colour="#7f3b08",
            line=(0, (1, 0.8)),
        ),
        Baseline(
            name="ridge_memory_train",
            long_name="ridge regression on antecedent features, from training days alone",
            forecast=ridge_memory,
            colour="#9e86c8",
            line=(0, (2, 1)),
        ),
        Baseline(
            name="ridge_memory",
            long_name="ridge regression on antecedent features",
            forecast=ridge_memory,
            colour="#9e86c8",
            line="solid",
            learns_from=ALL_DAYS,
            heading="against ridge_memory",
        ),
        Baseline(
            name="boosting",
            long_name="gradient boosting on antecedent features",
            forecast=boosting,
            colour="#5e3c99",
            line=(0, (5, 1, 1, 1, 1, 1)),
            learns_from=ALL_DAYS,
        ),
    )
}
