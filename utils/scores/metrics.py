"""Verification metrics of a run, computed from its predictions.nc alone. METRICS has one row for each metric.

`predictions` is everywhere an xr.Dataset with dims time (valid date), lat, lon and
- `predicted`, `observed`, `persistence`, `climatology` (time, lat, lon), m3 m-3. `observed` is NaN where nothing is
  scored; the three forecasts are finite wherever it is not;
- `region` (lat, lon): an index into REGIONS, -1 outside; `cell_area` (lat, lon), km2.

Every metric is taken over valid pairs of forecast and observation alone and accumulated in float64. A metric may not be
defined: with fewer than two pairs, without variation, or over a reference without error. It is then None in `scores`
and NaN in maps and series.

All metrics are functions of a few sums over pairs (MOMENTS in sums.py). The formulas are written out in NumPy for three
reasons. `scores` 2.7.0 has no weighted KGE or correlation. Its weighted NSE refers to the unweighted mean of the
observations. A study takes these metrics over thousands of groups. The tests compare them with `scores`, scikit-learn
and xskillscore.

To add a metric, add one row to METRICS. Where it needs a sum that MOMENTS lacks, add that too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Real

from utils.scores.sums import MOMENTS, REGIONS, Sums, sums_of

SEASONS = ("DJF", "MAM", "JJA", "SON")  # of the valid date
Values = np.ndarray | np.floating  # [*group], a value for each group of pairs; a scalar where there is one
MIN_DAYS = 30  # valid days for a cell to count: with fewer, chance alone gives correlations beyond ±0.36 (5 % level)
VARIATION = 1e-7  # m3 m-3; values with a smaller standard deviation are constant but for float32 rounding


class Means:
    """The mean of each of MOMENTS over the pairs of each group, and what several metrics are made of.

    `sums` [..., moment] are sums over pairs, weighted or not, of one or many groups. Without a pair, a mean is NaN.
    """

    def __init__(self, sums: Float[np.ndarray, "*group moment"]):
        self.count = sums[..., 0]
        self.mean = dict(zip(MOMENTS, np.moveaxis(sums / sums[..., :1], -1, 0), strict=True))
        self.mse = self.mean["error_2"]
        self.bias = self.mean["p"] - self.mean["o"]
        self.observed_std = self.std("o", "oo")

    def std(self, value: str, square: str) -> Values:
        """Standard deviation of a moment from its mean and its mean square."""
        return np.sqrt(np.maximum(self.mean[square] - self.mean[value] ** 2, 0))

    def correlation(self, one: str, other: str, squares: tuple[str, str], product: str) -> Values:
        """Pearson's correlation of two moments; NaN where one of them does not vary."""
        one_std, other_std = self.std(one, squares[0]), self.std(other, squares[1])
        covariance = self.mean[product] - self.mean[one] * self.mean[other]
        correlation = np.clip(covariance / (one_std * other_std), -1, 1)
        return np.where((one_std > VARIATION) & (other_std > VARIATION), correlation, np.nan)


def pearson_r(means: Means) -> Values:
    """Pearson's correlation of predicted and observed."""
    return means.correlation("p", "o", squares=("pp", "oo"), product="po")


def ubrmse(means: Means) -> Values:
    """RMSE without the bias, sqrt(mse − bias²), m3 m-3 (Entekhabi et al. 2010, J. Hydrometeorol. 11)."""
    return np.sqrt(np.maximum(means.mse - means.bias**2, 0))


def efficiency(means: Means) -> Values:
    """1 − mse / variance of the observations (Nash and Sutcliffe 1970, J. Hydrol. 10).

    Statistics calls the same number the coefficient of determination, R².
    """
    return np.where(means.observed_std > VARIATION, 1 - means.mse / means.observed_std**2, np.nan)


def kling_gupta(means: Means) -> Values:
    """1 − distance of (correlation, ratio of standard deviations, ratio of means) from (1, 1, 1).

    Gupta et al. 2009, J. Hydrol. 377.
    """
    variability = means.std("p", "pp") / means.observed_std
    ratio = means.mean["p"] / means.mean["o"]
    return 1 - np.sqrt((pearson_r(means) - 1) ** 2 + (variability - 1) ** 2 + (ratio - 1) ** 2)


