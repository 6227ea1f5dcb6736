"""Verification metrics of a run, from the content of its predictions.nc alone.

`predictions` is everywhere an xr.Dataset with dims time (valid date), lat, lon and
- `predicted`, `observed`, `persistence`, `climatology` (time, lat, lon), m3 m-3: observed is NaN where not scored, the
  three forecasts are finite wherever it is not;
- `region` (lat, lon): an index into REGIONS, -1 outside; `cell_area` (lat, lon), km2.

Every metric is taken over valid pairs alone and accumulated in float64. What is not defined (fewer than two pairs, no
variation, a reference without error) is None in `scores` and NaN in maps and series.

`_measure` is the one definition of all metrics, weighted or not. MSE and bias come from `scores`; the rest is written
out because `scores` 2.7.0 has no weighted KGE or correlation, and its weighted NSE refers to the unweighted mean of the
observations.
"""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int8, Real
from scores.continuous import mean_error, mse

from utils.console import UserError
from utils.data_processing import YEAR
from utils.regrid import midpoints

SEASONS = ("DJF", "MAM", "JJA", "SON")  # of the valid date
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
    area, season, region = (pairs[name] for name in ("area", "season", "region"))
    return {
        **_plain(pairs),
        "area_weighted": _plain(pairs, area),
        "median_cell": _median_cell(_cells(fields)),
        "by_season": {name: _plain(pairs.isel(pair=(season == name).values)) for name in SEASONS},
        "by_region": {name: _plain(pairs.isel(pair=(region == i).values)) for i, name in enumerate(REGIONS)},
    }


def by_cell(predictions: xr.Dataset) -> xr.Dataset:
    """BY_CELL [lat, lon] over time; NaN where n < MIN_DAYS or not defined, n itself everywhere. Raises as `scores`."""
    return _described(_cells(_scored(predictions)), BY_CELL)


def by_day(predictions: xr.Dataset) -> xr.Dataset:
    """BY_DAY [time] over the cells, unweighted; NaN on days where not defined. Raises as `scores`."""
    return _described(_measure(_scored(predictions), ("lat", "lon")), BY_DAY)


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


def _scored(predictions: xr.Dataset) -> xr.Dataset:
    """The forecasts and the observation [time, lat, lon] in float64, NaN where not scored."""
    fields = predictions[[*FORECASTS, "observed"]].transpose("time", "lat", "lon").astype(np.float64).compute()
    valid = np.isfinite(fields["observed"])
    if not valid.any():
        raise UserError("The test period has no valid soil moisture to score forecasts with.")
    for name in FORECASTS:
        if missing := int((valid & ~np.isfinite(fields[name])).sum()):
            raise ValueError(f"{name} is not finite in {missing} places where observed is.")
    return fields.where(valid)


def _pairs(predictions: xr.Dataset, fields: xr.Dataset) -> xr.Dataset:
    """The scored values alone [pair], with the season, region and area of each."""
    time, lat, lon = np.nonzero(fields["observed"].notnull().values)
    pairs = {name: field.values[time, lat, lon] for name, field in fields.items()}
    pairs["season"] = predictions["time"].dt.season.values[time]
    pairs["region"] = predictions["region"].transpose("lat", "lon").values[lat, lon]
    pairs["area"] = predictions["cell_area"].transpose("lat", "lon").values[lat, lon].astype(np.float64)
    return xr.Dataset({name: ("pair", values) for name, values in pairs.items()})


def _cells(fields: xr.Dataset) -> xr.Dataset:
    """Every metric over time [lat, lon], NaN where n < MIN_DAYS."""
    cells = _measure(fields, ("time",))
    return cells.where(cells["n"] >= MIN_DAYS).assign(n=cells["n"])


def _median_cell(cells: xr.Dataset) -> dict[str, float | int | None]:
    defined = {name: cells[name].values[np.isfinite(cells[name].values)] for name in MEDIANS}
    medians = {name: float(np.median(values)) if values.size else None for name, values in defined.items()}
    return {**medians, "cells": int((cells["n"] >= MIN_DAYS).sum())}


def _plain(pairs: xr.Dataset, weights: xr.DataArray | None = None) -> dict[str, float | int | None]:
    """Every metric over all pairs, as metrics.json holds it."""
    if not pairs.sizes["pair"]:
        return {**dict.fromkeys(METRICS), "n": 0}
    found = {name: value.item() for name, value in _measure(pairs, ("pair",), weights).items()}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _measure(sample: xr.Dataset, dims: tuple[str, ...], weights: xr.DataArray | None = None) -> xr.Dataset:
    """Every metric of METRICS over `dims`, NaN where not defined; n counts pairs whatever their weights.

    The anomaly correlation is centred (the correlation of anomalies from climatology, their own means removed), so that
    it measures agreement alone: a bias that forecast and observation share would raise the uncentred one.
    """

    def mean(values: xr.Dataset | xr.DataArray):
        return (values if weights is None else values.weighted(weights)).mean(dims)

    forecast, truth = sample["predicted"], sample["observed"]
    anomalies = {"forecast_anomaly": forecast - sample["climatology"], "true_anomaly": truth - sample["climatology"]}
    fields = xr.Dataset({"forecast": forecast, "truth": truth, "error": forecast - truth, **anomalies})
    means = mean(fields)
    centred = fields - means
    spread = np.sqrt(mean(centred**2))
    varies = spread > VARIATION

    def correlation(a: str, b: str) -> xr.DataArray:
        found = mean(centred[a] * centred[b]) / (spread[a] * spread[b])
        return found.where(varies[a] & varies[b]).clip(-1, 1)

    with np.errstate(divide="ignore", invalid="ignore"):
        errors = mse(sample[list(FORECASTS)], truth, reduce_dims=dims, weights=weights)
        r, error = correlation("forecast", "truth"), errors["predicted"]
        variability, ratio = spread["forecast"] / spread["truth"], means["forecast"] / means["truth"]
        efficiency = (1 - error / spread["truth"] ** 2).where(varies["truth"])
        found = {
            "rmse": np.sqrt(error),
            "mse": error,
            "r2": efficiency,
            "n": truth.notnull().sum(dims),
            "bias": mean_error(forecast, truth, reduce_dims=dims, weights=weights),
            "ubrmse": spread["error"],
            "pearson_r": r,
            "nse": efficiency,
            "kge": 1 - np.sqrt((r - 1) ** 2 + (variability - 1) ** 2 + (ratio - 1) ** 2),
            "acc": correlation("forecast_anomaly", "true_anomaly"),
            "skill_over_persistence": 1 - error / errors["persistence"],
            "skill_over_climatology": 1 - error / errors["climatology"],
        }
    return xr.Dataset(
        {name: value if name == "n" else value.where(np.isfinite(value)) for name, value in found.items()}
    )


def _described(found: xr.Dataset, names: tuple[str, ...]) -> xr.Dataset:
    """These metrics with CF attributes."""
    described = found[list(names)]
    for name in names:
        units, long_name = METRICS[name]
        described[name].attrs = {"units": units, "long_name": long_name}
    return described
