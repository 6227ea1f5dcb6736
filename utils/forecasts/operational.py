"""Forecast maps from trained runs and a prepared data set, with their uncertainty: what forecast.py writes.

runs         of one lead, seeds or models alike, are one forecast: their mean, weighted by 1 / MSE on the days held out
             that they have in common (Bates and Granger 1969, doi:10.1057/jors.1969.103)
uncertainty  quantiles from the same mean of their forecasts of days held out (utils/forecasts/calibration.py)
usual        anomaly and percentile against the climatology of the days the runs learned from (climatology.py)
init         the last input day. Observations missing there are carried forward as in training, and `input_age` says how
             old each cell's last one is; a cell that the runs do not know, or without any observation up to the init
             since the last gap, has no forecast
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float32, Int16

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.text import days as in_days
from utils.data_processing import Samples
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.prepared import (
    AXES,
    DAYS_ENCODING,
    VARIABLES,
    no_value,
    open_prepared,
    unreadable,
)
from utils.dataset.weather_forecasts import KnownWeather, WeatherForecasts
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample, weights_of
from utils.forecasts.climatology import Climatology
from utils.forecasts.cross_validation import cross_validate
from utils.models import windows_of
from utils.scores.prediction_file import AGE
from utils.training.checkpoint import Checkpoint, load_checkpoint
from utils.training.inference import BATCH, forecast, restore_model, view_of
from utils.training.run_directory import git_commit
from utils.training.setup import check_grid, start_of

DIMENSIONS = ("init_time", "lead_time", "lat", "lon")
PACKED = {"dtype": "int16", "scale_factor": np.float32(5e-5), "_FillValue": np.int16(-32768)}  # of the quantiles
MAPS = 2**24  # values of a variable made at once, at most
_STEP = 32  # days read at once in search of the last observation
TOGETHER = 100  # inits made at once, at most


@dataclass(frozen=True)
class LeadEnsemble:
    """The runs of one lead and what their forecasts of days held out say."""

    days: int
    run_dirs: tuple[Path, ...]
    weights: tuple[float, ...]  # sum to 1
    calibration: Calibration
    usual: Climatology


@dataclass(frozen=True)
class ForecastRequest:
    """What is to be forecast; another process can do a part of it."""

    leads: tuple[LeadEnsemble, ...]
    data: Path
    future_from: Path | None
    grid: Grid
    end: np.datetime64 | None  # no later day of the data is read: a single init
    attributes: dict[str, Any]

    @property
    def run_dirs(self) -> list[Path]:
        return [run_dir for lead in self.leads for run_dir in lead.run_dirs]

    @property
    def at_once(self) -> int:
        """How many inits fit in memory together."""
        return int(np.clip(MAPS // (len(self.leads) * len(LEVELS) * np.prod(self.grid.shape)), 1, TOGETHER))


def order(
    run_dirs: Sequence[Path], data: Path, end: np.datetime64 | None, future_from: Path | None, folds: int
) -> ForecastRequest:
    """All that is asked, checked, and each run's forecasts of days held out, made where they are missing."""
    found = {run_dir: load_checkpoint(run_dir) for run_dir in dict.fromkeys(path.resolve() for path in run_dirs)}
    first_dir, first = next(iter(found.items()))
    grid = open_data_set(data).grid
    for run_dir, checkpoint in found.items():
        if not checkpoint.finished:
            raise UserError(f"{run_dir} is not trained to its end; continue it with the command that began it.")
        if checkpoint.data_hash != first.data_hash:
            raise UserError(f"{run_dir} and {first_dir} were trained on different data; forecast with one kind.")
        check_grid(checkpoint, grid, data, run_dir)
        future_of(checkpoint, run_dir, future_from)
    leads = []
    for days in sorted({checkpoint.lead_days for checkpoint in found.values()}):
        those = {run_dir: checkpoint for run_dir, checkpoint in found.items() if checkpoint.lead_days == days}
        files = [cross_validate(run_dir, folds) for run_dir in those]
        weights = weights_of(files)
        held = OutOfSample.read(files, weights)
        leads.append(LeadEnsemble(days, tuple(those), weights, Calibration.of(held), Climatology.of(held)))
    hashes = {str(run_dir): checkpoint.weights_hash for run_dir, checkpoint in found.items()}
    attributes = _attributes(leads, found, hashes, data)
    if not folds:
        attributes["calibration"] = "on validation days, which chose the runs' best epochs: a little too narrow"
    if future_from:
        if not (knowing := [run_dir for run_dir, checkpoint in found.items() if checkpoint.future]):
            raise UserError(f"--future-from is {future_from}, but none of the runs knows the weather ahead.")
        future = future_of(found[knowing[0]], knowing[0], future_from)
        attributes |= {"future_weather": f"forecasts of {future_from.name}", "future_sha256": future.hash()}
        if not all(found[run_dir].future_hash for run_dir in knowing):
            attributes["calibration"] = "of runs that know the weather ahead: with perfect forecasts of it, too narrow"
    parts = [
        sorted(hashes.items()),
        folds,
        *(attributes.get(name) for name in ("data_sha256", "future_sha256", "commit")),
    ]
    identity = json.dumps(parts)
    attributes["request"] = hashlib.sha256(identity.encode()).hexdigest()
    return ForecastRequest(tuple(leads), data, future_from, grid, end, attributes)


