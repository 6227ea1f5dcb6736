"""What every model has to beat: simple forecasts fitted on the training period alone, for exactly the same samples.

persistence         the last valid observation at or before the last input day
damped_persistence  the cell's training mean and the last observation's anomaly from it, which decays by day as it did
                    in the cell's training days
climatology         each cell's mean annual cycle, a mean and two harmonics by least squares; where the training days
                    leave out part of the year, the cell's training mean
ridge               a linear regression, one for all cells, on the three variables of every input day and the cell's
                    means
ridge_memory        the same on antecedent features of soil moisture and rain (dataset/antecedent_features.py), for the
                    anomaly; it is drawn towards damped persistence where the training days say little

Anomalies are from the mean, not from the annual cycle: a cycle fitted to two years of the synthetic sample made the
damped forecast of the third worse (RMSE 0.037 for 0.035 m3 m-3 a week ahead), for it holds those years' weather.

The mean of a short record lies close to its own days, so that anomalies seem to fade faster than they do, and a
forecast of later days is drawn to a mean that is no longer theirs. Both fits therefore count samples whose observations
all lie off by the error of the mean, for which persistence is right. The constants were chosen on SMAP L3 over the
United States, April to December 2015: trained on 16 to 184 of these days, scored on others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from utils.common.periods import Span, annual_harmonics, fills_a_year, in_spans
from utils.common.ridge import BLOCKS, PENALTIES, Regression
from utils.data_processing import Windows, index_batches
from utils.dataset.antecedent_features import FEATURES as TABLE
from utils.dataset.antecedent_features import OLDEST, AntecedentFeatures, shifts
from utils.dataset.record import Record
from utils.dataset.statistics import CORRELATED_DAYS, MOISTURE

HARMONICS = 2
SHRINKAGE = 1.0  # pulls the harmonics towards 0 as one more day without a cycle would; holds cells with few days
DECAY_SCALES = np.geomspace(1, 1000, 100)  # days: candidates of a cell's e-folding time
DECAY_SHRINKAGE = 40  # samples of the mean over cells that count in a cell's decay
PENALTY = 1.0  # of ridge, on standardised predictors
FEATURES = (  # of ridge_memory
    *("moisture_anomaly_5", "moisture_anomaly_20", "moisture_anomaly_60"),
    *("root_rain_3", "root_rain_10", "root_rain_30"),
    *("root_rain_lag_0", "root_rain_lag_1", "root_rain_lag_2"),
    *("last_anomaly", "last_anomaly_age", "soil_temperature_anomaly"),
    *("mean_precipitation", "mean_soil_moisture", "mean_soil_temperature"),
    *("season_cosine", "season_sine"),
)
UNSEASONAL = np.array([TABLE[name].kind != "season" and TABLE[name].unit != "K" for name in FEATURES])
_BATCH = 64


@dataclass(frozen=True)
class Pooled:
    """What the training samples of all cells say together: sums, so that blocks of a large map can be added."""

    samples: int  # training samples of a cell
    days: int  # target days of the training period, with or without a full window
    all_year: bool  # whether they leave out no part of the year
    anomaly: Float[np.ndarray, "2"]  # sum of squares of the targets' anomalies, (m3 m-3)², and their number
    by_age: Float[np.ndarray, "3 age"]  # sums over samples, by the last anomaly's age: see _agreements
    window: Float[np.ndarray, "block t t"]  # products of ridge's predictors and target: see _products
    memory: Float[np.ndarray, "block m m"]  # the same of ridge_memory's

    @classmethod
    def of(cls, training: Windows, memory: AntecedentFeatures, days: tuple[Span, ...]) -> "Pooled":
        """`memory` is that of the training record, `days` the training period."""
        target, start = _anomaly(training), training.target_index - training.lead_days
        moisture = training.record.observed[training.target_index]
        return cls(
            len(training),
            len(training) + training.skipped,
            fills_a_year(training.record.days[in_spans(training.record.days, days)]),
            np.array([np.sum(target**2, where=np.isfinite(target), dtype=np.float64), np.isfinite(target).sum()]),
            _agreements(training, memory).sum(axis=(2, 3)),
            _products(moisture, lambda samples: _window(training, samples)),
            _products(target, lambda samples: _remembered(memory, start[samples])),
        )

    def __add__(self, other: "Pooled") -> "Pooled":
        sums = (getattr(self, name) + getattr(other, name) for name in ("anomaly", "by_age", "window", "memory"))
        return Pooled(self.samples, self.days, self.all_year, *sums)

    @property
    def mean_error(self) -> float:
        """Variance of the error of a cell's training mean, (m3 m-3)², from the anomalies of all cells."""
        squares, count = self.anomaly
        return float(squares / max(count, 1)) * CORRELATED_DAYS / self.days


