"""Antecedent features: what the past days of a cell say about its next days, as maps for a regression or small network.

A recurrent network has to find out for itself that soil remembers rain. Here a few numbers say it: past anomalies of
soil moisture, antecedent precipitation, the age of the last observation, the season and the cell's means. Every feature
is known at the end of its day. Nothing is carried across a gap in `time`: after a gap, everything starts afresh.

FEATURES is the table of all of them. Who uses some names them, in the order in which they enter the model:
ridge_memory (utils/scores/baselines.py) and the compact model (utils/models/compact.py). A new feature is one row.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from utils.common.periods import annual_harmonics
from utils.dataset.past_days import (
    STALE,
    Maps,
    Past,
    last_anomaly,
    moisture_change,
    near_freezing,
    past_anomaly,
    past_near_freezing,
    past_rain,
    past_rain_to_the_west,
    past_rain_upwind,
    past_variable_anomaly,
    rain_before,
    rain_since_observation,
    rain_to_the_west,
    rain_upwind,
    season_anomaly,
    temperature_change,
    variable_anomaly,
)
from utils.dataset.predictors import OLDEST
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics

ROOT_RAIN = "mm0.5 day-0.5"


# --------------------------------------------------------------------------------- features of the season and the cell


def season(days: np.ndarray, wave: int) -> Float[np.ndarray, "time"]:
    """The annual cosine (`wave` 0) or sine (`wave` 1) at each day, without unit."""
    return annual_harmonics(days, 1)[:, 1 + wave]


def training_mean(statistics: Statistics, variable: str) -> Float[np.ndarray, "lat lon"]:
    """The mean of a daily variable, or a static map itself, in its unit."""
    return statistics.cell_mean[statistics.number(variable)]


def training_std(statistics: Statistics, _: int) -> Float[np.ndarray, "lat lon"]:
    """Standard deviation of the cell's soil moisture, drawn to a usual one where it has few days."""
    return statistics.shrunk_std


# --------------------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True)
class Feature:
    """One row of the table."""

    name: str
    unit: str
    kind: Literal["past", "season", "static"]  # other maps every day; one number every day; the same map every day
    function: Callable
    argument: int | str = 0  # of the function: an e-folding time, a lag or an age in days, a wave, or a variable
    shift: int = 0  # what the feature changes by where the cell's training mean of soil moisture is 1 m3 m-3 too low


FEATURES = {
    feature.name: feature
    for feature in (
        Feature("moisture_anomaly_5", "m3 m-3", "past", past_anomaly, 5, shift=1),
        Feature("moisture_anomaly_20", "m3 m-3", "past", past_anomaly, 20, shift=1),
        Feature("moisture_anomaly_60", "m3 m-3", "past", past_anomaly, 60, shift=1),
        Feature("moisture_anomaly_150", "m3 m-3", "past", past_anomaly, 150, shift=1),
        Feature("moisture_change_1", "m3 m-3", "past", moisture_change, 1),
        Feature("moisture_change_2", "m3 m-3", "past", moisture_change, 2),
        Feature("root_rain_3", ROOT_RAIN, "past", past_rain, 3),
        Feature("root_rain_10", ROOT_RAIN, "past", past_rain, 10),
        Feature("root_rain_30", ROOT_RAIN, "past", past_rain, 30),
        Feature("root_rain_90", ROOT_RAIN, "past", past_rain, 90),
        Feature("root_rain_lag_0", ROOT_RAIN, "past", rain_before, 0),
        Feature("root_rain_lag_1", ROOT_RAIN, "past", rain_before, 1),
        Feature("root_rain_lag_2", ROOT_RAIN, "past", rain_before, 2),
        Feature("root_rain_lag_3", ROOT_RAIN, "past", rain_before, 3),
        Feature("root_rain_lag_4", ROOT_RAIN, "past", rain_before, 4),
        Feature("last_anomaly", "m3 m-3", "past", last_anomaly, shift=1),
        Feature("last_anomaly_age", "day", "past", Past.age, OLDEST),
        Feature("last_anomaly_age_7", "day", "past", Past.age, STALE),
        Feature("soil_temperature_anomaly", "K", "past", variable_anomaly, "soil_temperature"),
        Feature("soil_temperature_change_1", "K", "past", temperature_change, 1),
        Feature("soil_temperature_change_2", "K", "past", temperature_change, 2),
        Feature("near_freezing", "K", "past", near_freezing),
        Feature("near_freezing_20", "K", "past", past_near_freezing, 20),
        Feature("root_rain_since", ROOT_RAIN, "past", rain_since_observation),
        Feature("season_cosine_anomaly", "1", "past", season_anomaly, 0),
        Feature("season_sine_anomaly", "1", "past", season_anomaly, 1),
        Feature("root_rain_upwind", ROOT_RAIN, "past", rain_upwind),
        Feature("root_rain_upwind_3", ROOT_RAIN, "past", past_rain_upwind, 3),
        Feature("root_rain_west", ROOT_RAIN, "past", rain_to_the_west),
        Feature("root_rain_west_3", ROOT_RAIN, "past", past_rain_to_the_west, 3),
        Feature("season_cosine", "1", "season", season, 0),
        Feature("season_sine", "1", "season", season, 1),
        Feature("mean_precipitation", "mm day-1", "static", training_mean, "precipitation"),
        Feature("mean_soil_moisture", "m3 m-3", "static", training_mean, "soil_moisture", shift=-1),
        Feature("mean_soil_temperature", "K", "static", training_mean, "soil_temperature"),
        Feature("deviation", "m3 m-3", "static", training_std),
    )
}


