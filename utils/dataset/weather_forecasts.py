"""Which weather of the days ahead a model knows, and where it comes from.

Off by default. A model that is given precipitation or soil temperature of the days after the last input day, up to and
including the target day, sees each of these maps as one more channel of every input day (WeatherMaps):

perfect    the same data set's own later days, as no forecast knows them: an upper bound, and called one
forecasts  a NetCDF file of forecasts, [init_time, lead_time, lat, lon] (docs/forecasts.md), read by window
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float32, Int
from torch import Tensor

from utils.common.cli import UserError, fold
from utils.common.files import file_hash
from utils.common.grid import WHOLE, Grid
from utils.dataset.prepared import (
    VARIABLES,
    check_axes,
    check_values,
    check_variables,
    grid_of,
)
from utils.dataset.statistics import OUTSIDE, Statistics

DIMENSIONS = ("init_time", "lead_time", "lat", "lon")
DAYS = ("days", "day", "d")  # spellings of the unit of lead_time
BOUND = "perfect forecast, an upper bound"
SHORT = {"precipitation": "rain", "soil_temperature": "temperature"}  # how the variables are called in notes
MADE_BY = "python data/make_forecasts.py"


@dataclass(frozen=True, eq=False)
class WeatherMaps:
    """Weather of the days ahead of those of a record: its own days later (a perfect forecast), or forecasts of them."""

    scaled: dict[str, Float32[Tensor, "map lat lon"]]  # by variable; scaled like it, OUTSIDE where nothing is scored
    rows: Int[np.ndarray, "time lead"]  # which maps lie ahead of each day, the next day first; −1: it has none
    statistics: Statistics

    @classmethod
    def of(
        cls, maps: dict[str, Float[np.ndarray, "map lat lon"]], rows: Int[np.ndarray, "time lead"], scale: Statistics
    ) -> "WeatherMaps":
        """From maps in their units; a missing value becomes the cell's mean over the training period."""
        found = {}
        for name, values in maps.items():
            channel = list(VARIABLES).index(name)
            filled = np.where(np.isfinite(values), values, scale.cell_mean[channel])
            scaled = (filled - scale.low[channel]) / scale.span[channel]
            found[name] = torch.from_numpy(np.where(scale.scored, scaled, np.float32(OUTSIDE)).astype(np.float32))
        return cls(found, rows, scale)

    def channels(
        self, last: Int[np.ndarray, "batch"], cells: tuple[slice, slice] = WHOLE
    ) -> Float32[Tensor, "batch map lat lon"]:
        """All maps of the days ahead of these positions in the record: variable by variable, lead by lead."""
        rows = self._rows(last)
        return torch.cat([maps[(rows, *cells)] for maps in self.scaled.values()], dim=1)

    def maps(self, name: str, last: Int[np.ndarray, "batch"]) -> Float32[Tensor, "batch lead lat lon"]:
        """One variable of the days ahead of these positions in the record, in its unit; 0 where nothing is scored."""
        channel, scale = list(VARIABLES).index(name), self.statistics
        maps = self.scaled[name][self._rows(last)] * float(scale.span[channel]) + float(scale.low[channel])
        return torch.where(torch.from_numpy(scale.scored), maps, 0)

    def _rows(self, last: Int[np.ndarray, "batch"]) -> Int[Tensor, "batch lead"]:
        rows = self.rows[last]
        if (rows < 0).any():
            raise IndexError("a day of the record has no weather ahead")
        return torch.from_numpy(rows)


