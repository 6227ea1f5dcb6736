"""Antecedent features: what the past days of a cell say about its next days, as maps for a regression or small network.

A recurrent network has to find out for itself that soil remembers rain. Here a few numbers say it: past anomalies of
soil moisture, antecedent precipitation, the age of the last observation, the season and the cell's means. Every feature
is known at the end of its day. Nothing is carried across a gap in `time`: after a gap, everything starts afresh.

FEATURES is the table of all of them. Who uses some names them, in the order in which they enter the model:
ridge_memory (utils/scores/baselines.py) and the compact model (utils/models/compact.py). A new feature is one row.

An anomaly is the observed soil moisture less the cell's training mean. Means of past days are weighted: a day that lies
d days back weighs exp(-d / scale). The mean of past anomalies counts one observation of no anomaly among the others, so
that it fades while nothing is observed. The mean of rain is over the days since the start or the last gap. Of rain, the
square root is taken: the second half of a downpour wets the surface less.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.ndimage import uniform_filter

from utils.common.periods import annual_harmonics
from utils.dataset.past import LateInputs, Past, decayed_mean
from utils.dataset.predictors import OLDEST
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics

RECENT = 10  # days: e-folding time of the mean of a further variable
STALE = 7  # days: the compact model learned from no older observation, and counts an older one as of this age
WEST, BOX = 2, 3  # cells: in earlier versions, the mean of BOX × BOX cells whose middle lies this far to the west
REACH = WEST + BOX // 2  # cells: how far these looked
ROOT_RAIN = "mm0.5 day-0.5"
FREEZING = 273.15  # K
AROUND_FREEZING = (-10.0, 15.0)  # K, from the freezing point

Maps = Float[np.ndarray, "time lat lon"]


# ------------------------------------------------------------------------------------- features of the past, by the day


def past_anomaly(past: Past, scale: int) -> Maps:
    """Weighted mean of the anomalies observed so far."""
    return decayed_mean(past.anomaly, past.previous, scale, prior=1)


def past_rain(past: Past, scale: int) -> Maps:
    """Antecedent precipitation: weighted mean of the rain so far."""
    return decayed_mean(past.rain, past.previous, scale, prior=0)


def rain_before(past: Past, lag: int) -> Maps:
    """The square root of the rain `lag` days before each day.

    Where the record's start or a gap is nearer than that, it is of the first day after it.
    """
    return past.rain[past.days_before(lag)]


def last_anomaly(past: Past, _: int) -> Maps:
    """The last observed anomaly; 0 where nothing has been observed yet."""
    values = np.take_along_axis(past.anomaly, np.maximum(past.last, 0), axis=0)
    return np.where(past.last >= 0, values, np.float32(0))


def moisture_change(past: Past, lag: int) -> Maps:
    """The last observed anomaly less the one that was the last `lag` days before."""
    last = last_anomaly(past, 0)
    return last - last[past.days_before(lag)]


def temperature_change(past: Past, lag: int) -> Maps:
    """Soil temperature less that of `lag` days before."""
    temperature = past.series("soil_temperature")
    return temperature - temperature[past.days_before(lag)]


def near_freezing(past: Past, _: int) -> Maps:
    """Soil temperature above the freezing point, cut where frost and thaw are far away."""
    return np.clip(past.series("soil_temperature") - FREEZING, *AROUND_FREEZING)


def past_near_freezing(past: Past, scale: int) -> Maps:
    """Weighted mean of that: whether there may be snow or frozen ground."""
    return decayed_mean(near_freezing(past, 0), past.previous, scale, prior=0)


def variable_anomaly(past: Past, name: str) -> Maps:
    """A daily variable less the cell's training mean."""
    statistics = past.record.statistics
    return past.series(name) - statistics.cell_mean[statistics.number(name)]


def past_variable_anomaly(past: Past, name: str) -> Maps:
    """Weighted mean of such anomalies so far, with RECENT as its scale."""
    return decayed_mean(variable_anomaly(past, name), past.previous, RECENT, prior=0)


def rain_since_observation(past: Past, _: int) -> Maps:
    """Sum of the rain since the last observation, while that is at most STALE days old."""
    observed, age = np.isfinite(past.anomaly), past.age(OLDEST)
    rain = np.where(age <= STALE, past.rain, 0)
    sums = np.zeros_like(past.rain)
    for row, before in enumerate(past.previous):
        if before >= 0:
            sums[row] = np.where(observed[row], 0, sums[before] + rain[row])
    return sums


def season_anomaly(past: Past, wave: int) -> Maps:
    """Cosine (0) or sine (1) of the day of the year, less its mean over the cell's observed days.

    Without the mean, a record of one summer would take its own season for the year's.
    """
    waves = annual_harmonics(past.days, 1)[:, 1:]
    return waves[:, wave, None, None] - past.record.statistics.mean_season[wave]


def rain_upwind(past: Past, _: int) -> Maps:
    """Today's rain where the weather comes from."""
    return past.upwind


def past_rain_upwind(past: Past, scale: int) -> Maps:
    """Antecedent precipitation where the weather comes from."""
    return decayed_mean(past.upwind, past.previous, scale, prior=0)


def rain_to_the_west(past: Past, _: int) -> Maps:
    """Today's rain some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past.rain)


def past_rain_to_the_west(past: Past, scale: int) -> Maps:
    """Antecedent precipitation some cells to the west, as models of earlier versions see it."""
    return mean_to_the_west(past, past_rain(past, scale))


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
    a part of a larger map. With `late`, further rows follow those of the days, as in Past.
    """

    def __init__(
        self, record: Record, names: tuple[str, ...], upwind: Maps | None = None, late: LateInputs | None = None
    ):
        self.record, self.names = record, names
        self._past_names = [name for name in names if find_feature(name).kind == "past"]
        past = Past(record, upwind, late)
        self.days, self.init_rows = past.days, past.init_rows
        self.inits = past.day[past.init_rows]
        shape = (len(past.days), len(self._past_names), *record.statistics.scored.shape)
        self.past: Float32[np.ndarray, "time feature lat lon"] = np.empty(shape, np.float32)
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
                values = feature.function(self.days[index], feature.argument)
                maps[:, channel] = np.where(statistics.scored, values[:, None, None], 0)
            else:
                maps[:, channel] = static_maps(statistics, (name,))
        return maps


def static_maps(statistics: Statistics, names: tuple[str, ...]) -> Float32[np.ndarray, "feature lat lon"]:
    """These static features, 0 in cells that are not scored."""
    rows = [find_feature(name) for name in names]
    maps = np.stack([row.function(statistics, row.argument) for row in rows])
    return np.where(statistics.scored, maps, 0).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- helpers


def mean_to_the_west(past: Past, values: Maps) -> Maps:
    """Mean of `values` over a box of BOX × BOX cells whose middle lies WEST cells to the west, in the same unit.

    Only scored cells count; the mean is 0 where the box has none.
    """
    scored, grid = past.scored, past.record.grid
    inside = np.where(scored, values, 0).astype(np.float32)
    total = uniform_filter(inside, (0, BOX, BOX), mode="constant")
    count = uniform_filter(scored.astype(np.float32), (BOX, BOX), mode="constant")
    mean = np.where(count > 1e-6, total / np.maximum(count, 1e-6), 0)
    western = np.zeros_like(mean)
    if grid.lon[-1] >= grid.lon[0]:  # columns run eastward
        western[..., WEST:] = mean[..., :-WEST]
    else:
        western[..., :-WEST] = mean[..., WEST:]
    return western
