"""The weather of the days ahead that a model knows, and where it comes from.

By default a model knows none. `--known-ahead` names predictors, such as precipitation. The model then sees them on each
day after the last input day, up to and including the target day. Each of these maps is one more channel of every input
day. They come from one of two places:

KnownWeather      the later days of the data set itself: perfect forecasts, which give an upper bound of the skill
WeatherForecasts  a NetCDF file of forecasts, [init_time, lead_time, lat, lon] (docs/weather_forecasts.md)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float, Float32, Int
from torch import Tensor

from utils.common.cli import UserError, fold
from utils.common.files import file_hash, refuse_locked
from utils.common.grid import WHOLE, Grid
from utils.dataset.prepared import VARIABLES, check_axes, check_further, check_values, check_variables, grid_of
from utils.dataset.statistics import OUTSIDE, Statistics

DIMENSIONS = ("init_time", "lead_time", "lat", "lon")
DAYS = ("days", "day", "d")  # accepted spellings of the unit of lead_time
BOUND = "perfect forecast, an upper bound"
WeatherKind = Literal["none", "perfect", "degraded"]  # no weather ahead is known; all of it; it with errors
FUTURE = {"precipitation": "future_precipitation", "soil_temperature": "future_temperature"}  # and the flag's alias
PERFECT, FROM_FILE = "_future_", "_forecast_"  # in the names of models that know the weather of the days ahead
SHORT = {"precipitation": "rain", "soil_temperature": "temperature"}  # how the variables are called in notes
MADE_BY = "python data/prepare_weather_forecast.py"


@dataclass(frozen=True, eq=False)
class WeatherMaps:
    """The known weather of later days, beside the days of a record."""

    scaled: dict[str, Float32[Tensor, "map lat lon"]]  # by variable, scaled as it is; OUTSIDE where nothing is scored
    rows: Int[np.ndarray, "time lead"]  # the maps of the days after each day, the next day first; −1: there are none
    statistics: Statistics

    @classmethod
    def from_physical(
        cls, maps: dict[str, Float[np.ndarray, "map lat lon"]], rows: Int[np.ndarray, "time lead"], scale: Statistics
    ) -> "WeatherMaps":
        """From maps in their units; a missing value becomes the cell's mean over the training period."""
        scaled = {}
        for name, values in maps.items():
            number = scale.number(name)
            filled = np.where(np.isfinite(values), values, scale.cell_mean[number])
            inside = (filled - scale.low[number]) / scale.span[number]
            scaled[name] = torch.from_numpy(np.where(scale.scored, inside, np.float32(OUTSIDE)).astype(np.float32))
        return cls(scaled, rows, scale)

    def channels(
        self, last: Int[np.ndarray, "batch"], cells: tuple[slice, slice] = WHOLE
    ) -> Float32[Tensor, "batch map lat lon"]:
        """All scaled maps of the days after these positions in the record: variable by variable, day by day."""
        rows = self._rows(last)
        return torch.cat([maps[(rows, *cells)] for maps in self.scaled.values()], dim=1)

    def maps(self, name: str, last: Int[np.ndarray, "batch"]) -> Float32[Tensor, "batch lead lat lon"]:
        """One variable of the days after these positions in the record, in its unit; 0 in cells that are not scored.

        Finite everywhere. Raises ValueError where this variable is not known.
        """
        if name not in self.scaled:
            raise ValueError(f"the record has no {name} of the days ahead")
        scale = self.statistics
        number = scale.number(name)
        maps = self.scaled[name][self._rows(last)] * float(scale.span[number]) + float(scale.low[number])
        return torch.where(torch.from_numpy(scale.scored), maps, 0)

    def _rows(self, last: Int[np.ndarray, "batch"]) -> Int[Tensor, "batch lead"]:
        rows = self.rows[last]
        if (rows < 0).any():
            raise IndexError("a day of the record has no weather ahead")
        return torch.from_numpy(rows)


class KnownWeather:
    """Some variables of the next `lead_days` days, from the data set itself: perfect forecasts."""

    source = "data set"

    def __init__(self, variables: tuple[str, ...], lead_days: int):
        self.variables, self.lead_days = variables, lead_days

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "KnownWeather | None":
        """The weather that settings ask for, as a checkpoint holds them; None where they ask for none."""
        variables, lead_days = tuple(settings.get("known_ahead", ())), settings["lead_days"]
        path = settings.get("future_from")
        if not variables:
            return None
        if path:
            return WeatherForecasts(variables, lead_days, Path(path))
        return cls(variables, lead_days)

    @property
    def kind(self) -> WeatherKind:
        """Whether the weather ahead is known without error."""
        return "perfect"

    @property
    def maps(self) -> int:
        """How many more maps a day of a record has in memory."""
        return len(self.variables)

    def hash(self) -> str:
        """A fingerprint of what is read besides the data set."""
        return ""

    def note(self) -> str:
        """What is said wherever scores of such a model stand beside those of others."""
        known = " and ".join(SHORT.get(name, name.replace("_", " ")) for name in self.variables)
        return f"knows the {known} of the days ahead: {self._origin()}"

    def _origin(self) -> str:
        return BOUND

    def require(self, days: np.ndarray, grid: Grid, name: str) -> None:
        """Raises UserError where there is no weather for the days after these; `name` is the name of their period."""

    def read(self, ds: xr.Dataset, statistics: Statistics, window: tuple[slice, slice]) -> WeatherMaps:
        """The weather of the days after each day of `ds`, which holds these rows and columns of the whole map."""
        count = len(ds["time"])
        rows = np.arange(count)[:, None] + np.arange(1, self.lead_days + 1)
        follows = _in_a_row(ds["time"].values, self.lead_days)
        maps = {name: ds[name].values for name in self.variables}
        return WeatherMaps.from_physical(maps, np.where(follows[:, None], rows, -1), statistics)