def anomaly_correlation(means: Means) -> Values:
    """Correlation of the anomalies from climatology, centred (Murphy and Epstein 1989, Mon. Weather Rev. 117).

    Centred means that the anomalies' own means are removed. A bias that forecast and observation share would raise the
    uncentred correlation.
    """
    return means.correlation("p-c", "o-c", squares=("(p-c)_2", "(o-c)_2"), product="(p-c)(o-c)")


@dataclass(frozen=True)
class Metric:
    """One row of METRICS: what a metric is, and where it is shown."""

    name: str  # its key in metrics.json and its column in table.csv
    unit: str  # CF
    long_name: str
    formula: Callable[[Means], Values]  # values may be infinite or NaN where the metric is not defined
    heading: str = ""  # of its column in the report; "": it has none
    digits: int = 3  # after the decimal point in the report
    by_cell: bool = False  # whether scores.nc has its map over time
    by_day: bool = False  # whether scores.nc has its series over the cells
    median: bool = False  # whether metrics.json has its median over cells
    in_table: bool = True  # whether table.csv has a column of it


METRICS = {  # in the order of metrics.json
    row.name: row
    for row in (
        Metric(
            name="rmse",
            unit="m3 m-3",
            long_name="root-mean-square error",
            formula=lambda means: np.sqrt(means.mse),
            heading="RMSE",
            digits=4,
            by_cell=True,
            by_day=True,
            median=True,
        ),
        Metric(
            name="mse",
            unit="m6 m-6",
            long_name="mean squared error",
            formula=lambda means: means.mse,
        ),
        Metric(
            name="r2",
            unit="1",
            long_name="coefficient of determination",
            formula=efficiency,
            heading="R²",
            by_cell=True,
            by_day=True,
            median=True,
        ),
        Metric(
            name="n",
            unit="1",
            long_name="number of forecasts with a valid observation",
            formula=lambda means: means.count.astype(int),
            heading="cell-days",
            digits=0,
            by_cell=True,
            by_day=True,
        ),
        Metric(
            name="bias",
            unit="m3 m-3",
            long_name="mean of predicted minus observed",
            formula=lambda means: means.bias,
            heading="bias",
            digits=4,
            by_cell=True,
            by_day=True,
            median=True,
        ),
        Metric(
            name="ubrmse",
            unit="m3 m-3",
            long_name="unbiased root-mean-square error",
            formula=ubrmse,
            heading="ubRMSE",
            digits=4,
            by_cell=True,
            median=True,
        ),
        Metric(
            name="pearson_r",
            unit="1",
            long_name="correlation of predicted and observed",
            formula=pearson_r,
            by_cell=True,
            by_day=True,
            median=True,
        ),
        Metric(
            name="nse",
            unit="1",
            long_name="Nash-Sutcliffe efficiency",
            formula=efficiency,
            median=True,
            in_table=False,  # the table has the same number as r2
        ),
        Metric(
            name="kge",
            unit="1",
            long_name="Kling-Gupta efficiency (2009)",
            formula=kling_gupta,
            heading="KGE",
            by_cell=True,
            median=True,
        ),
        Metric(
            name="acc",
            unit="1",
            long_name="anomaly correlation",
            formula=anomaly_correlation,
            heading="anomaly correlation",
            by_cell=True,
            median=True,
        ),
        Metric(
            name="skill_over_persistence",
            unit="1",
            long_name="1 - mse / mse of persistence",
            formula=lambda means: 1 - means.mse / means.mean["persistence_2"],
            heading="skill over persistence",
            by_cell=True,
            median=True,
        ),
        Metric(
            name="skill_over_climatology",
            unit="1",
            long_name="1 - mse / mse of climatology",
            formula=lambda means: 1 - means.mse / means.mean["climatology_2"],
        ),
    )
}


def scores(predictions: xr.Dataset) -> dict[str, Any]:
    """The scores of the content of predictions.nc, as `scores_of` returns them. Raises as `sums_of`."""
    area = predictions["cell_area"].transpose("lat", "lon").values
    return scores_of(sums_of(predictions), predictions["time"].values, area)