def future_of(checkpoint: Checkpoint, run_dir: Path, future_from: Path | None) -> KnownWeather | None:
    """The weather ahead that a run wants to know; a UserError where nobody can know it."""
    future = KnownWeather.of(checkpoint.settings | ({"future_from": str(future_from)} if future_from else {}))
    if future and not isinstance(future, WeatherForecasts):
        raise UserError(
            f"{run_dir} {checkpoint.future}; nobody has that of days to come: give forecasts with --future-from "
            "(docs/forecasts.md)."
        )
    if future and not future_from and future.hash() != checkpoint.future_hash:
        raise UserError(f"{checkpoint.settings['future_from']} has changed since {run_dir} was trained on it.")
    return future


class TrainedRun:
    """A run with its data, ready to forecast."""

    def __init__(self, run_dir: Path, asked: ForecastRequest, leads: int):
        self.checkpoint = load_checkpoint(run_dir)
        self.model = restore_model(self.checkpoint, run_dir)
        start = start_of(self.checkpoint)
        if start is not None and open_data_set(asked.data).first > start:
            start = None  # newer data than its own: nothing in them is too early
        data = open_data_set(asked.data, start, end=asked.end, beyond=leads)
        self.view = view_of(self.checkpoint, self.model, data, future_of(self.checkpoint, run_dir, asked.future_from))

    def samples(self, first: np.datetime64, last: np.datetime64) -> Samples:
        """Initialised on these days; those without a full window are left out."""
        lead, span = self.checkpoint.lead_days, (first, last)
        target = tuple(day + lead for day in span)
        return Samples(self.view, (target,), lead, self.checkpoint.input_days, "forecast", windows_of(self.model))

    def forecasts(
        self, inits: np.ndarray
    ) -> tuple[Float32[np.ndarray, "time lat lon"], Int16[np.ndarray, "time lat lon"]]:
        """Of these inits: soil moisture, m3 m-3, and the age of the last observation."""
        samples = self.samples(inits[0], inits[-1])
        chosen = np.isin(samples.init_time, inits)
        maps = np.full((len(inits), *samples.view.data.grid.shape), np.nan, np.float32)
        age = np.full(maps.shape, -1, np.int16)
        for windows, block in zip(samples, self.view.blocks, strict=True):
            found = forecast(self.model, windows, BATCH, torch.device("cpu"))
            maps[:, *block.own] = found[chosen][:, *block.inside]
            age[:, *block.own] = windows.input_age[chosen][:, *block.inside]
        return maps, age


_kept: dict[tuple, dict[Path, TrainedRun]] = {}  # by a process from one part to the next


def members(asked: ForecastRequest) -> dict[Path, TrainedRun]:
    key = asked.attributes["request"], asked.end
    if key not in _kept:
        _kept.clear()
        most = max(lead.days for lead in asked.leads)
        _kept[key] = {run_dir: TrainedRun(run_dir, asked, most) for run_dir in asked.run_dirs}
    return _kept[key]


