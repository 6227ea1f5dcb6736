"""Verification metrics of a run, from the content of its predictions.nc alone.

`predictions` is everywhere an xr.Dataset with dims time (valid date), lat, lon and
- `predicted`, `observed`, `persistence`, `climatology` (time, lat, lon), m3 m-3: observed is NaN where not scored, the
  three forecasts are finite wherever it is not;
- `region` (lat, lon): an index into REGIONS, -1 outside; `cell_area` (lat, lon), km2.

Every metric is taken over valid pairs alone and accumulated in float64. What is not defined (fewer than two pairs, no
variation, a reference without error) is None in `scores` and NaN in maps and series.

All metrics are functions of a few sums over pairs (SUMS), kept by cell and by day and region. They are taken once for a
forecast, and a map larger than memory is scored block by block. `_measure` is the one definition of all metrics,
weighted or not, written out in NumPy: `scores` 2.7.0 has no weighted KGE or correlation, its weighted NSE refers to the
unweighted mean of the observations, and a study takes these metrics over thousands of groups. The tests hold them
against `scores`, scikit-learn and xskillscore.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int8, Real

from utils.common.cli import UserError
from utils.common.periods import YEAR

SEASONS = ("DJF", "MAM", "JJA", "SON")  # of the valid date
Fields = dict[str, np.ndarray]
REGIONS = ("arid", "semi-arid", "humid")
ARID, HUMID = 200.0, 500.0  # mm a year: arid is below the one, humid above the other; usual thresholds for China
MIN_DAYS = 30  # valid days for a cell to count: with fewer, chance alone gives correlations beyond ±0.36 (5 % level)
VARIATION = 1e-7  # m3 m-3; values with a smaller standard deviation are constant but for float32 rounding

FORECASTS = ("predicted", "persistence", "climatology")
SUMS = ("n", "p", "o", "pp", "oo", "po", "error_2", "persistence_2", "climatology_2")  # p: predicted, o: observed
SUMS += ("p-c", "o-c", "(p-c)_2", "(o-c)_2", "(p-c)(o-c)")  # c: climatology; _2: squared, of the three errors too
METRICS = {  # units and long name, in the order of metrics.json
    "rmse": ("m3 m-3", "root-mean-square error"),
    "mse": ("m6 m-6", "mean squared error"),
    "r2": ("1", "coefficient of determination"),
    "n": ("1", "number of forecasts with a valid observation"),
    "bias": ("m3 m-3", "mean of predicted minus observed"),
    "ubrmse": ("m3 m-3", "unbiased root-mean-square error"),
    "pearson_r": ("1", "correlation of predicted and observed"),
    "nse": ("1", "Nash-Sutcliffe efficiency"),
    "kge": ("1", "Kling-Gupta efficiency (2009)"),
    "acc": ("1", "anomaly correlation"),
    "skill_over_persistence": ("1", "1 - mse / mse of persistence"),
    "skill_over_climatology": ("1", "1 - mse / mse of climatology"),
}
BY_CELL = ("rmse", "r2", "bias", "ubrmse", "pearson_r", "kge", "acc", "skill_over_persistence", "n")
BY_DAY = ("rmse", "r2", "bias", "pearson_r", "n")
MEDIANS = ("rmse", "r2", "pearson_r", "ubrmse", "bias", "kge", "nse", "acc", "skill_over_persistence")


@dataclass(frozen=True)
class Sums:
    """SUMS over all pairs of each cell, and of each day in each region; the last region is outside all others."""

    cells: Float[np.ndarray, "lat lon sum"]
    days: Float[np.ndarray, "time region sum"]

    @classmethod
    def of(cls, fields: Mapping[str, np.ndarray], region: Real[np.ndarray, "lat lon"]) -> "Sums":
        """Of forecasts and observation [time, lat, lon]. Raises ValueError where an observation has no forecast."""
        valid = np.isfinite(fields["observed"])
        for name in FORECASTS:
            if missing := int((valid & ~np.isfinite(fields[name])).sum()):
                raise ValueError(f"{name} is not finite in {missing} places where observed is.")
        p, s, c, o = (np.where(valid, fields[name], 0).astype(np.float64) for name in (*FORECASTS, "observed"))
        parts = (valid, p, o, p * p, o * o, p * o, (p - o) ** 2, (s - o) ** 2, (c - o) ** 2)
        parts += (p - c, o - c, (p - c) ** 2, (o - c) ** 2, (p - c) * (o - c))
        belongs = (region.ravel()[:, None] == [*range(len(REGIONS)), -1]).astype(np.float64)
        days = [part.reshape(len(part), -1).astype(np.float64) @ belongs for part in parts]
        return cls(np.stack([part.sum(axis=0, dtype=np.float64) for part in parts], -1), np.stack(days, -1))

    @classmethod
    def joined(cls, parts: Iterable[tuple["Sums", tuple[slice, slice]]], shape: tuple[int, int]) -> "Sums":
        """Those of a map of this shape from those of its parts and where they lie."""
        cells, days = np.zeros((*shape, len(SUMS))), 0
        for part, window in parts:
            cells[window], days = part.cells, days + part.days
        return cls(cells, days)

    def required(self) -> "Sums":
        """These, or a UserError when there is no pair."""
        if not self.days[..., 0].any():
            raise UserError("The test period has no valid soil moisture to score forecasts with.")
        return self

    def of_days(self, name: str) -> Float[np.ndarray, "time"]:
        """One of SUMS, day by day."""
        return self.days[..., SUMS.index(name)].sum(axis=1)


def sums_of(predictions: xr.Dataset) -> Sums:
    """Raises UserError when there is no pair, ValueError when an observation has no finite forecast."""
    fields = {name: predictions[name].transpose("time", "lat", "lon").values for name in (*FORECASTS, "observed")}
    return Sums.of(fields, predictions["region"].transpose("lat", "lon").values).required()


def scores(predictions: xr.Dataset) -> dict[str, Any]:
    """`scores_of` the content of predictions.nc."""
    area = predictions["cell_area"].transpose("lat", "lon").values
    return scores_of(sums_of(predictions), predictions["time"].values, area)


def scores_of(sums: Sums, time: np.ndarray, area: Float[np.ndarray, "lat lon"]) -> dict[str, Any]:
    """The content for metrics.json: floats, ints and None. `time` are the valid dates, `area` in km2.

    First every metric of METRICS, pooled and unweighted over all pairs; r2 is scikit-learn's r2_score, and nse the same
    number under its name in hydrology. Then, each a dict of its own:
    - `area_weighted`: the same metrics, each pair weighted with its cell's area;
    - `median_cell`: the medians over cells of the metrics over time, and the `cells` with at least MIN_DAYS valid days;
    - `by_season`, `by_region`: for each of SEASONS and REGIONS, the pooled metrics of its pairs.
    """
    season = xr.DataArray(time, dims="time").dt.season.values
    weighted = np.tensordot(area.astype(np.float64), sums.cells, 2)
    return {
        **_plain(sums.days.sum(axis=(0, 1))),
        "area_weighted": _plain(weighted) | {"n": int(sums.days[..., 0].sum())},
        "median_cell": _median_cell(_cells(sums)),
        "by_season": {name: _plain(sums.days[season == name].sum(axis=(0, 1))) for name in SEASONS},
        "by_region": {name: _plain(sums.days[:, i].sum(axis=0)) for i, name in enumerate(REGIONS)},
    }


def by_cell(predictions: xr.Dataset) -> xr.Dataset:
    """BY_CELL [lat, lon] over time; NaN where n < MIN_DAYS or not defined, n itself everywhere. Raises as `sums_of`."""
    return maps(sums_of(predictions), predictions)


def by_day(predictions: xr.Dataset) -> xr.Dataset:
    """BY_DAY [time] over the cells, unweighted; NaN on days where not defined. Raises as `sums_of`."""
    return series(sums_of(predictions), predictions)


def maps(sums: Sums, axes: xr.Dataset) -> xr.Dataset:
    """BY_CELL from sums, on the axes of predictions.nc."""
    return _described(_cells(sums), BY_CELL, axes, "lat", "lon")


def series(sums: Sums, axes: xr.Dataset) -> xr.Dataset:
    """BY_DAY from sums, on the axes of predictions.nc."""
    return _described(_measure(sums.days.sum(axis=1)), BY_DAY, axes, "time")


def well_covered(pairs: Real[np.ndarray, "time"]) -> Bool[np.ndarray, "time"]:
    """Days that show something: with at least as many of their `pairs` as half of all days with any."""
    return pairs >= np.median(pairs[pairs > 0])


def region_of(mean_precipitation: Float[np.ndarray, "lat lon"]) -> Int8[np.ndarray, "lat lon"]:
    """Index into REGIONS from the training period's mean precipitation in mm day-1; -1 where that is NaN."""
    yearly = mean_precipitation * YEAR
    region = (yearly >= ARID).astype(np.int8) + (yearly > HUMID)
    return np.where(np.isnan(yearly), -1, region).astype(np.int8)


