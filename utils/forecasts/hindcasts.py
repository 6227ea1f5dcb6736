"""Forecasts from every day of a period: made part by part, side by side, into one file; and how good they were."""

import contextlib
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from tqdm import tqdm

from utils.common.files import whole_file
from utils.common.grid import Tile, cell_area
from utils.common.parallel import Job, cores, finish, processes
from utils.dataset.blocks import DataSet
from utils.dataset.open import open_data_set
from utils.dataset.record import fill_forward
from utils.forecasts.operational import ForecastRequest, LeadEnsemble, encoding, inits, issue
from utils.scores.metrics import FORECASTS, Sums
from utils.scores.prediction_file import score_with_intervals
from utils.training.run_directory import claimed


def hindcast(
    asked: ForecastRequest, first: np.datetime64, last: np.datetime64, out: Path, jobs: int | None
) -> np.ndarray:
    """Write the forecasts of all inits from `first` to `last` to `out`; returns the inits.

    Parts are kept beside it until it is whole, and found again by the next call.
    """
    days = inits(asked, first, last)
    folder = out.with_name(f".{out.name}.parts")
    with claimed(folder):
        _make(asked, days, folder, out, jobs)
        shutil.rmtree(folder)
    return days


def _make(asked: ForecastRequest, days: np.ndarray, folder: Path, out: Path, jobs: int | None) -> None:
    """The parts that are missing, then the whole."""
    parts = [days[i : i + asked.at_once] for i in range(0, len(days), asked.at_once)]
    files = [folder / f"{part[0]}_{part[-1]}.nc" for part in parts]
    missing = [(part, file) for part, file in zip(parts, files, strict=True) if not _made(file, asked)]
    at_once = min(jobs or cores(), len(missing))
    bar = tqdm(total=len(days), desc="hindcasts", unit=" inits", disable=None)
    bar.update(len(days) - sum(len(part) for part, _ in missing))
    if at_once == 1:
        for part, file in missing:
            bar.update(make_part(asked, part, file))
    elif missing:
        todo = [Job(file.name, partial(make_part, asked, part, file)) for part, file in missing]

        def on_result(job: Job, count: int) -> Sequence[Job]:
            bar.update(count)
            return ()

        with processes(at_once) as executor:
            finish(todo, executor, at_once, on_result)
    bar.close()
    _join(files, out)


def make_part(asked: ForecastRequest, days: np.ndarray, file: Path) -> int:
    """Forecast and write these inits; returns how many they are."""
    ds = issue(asked, days)
    with whole_file(file) as partial_file:
        ds.to_netcdf(partial_file, engine="netcdf4", encoding=encoding(ds), unlimited_dims=["init_time"])
    return len(days)


def _made(file: Path, asked: ForecastRequest) -> bool:
    """Whether a part is there, of the same request."""
    with contextlib.suppress(OSError), netCDF4.Dataset(file) as part:
        return getattr(part, "request", "") == asked.attributes["request"]
    return False


def scored(asked: ForecastRequest, out: Path) -> list[dict[str, Any]]:
    """A row of scores a lead, beside persistence and climatology; none where no valid day was observed.

    `coverage_90` is the share of observations inside the interval from the 0.05 to the 0.95 quantile.
    """
    data, rows = open_data_set(asked.data, beyond=max(lead.days for lead in asked.leads)), []
    with xr.open_dataset(out) as made:
        start = made["init_time"].values.astype("datetime64[D]")
        for number, lead in enumerate(asked.leads):
            parts: dict[str, list] = {name: [] for name in FORECASTS}
            inside = 0
            for block in data.blocks():
                fields, within = _fields(data, block, start, lead, made.isel(lead_time=number))
                region, inside = lead.calibration.region[block.own], inside + within
                for name in FORECASTS:
                    sums = Sums.of(fields | {"predicted": fields[name]}, region)
                    parts[name].append((sums, block.own))
            sums = {name: Sums.joined(parts[name], asked.grid.shape) for name in FORECASTS}
            if not (count := int(sums["predicted"].of_days("n").sum())):
                continue
            area = (("lat", "lon"), cell_area(asked.grid.lat, asked.grid.lon))
            frame = xr.Dataset({"cell_area": area}, {"time": (start + lead.days).astype("datetime64[ns]")})
            found = score_with_intervals("predicted", sums, frame)
            rows.append({"lead_days": lead.days, "coverage_90": inside / count, **found})
    return rows


def _fields(
    data: DataSet, block: Tile, start: np.ndarray, lead: LeadEnsemble, made: xr.Dataset
) -> tuple[dict[str, np.ndarray], int]:
    """Forecasts and observations of a block's own cells, m3 m-3, and how many of these are inside the 90 % interval."""
    moisture = data.read(block.own)["soil_moisture"].values
    made = made.isel(lat=block.own_rows, lon=block.own_columns)
    predicted = made["soil_moisture"].values
    first, valid = (np.searchsorted(data.days, days) for days in (start, start + lead.days))
    observed = np.where(np.isfinite(predicted), moisture[valid], np.nan)
    low, high = (made["soil_moisture_quantile"].isel(quantile=i).values for i in (0, -1))
    climatology = lead.usual.expected(start + lead.days)[:, *block.own]
    found = {"predicted": predicted, "persistence": fill_forward(moisture, data.days)[first]}
    found |= {"climatology": climatology, "observed": observed}
    return found, int(((low <= observed) & (observed <= high)).sum())


def _join(files: Sequence[Path], out: Path) -> None:
    """All parts in one file, as they are stored, one part in memory at a time."""
    with whole_file(out) as whole:
        shutil.copyfile(files[0], whole)
        with netCDF4.Dataset(whole, "a") as file:
            file.set_auto_maskandscale(False)
            for path in files[1:]:
                with netCDF4.Dataset(path) as part:
                    part.set_auto_maskandscale(False)
                    first = len(file.dimensions["init_time"])
                    for name, variable in part.variables.items():
                        if "init_time" in variable.dimensions:
                            file[name][first:] = variable[:]
