"""Hindcasts: forecasts from every day of a period, made part by part into one file, and their scores."""

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
from utils.forecasts.event_scores import EventScores, score_chances
from utils.forecasts.forecast_file import CHANCES, PERCENTILES, SHORT_RECORD, encoding
from utils.forecasts.numerical_model import NAME, open_rival
from utils.forecasts.operational import find_inits, forecast_maps, note_short_record
from utils.forecasts.request import ForecastRequest, LeadEnsemble
from utils.scores.prediction_file import score_with_intervals
from utils.scores.sums import FORECASTS, Sums
from utils.training.run_directory import hold_run_directory


def write_hindcasts(
    request: ForecastRequest, first: np.datetime64, last: np.datetime64, out: Path, jobs: int | None
) -> np.ndarray:
    """Write the forecasts from all initial days from `first` to `last` to `out`; returns these days.

    Finished parts are kept beside `out` until it is whole. If a call is killed, the next one finds them.
    """
    inits = find_inits(request, first, last)
    folder = out.with_name(f".{out.name}.parts")
    with hold_run_directory(folder):
        parts = [inits[i : i + request.max_inits] for i in range(0, len(inits), request.max_inits)]
        files = [folder / f"{part[0]}_{part[-1]}.nc" for part in parts]
        _write_parts(request, parts, files, jobs)
        _join(files, out, note=note_short_record(request, inits))
        shutil.rmtree(folder)
    return inits


def _write_parts(
    request: ForecastRequest, parts: Sequence[np.ndarray], files: Sequence[Path], jobs: int | None
) -> None:
    """Write the parts that are missing, side by side where there are several cores."""
    missing = [(part, file) for part, file in zip(parts, files, strict=True) if not _is_part(file, request)]
    count = sum(len(part) for part in parts)
    with tqdm(total=count, desc="hindcasts", unit=" inits", disable=None) as bar:
        bar.update(count - sum(len(part) for part, _ in missing))
        at_once = min(jobs or cores(), len(missing))
        if at_once == 1:
            for part, file in missing:
                bar.update(write_part(request, part, file))
        elif missing:
            todo = [Job(file.name, partial(write_part, request, part, file)) for part, file in missing]

            def on_result(job: Job, count: int) -> Sequence[Job]:
                bar.update(count)
                return ()

            with processes(at_once) as executor:
                finish(todo, executor, at_once, on_result)


def write_part(request: ForecastRequest, inits: np.ndarray, file: Path) -> int:
    """Forecast from these initial days and write the maps; returns the number of days."""
    ds = forecast_maps(request, inits)
    with whole_file(file) as partial_file:
        ds.to_netcdf(partial_file, engine="netcdf4", encoding=encoding(ds), unlimited_dims=["init_time"])
    return len(inits)


def _is_part(file: Path, request: ForecastRequest) -> bool:
    """Whether the file is there and belongs to the same request."""
    with contextlib.suppress(OSError), netCDF4.Dataset(file) as part:
        return getattr(part, "request", "") == request.attributes["request"]
    return False


def score_hindcasts(request: ForecastRequest, out: Path) -> list[dict[str, Any]]:
    """A row of scores for each lead, with persistence and climatology; no row where no valid day was observed.

    `numerical_model` holds those of the model whose weather forecasts are given, if they have its soil moisture.

    `coverage_90` is the share of observations between the 0.05 and the 0.95 quantile. `dry` and `wet` hold the scores
    of the chances of unusual soil moisture; they are missing where the runs learned from too few years.
    """
    data = open_data_set(request.data, beyond=max(lead.days for lead in request.leads))
    rows = []
    with xr.open_dataset(out) as forecasts:
        for number, lead in enumerate(request.leads):
            row = _score_lead(request, lead, data, forecasts.isel(lead_time=number))
            if row:
                rows.append(row)
    return rows


def _score_lead(
    request: ForecastRequest, lead: LeadEnsemble, data: DataSet, forecasts: xr.Dataset
) -> dict[str, Any] | None:
    """The scores of one lead; None where no valid day was observed."""
    parts: dict[str, list] = {name: [] for name in FORECASTS}
    inside, events = 0, []
    inits = forecasts["init_time"].values.astype("datetime64[D]")
    rival = open_rival(request.future_from, lead.days, request.grid)
    for block in data.blocks():
        fields, inside_block, of_block = _read_block(data, block, lead, forecasts)
        events.append(of_block)
        inside += inside_block
        region = lead.calibration.region[block.own]
        for name in FORECASTS:
            sums = Sums.of(fields | {"predicted": fields[name]}, region)
            parts[name].append((sums, block.own))
        if rival:
            rival.add(data, block, inits, fields, region)
    sums = {name: Sums.joined(parts[name], request.grid.shape) for name in FORECASTS}
    count = int(sums["predicted"].of_days("n").sum())
    if not count:
        return None
    valid_time = forecasts["init_time"].values + np.timedelta64(lead.days, "D")
    area = (("lat", "lon"), cell_area(request.grid.lat, request.grid.lon))
    frame = xr.Dataset({"cell_area": area}, {"time": valid_time})
    scores_of_rival = rival.summary(frame, request.grid.shape) if rival else None
    chances = {name: EventScores.joined([of_block[name] for of_block in events]) for name in events[0]}
    return {
        "lead_days": lead.days,
        "coverage_90": inside / count,
        **score_with_intervals("predicted", sums, frame),
        **{name: scores.summary() for name, scores in chances.items() if scores.n.any()},
        **({NAME: scores_of_rival} if scores_of_rival else {}),
    }


def _read_block(
    data: DataSet, block: Tile, lead: LeadEnsemble, forecasts: xr.Dataset
) -> tuple[dict[str, np.ndarray], int, dict[str, EventScores]]:
    """Forecasts and observations of a block's own cells, m3 m-3, and what is not made of their Sums.

    That is how many observations are inside the 90 % interval, and the scores of the chances of unusual soil moisture.
    """
    inits = forecasts["init_time"].values.astype("datetime64[D]")
    valid_days = inits + lead.days
    moisture = data.read(block.own)["soil_moisture"].values
    forecasts = forecasts.isel(lat=block.own_rows, lon=block.own_columns)
    predicted = forecasts["soil_moisture"].values
    observed = np.where(np.isfinite(predicted), moisture[np.searchsorted(data.days, valid_days)], np.nan)
    low, high = (forecasts["soil_moisture_quantile"].isel(quantile=position).values for position in (0, -1))
    fields = {
        "predicted": predicted,
        "persistence": fill_forward(moisture, data.days)[np.searchsorted(data.days, inits)],
        "climatology": lead.climatology.expected(valid_days)[:, *block.own],
        "observed": observed,
    }
    thresholds, chances = ([forecasts[name].values for name in names] for names in (PERCENTILES, CHANCES))
    events = score_chances(observed, thresholds, chances, valid_days)
    return fields, int(((low <= observed) & (observed <= high)).sum()), events


def _join(files: Sequence[Path], out: Path, note: str) -> None:
    """Put all parts into one file as they are stored, with one part in memory at a time; `note` is of all of them."""
    with whole_file(out) as whole:
        shutil.copyfile(files[0], whole)
        with netCDF4.Dataset(whole, "a") as file:
            file.set_auto_maskandscale(False)
            if note:
                file.setncattr(SHORT_RECORD, note)
            for path in files[1:]:
                with netCDF4.Dataset(path) as part:
                    part.set_auto_maskandscale(False)
                    first = len(file.dimensions["init_time"])
                    for name, variable in part.variables.items():
                        if "init_time" in variable.dimensions:
                            file[name][first:] = variable[:]