def inits(asked: ForecastRequest, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    """The days from `first` to `last` on which every run can be initialised; a UserError where there is none."""
    found = None
    for run_dir, member in members(asked).items():
        try:
            samples = member.samples(first, last)
        except UserError as error:
            if member.view.future:  # which may be what is missing
                raise
            need = f"{in_days(member.checkpoint.input_days)} in a row up to the last input day"
            raise UserError(
                f"{run_dir} needs {need}; {asked.data} has that on no day from {first} to {last}, or a gap behind it."
            ) from error
        found = samples.init_time if found is None else np.intersect1d(found, samples.init_time)
    if not len(found):
        raise UserError(f"No day from {first} to {last} has the input days of all runs in {asked.data}.")
    return found


def issue(asked: ForecastRequest, days: np.ndarray) -> xr.Dataset:
    """The forecasts of these inits, [init_time, lead_time, lat, lon] and quantiles of them."""
    shape = (len(days), len(asked.leads), *asked.grid.shape)
    names = ("soil_moisture", "anomaly", "percentile", "ensemble_spread")
    maps = {name: np.full(shape, np.nan, np.float32) for name in names}
    quantiles = np.full((len(days), len(asked.leads), len(LEVELS), *asked.grid.shape), np.nan, np.float32)
    found = {run_dir: member.forecasts(days) for run_dir, member in members(asked).items()}
    age = np.full((len(days), *asked.grid.shape), -1, np.int16)  # by the run that reads the most days
    for _, its_age in found.values():
        age = np.where((its_age >= 0) & ((age < 0) | (its_age < age)), its_age, age)
    for number, lead in enumerate(asked.leads):
        each = [np.where(found[run_dir][1] >= 0, found[run_dir][0], np.float32(np.nan)) for run_dir in lead.run_dirs]
        mean = sum(np.float32(weight) * one for weight, one in zip(lead.weights, each, strict=True))
        squares = sum(weight * (one - mean) ** 2 for weight, one in zip(lead.weights, each, strict=True))
        valid = days + lead.days
        mean = np.clip(mean, *VARIABLES["soil_moisture"].limits)
        anomaly = mean - lead.usual.expected(valid)
        maps["soil_moisture"][:, number], maps["anomaly"][:, number] = mean, anomaly
        maps["percentile"][:, number] = lead.usual.percentile(anomaly, valid)
        if len(each) > 1:
            maps["ensemble_spread"][:, number] = np.sqrt(squares)
        for level in range(len(LEVELS)):
            quantiles[:, number, level] = lead.calibration.quantiles(mean, age, valid, [level])[0]
    if len(asked.run_dirs) == len(asked.leads):
        del maps["ensemble_spread"]  # of one run there is none
    return as_dataset(asked, days, maps, quantiles, age)


def as_dataset(
    asked: ForecastRequest, days: np.ndarray, maps: dict[str, np.ndarray], quantiles: np.ndarray, age: np.ndarray
) -> xr.Dataset:
    """With CF metadata."""
    folds = "calibration" not in asked.attributes or "validation" not in asked.attributes["calibration"]
    usual = "climatology of the days that the runs learned from" if folds else "climatology of the validation days"
    kind = "" if all(lead.usual.all_year for lead in asked.leads) else "mean, for want of a full year, as "
    about = {
        "soil_moisture": {**VARIABLES["soil_moisture"].attributes, "long_name": "forecast soil moisture, daily mean"},
        "anomaly": {"long_name": f"forecast soil moisture less the {kind}{usual}"},
        "percentile": {"long_name": f"share of the season's days with a smaller anomaly, in the {kind}{usual}"},
        "ensemble_spread": {"long_name": "standard deviation among the runs, weighted as their mean"},
    }
    units = {"percentile": "percent"}
    found = {
        name: (DIMENSIONS, values, {"units": units.get(name, "m3 m-3"), **about[name]}) for name, values in maps.items()
    }
    note = asked.attributes.get("calibration", "on days held out, by climate region and season")
    found["soil_moisture_quantile"] = (
        (*DIMENSIONS[:2], "quantile", *DIMENSIONS[2:]),
        quantiles,
        {"units": "m3 m-3", "long_name": "quantile of the forecast soil moisture", "comment": f"calibrated {note}"},
    )
    found["input_age"] = (("init_time", "lat", "lon"), age, {"units": "day", "long_name": AGE})
    leads = np.array([lead.days for lead in asked.leads], np.int32)
    time = {"standard_name": "forecast_reference_time", "long_name": "last input day"}
    valid = {"standard_name": "time", "long_name": "day that is forecast", "units_metadata": "leap_seconds: none"}
    coords = {
        "init_time": ("init_time", days.astype("datetime64[ns]"), time),
        "lead_time": ("lead_time", leads, {"units": "days", "standard_name": "forecast_period"}),
        "valid_time": (("init_time", "lead_time"), (days[:, None] + leads).astype("datetime64[ns]"), valid),
        "quantile": ("quantile", LEVELS, {"units": "1", "long_name": "probability of less soil moisture"}),
        "lat": ("lat", asked.grid.lat, AXES["lat"]),
        "lon": ("lon", asked.grid.lon, AXES["lon"]),
    }
    return xr.Dataset(found, coords, asked.attributes)


def encoding(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How it is written: compressed, a chunk an init; quantiles as whole numbers of 0.00005 m3 m-3."""
    found: dict[str, dict[str, Any]] = {name: {"_FillValue": None} for name in ("lat", "lon", "quantile")}
    found |= {name: DAYS_ENCODING for name in ("init_time", "valid_time")}
    whole = ds.sizes["lat"] * ds.sizes["lon"] <= 2**16
    for name in ds.data_vars:
        how = PACKED if name == "soil_moisture_quantile" else {"_FillValue": np.float32(np.nan)}
        how = {"_FillValue": np.int16(-1)} if name == "input_age" else how
        sides = [ds.sizes[dim] if whole or dim == "quantile" else min(ds.sizes[dim], 256) for dim in ds[name].dims]
        sides = [1 if dim == "init_time" else side for dim, side in zip(ds[name].dims, sides, strict=True)]
        found[name] = {**how, "zlib": True, "complevel": 1, "shuffle": True, "chunksizes": tuple(sides)}
    return found


def _attributes(
    leads: Sequence[LeadEnsemble], found: dict[Path, Checkpoint], hashes: dict[str, str], data: Path
) -> dict[str, Any]:
    synthetic = any(checkpoint.synthetic for checkpoint in found.values()) or open_data_set(data).synthetic
    lines = []
    for lead in leads:
        for run_dir, weight in zip(lead.run_dirs, lead.weights, strict=True):
            one = found[run_dir]
            name = f"{one.experiment}/{one.model}/lead{one.lead_days}/seed{one.seed}"
            lines.append(f"{name} (weight {weight:.3f}, weights {hashes[str(run_dir)][:12]}, commit {one.commit})")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": "CF-1.11",
        "title": ("SYNTHETIC sample: " if synthetic else "") + "soil-moisture forecasts with their uncertainty",
        "source": "; ".join(lines),
        "data": data.name,
        "data_sha256": data_hash(data),
        "commit": git_commit(),
        "history": f"{now} forecast.py",
        "synthetic": str(synthetic).lower(),
    }


def is_forecast(path: Path) -> bool:
    """Whether a file was written by forecast.py."""
    with contextlib.suppress(OSError), netCDF4.Dataset(path) as file:
        return "request" in file.ncattrs()
    return False


def last_observed(data: Path) -> np.datetime64:
    """The last day with any soil moisture."""
    with open_prepared(data) as ds:
        moisture = ds["soil_moisture"]
        for end in range(len(moisture), 0, -_STEP):
            part = moisture.isel(time=slice(max(end - _STEP, 0), end))
            try:
                there = np.isfinite(part.values).any(axis=(1, 2))
            except Exception as error:
                raise unreadable(data, error) from error
            if there.any():
                return part["time"].values[there][-1].astype("datetime64[D]")
    raise no_value(data, "soil_moisture")