def baselines(
    training: Windows, test: Windows, days: tuple[Span, ...], pooled: Pooled | None = None
) -> dict[str, tuple[Float[np.ndarray, "sample lat lon"], str]]:
    """Each baseline's forecasts, m3 m-3, for the samples of `test`, and a note where one is less than its name says.

    `training` are the samples to learn from, `days` the training period, whose observations make the climatology.
    `pooled` is of the whole map where these are a part of it.
    """
    climate, note = climatology(training, test, days)
    learned = AntecedentFeatures(training.record, FEATURES)
    memory = learned if test.record is training.record else AntecedentFeatures(test.record, FEATURES)
    pooled = pooled or Pooled.of(training, learned, days)
    return {
        "persistence": (persistence(test), ""),
        "damped_persistence": (damped_persistence(training, test, learned, memory, pooled), ""),
        "climatology": (climate, note),
        "ridge": (ridge(test, pooled), ""),
        "ridge_memory": (ridge_memory(test, memory, pooled), ""),
    }


def persistence(test: Windows) -> Float[np.ndarray, "sample lat lon"]:
    return test.record.last_observed[test.target_index - test.lead_days]


def climatology(
    training: Windows, test: Windows, days: tuple[Span, ...]
) -> tuple[Float[np.ndarray, "sample lat lon"], str]:
    """The annual cycle of `days` in the record of `training`, at the target days of `test`; and "training mean" as a
    note where they fill no year."""
    record = training.record
    inside = in_spans(record.days, days)
    mean = _mean(record)
    if not fills_a_year(record.days[inside]):
        return np.broadcast_to(mean, (len(test), *mean.shape)), "training mean: the training days do not fill a year"
    cycle = annual_cycle(record.observed[inside] - mean, record.days[inside])
    return (mean + at_days(cycle, test.valid_time)).astype(np.float32), ""


def annual_cycle(anomaly: Float[np.ndarray, "time lat lon"], days: np.ndarray) -> Float[np.ndarray, "lat lon term"]:
    """Mean and HARMONICS of each cell's annual cycle by least squares; NaN does not count."""
    valid = np.isfinite(anomaly)
    basis = annual_harmonics(days, HARMONICS)
    penalty = SHRINKAGE * np.diag([0.0] + [1.0] * 2 * HARMONICS) + 1e-6 * np.eye(basis.shape[1])
    gram = np.einsum("tij,ta,tb->ijab", valid, basis, basis, optimize=True) + penalty
    moment = np.einsum("tij,ta->ija", np.where(valid, anomaly, 0), basis, optimize=True)
    return np.linalg.solve(gram, moment[..., None])[..., 0]


def at_days(cycle: Float[np.ndarray, "lat lon term"], days: np.ndarray) -> Float[np.ndarray, "time lat lon"]:
    """An annual cycle at these days."""
    return np.tensordot(annual_harmonics(days, HARMONICS), cycle, (1, 2))


def _mean(record: Record) -> Float[np.ndarray, "lat lon"]:
    """Training mean of soil moisture, m3 m-3; NaN in cells that are not scored."""
    return np.where(record.statistics.scored, record.statistics.cell_mean[MOISTURE], np.float32(np.nan))


def damped_persistence(
    training: Windows, test: Windows, learned: AntecedentFeatures, memory: AntecedentFeatures, pooled: Pooled
) -> Float[np.ndarray, "sample lat lon"]:
    """`learned` and `memory` are those of the training and of the test record."""
    start = test.target_index - test.lead_days
    weight = np.exp(-(memory["last_anomaly_age"][start] + test.lead_days) / decay_scale(training, learned, pooled))
    return (_mean(test.record) + weight * memory["last_anomaly"][start]).astype(np.float32)


def decay_scale(training: Windows, memory: AntecedentFeatures, pooled: Pooled) -> Float[np.ndarray, "lat lon"]:
    """e-folding time of each cell's anomalies, days: the one that forecasts its training samples best.

    The squared errors of a cell count together with DECAY_SHRINKAGE samples of the mean error over all cells, which
    alone decides where a cell has no sample.
    """
    decay = np.exp(-(np.arange(OLDEST + 1) + training.lead_days) / DECAY_SCALES[:, None])

    def error(sums: Float[np.ndarray, "3 age *cell"]) -> Float[np.ndarray, "scale *cell"]:
        """Sums of squared errors, less the target's own square."""
        agreement, power, count = sums
        off = pooled.mean_error * count
        return np.tensordot(decay**2, power + off, 1) - 2 * np.tensordot(decay, agreement + off, 1)

    mean = error(pooled.by_age) / max(pooled.by_age[2].sum(), 1)
    return DECAY_SCALES[np.argmin(error(_agreements(training, memory)) + DECAY_SHRINKAGE * mean[:, None, None], axis=0)]


