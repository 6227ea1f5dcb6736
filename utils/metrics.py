"""Verification metrics of a run, from the content of its predictions.nc alone.

`predictions` is everywhere an xr.Dataset with dims time (valid date), lat, lon and
- `predicted`, `observed`, `persistence`, `climatology` (time, lat, lon), m3 m-3: observed is NaN where not scored, the
  three forecasts are finite wherever it is not;
- `region` (lat, lon): an index into REGIONS, -1 outside; `cell_area` (lat, lon), km2.

Every metric is taken over valid pairs alone and accumulated in float64. What is not defined (fewer than two pairs, no
variation, a reference without error) is None in `scores` and NaN in maps and series.

`_measure` is the one definition of all metrics, weighted or not, written out in NumPy: `scores` 2.7.0 has no weighted
KGE or correlation, its weighted NSE refers to the unweighted mean of the observations, and a study takes these metrics
over thousands of groups. The tests hold them against `scores`, scikit-learn and xskillscore.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int8, Real

from utils.console import UserError
from utils.data_processing import YEAR
from utils.regrid import midpoints

SEASONS = ("DJF", "MAM", "JJA", "SON")  # of the valid date
Fields = dict[str, np.ndarray]
REGIONS = ("arid", "semi-arid", "humid")
ARID, HUMID = 200.0, 500.0  # mm a year: arid is below the one, humid above the other; usual thresholds for China
RADIUS = 6371.0088  # km, the Earth's mean radius
LONE_CELL = 1.0  # degrees, the width of a grid's only cell
EVEN = 0.02  # EASE-Grid 2.0 rows on the ellipsoid are evenly spaced in sin(latitude) to 1.4 %
MIN_DAYS = 30  # valid days for a cell to count: with fewer, chance alone gives correlations beyond ±0.36 (5 % level)
VARIATION = 1e-7  # m3 m-3; values with a smaller standard deviation are constant but for float32 rounding

FORECASTS = ("predicted", "persistence", "climatology")
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


def scores(predictions: xr.Dataset) -> dict[str, Any]:
    """The content for metrics.json: floats, ints and None.

    First every metric of METRICS, pooled and unweighted over all pairs; r2 is scikit-learn's r2_score, and nse the same
    number under its name in hydrology. Then, each a dict of its own:
    - `area_weighted`: the same metrics, each pair weighted with its cell's area;
    - `median_cell`: the medians over cells of the metrics over time, and the `cells` with at least MIN_DAYS valid days;
    - `by_season`, `by_region`: for each of SEASONS and REGIONS, the pooled metrics of its pairs.

    Raises UserError when there is no pair, ValueError when an observation has no finite forecast.
    """
    fields = _scored(predictions)
    pairs = _pairs(predictions, fields)
    return {
        **_plain(pairs),
        "area_weighted": _plain(pairs, weighted=True),
        "median_cell": _median_cell(_cells(fields)),
        "by_season": {name: _plain(pairs, pairs["season"] == name) for name in SEASONS},
        "by_region": {name: _plain(pairs, pairs["region"] == i) for i, name in enumerate(REGIONS)},
    }


def by_cell(predictions: xr.Dataset) -> xr.Dataset:
    """BY_CELL [lat, lon] over time; NaN where n < MIN_DAYS or not defined, n itself everywhere. Raises as `scores`."""
    return _described(_cells(_scored(predictions)), BY_CELL, predictions, "lat", "lon")


def by_day(predictions: xr.Dataset) -> xr.Dataset:
    """BY_DAY [time] over the cells, unweighted; NaN on days where not defined. Raises as `scores`."""
    return _described(_measure(_scored(predictions), (1, 2)), BY_DAY, predictions, "time")


def region_of(mean_precipitation: Float[np.ndarray, "lat lon"]) -> Int8[np.ndarray, "lat lon"]:
    """Index into REGIONS from the training period's mean precipitation in mm day-1; -1 where that is NaN."""
    yearly = mean_precipitation * YEAR
    region = (yearly >= ARID).astype(np.int8) + (yearly > HUMID)
    return np.where(np.isnan(yearly), -1, region).astype(np.int8)


def cell_area(lat: Real[np.ndarray, " lat"], lon: Real[np.ndarray, " lon"]) -> Float[np.ndarray, "lat lon"]:
    """Areas in km2 of the cells around these centres [degrees], on a sphere of RADIUS.

    Bounds lie half-way between centres: in degrees, or in sin(latitude) where that is what the rows are evenly spaced
    in (EASE-Grid 2.0); the outermost as far beyond as within, but not beyond a pole or more than once around the Earth.
    Either axis may ascend or descend and be uneven, `lon` may cross 0/360 or the date line. A single row or column is
    as wide as the other axis' median spacing, a single cell LONE_CELL.
    """
    rows, columns = np.asarray(lat, np.float64), np.unwrap(np.asarray(lon, np.float64), period=360)
    heights = np.abs(np.diff(_sine_bounds(rows, columns)))
    widths = np.deg2rad(np.abs(np.diff(_lon_bounds(columns, rows))))
    return RADIUS**2 * np.outer(heights, widths)