def scores_of(sums: Sums, time: np.ndarray, area: Float[np.ndarray, "lat lon"]) -> dict[str, Any]:
    """The scores as metrics.json holds them: floats, ints and None. `time` are the valid dates, `area` is in km2.

    First comes every metric of METRICS over all pairs together, each pair counted alike. r2 is that of scikit-learn's
    r2_score. Then come four dicts:
    - `area_weighted`: the same metrics, each pair weighted with its cell's area;
    - `median_cell`: the medians over cells of the metrics over time, and the number of `cells` with at least MIN_DAYS
      valid days;
    - `by_season`, `by_region`: for each of SEASONS and REGIONS, the pooled metrics of its pairs.
    """
    season = xr.DataArray(time, dims="time").dt.season.values
    weighted = np.tensordot(area.astype(np.float64), sums.cells, 2)
    return {
        **_measure_group(sums.days.sum(axis=(0, 1))),
        "area_weighted": _measure_group(weighted) | {"n": int(sums.days[..., 0].sum())},
        "median_cell": _median_cell(_measure_cells(sums)),
        "by_season": {name: _measure_group(sums.days[season == name].sum(axis=(0, 1))) for name in SEASONS},
        "by_region": {name: _measure_group(sums.days[:, i].sum(axis=0)) for i, name in enumerate(REGIONS)},
    }


def by_cell(predictions: xr.Dataset) -> xr.Dataset:
    """Maps [lat, lon] of the metrics over time, from the content of predictions.nc: see `maps`. Raises as `sums_of`."""
    return maps(sums_of(predictions), predictions)


def by_day(predictions: xr.Dataset) -> xr.Dataset:
    """Daily series of the metrics over cells, from the content of predictions.nc: see `series`. Raises as `sums_of`."""
    return series(sums_of(predictions), predictions)


def maps(sums: Sums, axes: xr.Dataset) -> xr.Dataset:
    """Each metric whose row says `by_cell`, over time, as a map [lat, lon] on the axes of predictions.nc.

    A metric is NaN in cells with fewer than MIN_DAYS valid days (n), and where it is not defined; n is never NaN.
    """
    rows = [row for row in METRICS.values() if row.by_cell]
    return _with_attributes(_measure_cells(sums), rows, axes, dims=("lat", "lon"))


def series(sums: Sums, axes: xr.Dataset) -> xr.Dataset:
    """Each metric whose row says `by_day`, over the cells of a day, as a series [time]; NaN where it is not defined.

    Every cell counts alike. `axes` are those of predictions.nc.
    """
    rows = [row for row in METRICS.values() if row.by_day]
    return _with_attributes(_measure(sums.days.sum(axis=1)), rows, axes, dims=("time",))


def well_covered(pairs: Real[np.ndarray, "time"]) -> Bool[np.ndarray, "time"]:
    """Which days have enough pairs to be shown: at least half as many as the median day that has any."""
    return pairs >= np.median(pairs[pairs > 0])


def _measure(sums: Float[np.ndarray, "*group moment"]) -> dict[str, Values]:
    """Every metric of METRICS, NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = Means(sums)
        values = {name: row.formula(means) for name, row in METRICS.items()}
    return {name: x if name == "n" else np.where(np.isfinite(x), x, np.nan) for name, x in values.items()}


def _measure_cells(sums: Sums) -> dict[str, Values]:
    """Every metric over time [lat, lon], NaN where n < MIN_DAYS; n itself everywhere."""
    cells = _measure(sums.cells)
    enough = cells["n"] >= MIN_DAYS
    return {name: x if name == "n" else np.where(enough, x, np.nan) for name, x in cells.items()}


def _measure_group(sums: Float[np.ndarray, "moment"]) -> dict[str, Any]:
    """Every metric of one group of pairs, as metrics.json holds it: None where it is not defined."""
    if not sums[0]:
        return {**dict.fromkeys(METRICS), "n": 0}
    values = {name: value.item() for name, value in _measure(sums).items()}
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _median_cell(cells: dict[str, Values]) -> dict[str, float | int | None]:
    medians: dict[str, float | int | None] = {}
    for name in (row.name for row in METRICS.values() if row.median):
        defined = cells[name][np.isfinite(cells[name])]
        medians[name] = float(np.median(defined)) if defined.size else None
    return {**medians, "cells": int((cells["n"] >= MIN_DAYS).sum())}


def _with_attributes(
    values: dict[str, Values], rows: list[Metric], axes: xr.Dataset, dims: tuple[str, ...]
) -> xr.Dataset:
    """The metrics of these rows as a data set with CF attributes, on these dims of `axes`."""
    return xr.Dataset(
        {row.name: (dims, values[row.name], {"units": row.unit, "long_name": row.long_name}) for row in rows},
        {dim: axes[dim] for dim in dims},
    )
