"""The numbers of single cells that the forecast page holds, and the cell around a place.

They are rounded to whole numbers: 0.001 m3 m-3, or per cent. A map with more cells than one file can hold at a usable
size is thinned: the page has one of each k × k cells.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool

from utils.common.cli import UserError
from utils.common.text import format_days
from utils.dataset.open import open_data_set
from utils.figures.map_panels import edges_of, wrap_longitudes
from utils.figures.series import place_of

MOST_NUMBERS = 600_000  # of the page; about 3 MB, the pictures beside
MOISTURE, SHARE, PERCENT = 1000, 100, 1  # whole numbers in a unit
QUANTILES = {"low_90": 0.05, "low_50": 0.25, "high_50": 0.75, "high_90": 0.95}
FIELDS = {  # name in the page: variable of the file, whole numbers in its unit
    "mean": ("soil_moisture", MOISTURE),
    "anomaly": ("anomaly", MOISTURE),
    "usual_low": ("climatology_p10", MOISTURE),
    "usual_high": ("climatology_p90", MOISTURE),
    "dry": ("probability_below_p10", SHARE),
    "wet": ("probability_above_p90", SHARE),
    "percentile": ("percentile", PERCENT),
}

Cell = tuple[int, int]  # row and column


def read_last_days(data: Path, last: np.datetime64, count: int) -> xr.DataArray:
    """Soil moisture [time, lat, lon] of the `count` days up to `last`, or of the last ones before."""
    days = open_data_set(data, end=last).days
    recent = days[days > last - count]
    start = recent[0] if len(recent) else days[-count:][0]
    return open_data_set(data, start=start, end=last).read()["soil_moisture"]


def turn_north_up(forecast: xr.Dataset) -> xr.Dataset:
    """The forecast with latitudes and longitudes that ascend, as its maps show it."""
    return forecast.assign_coords(lon=wrap_longitudes(forecast["lon"].values)).sortby(["lat", "lon"])


def find_cell(grid: xr.Dataset, point: tuple[float, float]) -> Cell:
    """Row and column of the cell around a latitude and longitude [degrees], of a grid that is north up.

    Raises UserError for a place outside the grid.
    """
    lat, lon = point
    rows, columns = (edges_of(grid[name].values) for name in ("lat", "lon"))
    east_of_edge = (lon - columns[0]) % 360
    row = int(np.searchsorted(rows, lat, side="right")) - 1
    column = int(np.searchsorted(columns - columns[0], east_of_edge, side="right")) - 1
    if not (0 <= row < len(rows) - 1 and 0 <= column < len(columns) - 1):
        raise UserError(
            f"--point {lat:g} {lon:g} lies outside the grid: latitude {rows[0]:g} to {rows[-1]:g}, longitude "
            f"{columns[0]:g} to {columns[-1]:g}."
        )
    return row, column


def describe_cell(forecast: xr.Dataset, point: tuple[float, float]) -> list[str]:
    """The forecast of the cell around a place, a line a lead."""
    grid = turn_north_up(forecast)
    row, column = find_cell(grid, point)
    cell = grid.isel(lat=row, lon=column)
    lines = [f"cell {place_of(cell)}:"]
    if not np.isfinite(cell["soil_moisture"]).any():
        return [f"{lines[0]} no forecast"]
    low, high = (cell["soil_moisture_quantile"].sel(quantile=q, method="nearest").values for q in (0.05, 0.95))
    for number, lead in enumerate(cell["lead_time"].values):
        at = cell.isel(lead_time=number)
        day, mean = str(at["valid_time"].values)[:10], float(at["soil_moisture"])
        interval = f"90 % interval {low[number]:.3f} to {high[number]:.3f}"
        line = f"  {day} ({format_days(int(lead))} ahead): {mean:.3f} m³ m⁻³, {interval}"
        dry, wet = float(at["probability_below_p10"]), float(at["probability_above_p90"])
        chances = f", chance of unusually dry {100 * dry:.0f} %, wet {100 * wet:.0f} %" if np.isfinite(dry) else ""
        lines.append(line + chances)
    return lines


def embed_cells(forecast: xr.Dataset, point: tuple[float, float] | None) -> dict[str, Any]:
    """What the page's script needs: axes, the cells with a forecast, and their numbers; None stands for no value.

    `forecast` is north up and has `observed` [time, lat, lon], the days before. `fields` are [lead][cell], `observed`
    [day][cell]. `start` is the position of the cell that is shown first.
    """
    has_forecast = np.isfinite(forecast["soil_moisture"].values).any(axis=0)
    start = find_cell(forecast, point) if point else _middle_cell(has_forecast)
    step = find_step(forecast)
    rows, columns = (slice(first % step, None, step) for first in start)
    kept, has_forecast = forecast.isel(lat=rows, lon=columns), has_forecast[rows, columns]
    start = start[0] // step, start[1] // step

    def rounded(values: np.ndarray, scale: int) -> list[list[int | None]]:
        return [_whole_numbers(values_of_map[has_forecast], scale) for values_of_map in values]

    fields = {name: rounded(kept[variable].values, scale) for name, (variable, scale) in FIELDS.items()}
    for name, level in QUANTILES.items():
        quantile = kept["soil_moisture_quantile"].sel(quantile=level, method="nearest")
        fields[name] = rounded(quantile.transpose("lead_time", "lat", "lon").values, MOISTURE)
    return {
        "leads": kept["lead_time"].values.tolist(),
        "valid": [str(day)[:10] for day in kept["valid_time"].values],
        "lat": _degrees(kept["lat"].values),
        "lon": _degrees(kept["lon"].values),
        "cells": np.flatnonzero(has_forecast).tolist(),
        "fields": fields,
        "age": _whole_numbers(kept["input_age"].values[has_forecast], PERCENT),
        "days": [str(day)[:10] for day in kept["time"].values],
        "observed": rounded(kept["observed"].values, MOISTURE),
        "start": start[0] * kept.sizes["lon"] + start[1],
        "step": step,
    }


def find_step(forecast: xr.Dataset) -> int:
    """Of each k × k cells the page has one: this k. 1 where all fit."""
    cells = int(np.isfinite(forecast["soil_moisture"].values).any(axis=0).sum())
    of_a_cell = (len(FIELDS) + len(QUANTILES)) * forecast.sizes["lead_time"] + forecast.sizes["time"]
    return max(math.ceil(math.sqrt(cells * of_a_cell / MOST_NUMBERS)), 1)


def _middle_cell(has_forecast: Bool[np.ndarray, "lat lon"]) -> Cell:
    """The cell with a forecast that is nearest to the middle of all of them."""
    cells = np.argwhere(has_forecast)
    middle = cells[np.square(cells - cells.mean(axis=0)).sum(axis=1).argmin()]
    return int(middle[0]), int(middle[1])


def _whole_numbers(values: np.ndarray, scale: int) -> list[int | None]:
    """Rounded, in units of 1 / scale; None where there is no value."""
    scaled = scale * values.astype(float)
    return [round(value) if math.isfinite(value) else None for value in scaled.tolist()]


def _degrees(values: np.ndarray) -> list[float]:
    return np.round(values.astype(float), 4).tolist()