def _cells(sums: Sums) -> Fields:
    """Every metric over time [lat, lon], NaN where n < MIN_DAYS."""
    found = _measure(sums.cells)
    return {name: np.where(found["n"] >= MIN_DAYS, x, np.nan) if name != "n" else x for name, x in found.items()}


def _median_cell(cells: Fields) -> dict[str, float | int | None]:
    defined = {name: cells[name][np.isfinite(cells[name])] for name in MEDIANS}
    medians = {name: float(np.median(values)) if values.size else None for name, values in defined.items()}
    return {**medians, "cells": int((cells["n"] >= MIN_DAYS).sum())}


def _plain(sums: Float[np.ndarray, "sum"]) -> dict[str, Any]:
    """Every metric of one group of pairs, as metrics.json holds it."""
    if not sums[0]:
        return {**dict.fromkeys(METRICS), "n": 0}
    found = {name: value.item() for name, value in _measure(sums).items()}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _measure(sums: Float[np.ndarray, "*group sum"]) -> Fields:
    """Every metric of METRICS, NaN where not defined.

    The anomaly correlation is centred (the correlation of anomalies from climatology, their own means removed), so that
    it measures agreement alone: a bias that forecast and observation share would raise the uncentred one.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = dict(zip(SUMS, np.moveaxis(sums / sums[..., :1], -1, 0), strict=True))

        def spread(of, square):
            return np.sqrt(np.maximum(mean[square] - mean[of] ** 2, 0))

        def correlation(one, other, squares, product):
            spreads = spread(one, squares[0]), spread(other, squares[1])
            found = np.clip((mean[product] - mean[one] * mean[other]) / (spreads[0] * spreads[1]), -1, 1)
            return np.where((spreads[0] > VARIATION) & (spreads[1] > VARIATION), found, np.nan)

        r, observed, error = correlation("p", "o", ("pp", "oo"), "po"), spread("o", "oo"), mean["error_2"]
        bias, variability = mean["p"] - mean["o"], spread("p", "pp") / observed
        efficiency = np.where(observed > VARIATION, 1 - error / observed**2, np.nan)
        found = {
            "rmse": np.sqrt(error),
            "mse": error,
            "r2": efficiency,
            "n": sums[..., 0].astype(int),
            "bias": bias,
            "ubrmse": np.sqrt(np.maximum(error - bias**2, 0)),
            "pearson_r": r,
            "nse": efficiency,
            "kge": 1 - np.sqrt((r - 1) ** 2 + (variability - 1) ** 2 + (mean["p"] / mean["o"] - 1) ** 2),
            "acc": correlation("p-c", "o-c", ("(p-c)_2", "(o-c)_2"), "(p-c)(o-c)"),
            "skill_over_persistence": 1 - error / mean["persistence_2"],
            "skill_over_climatology": 1 - error / mean["climatology_2"],
        }
    return {name: x if name == "n" else np.where(np.isfinite(x), x, np.nan) for name, x in found.items()}


def _described(found: Fields, names: tuple[str, ...], predictions: xr.Dataset, *dims: str) -> xr.Dataset:
    """These metrics as a data set with CF attributes."""
    attributes = {name: dict(zip(("units", "long_name"), METRICS[name], strict=True)) for name in names}
    coordinates = {dim: predictions[dim] for dim in dims}
    return xr.Dataset({name: (dims, found[name], attributes[name]) for name in names}, coordinates)