class KnownWeather:
    """Some variables of the next `lead_days` days from the data set itself: a perfect forecast."""

    def __init__(self, variables: tuple[str, ...], lead_days: int):
        self.variables, self.lead_days = variables, lead_days

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "KnownWeather | None":
        """What settings ask for, as a checkpoint holds them; None: nothing of the days ahead."""
        path, asked = settings.get("future_from"), (future_variables(settings), settings["lead_days"])
        if not asked[0]:
            return None
        return WeatherForecasts(*asked, Path(path)) if path else cls(*asked)

    @property
    def maps(self) -> int:
        """Further maps in memory for each day of a record."""
        return len(self.variables)

    def hash(self) -> str:
        """A fingerprint of what is read besides the data set."""
        return ""

    def note(self) -> str:
        """What has to be said wherever scores of such a model stand beside others."""
        return f"knows the {' and '.join(SHORT[name] for name in self.variables)} of the days ahead: {self.source()}"

    def source(self) -> str:
        return BOUND

    def require(self, days: np.ndarray, grid: Grid, name: str) -> None:
        """Raises UserError where the weather ahead of these days is not to be had; `name` is their period's."""

    def ahead(self, ds: xr.Dataset, statistics: Statistics, window: tuple[slice, slice]) -> WeatherMaps:
        """The weather ahead of each day of a data set in memory, which is this window of the whole map."""
        count = len(ds["time"])
        rows = np.arange(count)[:, None] + np.arange(1, self.lead_days + 1)
        follows = _in_a_row(ds["time"].values, self.lead_days)
        maps = {name: ds[name].values for name in self.variables}
        return WeatherMaps.of(maps, np.where(follows[:, None], rows, -1), statistics)


class WeatherForecasts(KnownWeather):
    """The same from a file of forecasts."""

    def __init__(self, variables: tuple[str, ...], lead_days: int, path: Path):
        super().__init__(variables, lead_days)
        self.path = path

    @property
    def maps(self) -> int:
        return len(self.variables) * self.lead_days

    def hash(self) -> str:
        if not self.path.is_file():
            raise UserError(f"{self.path} is no file; make one with: {MADE_BY}, or give another --future-from.")
        try:
            return file_hash(self.path)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {fold(error.strerror or error)}.") from error

    def source(self) -> str:
        with self._opened() as ds:
            error = fold(ds.attrs.get("forecast_error", ""))
        return f"forecasts of {self.path.name}" + (f" ({error})" if error else "")

    def require(self, days: np.ndarray, grid: Grid, name: str) -> None:
        with self._opened() as ds:
            issued, own = _days(ds), grid_of(ds)
        if not own.matches(grid):
            raise UserError(f"{self.path} has {own}, expected those of the data set: {grid}.")
        if len(missing := days[~np.isin(days, issued)]):
            raise UserError(
                f"{self.path} has no forecast from {missing[0]}, nor from {len(missing) - 1} other last input days of "
                f"the {name} period; it has those from {issued[0]} to {issued[-1]}."
            )

    def ahead(self, ds: xr.Dataset, statistics: Statistics, window: tuple[slice, slice]) -> WeatherMaps:
        """Raises UserError for infinities, values outside physical limits, and NaN where soil moisture is scored."""
        days = ds["time"].values.astype("datetime64[D]")
        with self._opened() as file:
            issued = _days(file)
            kept = np.flatnonzero((issued >= days[0]) & (issued <= days[-1]))
            file = file.isel(init_time=kept, lat=window[0], lon=window[1])
            try:
                file = file.sel(lead_time=np.arange(1, self.lead_days + 1)).astype(np.float32).load()
            except Exception as error:  # every layer below raises its own kinds
                raise UserError(f"{self.path} cannot be read to its end, it may be truncated: {fold(error)}") from error
        position = {day: number for number, day in enumerate(issued[kept])}
        init = np.array([position.get(day, -1) for day in days])
        init[~_in_a_row(days, self.lead_days)] = -1
        maps = {}
        for name in self.variables:
            self._check(file[name], init[init >= 0], statistics)
            maps[name] = file[name].values.reshape(-1, *statistics.scored.shape)
        rows = init[:, None] * self.lead_days + np.arange(self.lead_days)
        return WeatherMaps.of(maps, np.where(init[:, None] < 0, -1, rows), statistics)

    def _check(self, values: xr.DataArray, asked: Int[np.ndarray, "init"], statistics: Statistics) -> None:
        for number in range(self.lead_days):
            lead = values.isel(lead_time=number)
            check_values(lead.rename(init_time="time"), self.path)
            for init in asked:
                missing = np.isnan(lead.values[init]) & statistics.scored
                if missing.any():
                    row, column = np.argwhere(missing)[0]
                    raise UserError(
                        f"{self.path}: {values.name} from {_days(values)[init]}, {number + 1} days ahead, is missing "
                        f"in {int(missing.sum())} cells that are scored, the first at {float(lead['lat'][row]):g}° N, "
                        f"{float(lead['lon'][column]):g}° E, expected a value on land."
                    )

    def _opened(self) -> xr.Dataset:
        """The variables, [init_time, lead_time, lat, lon], structure checked and values not yet read."""
        path = self.path
        if not path.is_file():
            raise UserError(f"{path} is no file; make one with: {MADE_BY}, or give another --future-from.")
        try:
            raw = xr.open_dataset(path, decode_cf=False, engine="netcdf4")
            ours = [name for name in (*VARIABLES, *DIMENSIONS) if name in raw.variables]
            units = raw["lead_time"].attrs.get("units") if "lead_time" in raw.variables else None
            ds = xr.decode_cf(raw[ours], decode_timedelta=False)
        except Exception as error:  # every engine raises its own kinds; all mean the same here
            raise UserError(f"{path} cannot be read as NetCDF, it may be damaged: {fold(error)}") from error
        try:
            check_variables(ds, path, self.variables, DIMENSIONS)
            check_axes(ds, path)
            _check_init(ds, path)
            _check_lead(ds, path, units, self.lead_days)
        except BaseException:
            ds.close()
            raise
        return ds[list(self.variables)].transpose(*DIMENSIONS)


