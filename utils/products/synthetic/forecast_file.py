"""A file of weather forecasts made from the days that a prepared data set has: perfect, or with SYNTHETIC errors.

The format is that of docs/weather_forecasts.md; what the errors are, and how large, is in forecast_errors.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import file_hash, whole_file
from utils.dataset.open import SAMPLES
from utils.dataset.prepared import VARIABLES, check_values, grid_of, is_synthetic, open_prepared
from utils.dataset.weather_forecasts import BOUND, FUTURE
from utils.products.forecast_file import EPOCH, create_forecast_file
from utils.products.synthetic.forecast_errors import Errors, Pairs, another_day, replaced_share

INITS = 32  # forecasts in memory at a time
SEASON = 32  # days before and among them from which another day is taken
SAMPLED = 200  # forecasts, about, by which the errors are adjusted


@dataclass
class ForecastSettings:
    """What data/make_forecasts.py is told."""

    data: Path = SAMPLES / "smap_l4_1deg.nc"  # a prepared data set, whose days are the truth
    out: Path | None = None  # NetCDF; None: <data>_<error>_forecasts.nc beside it
    error: Literal["perfect", "degraded"] = "degraded"  # perfect: an upper bound
    lead_days: int = 7  # forecasts of 1 to this many days after the last day known
    seed: int = 0  # of the errors


def make_forecasts(settings: ForecastSettings) -> None:
    """Write the file and print how good its forecasts are. Raises UserError for impossible settings or data."""
    if settings.lead_days < 1 or settings.seed < 0:
        raise UserError("--lead-days is to be 1 or more, and --seed 0 or more.")
    path = settings.data.expanduser().resolve()
    out = settings.out or path.with_name(f"{path.stem}_{settings.error}_forecasts.nc")
    with open_prepared(path) as ds:
        truth = TrueWeather(ds, path, settings.lead_days)
        if not len(truth.inits):
            raise UserError(f"{path} has no day that is followed by another.")
        share = truth.share_to_replace(settings.seed) if settings.error == "degraded" else None
        with whole_file(out) as partial, netCDF4.Dataset(partial, "w") as file:
            create_forecast_file(
                file,
                inits=truth.days[truth.inits],
                leads=settings.lead_days,
                grid=truth.grid,
                variables=tuple(FUTURE),
                attributes=_attributes(truth, settings),
            )
            scores = _fill(file, truth, share, settings.seed, out.name)
    for name, pairs in scores.items():
        correlations = ", ".join(f"{value:.2f}" for value in pairs.correlation())
        print(f"{name}: correlation with the truth {correlations} at 1 to {settings.lead_days} days")
    print(f"{out}: {len(truth.inits)} forecasts, {_error_label(settings)}")


def are_of(forecasts: Path, data: Path) -> bool:
    """Whether the file of forecasts exists and was made from this data set as it is now."""
    if not forecasts.exists():
        return False
    with netCDF4.Dataset(forecasts) as file:
        return getattr(file, "data_sha256", "") == file_hash(data)


def _error_label(settings: ForecastSettings) -> str:
    return BOUND if settings.error == "perfect" else f"SYNTHETIC error, degraded, seed {settings.seed}"


class TrueWeather:
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

    def blocks(self, step: int = 1) -> Iterator[tuple[int, "Block"]]:
        """INITS forecasts at a time and the number of the first; of every `step` of these blocks alone."""
        for first in range(0, len(self.inits), INITS * step):
            yield first, Block(self, self.inits[first : first + INITS])

    def share_to_replace(self, seed: int) -> Float[np.ndarray, "lead"]:
        """The share of the map that other days have to replace, from some of the forecasts."""
        rain = "precipitation"
        moved, others = Pairs(self.leads), Pairs(self.leads)
        step = max(1, len(self.inits) // SAMPLED)
        for _, block in self.blocks(step):
            for i in range(block.count):
                moved.add(block.forecast(i, rain, np.zeros(self.leads), seed), block.ahead(i, rain))
                others.add(block.forecast(i, rain, np.ones(self.leads), seed), block.ahead(i, rain))
        return replaced_share(moved, others)


class Block:
    """Some forecasts, and in memory the days around them."""

    def __init__(self, truth: TrueWeather, inits: np.ndarray):
        self.truth, self.inits, self.count = truth, inits, len(inits)
        self.first = max(0, int(inits[0]) - SEASON)
        end = int(inits[-1]) + truth.leads + 1
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


def _fill(
    file: netCDF4.Dataset, truth: TrueWeather, share: Float[np.ndarray, "lead"] | None, seed: int, label: str
) -> dict[str, Pairs]:
    """Write all forecasts and how well they agree with the truth, which is also returned, by variable."""
    scores = {name: Pairs(truth.leads) for name in FUTURE}
    with tqdm(total=len(truth.inits), desc=label, unit=" forecasts", disable=None) as bar:
        for first, block in truth.blocks():
            for name in FUTURE:
                made = np.stack([block.forecast(i, name, share, seed) for i in range(block.count)])
                file[name][first : first + block.count] = np.where(truth.land, made, np.nan)
                for i, forecast in enumerate(made):
                    scores[name].add(forecast, block.ahead(i, name))
            bar.update(block.count)
    for name, pairs in scores.items():
        file[name].correlation_by_lead = pairs.correlation()
        file[name].rmse_by_lead = pairs.rmse()
    return scores


def _attributes(truth: TrueWeather, settings: ForecastSettings) -> dict[str, str]:
    """Global attributes of the file."""
    synthetic = is_synthetic(truth.ds)
    return {
        "title": ("SYNTHETIC sample: " if synthetic else "") + "weather forecasts made from what came true",
        "forecast_error": _error_label(settings),
        "synthetic_error": str(settings.error == "degraded").lower(),
        "synthetic": str(synthetic).lower(),
        "data_sha256": file_hash(truth.path),
    }
