"""What baselines are fitted on: samples to learn from, samples to forecast, and what both say to a regression."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from utils.common.periods import Span, fills_a_year, in_spans
from utils.common.ridge import BLOCKS
from utils.data_processing import Windows, index_batches
from utils.dataset.antecedent_features import AntecedentFeatures, features_of, follows_season
from utils.dataset.predictors import OLDEST, variables_of
from utils.dataset.record import Record
from utils.dataset.statistics import CORRELATED_DAYS, MOISTURE

FEATURES = (  # what ridge_memory sees, in the order of its weights; damped_persistence takes two of them
    "moisture_anomaly_5",
    "moisture_anomaly_20",
    "moisture_anomaly_60",
    "root_rain_3",
    "root_rain_10",
    "root_rain_30",
    "root_rain_lag_0",
    "root_rain_lag_1",
    "root_rain_lag_2",
    "last_anomaly",
    "last_anomaly_age",
    "soil_temperature_anomaly",
    "mean_precipitation",
    "mean_soil_moisture",
    "mean_soil_temperature",
    "season_cosine",
    "season_sine",
)
BATCH = 64  # samples whose predictors are in memory at once
CELL_DAYS = 100_000  # that boosting learns from, at most: some 15 MB, however large the map
Predictors = Callable[[np.ndarray], Float[np.ndarray, "batch lat lon predictor"]]  # of samples by number


@dataclass(frozen=True, eq=False)
class CellDays:
    """Some valid cell-days of the training samples, drawn at random. Those of the blocks of a map are added with `+`.

    Each cell draws its days by itself, so that the map as a whole and its blocks draw the same.
    """

    samples: int  # training samples of a cell
    sample: Int[np.ndarray, "row"]  # its number among these
    cell: Int[np.ndarray, "row 2"]  # row and column of the whole map
    predictors: Float[np.ndarray, "row predictor"]  # ridge_memory's
    target: Float[np.ndarray, "row"]  # the anomaly, m3 m-3

    @classmethod
    def draw(cls, training: Windows, memory: AntecedentFeatures) -> "CellDays":
        """From the training samples of a block, its share of CELL_DAYS."""
        target, start = moisture_anomaly(training), last_input_days(training)
        share = CELL_DAYS / max(len(training) * training.statistics.scored.sum(), 1)
        origin = np.array([training.blocks[0].rows.start, training.blocks[0].columns.start])
        drawn = np.zeros(target.shape, bool)
        for cell in np.argwhere(training.record.statistics.scored):
            drawn[:, *cell] = np.random.default_rng(cell + origin).random(len(training)) < share
        drawn &= np.isfinite(target)
        numbers = np.argwhere(drawn)
        rows = [
            memory_predictors(memory, start[samples])[drawn[samples]] for samples in index_batches(len(training), BATCH)
        ]
        return cls(len(training), numbers[:, 0], numbers[:, 1:] + origin, np.concatenate(rows), target[drawn])

    def __add__(self, other: "CellDays") -> "CellDays":
        return CellDays(
            samples=self.samples,
            sample=np.concatenate([self.sample, other.sample]),
            cell=np.concatenate([self.cell, other.cell]),
            predictors=np.concatenate([self.predictors, other.predictors]),
            target=np.concatenate([self.target, other.target]),
        )

    @property
    def order(self) -> Int[np.ndarray, "row"]:
        """The rows in the order of time and map, whatever the order of the blocks was."""
        return np.lexsort((self.cell[:, 1], self.cell[:, 0], self.sample))


@dataclass(frozen=True)
class Pooled:
    """Sums over the training samples of all cells. Those of the blocks of a large map are added with `+`."""

    samples: int  # training samples of a cell
    days: int  # target days of the training period, with or without a full window
    all_year: bool  # whether these days cover the whole year
    anomaly: Float[np.ndarray, "2"]  # sum of squares of the targets' anomalies, (m3 m-3)², and their number
    by_age: Float[np.ndarray, "3 age"]  # sums over samples, by the last anomaly's age: see sum_by_age
    window: Float[np.ndarray, "block t t"]  # products of ridge's predictors and target: see sum_products_by_block
    memory: Float[np.ndarray, "block m m"]  # the same of ridge_memory's
    cell_days: CellDays

    @classmethod
    def of(cls, training: Windows, memory: AntecedentFeatures, days: tuple[Span, ...]) -> "Pooled":
        """`memory` is that of the training record, `days` the training period."""
        record, target = training.record, moisture_anomaly(training)
        moisture = record.observed[training.target_index]
        start = last_input_days(training)
        squares = np.sum(target**2, where=np.isfinite(target), dtype=np.float64)
        return cls(
            samples=len(training),
            days=len(training) + training.skipped,
            all_year=fills_a_year(record.days[in_spans(record.days, days)]),
            anomaly=np.array([squares, np.isfinite(target).sum()]),
            by_age=sum_by_age(training, memory).sum(axis=(2, 3)),
            window=sum_products_by_block(moisture, lambda samples: window_predictors(training, samples)),
            memory=sum_products_by_block(target, lambda samples: memory_predictors(memory, start[samples])),
            cell_days=CellDays.draw(training, memory),
        )

    def __add__(self, other: "Pooled") -> "Pooled":
        return Pooled(
            samples=self.samples,
            days=self.days,
            all_year=self.all_year,
            anomaly=self.anomaly + other.anomaly,
            by_age=self.by_age + other.by_age,
            window=self.window + other.window,
            memory=self.memory + other.memory,
            cell_days=self.cell_days + other.cell_days,
        )

    @property
    def mean_error(self) -> float:
        """Variance of the error of a cell's training mean, (m3 m-3)², from the anomalies of all cells.

        It is the variance of the anomalies over the number of independent days (see CORRELATED_DAYS).
        """
        squares, count = self.anomaly
        return float(squares / max(count, 1)) * CORRELATED_DAYS / self.days


@dataclass(frozen=True, eq=False)
class Fitting:
    """What a baseline is fitted on and what it forecasts. All parts are of the same cells but `whole_map`."""

    training: Windows  # samples to learn from
    test: Windows  # samples to forecast
    days: tuple[Span, ...]  # the training period; climatology takes all its days, with or without a full window
    whole_map: Pooled | None = None  # sums over all cells, where these are only a part of the map

    @cached_property
    def features(self) -> tuple[str, ...]:
        """What ridge_memory sees: FEATURES, and those of further variables and static maps."""
        daily, known = variables_of(self.training.predictors).daily, self.training.statistics.variables
        return (*FEATURES, *features_of(daily, static=[name for name in known if name not in daily]))

    @property
    def used(self) -> Bool[np.ndarray, "feature"]:
        """Which of the features a regression takes: season and temperature only where the training days fill a year."""
        return np.array([self.pooled.all_year or not follows_season(name) for name in self.features])

    @cached_property
    def training_memory(self) -> AntecedentFeatures:
        """Antecedent features of the training record."""
        return AntecedentFeatures(self.training.record, self.features)

    @cached_property
    def test_memory(self) -> AntecedentFeatures:
        """Antecedent features of the test record."""
        if self.test.record is self.training.record:
            return self.training_memory
        return AntecedentFeatures(self.test.record, self.features)

    @cached_property
    def pooled(self) -> Pooled:
        """Sums over the training samples of all cells."""
        if self.whole_map is not None:
            return self.whole_map
        return Pooled.of(self.training, self.training_memory, self.days)

    @cached_property
    def training_days(self) -> Bool[np.ndarray, "time"]:
        """Which days of the training record lie in the training period."""
        return in_spans(self.training.record.days, self.days)

    @property
    def all_year(self) -> bool:
        """Whether the training days leave out no part of the year."""
        return fills_a_year(self.training.record.days[self.training_days])


def last_input_days(windows: Windows) -> Int[np.ndarray, "sample"]:
    """Positions in the record of each sample's last input day."""
    return windows.target_index - windows.lead_days


