"""The soil moisture of a numerical weather model as a rival of our forecasts, where a file of its forecasts has it.

Two land models differ in their mean and their variance more than in what they say of wet and dry. The rival is
therefore rescaled to the mean and the standard deviation of the observations, in each cell and at each lead (variance
matching: Yilmaz and Crow 2013, doi:10.1175/JHM-D-12-052.1). Both come from the pairs of days up to the initial day
alone: all that who issues a forecast on that day can know, whether these days were trained on or not.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float, Shaped

from utils.common.grid import Grid, Tile
from utils.dataset.blocks import DataSet
from utils.dataset.weather_forecasts import WeatherForecasts
from utils.scores.prediction_file import compare_errors, score_with_intervals
from utils.scores.sums import FORECASTS, Sums

NAME = "numerical_model"
VARIABLE = "soil_moisture"
FEWEST_PAIRS = 30  # days that a cell needs for its mean and standard deviation; an assumption
CONSTANT = 1e-4  # m3 m-3: a standard deviation below it is that of a cell that does not vary


def has_soil_moisture(future_from: Path | None, lead_days: int = 1) -> bool:
    """Whether there is a file of weather forecasts with the soil moisture of its model at this lead."""
    if future_from is None:
        return False
    with contextlib.suppress(OSError), netCDF4.Dataset(future_from) as file:
        return {VARIABLE, "lead_time"} <= set(file.variables) and lead_days in file["lead_time"][:]
    return False


class NumericalModel:
    """The rival's forecasts of one lead."""

    def __init__(self, path: Path, lead_days: int, grid: Grid):
        """Raises UserError where the file cannot be read, or has other cells."""
        self.lead_days = lead_days
        self.file = WeatherForecasts((VARIABLE,), lead_days, path)
        self.file.check_grid(grid)

    def read(
        self, data: DataSet, inits: Shaped[np.ndarray, "time"], cells: tuple[slice, slice]
    ) -> Float[np.ndarray, "time lat lon"]:
        """The rescaled forecasts from these initial days, m3 m-3; NaN where there is none, or too little before it."""
        with self.file.open() as ds:
            field = ds[VARIABLE].sel(lead_time=self.lead_days).isel(lat=cells[0], lon=cells[1])
            issued = ds["init_time"].values.astype("datetime64[D]")
            kept = issued <= inits.max()
            forecasts = field.isel(init_time=kept).values.astype(np.float64)
        issued = issued[kept]
        observed = _on_days(data.read(cells)[VARIABLE].values, data.days, issued + self.lead_days)
        return _on_days(rescale_to_past(forecasts, observed, issued, self.lead_days), issued, inits)


def rescale_to_past(
    forecasts: Float[np.ndarray, "time lat lon"],
    observed: Float[np.ndarray, "time lat lon"],
    issued: Shaped[np.ndarray, "time"],
    lead_days: int,
) -> Float[np.ndarray, "time lat lon"]:
    """Forecasts with the mean and standard deviation that the observations had up to the initial day, in each cell.

    `observed` are those of the days that are forecast; a pair counts from its own day on. Where FEWEST_PAIRS are not
    there yet, or the forecasts do not vary, the value is NaN.
    """
    rescaled = np.full(forecasts.shape, np.nan)
    sums = np.zeros((5, *forecasts.shape[1:]))  # n, f, o, ff, oo
    known = 0  # pairs of days that have been summed
    for row, day in enumerate(issued):
        while issued[known] + lead_days <= day:
            sums += _moments(forecasts[known], observed[known])
            known += 1
        n, f, o, ff, oo = sums
        count = np.maximum(n, 1)
        mean_f, mean_o = f / count, o / count
        std_f, std_o = (
            np.sqrt(np.maximum(square / count - mean**2, 0)) for square, mean in ((ff, mean_f), (oo, mean_o))
        )
        usable = (n >= FEWEST_PAIRS) & (std_f > CONSTANT)
        ratio = np.divide(std_o, std_f, out=np.zeros_like(std_f), where=usable)
        rescaled[row] = np.where(usable, mean_o + ratio * (forecasts[row] - mean_f), np.nan)
    return rescaled


def _moments(forecast: Float[np.ndarray, "lat lon"], observed: Float[np.ndarray, "lat lon"]) -> np.ndarray:
    """What a pair of maps adds to the sums; nothing in cells where either is missing."""
    valid = np.isfinite(forecast) & np.isfinite(observed)
    f, o = (np.where(valid, values, 0.0) for values in (forecast, observed))
    return np.stack([valid.astype(np.float64), f, o, f * f, o * o])


def _on_days(
    values: Float[np.ndarray, "day lat lon"], days: Shaped[np.ndarray, "day"], wanted: Shaped[np.ndarray, "time"]
) -> Float[np.ndarray, "time lat lon"]:
    """The values of the wanted days; NaN on a day that is not there."""
    if not len(days):
        return np.full((len(wanted), *values.shape[1:]), np.nan)
    row = np.clip(np.searchsorted(days, wanted), 0, len(days) - 1)
    there = days[row] == wanted
    return np.where(there[:, None, None], values[row], np.nan)


class RivalScores:
    """The scores of the rival beside those of our forecast, on the pairs that both have; added up block by block."""

    def __init__(self, model: NumericalModel):
        self.model = model
        self.parts: dict[str, list[tuple[Sums, tuple[slice, slice]]]] = {name: [] for name in (*FORECASTS, NAME)}

    def add(
        self,
        data: DataSet,
        block: Tile,
        inits: Shaped[np.ndarray, "time"],
        fields: Mapping[str, np.ndarray],
        region: np.ndarray,
    ) -> None:
        """Count a block's own cells; `fields` are FORECASTS and `observed`, [time, lat, lon] in m3 m-3."""
        rival = self.model.read(data, inits, block.own)
        common = {**fields, "observed": np.where(np.isfinite(rival), fields["observed"], np.nan)}
        for name in self.parts:
            values = rival if name == NAME else fields[name]
            self.parts[name].append((Sums.of(common | {"predicted": values}, region), block.own))

    def summary(self, frame: xr.Dataset, shape: tuple[int, int]) -> dict[str, Any] | None:
        """The rival's scores; `forecast` has those of our forecast on the same pairs. None where there is no pair."""
        sums = {name: Sums.joined(parts, shape) for name, parts in self.parts.items()}
        if not sums[NAME].of_days("n").any():
            return None
        ours = score_with_intervals("predicted", {name: sums[name] for name in FORECASTS}, frame)
        compared = compare_errors(sums["predicted"], sums[NAME], frame["time"].values)
        return {**score_with_intervals(NAME, sums, frame), "forecast": {"rmse": ours["rmse"], **compared}}


def open_rival(future_from: Path | None, lead_days: int, grid: Grid) -> RivalScores | None:
    """The rival of one lead, not scored yet; None where no file has it. Raises UserError for a file of other cells."""
    if future_from is None or not has_soil_moisture(future_from, lead_days):
        return None
    return RivalScores(NumericalModel(future_from, lead_days, grid))


def describe_rival(scores: Mapping[str, Any]) -> str:
    """The rival's RMSE, and how our forecast compares on the same pairs, for the terminal."""
    ours = scores["forecast"]
    rival = f"numerical model, rescaled: RMSE {scores['rmse']:.4f}, n {scores['n']}"
    return f"{rival}; on the same days and cells the forecast has {ours['rmse']:.4f} ({ours['verdict']})"
