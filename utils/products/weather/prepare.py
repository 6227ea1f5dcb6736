"""From raw weather forecasts to the file that --future-from reads: the steps.

A run of 00 UTC knows the day that ends as it starts, which is the last input day of a forecast of ours (`init_time`).
Its first day is the lead of 1 day. Where soil moisture arrives late, newer runs are there when a forecast is issued:
with a lag of 3 days, the first lead comes from the first day of the run after the last input day, the second from that
of the next run, and only the third and later ones from the days of the newest run.
"""

import functools
import hashlib
import shlex
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.text import format_days
from utils.dataset.prepared import check_values, grid_of, open_prepared
from utils.products import DAY
from utils.products.archives import Unreadable
from utils.products.monthly import work_folder
from utils.products.raw_files import RawFile, find_files, scan_files
from utils.products.regrid import POINT, Cells, cells_around
from utils.products.weather import grib, netcdf
from utils.products.weather.days import LONGEST_LEAD, Run
from utils.products.weather.fields import EXPECTED, Field, one_model
from utils.products.weather.stored import Kind, Maps, read_marks, write_forecasts

Parts = list[tuple[np.datetime64, int]]  # of each lead: the model run, and which of its days


@dataclass
class WeatherPrepareSettings:
    """What data/prepare_weather_forecast.py is told."""

    raw: tuple[Path, ...]  # GRIB or NetCDF files, folders (searched to the bottom) or quoted patterns, of one model
    like: Path  # the prepared data set whose cells the forecasts are put on
    out: Path  # NetCDF; forecasts that an earlier call has put there stay
    lead_days: int = 7  # forecasts of 1 to this many days after the last input day
    lag: int = 1  # days from the last input day to the model run of the day of issue; 3 for SMAP L4


def prepare_weather_forecast(settings: WeatherPrepareSettings) -> None:
    """Write the file and print what it holds. Raises UserError for settings or files that cannot be used."""
    _check(settings)
    with open_prepared(settings.like) as ds:
        grid = grid_of(ds)
    with work_folder(settings.out) as folder:
        files = find_files(settings.raw, out=settings.out)
        scans = scan_files(files, _scan, folder / "unpacked", "weather forecasts")
        fields = [field for found, _ in scans for field in found]
        _refuse_no_rain(fields, [name for _, names in scans for name in names])
        kind = Kind(model=one_model(fields), lead_days=settings.lead_days, lag=settings.lag)
        runs = _runs(fields, settings.lead_days)
        earlier = read_marks(settings.out, kind, grid)
        source = Days(runs, cells_around(grid.lat, grid.lon, lone=POINT), folder)
        parts = choose_runs(runs, kind)
        marks = earlier | {day: source.mark(parts[day]) for day in parts}
        new = {day for day in parts if earlier.get(day) != marks[day]}

        def make(day: np.datetime64) -> Maps | None:
            return source.forecast(parts[day]) if day in new else None

        if new:
            source.prepare({run for day in new for run, _ in parts[day]})
            write_forecasts(settings.out, kind, grid, marks, make, _attributes(kind))
        _report(settings, runs, len(new))


def _check(settings: WeatherPrepareSettings) -> None:
    if not 1 <= settings.lead_days <= LONGEST_LEAD:
        raise UserError(f"--lead-days is {settings.lead_days}, expected 1 to {LONGEST_LEAD}.")
    if not 1 <= settings.lag <= settings.lead_days:
        raise UserError(f"--lag is {settings.lag}, expected 1 to --lead-days, {settings.lead_days}.")
    if settings.out.suffix == ".zarr":
        raise UserError(f"--out is {settings.out}, expected the name of a NetCDF file.")


def _scan(file: RawFile) -> tuple[list[Field], list[str]]:
    if file.kind == "tiff":
        raise Unreadable("is a GeoTIFF, expected GRIB or NetCDF")
    return (grib if file.kind == "grib" else netcdf).scan(file)


def _refuse_no_rain(fields: Sequence[Field], names: Sequence[str]) -> None:
    if not any(field.variable == "precipitation" for field in fields):
        found = ", ".join(dict.fromkeys(names)) or "nothing"
        raise UserError(f"No field of --raw is total precipitation, {EXPECTED}; found {found}.")


def _runs(fields: Sequence[Field], lead_days: int) -> dict[np.datetime64, Run]:
    """The runs of 00 UTC, in order. Raises UserError where there is none, and where one lacks the rain of a day."""
    by_run = defaultdict(list)
    for field in fields:
        by_run[field.run].append(field)
    midnights = sorted(run for run in by_run if run == run.astype("datetime64[D]"))
    if not midnights:
        hours = sorted({str(run)[11:13] for run in by_run})
        raise UserError(
            f"The model runs of --raw start at {' and '.join(hours)} UTC; expected those of 00 UTC, whose days are "
            "days of UTC."
        )
    return {
        run.astype("datetime64[D]"): Run.of(run.astype("datetime64[D]"), by_run[run], lead_days) for run in midnights
    }