def _check_init(ds: xr.Dataset, path: Path) -> None:
    if "init_time" not in ds.coords or ds["init_time"].dtype.kind != "M" or not ds["init_time"].size:
        raise UserError(f"{path} has no init_time with dates, expected the last day known to each forecast.")
    init = ds["init_time"].values
    if np.isnat(init).any() or (init != init.astype("datetime64[D]")).any():
        raise UserError(f"{path}: init_time has values that are no whole days, expected dates.")
    if (np.diff(init) <= np.timedelta64(0)).any():
        raise UserError(f"{path}: init_time is not sorted or has a day twice, expected each day once.")


def _check_lead(ds: xr.Dataset, path: Path, units: str | None, lead_days: int) -> None:
    if "lead_time" not in ds.coords or ds["lead_time"].dtype.kind not in "fiu":
        raise UserError(f"{path} has no lead_time with numbers, expected days after init_time.")
    if fold(units) not in DAYS:
        raise UserError(f"{path}: lead_time is in {fold(units)!r}, expected days.")
    found = ds["lead_time"].values
    if len(np.unique(found)) < len(found):
        raise UserError(f"{path}: lead_time has a value twice, expected each lead once.")
    for lead in range(1, lead_days + 1):
        if lead not in found:
            leads = ", ".join(f"{value:g}" for value in found)
            raise UserError(f"{path} has no lead_time of {lead} days, only {leads}; expected 1 to {lead_days}.")


def _days(ds: xr.Dataset | xr.DataArray) -> np.ndarray:
    return ds["init_time"].values.astype("datetime64[D]")


def _in_a_row(time: np.ndarray, lead_days: int) -> np.ndarray:
    """Which days are followed by this many others without a gap."""
    days, follows = time.astype("datetime64[D]"), np.zeros(len(time), bool)
    if len(days) > lead_days:
        follows[:-lead_days] = days[lead_days:] - days[:-lead_days] == np.timedelta64(lead_days, "D")
    return follows


FUTURE = {"precipitation": "future_precipitation", "soil_temperature": "future_temperature"}  # variable: its setting


PERFECT, FROM_FILE = "_future_", "_forecast_"  # in the names of models that know the weather of the days ahead


def future_variables(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Variables whose days up to the target are seen too, by settings as a checkpoint holds them."""
    return tuple(name for name, setting in FUTURE.items() if values.get(setting))