def training_mean(record: Record) -> Float[np.ndarray, "lat lon"]:
    """Training mean of soil moisture, m3 m-3; NaN in cells that are not scored."""
    return np.where(record.statistics.scored, record.statistics.cell_mean[MOISTURE], np.float32(np.nan))


def moisture_anomaly(windows: Windows) -> Float[np.ndarray, "sample lat lon"]:
    """The targets less the training mean, m3 m-3; NaN where not valid."""
    return windows.record.observed[windows.target_index] - training_mean(windows.record)


def sum_by_age(training: Windows, memory: AntecedentFeatures) -> Float[np.ndarray, "3 age lat lon"]:
    """Sums over the valid samples of each cell, apart for each age of the last anomaly in days, 0 to OLDEST.

    First row: target times last anomaly, (m3 m-3)². Second row: the square of the last anomaly. Third row: the number
    of samples. The target is an anomaly too.
    """
    target, start = moisture_anomaly(training), last_input_days(training)
    last, age = memory["last_anomaly"][start], memory["last_anomaly_age"][start]
    valid = np.isfinite(target)
    sums = np.zeros((3, OLDEST + 1, *target.shape[1:]))
    for days in range(OLDEST + 1):
        here = valid & (age == days)
        sums[0, days] = np.sum(target * last, axis=0, where=here, dtype=np.float64)
        sums[1, days] = np.sum(last**2, axis=0, where=here, dtype=np.float64)
        sums[2, days] = here.sum(axis=0)
    return sums


def window_predictors(windows: Windows, samples: np.ndarray) -> Float[np.ndarray, "batch lat lon predictor"]:
    """The scaled variables of every input day, and the cell's scaled training means and static maps."""
    statistics = windows.record.statistics
    inputs = windows.batch(samples).features.flatten(1, 2).numpy()
    means = (statistics.cell_mean - statistics.low[:, None, None]) / statistics.span[:, None, None]
    means = np.broadcast_to(np.nan_to_num(means), (len(samples), *means.shape))
    return np.moveaxis(np.concatenate([inputs, means], axis=1), 1, -1).astype(np.float64)


def memory_predictors(memory: AntecedentFeatures, index: np.ndarray) -> Float[np.ndarray, "batch lat lon predictor"]:
    """All features at the end of the days at these positions in the record."""
    return np.moveaxis(memory.at(index), 1, -1).astype(np.float64)


def sum_products_by_block(
    target: Float[np.ndarray, "sample lat lon"], predictors: Predictors
) -> Float[np.ndarray, "block t t"]:
    """Sums of the products of (1, predictors, target) over the valid targets of each block of samples.

    They are all that a linear regression needs to know, so that it takes no more memory for more days.
    """

    def multiply(samples: np.ndarray) -> Float[np.ndarray, "t t"]:
        valid = np.isfinite(target[samples])
        inputs = predictors(samples)[valid]
        rows = np.column_stack([np.ones(len(inputs)), inputs, target[samples][valid]])
        return rows.T @ rows

    sums = []
    for block in np.array_split(np.arange(len(target)), BLOCKS):
        sums.append(sum(multiply(block[part]) for part in index_batches(len(block), BATCH)))
    terms = sums[0].shape  # a block without samples has the sum 0; the first block always has samples
    return np.stack([np.broadcast_to(block, terms) for block in sums])