OF_A_VARIABLE = {"anomaly": variable_anomaly, "anomaly_10": past_variable_anomaly}  # of a further daily one


def find_feature(name: str) -> Feature:
    """A row of FEATURES, or a feature of a variable or map that the data set has beside VARIABLES."""
    if name in FEATURES:
        return FEATURES[name]
    variable, _, kind = name.rpartition(":")
    if kind == "map":
        return Feature(name, "", "static", training_mean, variable)
    return Feature(name, "", "past", OF_A_VARIABLE[kind], variable)


def features_of(daily: Iterable[str] = (), static: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the features of further daily variables, such as wind:anomaly, and of static maps: clay:map."""
    of_days = (f"{name}:{kind}" for name in daily if name not in VARIABLES for kind in OF_A_VARIABLE)
    return (*of_days, *(f"{name}:map" for name in static))


def follows_season(name: str) -> bool:
    """Whether a feature follows the season: a regression from part of a year would take its own for the year's.

    Features of further variables are never left out: whoever names a variable wants it.
    """
    row = find_feature(name)
    return row.kind == "season" or row.unit == "K" or row.function is season_anomaly


def shifts(names: tuple[str, ...]) -> Float[np.ndarray, "feature"]:
    """The `shift` of each of these features: its change, m3 m-3, where the cell's training mean is 1 m3 m-3 too low."""
    return np.array([float(find_feature(name).shift) for name in names])


def memory_days(names: tuple[str, ...]) -> int:
    """The days that hold 95 % of the weight of the longest of these means: three times its e-folding time."""
    means = (past_anomaly, past_rain, past_rain_upwind, past_rain_to_the_west)  # others are shorter
    return 3 * max(find_feature(name).argument for name in names if find_feature(name).function in means)


class AntecedentFeatures:
    """Some of the FEATURES of every day of a record, in their units and in the order of `names`.

    They are finite everywhere, and 0 in cells that are not scored. Features of the past are held in memory and take
    4 bytes a cell and day; the others are made where they are needed. `upwind` is the rain upwind of a record that is
    a part of a larger map.
    """

    def __init__(self, record: Record, names: tuple[str, ...], upwind: Maps | None = None):
        self.record, self.names = record, names
        self._past_names = [name for name in names if find_feature(name).kind == "past"]
        shape = (len(record.days), len(self._past_names), *record.statistics.scored.shape)
        self.past: Float32[np.ndarray, "time feature lat lon"] = np.empty(shape, np.float32)
        past = Past(record, upwind)
        for channel, name in enumerate(self._past_names):
            feature = find_feature(name)
            self.past[:, channel] = feature.function(past, feature.argument)
        self.past[:, :, ~record.statistics.scored] = 0

    def __getitem__(self, name: str) -> Float32[np.ndarray, "time lat lon"]:
        """One feature of the past, by its name."""
        return self.past[:, self._past_names.index(name)]

    def at(self, index: Int[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch feature lat lon"]:
        """All features at the end of the days at these positions in the record."""
        statistics = self.record.statistics
        maps = np.empty((len(index), len(self.names), *statistics.scored.shape), np.float32)
        for channel, name in enumerate(self.names):
            feature = find_feature(name)
            if feature.kind == "past":
                maps[:, channel] = self[name][index]
            elif feature.kind == "season":
                values = feature.function(self.record.days[index], feature.argument)
                maps[:, channel] = np.where(statistics.scored, values[:, None, None], 0)
            else:
                maps[:, channel] = static_maps(statistics, (name,))
        return maps


def static_maps(statistics: Statistics, names: tuple[str, ...]) -> Float32[np.ndarray, "feature lat lon"]:
    """These static features, 0 in cells that are not scored."""
    rows = [find_feature(name) for name in names]
    maps = np.stack([row.function(statistics, row.argument) for row in rows])
    return np.where(statistics.scored, maps, 0).astype(np.float32)