def choose_runs(runs: Collection[np.datetime64], kind: Kind) -> dict[np.datetime64, Parts]:
    """Where each forecast takes its leads from, by its last day known: the day before each run that is there.

    A day ahead comes from the newest run up to the day of issue that does not start after it.
    """
    chosen = {}
    for oldest in runs:
        known = oldest - DAY
        there = [run for run in known + np.arange(1, kind.lag + 1) * DAY if run in runs]
        parts = []
        for day in known + np.arange(1, kind.lead_days + 1) * DAY:
            newest = max(run for run in there if run <= day)
            parts.append((newest, int((day - newest) / DAY) + 1))
        chosen[known] = parts
    return chosen


class Days:
    """The days of model runs on the cells of the data set, kept in a folder until the file is whole."""

    def __init__(self, runs: dict[np.datetime64, Run], cells: Cells, folder: Path):
        self.runs, self.cells, self.folder = runs, cells, folder

    def mark(self, parts: Parts) -> str:
        """Changes when the files do that these runs are in."""
        return " ".join(dict.fromkeys(self._mark(run) for run, _ in parts))

    def prepare(self, starts: set[np.datetime64]) -> None:
        """Make the days of these runs that are not in the folder yet."""
        todo = [start for start in sorted(starts) if not self._file(start).exists()]
        for start in tqdm(todo, desc="model runs", unit="run", disable=None):
            days = self.runs[start].read(self.cells)
            valid = (start + np.arange(self.runs[start].lead_days)).astype("datetime64[ns]")
            coords = {"time": valid, "lat": self.cells.lat, "lon": self.cells.lon}
            ds = xr.Dataset({name: (("time", "lat", "lon"), values) for name, values in days.items()}, coords)
            for name in ds.data_vars:
                check_values(ds[name], self.runs[start].path)
            with whole_file(self._file(start)) as partial:
                ds.to_netcdf(partial, engine="netcdf4")

    def forecast(self, parts: Parts) -> Maps:
        """The leads of one forecast; without soil moisture where one of its runs has none."""
        runs = {start: self._read(start) for start in dict.fromkeys(start for start, _ in parts)}
        names = set.intersection(*(set(maps) for maps in runs.values()))
        return {name: np.stack([runs[start][name][day - 1] for start, day in parts]) for name in names}

    def _read(self, start: np.datetime64) -> Maps:
        with xr.open_dataset(self._file(start), engine="netcdf4") as ds:
            return {str(name): ds[name].values for name in ds.data_vars}

    def _file(self, start: np.datetime64) -> Path:
        return self.folder / f"{start}-{self._mark(start)}.nc"

    @functools.cache  # noqa: B019 (one object a call of the script)
    def _mark(self, start: np.datetime64) -> str:
        run = self.runs[start]
        content = (run.fingerprints(), run.lead_days, self.cells.lat.tobytes(), self.cells.lon.tobytes())
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _attributes(kind: Kind) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "title": "weather forecasts of a numerical model, daily, on the cells of a data set",
        "forecast_error": f"of a numerical model, {kind.model or 'not named in its files'}",
        "history": f"{now} python {shlex.join(sys.argv)}",
    }


def _report(settings: WeatherPrepareSettings, runs: Mapping[np.datetime64, Run], new: int) -> None:
    """Say what the file holds, and what it lacks."""
    with xr.open_dataset(settings.out, engine="netcdf4", decode_timedelta=False) as ds:
        days = ds["init_time"].values.astype("datetime64[D]")
        print(
            f"{settings.out}: forecasts from {len(days)} last input days, {days[0]} to {days[-1]}, leads of 1 to "
            f"{format_days(settings.lead_days)}; {new} of them are new"
        )
        if missing := int((days[-1] - days[0]) / DAY) + 1 - len(days):
            print(f"  between them, {format_days(missing)} have no forecast")
        rain = ds["precipitation"].mean(("init_time", "lat", "lon")).values
        print(f"  mean rain by lead: {', '.join(f'{value:.2f}' for value in rain)} mm day-1")
        empty = int(np.isnan(ds["precipitation"].isel(init_time=-1, lead_time=0)).sum())
        if empty:
            print(f"  {empty} of {ds['lat'].size * ds['lon'].size} cells lie outside the files and have no rain")
    without = [start for start, run in runs.items() if not run.has_moisture]
    if without:
        print(f"  {len(without)} of {len(runs)} model runs lack soil moisture at the start or the end of a day")
