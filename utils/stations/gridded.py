"""Maps at the places of stations: a forecast with its lead times, a run's predictions, or a prepared data set.

Whatever the file, what comes of it are tables of valid days and places, one for each lead time and series. Series are
named FORECAST, PERSISTENCE and DATA_SET: the soil moisture that the forecasts were learned from.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.common.periods import Span
from utils.common.places import cell_at
from utils.dataset.prepared import SYNTHETIC, check_axes, check_values, check_variables, days_of, grid_of, label_of

FORECAST, PERSISTENCE, DATA_SET = "forecast", "persistence", "data set"
Places = Sequence[tuple[float, float]]  # latitude and longitude
Tables = dict[str, pd.DataFrame]  # by series: a row a valid day, a column a place, m3 m-3


def open_maps(path: Path) -> xr.Dataset:
    """A file with maps of soil moisture; values are not read yet.

    Raises UserError for a file that cannot be read, and for one that is none of the three kinds or has another unit.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a forecast, predictions.nc of a run, or a data set.")
    try:
        options = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
        ds = xr.open_dataset(path, decode_timedelta=False, **options)
    except Exception as error:  # every engine raises its own kinds; all mean the same here
        raise UserError(f"{path} cannot be read as NetCDF or Zarr, it may be damaged: {fold(error)}") from error
    try:
        check_axes(ds, path)
        if "lead_time" in ds.dims and "input_age" not in ds:
            raise UserError(f"{path} has lead times but no input_age: it is no file of forecast.py.")
        if "predicted" in ds and not {"persistence", "observed"} <= set(ds.variables):
            raise UserError(f"{path} has predicted, but no persistence or observed: it is no predictions.nc of a run.")
        if "lead_time" in ds.dims:
            dims = ds["soil_moisture"].dims if "soil_moisture" in ds else ()
            check_variables(ds, path, names=["soil_moisture"], dims=dims)
        elif "predicted" not in ds:
            check_variables(ds, path, names=["soil_moisture"])
            ds = ds.assign_coords(time=days_of(ds, path))
    except BaseException:
        ds.close()
        raise
    return ds


def find_label(paths: Iterable[Path]) -> str:
    """What titles say of these files: that one of them is synthetic, or else the label of the first."""
    labels = []
    for path in paths:
        with open_maps(path) as ds:
            labels.append(label_of(ds.attrs))
    return SYNTHETIC if SYNTHETIC in labels else labels[0]


def valid_period(ds: xr.Dataset) -> Span:
    """The first and the last day that the maps are of."""
    days = _valid_time(ds) if "lead_time" in ds.dims else ds["time"].values
    return days.min().astype("datetime64[D]"), days.max().astype("datetime64[D]")


def read_tables(ds: xr.Dataset, path: Path, places: Places, data: Path | None = None) -> dict[int, Tables]:
    """The series at these places by lead time, days; 0 for a data set.

    `data` is the data set that a forecast started from: it adds DATA_SET and PERSISTENCE. Raises UserError where it is
    given for another kind of file.
    """
    if "lead_time" in ds.dims:
        return _read_forecast(ds, places, data)
    if data:
        raise UserError(f"--data goes with a file of forecast.py; {path} holds the observations itself.")
    if "predicted" not in ds:
        return {0: {DATA_SET: _read_days(ds["soil_moisture"], places, path)}}
    names = {FORECAST: "predicted", PERSISTENCE: "persistence", DATA_SET: "observed"}
    tables = {series: _read_days(ds[name], places) for series, name in names.items()}
    return {int(ds.attrs["lead_days"]): tables}


def read_data_set(path: Path, places: Places) -> pd.DataFrame:
    """The soil moisture of a data set at these places, by day."""
    with open_maps(path) as ds:
        if "lead_time" in ds.dims or "predicted" in ds:
            raise UserError(f"{path} holds forecasts, expected a data set with soil_moisture by time, lat and lon.")
        return _read_days(ds["soil_moisture"], places, path)


def _valid_time(ds: xr.Dataset) -> np.ndarray:
    """Days that are forecast, [init, lead]."""
    inits = np.atleast_1d(ds["init_time"].values).astype("datetime64[D]")
    return inits[:, None] + ds["lead_time"].values.astype(int)


def _read_forecast(ds: xr.Dataset, places: Places, data: Path | None) -> dict[int, Tables]:
    if "init_time" not in ds.dims:
        ds = ds.expand_dims("init_time")
    forecast = _pick(ds["soil_moisture"].transpose("init_time", "lead_time", "lat", "lon"), places)
    valid = _valid_time(ds)
    tables: dict[int, Tables] = {}
    for number, lead in enumerate(ds["lead_time"].values.astype(int)):
        tables[int(lead)] = {FORECAST: _table(forecast[:, number], valid[:, number])}
    if data:
        observed = read_data_set(data, places)
        age = _pick(ds["input_age"].transpose("init_time", "lat", "lon"), places)
        last = _last_observed(observed, ds["init_time"].values, age)
        for number, of_lead in enumerate(tables.values()):
            of_lead[PERSISTENCE] = _table(last, valid[:, number])
            of_lead[DATA_SET] = observed
    return tables


def _last_observed(
    observed: pd.DataFrame, inits: np.ndarray, age: Float[np.ndarray, "init place"]
) -> Float[np.ndarray, "init place"]:
    """What persistence forecasts: the observation `age` days before each init; NaN where there is none."""
    values = np.full(age.shape, np.nan)
    for column in range(age.shape[1]):
        known = np.isfinite(age[:, column])
        days = inits[known].astype("datetime64[D]") - age[known, column].astype(int)
        values[known, column] = observed.iloc[:, column].reindex(pd.DatetimeIndex(days).as_unit("ns"))
    return values


def _read_days(maps: xr.DataArray, places: Places, path: Path | None = None) -> pd.DataFrame:
    """A table of maps [time, lat, lon]; values of a given `path` are checked."""
    return _table(_pick(maps.transpose("time", "lat", "lon"), places, path), maps["time"].values)


def _table(values: Float[np.ndarray, "time place"], days: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.DatetimeIndex(days.astype("datetime64[ns]")))


def _pick(maps: xr.DataArray, places: Places, path: Path | None = None) -> Float[np.ndarray, "*day place"]:
    """The values of the cells in which the places lie, NaN for places outside. Only their rows and columns are read."""
    grid = grid_of(maps.to_dataset(name="maps"))
    cells = [cell_at(grid, lat, lon) for lat, lon in places]
    inside = np.array([cell is not None for cell in cells])
    values = np.full((*maps.shape[:-2], len(places)), np.nan)
    if inside.any():
        rows, columns = np.array([cell for cell in cells if cell is not None]).T
        rows, at_row = np.unique(rows, return_inverse=True)
        columns, at_column = np.unique(columns, return_inverse=True)
        box = maps.isel(lat=rows, lon=columns).load()
        if path:
            check_values(box, path)
        values[..., inside] = box.values[..., at_row, at_column]
    return values