class WeatherForecasts(KnownWeather):
    """The same from a file of forecasts."""

    source = "file"

    def __init__(self, variables: tuple[str, ...], lead_days: int, path: Path):
        super().__init__(variables, lead_days)
        self.path = path

    @property
    def kind(self) -> WeatherKind:
        with self.open() as ds:
            return kind_of_file(ds.attrs)

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

    def _origin(self) -> str:
        with self.open() as ds:
            error = fold(ds.attrs.get("forecast_error", ""))
        return f"forecasts of {self.path.name}" + (f" ({error})" if error else "")

    def require(self, days: np.ndarray, grid: Grid, name: str) -> None:
        with self.open() as ds:
            issued = _days(ds)
        self.check_grid(grid)
        if len(missing := days[~np.isin(days, issued)]):
            raise UserError(
                f"{self.path} has no forecast from {missing[0]}, nor from {len(missing) - 1} other last input days of "
                f"the {name} period; it has those from {issued[0]} to {issued[-1]}."
            )

    def check_grid(self, grid: Grid) -> None:
        """Raises UserError where the file has other cells than these."""
        with self.open() as ds:
            file_grid = grid_of(ds)
        if not file_grid.matches(grid):
            raise UserError(f"{self.path} has {file_grid}, expected those of the data set: {grid}.")

    def read(self, ds: xr.Dataset, statistics: Statistics, window: tuple[slice, slice]) -> WeatherMaps:
        """Raises UserError for infinities, values outside physical limits, and NaN where soil moisture is scored."""
        days = ds["time"].values.astype("datetime64[D]")
        with self.open() as file:
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
        return WeatherMaps.from_physical(maps, np.where(init[:, None] < 0, -1, rows), statistics)

    def _check(self, values: xr.DataArray, inits: Int[np.ndarray, "init"], statistics: Statistics) -> None:
        """`inits` are the positions of the forecasts that are used."""
        for number in range(self.lead_days):
            lead = values.isel(lead_time=number)
            check_values(lead.rename(init_time="time"), self.path)
            for init in inits:
                missing = np.isnan(lead.values[init]) & statistics.scored
                if missing.any():
                    row, column = np.argwhere(missing)[0]
                    raise UserError(
                        f"{self.path}: {values.name} from {_days(values)[init]}, {number + 1} days ahead, is missing "
                        f"in {int(missing.sum())} cells that are scored, the first at {float(lead['lat'][row]):g}° N, "
                        f"{float(lead['lon'][column]):g}° E, expected a value on land."
                    )

    def open(self) -> xr.Dataset:
        """The variables, [init_time, lead_time, lat, lon], structure checked and values not yet read.

        Raises UserError where the file cannot be read, or its structure is not as expected.
        """
        path = self.path
        if not path.is_file():
            raise UserError(f"{path} is no file; make one with: {MADE_BY}, or give another --future-from.")
        try:
            raw = xr.open_dataset(path, decode_cf=False, engine="netcdf4")
            ours = [name for name in (*self.variables, *DIMENSIONS) if name in raw.variables]
            units = raw["lead_time"].attrs.get("units") if "lead_time" in raw.variables else None
            ds = xr.decode_cf(raw[ours], decode_timedelta=False)
        except Exception as error:  # every engine raises its own kinds; all mean the same here
            refuse_locked(path)
            raise UserError(f"{path} cannot be read as NetCDF, it may be damaged: {fold(error)}") from error
        try:
            further = [name for name in self.variables if name not in VARIABLES]
            check_variables(ds, path, [name for name in self.variables if name in VARIABLES], DIMENSIONS)
            there = [name for name in raw.data_vars if raw[name].dims]
            check_further(ds, path, further, DIMENSIONS, "--known-ahead", there)
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
    values = ds["lead_time"].values
    if len(np.unique(values)) < len(values):
        raise UserError(f"{path}: lead_time has a value twice, expected each lead once.")
    for lead in range(1, lead_days + 1):
        if lead not in values:
            leads = ", ".join(f"{value:g}" for value in values)
            raise UserError(f"{path} has no lead_time of {lead} days, only {leads}; expected 1 to {lead_days}.")


def _days(ds: xr.Dataset | xr.DataArray) -> np.ndarray:
    return ds["init_time"].values.astype("datetime64[D]")


def _in_a_row(time: np.ndarray, lead_days: int) -> np.ndarray:
    """Which days are followed by this many others without a gap."""
    days, follows = time.astype("datetime64[D]"), np.zeros(len(time), bool)
    if len(days) > lead_days:
        follows[:-lead_days] = days[lead_days:] - days[:-lead_days] == np.timedelta64(lead_days, "D")
    return follows


def kind_of_file(attributes: Mapping[str, Any]) -> WeatherKind:
    """What a file of forecasts holds, by its global attributes.

    data/make_forecasts.py writes `forecast_error`; it is BOUND where the forecasts are what came true.
    """
    return "perfect" if attributes.get("forecast_error") == BOUND else "degraded"


def kind_of_run(attributes: Mapping[str, Any]) -> WeatherKind:
    """What a run knew of the weather ahead, by the attributes of its predictions.nc.

    Files of earlier versions have no `weather_kind`, and say it only in the note `future`.
    """
    if "weather_kind" in attributes:
        return attributes["weather_kind"]
    note = attributes.get("future", "")
    if not note:
        return "none"
    return "perfect" if BOUND in note else "degraded"
