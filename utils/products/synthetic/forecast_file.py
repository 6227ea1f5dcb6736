"""Make a file of weather forecasts for --future-from, from the days that a prepared data set has.

    python data/make_forecasts.py --data data/smap_l4.nc --error degraded
    python data/make_forecasts.py --data data/smap_l4.nc --error perfect --out perfect.nc

Degraded forecasts have SYNTHETIC errors that grow with lead (forecast_errors.py); how well they correlate with
the truth is printed and kept in the file. Perfect ones are the truth, an upper bound. Values that the data set misses
become the cell's mean. The format is that of docs/forecasts.md.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float
from tqdm import tqdm

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import file_hash, whole_file
from utils.dataset.prepared import AXES, VARIABLES, check_values, grid_of, is_synthetic, open_prepared
from utils.dataset.weather_forecasts import BOUND, DIMENSIONS, FUTURE
from utils.products.synthetic.forecast_errors import Errors, Pairs, another_day, replaced_share
from utils.settings import SAMPLE_SMAP

INITS = 32  # forecasts in memory at a time
SEASON = 32  # days before and among them from which another day is taken
SAMPLED = 200  # forecasts, about, by which the errors are adjusted
EPOCH = np.datetime64("2000-01-01", "D")


@dataclass
class Settings:
    data: Path = SAMPLE_SMAP  # a prepared data set, whose days are the truth
    out: Path | None = None  # NetCDF; None: <data>_<error>_forecasts.nc beside it
    error: Literal["perfect", "degraded"] = "degraded"  # perfect: an upper bound
    lead_days: int = 7  # forecasts of 1 to this many days after the last day known
    seed: int = 0  # of the errors


def main(settings: Settings) -> None:
    if settings.lead_days < 1 or settings.seed < 0:
        raise UserError("--lead-days is to be 1 or more, and --seed 0 or more.")
    path = settings.data.expanduser().resolve()
    out = settings.out or path.with_name(f"{path.stem}_{settings.error}_forecasts.nc")
    with open_prepared(path) as ds:
        truth = Truth(ds, path, settings.lead_days)
        if not len(truth.inits):
            raise UserError(f"{path} has no day that is followed by another.")
        share = truth.study(settings.seed) if settings.error == "degraded" else None
        with whole_file(out) as partial, netCDF4.Dataset(partial, "w") as file:
            define(file, truth, settings)
            scores = {name: Pairs(settings.lead_days) for name in FUTURE}
            bar = tqdm(total=len(truth.inits), desc=out.name, unit=" forecasts", disable=None)
            for first, part in truth.parts():
                for name in FUTURE:
                    made = np.stack([part.forecast(i, name, share, settings.seed) for i in range(part.count)])
                    file[name][first : first + part.count] = np.where(truth.land, made, np.nan)
                    for i, forecast in enumerate(made):
                        scores[name].add(forecast, part.ahead(i, name))
                bar.update(part.count)
            bar.close()
            for name, pairs in scores.items():
                file[name].correlation_by_lead, file[name].rmse_by_lead = pairs.correlation(), pairs.rmse()
    for name, pairs in scores.items():
        said = ", ".join(f"{value:.2f}" for value in pairs.correlation())
        print(f"{name}: correlation with the truth {said} at 1 to {settings.lead_days} days")
    print(f"{out}: {len(truth.inits)} forecasts, {label(settings)}")


def made_from(forecasts: Path, data: Path) -> bool:
    """Whether there is such a file of forecasts, of this data set as it is now."""
    if not forecasts.exists():
        return False
    with netCDF4.Dataset(forecasts) as file:
        return getattr(file, "data_sha256", "") == file_hash(data)


def label(settings: Settings) -> str:
    return BOUND if settings.error == "perfect" else f"SYNTHETIC error, degraded, seed {settings.seed}"


class Truth:
    """The days of a data set, read a few at a time; those that can be the last ones known to a forecast."""

    def __init__(self, ds: xr.Dataset, path: Path, leads: int):
        self.ds, self.path, self.leads = ds, path, leads
        self.grid, self.days = grid_of(ds), ds["time"].values.astype("datetime64[D]")
        self.inits = np.flatnonzero(np.diff(self.days) == np.timedelta64(1, "D"))
        self.errors = Errors(self.grid, leads)
        self.land, self.mean = self._land_and_mean()

    def _land_and_mean(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Cells with any soil moisture, rain or temperature, and each variable's mean there, over the record."""
        land, total, count = False, dict.fromkeys(FUTURE, 0.0), dict.fromkeys(FUTURE, 0)
        for first in range(0, len(self.days), INITS):
            for name in VARIABLES:
                values = self.read(name, first, first + INITS)
                land |= np.isfinite(values).any(axis=0)
                if name in FUTURE:
                    total[name] += np.nansum(values, axis=0, dtype=np.float64)
                    count[name] += np.isfinite(values).sum(axis=0)
        mean = {}
        for name in FUTURE:
            if not count[name].any():
                raise UserError(f"{self.path}: {name} has no valid value at all.")
            cells = np.where(count[name] > 0, total[name] / np.maximum(count[name], 1), np.nan)
            mean[name] = np.where(np.isfinite(cells), cells, np.nanmean(cells)).astype(np.float32)
        return land, mean

    def read(self, name: str, first: int, end: int) -> Float[np.ndarray, "time lat lon"]:
        """Some days of a variable, checked."""
        values = self.ds[name].isel(time=slice(first, end)).astype(np.float32).load()
        check_values(values, self.path)
        return values.values

    def parts(self, step: int = 1) -> Iterator[tuple[int, "Part"]]:
        """A few forecasts at a time and the number of the first; of every `step` of these parts alone."""
        for first in range(0, len(self.inits), INITS * step):
            yield first, Part(self, self.inits[first : first + INITS])

    def study(self, seed: int) -> Float[np.ndarray, "lead"]:
        """The share of the map that other days have to replace, from some of the forecasts."""
        moved, others = Pairs(self.leads), Pairs(self.leads)
        step = max(1, len(self.inits) // SAMPLED)
        for _, part in self.parts(step):
            for i in range(part.count):
                moved.add(part.forecast(i, "precipitation", np.zeros(self.leads), seed), part.ahead(i, "precipitation"))
                others.add(part.forecast(i, "precipitation", np.ones(self.leads), seed), part.ahead(i, "precipitation"))
        return replaced_share(moved, others)


class Part:
    """Some forecasts, and in memory the days around them."""

    def __init__(self, truth: Truth, inits: np.ndarray):
        self.truth, self.inits, self.count = truth, inits, len(inits)
        self.first = max(0, inits[0] - SEASON)
        end = inits[-1] + truth.leads + 1
        self.days = truth.days[self.first : end]
        self.values = {}
        for name in FUTURE:
            values = truth.read(name, self.first, end)
            self.values[name] = np.where(np.isfinite(values), values, truth.mean[name])

    def rows(self, i: int) -> np.ndarray:
        """Positions of the days ahead of forecast i; −1 where the record has none."""
        wanted = self.truth.days[self.inits[i]] + np.arange(1, self.truth.leads + 1)
        row = np.minimum(np.searchsorted(self.days, wanted), len(self.days) - 1)
        return np.where(self.days[row] == wanted, row, -1)

    def ahead(self, i: int, name: str) -> Float[np.ndarray, "lead lat lon"]:
        """What came true, NaN on days that the record does not have and where there is no land."""
        rows = self.rows(i)
        there = (rows >= 0)[:, None, None] & self.truth.land
        return np.where(there, self.values[name][rows], np.float32(np.nan))

    def forecast(
        self, i: int, name: str, share: Float[np.ndarray, "lead"] | None, seed: int
    ) -> Float[np.ndarray, "lead lat lon"]:
        """Forecast i; `share` None: without error."""
        truth, errors = self.ahead(i, name), self.truth.errors
        if share is None:
            return truth
        day = int((self.truth.days[self.inits[i]] - EPOCH).astype(int))
        random = np.random.default_rng([seed, day + 10**6, list(FUTURE).index(name)])
        if name == "soil_temperature":
            made = errors.temperature(truth, random)
        else:
            rows = [another_day(int(row), len(self.days), random) for row in self.rows(i)]
            made = errors.rain(truth, self.values[name][rows], share, random)
        made = np.clip(made, *VARIABLES[name].limits)
        return np.where(np.isfinite(truth), made, np.nan).astype(np.float32)


def define(file: netCDF4.Dataset, truth: Truth, settings: Settings) -> None:
    """Dimensions, coordinates and attributes."""
    sizes = len(truth.inits), settings.lead_days, *truth.grid.shape
    for name, size in zip(DIMENSIONS, sizes, strict=True):
        file.createDimension(name, size)
    begun = {"standard_name": "forecast_reference_time", "long_name": "last day known"}
    coordinates = {
        "init_time": ((truth.days[truth.inits] - EPOCH).astype(int), "i4", {"units": f"days since {EPOCH}", **begun}),
        "lead_time": (
            np.arange(1, settings.lead_days + 1),
            "i4",
            {"units": "days", "standard_name": "forecast_period"},
        ),
        "lat": (truth.grid.lat, "f8", AXES["lat"]),
        "lon": (truth.grid.lon, "f8", AXES["lon"]),
    }
    for name, (values, kind, attributes) in coordinates.items():
        variable = file.createVariable(name, kind, (name,))
        variable[:] = values
        variable.setncatts(attributes)
    chunks = (min(8, sizes[0]), sizes[1], *(min(64, side) for side in sizes[2:]))
    for name in FUTURE:
        options = {"zlib": True, "complevel": 1, "fill_value": np.float32(np.nan), "chunksizes": chunks}
        variable = file.createVariable(name, "f4", DIMENSIONS, **options)
        variable.setncatts({"units": VARIABLES[name].units, **VARIABLES[name].attributes})
    synthetic = is_synthetic(truth.ds)
    file.setncatts(
        {
            "Conventions": "CF-1.11",
            "title": ("SYNTHETIC sample: " if synthetic else "") + "weather forecasts made from what came true",
            "forecast_error": label(settings),
            "synthetic_error": str(settings.error == "degraded").lower(),
            "synthetic": str(synthetic).lower(),
            "data_sha256": file_hash(truth.path),
        }
    )


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