def _agreements(training: Windows, memory: AntecedentFeatures) -> Float[np.ndarray, "3 age lat lon"]:
    """Sums over valid samples of target · last anomaly, of its square, and their number, by its age in days."""
    target, start = _anomaly(training), training.target_index - training.lead_days
    last, age = memory["last_anomaly"][start], memory["last_anomaly_age"][start]
    valid = np.isfinite(target)
    found = np.zeros((3, OLDEST + 1, *target.shape[1:]))
    for days in range(OLDEST + 1):
        here = valid & (age == days)
        found[0, days] = np.sum(target * last, axis=0, where=here, dtype=np.float64)
        found[1, days] = np.sum(last**2, axis=0, where=here, dtype=np.float64)
        found[2, days] = here.sum(axis=0)
    return found


def _anomaly(windows: Windows) -> Float[np.ndarray, "sample lat lon"]:
    """The targets less the training mean, m3 m-3; NaN where not valid."""
    return windows.record.observed[windows.target_index] - _mean(windows.record)


# --------------------------------------------------------------------------------------------------------- regression

Predictors = Callable[[np.ndarray], Float[np.ndarray, "batch lat lon predictor"]]  # of samples by number


def ridge(test: Windows, pooled: Pooled) -> Float[np.ndarray, "sample lat lon"]:
    return _predict(test, lambda samples: _window(test, samples), Regression(pooled.window).fit(PENALTY))


def ridge_memory(test: Windows, memory: AntecedentFeatures, pooled: Pooled) -> Float[np.ndarray, "sample lat lon"]:
    """`memory` is that of the test record.

    Season and soil temperature are left out where the training days do not fill a year: what a regression makes of the
    seasons it knows says nothing of the others.
    """
    products = pooled.memory + pooled.memory[:, :1, :1] * pooled.mean_error * np.outer(_shift(), _shift())
    regression = Regression(products, UNSEASONAL | pooled.all_year, towards=FEATURES.index("last_anomaly"))
    weights = regression.fit(regression.best(np.array(PENALTIES) * regression.rows / pooled.samples))
    start = test.target_index - test.lead_days
    return _predict(test, lambda samples: _remembered(memory, start[samples]), weights) + _mean(test.record)


def _shift() -> Float[np.ndarray, "term"]:
    """What an error of the cell's mean does to (1, FEATURES, target): every anomaly is off by it, and the mean."""
    return np.array([0, *shifts(FEATURES), 1])


def _window(windows: Windows, samples: np.ndarray) -> Float[np.ndarray, "batch lat lon predictor"]:
    """The scaled variables of every input day, and the cell's scaled training means."""
    statistics = windows.record.statistics
    inputs = windows.batch(samples).features.flatten(1, 2).numpy()
    means = (statistics.cell_mean - statistics.low[:, None, None]) / statistics.span[:, None, None]
    means = np.broadcast_to(np.nan_to_num(means), (len(samples), *means.shape))
    return np.moveaxis(np.concatenate([inputs, means], axis=1), 1, -1).astype(np.float64)


def _remembered(memory: AntecedentFeatures, index: np.ndarray) -> Float[np.ndarray, "batch lat lon predictor"]:
    return np.moveaxis(memory.at(index), 1, -1).astype(np.float64)


def _products(target: Float[np.ndarray, "sample lat lon"], predictors: Predictors) -> Float[np.ndarray, "block t t"]:
    """Sums of the products of (1, predictors, target) over the valid targets of each block of samples.

    They are all a linear regression needs to know, so that it takes no more memory for more days.
    """
    sums = []
    for block in np.array_split(np.arange(len(target)), BLOCKS):
        sums.append(0.0)
        for part in index_batches(len(block), _BATCH):
            valid = np.isfinite(target[block[part]])
            inputs = predictors(block[part])[valid]
            rows = np.column_stack([np.ones(len(inputs)), inputs, target[block[part]][valid]])
            sums[-1] = sums[-1] + rows.T @ rows
    terms = max(np.shape(block) for block in sums)
    return np.stack([np.broadcast_to(block, terms) for block in sums])


def _predict(test: Windows, predictors: Predictors, weights: np.ndarray) -> Float[np.ndarray, "sample lat lon"]:
    maps = [predictors(samples) @ weights[1:] + weights[0] for samples in index_batches(len(test), _BATCH)]
    return np.where(test.record.statistics.scored, np.concatenate(maps), np.nan).astype(np.float32)