def _sine_bounds(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    sine = np.sin(np.deg2rad(lat))
    if len(lat) > 2 and _unevenness(sine) < min(EVEN, _unevenness(lat)):
        return np.clip(midpoints(sine), -1, 1)
    return np.sin(np.deg2rad(np.clip(_bounds(lat, lon), -90, 90)))


def _lon_bounds(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    bounds, ends = _bounds(lon, lat), [0, -1]
    room = max(360 - abs(lon[-1] - lon[0]), 0) / 2
    bounds[ends] = lon[ends] + np.clip(bounds[ends] - lon[ends], -room, room)
    return bounds


def _bounds(centres: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Half-way between centres; a single centre gets the spacing of the `other` axis."""
    if len(centres) > 1:
        return midpoints(centres)
    width = np.median(np.abs(np.diff(other))) if len(other) > 1 else LONE_CELL
    return centres[0] + np.array([-width / 2, width / 2])


def _unevenness(centres: np.ndarray) -> float:
    steps = np.abs(np.diff(centres))
    return float(np.ptp(steps) / steps.mean())


def _scored(predictions: xr.Dataset) -> Fields:
    """The forecasts and the observation [time, lat, lon] in float64, NaN where not scored."""
    names = (*FORECASTS, "observed")
    fields = {n: predictions[n].transpose("time", "lat", "lon").values.astype(np.float64) for n in names}
    valid = np.isfinite(fields["observed"])
    if not valid.any():
        raise UserError("The test period has no valid soil moisture to score forecasts with.")
    for name in FORECASTS:
        if missing := int((valid & ~np.isfinite(fields[name])).sum()):
            raise ValueError(f"{name} is not finite in {missing} places where observed is.")
    return {name: np.where(valid, values, np.nan) for name, values in fields.items()}


def _pairs(predictions: xr.Dataset, fields: Fields) -> Fields:
    """The scored values alone [pair], with the season, region and area of each."""
    time, lat, lon = np.nonzero(np.isfinite(fields["observed"]))
    pairs = {name: field[time, lat, lon] for name, field in fields.items()}
    pairs["season"] = predictions["time"].dt.season.values[time]
    pairs["region"] = predictions["region"].transpose("lat", "lon").values[lat, lon]
    pairs["area"] = predictions["cell_area"].transpose("lat", "lon").values[lat, lon].astype(np.float64)
    return pairs


def _cells(fields: Fields) -> Fields:
    """Every metric over time [lat, lon], NaN where n < MIN_DAYS."""
    found = _measure(fields, 0)
    return {name: np.where(found["n"] >= MIN_DAYS, x, np.nan) if name != "n" else x for name, x in found.items()}


def _median_cell(cells: Fields) -> dict[str, float | int | None]:
    defined = {name: cells[name][np.isfinite(cells[name])] for name in MEDIANS}
    medians = {name: float(np.median(values)) if values.size else None for name, values in defined.items()}
    return {**medians, "cells": int((cells["n"] >= MIN_DAYS).sum())}


def _plain(pairs: Fields, chosen: np.ndarray | slice = slice(None), weighted: bool = False) -> dict[str, Any]:
    """Every metric over the chosen pairs, as metrics.json holds it."""
    pairs = {name: pairs[name][chosen] for name in (*FORECASTS, "observed", "area")}
    if not pairs["observed"].size:
        return {**dict.fromkeys(METRICS), "n": 0}
    found = {name: value.item() for name, value in _measure(pairs, 0, pairs["area"] if weighted else None).items()}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _measure(sample: Fields, axis: int | tuple[int, ...], weights: np.ndarray | None = None) -> Fields:
    """Every metric of METRICS over `axis`, NaN where not defined; n counts pairs whatever their weights.

    The anomaly correlation is centred (the correlation of anomalies from climatology, their own means removed), so that
    it measures agreement alone: a bias that forecast and observation share would raise the uncentred one.
    """
    truth, climate = sample["observed"], sample["climatology"]
    valid = np.isfinite(truth)
    share = valid * (1.0 if weights is None else weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = share / share.sum(axis=axis, keepdims=True)

        def mean(values):
            return (np.where(valid, values, 0) * share).sum(axis=axis)

        def centred(values):
            return values - np.expand_dims(mean(values), axis)

        def spread(values):
            return np.sqrt(mean(values**2))

        def correlation(a, b):
            found = np.clip(mean(a * b) / (spread(a) * spread(b)), -1, 1)
            return np.where((spread(a) > VARIATION) & (spread(b) > VARIATION), found, np.nan)

        errors = {name: sample[name] - truth for name in FORECASTS}
        mse = {name: mean(error**2) for name, error in errors.items()}
        forecast, observed = centred(sample["predicted"]), centred(truth)
        r, error = correlation(forecast, observed), mse["predicted"]
        variability = spread(forecast) / spread(observed)
        ratio = mean(sample["predicted"]) / mean(truth)
        efficiency = np.where(spread(observed) > VARIATION, 1 - error / spread(observed) ** 2, np.nan)
        found = {
            "rmse": np.sqrt(error),
            "mse": error,
            "r2": efficiency,
            "n": np.asarray(valid.sum(axis=axis)),
            "bias": mean(errors["predicted"]),
            "ubrmse": spread(centred(errors["predicted"])),
            "pearson_r": r,
            "nse": efficiency,
            "kge": 1 - np.sqrt((r - 1) ** 2 + (variability - 1) ** 2 + (ratio - 1) ** 2),
            "acc": correlation(centred(sample["predicted"] - climate), centred(truth - climate)),
            "skill_over_persistence": 1 - error / mse["persistence"],
            "skill_over_climatology": 1 - error / mse["climatology"],
        }
    return {name: x if name == "n" else np.where(np.isfinite(x), x, np.nan) for name, x in found.items()}


def _described(found: Fields, names: tuple[str, ...], predictions: xr.Dataset, *dims: str) -> xr.Dataset:
    """These metrics as a data set with CF attributes."""
    attributes = {name: dict(zip(("units", "long_name"), METRICS[name], strict=True)) for name in names}
    coordinates = {dim: predictions[dim] for dim in dims}
    return xr.Dataset({name: (dims, found[name], attributes[name]) for name in names}, coordinates)
