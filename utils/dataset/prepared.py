"""The format of a prepared data set: one NetCDF-4 file or Zarr store of daily maps on a latitude–longitude grid.

data/README.md describes it for users. Reading refuses whatever it cannot be sure of, with one sentence that names the
file, the variable, what was found and what is expected. Writing adds full CF metadata.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from utils.common.cli import UserError, fold
from utils.common.files import refuse_locked, whole_file
from utils.common.georeference import georeference
from utils.common.grid import WHOLE, Grid
from utils.dataset.recognise import describe_missing, refuse_foreign


@dataclass(frozen=True)
class Variable:
    """What a variable must look like when it is read, and how it is described when it is written."""

    units: str  # as written
    accepted: tuple[str, ...]  # other spellings of the same unit that are read
    limits: tuple[float, float]  # physically possible values
    attributes: dict[str, str]  # CF

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.units, *self.accepted)


# Their order is the order of the channels in a model's input. Every data set must contain all of them, so each product
# must supply them too (CONTRIBUTING.md lists the places).
VARIABLES = {
    "precipitation": Variable(
        "mm day-1",
        ("mm/day", "mm d-1", "mm/d", "mm day**-1", "mm d**-1", "kg m-2 day-1", "kg m-2 d-1", "kg m**-2 day**-1"),
        (0.0, 2000.0),
        {
            "standard_name": "lwe_precipitation_rate",
            "long_name": "total precipitation of the UTC day",
            "cell_methods": "time: mean",
        },
    ),
    "soil_moisture": Variable(
        "m3 m-3",
        ("m**3 m**-3", "m^3 m^-3", "m3/m3", "m3 m^-3", "m^3/m^3", "cm3 cm-3", "cm**3 cm**-3", "cm3/cm3"),
        (0.0, 1.0),
        {
            "standard_name": "volume_fraction_of_condensed_water_in_soil",
            "long_name": "volumetric soil moisture of the surface layer, daily mean",
            "cell_methods": "time: mean",
        },
    ),
    "soil_temperature": Variable(
        "K",
        ("kelvin", "Kelvin", "degK", "degrees_K"),
        (170.0, 350.0),
        {
            "standard_name": "soil_temperature",
            "long_name": "soil temperature of the surface layer, daily mean",
            "cell_methods": "time: mean",
            "units_metadata": "temperature: on_scale",
        },
    ),
}
AXES = {
    "time": {"standard_name": "time", "axis": "T", "units_metadata": "leap_seconds: none"},
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
}
DAYS_ENCODING = {"units": "days since 2000-01-01", "calendar": "standard", "dtype": "int32", "_FillValue": None}
PACKING_NOISE = -0.01  # m3 m-3: int16 packing makes 0 a little negative, down to here; such values become 0
SYNTHETIC = "SYNTHETIC sample"  # the label of a data set whose attribute `synthetic` is true
DIMENSIONS = ("time", "lat", "lon")


@dataclass(frozen=True)
class VariableNames:
    """The variables of a data set that are read: those of each day, of which VARIABLES come first, and static maps."""

    daily: tuple[str, ...] = tuple(VARIABLES)
    static: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.daily, *self.static)


THREE = VariableNames()


def open_prepared(path: Path, made_by: str = "", variables: VariableNames = THREE) -> xr.Dataset:
    """These variables of a data set, [time, lat, lon] or [lat, lon]. Their structure is checked; no value is read yet.

    Time stamps become midnight UTC. `made_by` is the command that makes the file: the error names it where the file is
    missing. Raises UserError where the file cannot be read, or a variable, a unit or an axis is not as expected.
    """
    path = Path(path)
    if not path.exists():
        hint = f"; make it with: {made_by}" if made_by else "; give another path with --data"
        raise UserError(f"{path} does not exist{hint}.")
    try:
        options = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
        raw = xr.open_dataset(path, decode_cf=False, **options)
        ours = [name for name in (*variables.all, *DIMENSIONS) if name in raw.variables]
        ds = xr.decode_cf(raw[ours], decode_timedelta=False)  # other variables need not be decodable
    except Exception as error:  # every engine raises its own kinds; all mean the same here
        refuse_locked(path)
        refuse_foreign(path)
        raise UserError(f"{path} cannot be read as NetCDF or Zarr, it may be damaged: {fold(error)}") from error
    try:
        _refuse_missing(raw, path)
        check_variables(ds, path)
        there = [name for name in raw.variables if name not in DIMENSIONS and raw[name].dims]
        check_further(ds, path, variables.daily[len(VARIABLES) :], DIMENSIONS, "--predictors", there)
        check_further(ds, path, variables.static, DIMENSIONS[1:], "--static", there)
        check_axes(ds, path)
        ds = ds[list(variables.all)].transpose(*DIMENSIONS, missing_dims="ignore")
        return ds.assign_coords(time=days_of(ds, path))
    except BaseException:
        ds.close()
        raise


def _refuse_missing(raw: xr.Dataset, path: Path) -> None:
    """Raises UserError where a variable is missing: it says what the file is, or what it holds instead."""
    missing = [name for name in VARIABLES if name not in raw.variables]
    if not missing:
        return
    refuse_foreign(path)
    held = [name for name in raw.data_vars if raw[name].dims]
    raise UserError(f"{path}: the variable {missing[0]} is missing, {describe_missing(path, held)}.")


def read_prepared(
    path: Path,
    start: np.datetime64 | None = None,
    made_by: str = "",
    window: tuple[slice, slice] = WHOLE,
    copy_of: Path | None = None,
    end: np.datetime64 | None = None,
    variables: VariableNames = THREE,
) -> xr.Dataset:
    """The values from day `start` to day `end` in memory, float32, with packing noise set to 0.

    `window` is the range of rows and columns to read. Errors in a copy name the data set that it is a copy of. Raises
    UserError as `open_prepared` does, for infinities and for values outside physical limits. A variable without any
    value is an error where the whole map is read.
    """
    with open_prepared(path, made_by, variables) as ds:
        if start is not None:
            ds = ds.isel(time=ds["time"].values >= start)
        if end is not None:
            ds = ds.isel(time=ds["time"].values <= end)
        try:
            ds = ds.isel(lat=window[0], lon=window[1]).astype(np.float32).load()
        except Exception as error:
            raise unreadable(path, error) from error
    for name in variables.all:
        check_values(ds[name], copy_of or path)
        if window == WHOLE and not np.isfinite(ds[name].values).any():
            raise no_value(path, name)
    moisture = ds["soil_moisture"].values
    np.copyto(moisture, 0, where=moisture < 0)
    return ds


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file whose structure is right and whose values cannot be read."""
    return UserError(f"{path} cannot be read to its end, it may be truncated: {fold(error)}")


def no_value(path: Path, name: str) -> UserError:
    """The error for a variable without any value."""
    return UserError(f"{path}: {name} has no valid value at all.")


def grid_of(ds: xr.Dataset) -> Grid:
    """The cell centres of a data set, in its own order, degrees."""
    return Grid(ds["lat"].values.astype(np.float64), ds["lon"].values.astype(np.float64))


def is_synthetic(ds: xr.Dataset) -> bool:
    """Whether the data set says that it is synthetic (global attribute `synthetic`)."""
    return label_of(ds.attrs) == SYNTHETIC


def label_of(attributes: Mapping[str, Any]) -> str:
    """What titles say in brackets of a file's data: that they are synthetic, or its attribute `label` or `product`."""
    if str(attributes.get("synthetic", "false")).lower() in ("true", "yes", "1"):
        return SYNTHETIC
    return str(attributes.get("label") or attributes.get("product") or "")


def in_brackets(label: str) -> str:
    """The label as the end of a title; nothing where there is none."""
    return f" ({label})" if label else ""


def write_prepared(ds: xr.Dataset, path: Path) -> None:
    """Write the VARIABLES that `ds` has, and any others, with CF metadata. The file appears whole or not at all.

    A `path` that ends in .zarr makes a Zarr store, any other path NetCDF-4. `ds` brings time, lat, lon and its own
    global attributes (title, source, history, …).
    """
    ds = ds.transpose("time", "lat", "lon", ...).copy()
    ours = {name: variable for name, variable in VARIABLES.items() if name in ds}
    for name, variable in ours.items():
        ds[name] = ds[name].astype(np.float32)
        ds[name].attrs = {"units": variable.units, **variable.attributes, **ds[name].attrs}
    for name, attributes in AXES.items():
        ds[name].attrs.update(attributes)
    ds.attrs = {"Conventions": "CF-1.11", **ds.attrs}
    ds = georeference(ds)
    encoding = {name: {"_FillValue": None} for name in ("lat", "lon")} | {"time": DAYS_ENCODING}
    zarr = path.suffix == ".zarr"
    if not zarr:
        maps = [name for name in ds.data_vars if {"lat", "lon"} <= set(ds[name].dims)]
        encoding |= {name: {"zlib": True, "complevel": 1, "shuffle": True} for name in maps}
    with whole_file(path) as partial:
        if zarr:
            ds.to_zarr(partial, mode="w", encoding=encoding, consolidated=False)
        else:
            ds.to_netcdf(partial, engine="netcdf4", encoding=encoding)


def check_variables(
    ds: xr.Dataset, path: Path, names: Iterable[str] = tuple(VARIABLES), dims: tuple[str, ...] = ("time", "lat", "lon")
) -> None:
    """Raises UserError where one of these variables is missing or has unexpected values, dimensions or units."""
    for name in names:
        variable = VARIABLES[name]
        if name in ds and ds[name].dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} has values of type {ds[name].dtype}, expected numbers.")
        if name not in ds:
            raise UserError(f"{path}: the variable {name} is missing, found {_listed(ds.data_vars)}.")
        if set(ds[name].dims) != set(dims):
            raise UserError(f"{path}: {name} has the dimensions {_listed(ds[name].dims)}, expected {_listed(dims)}.")
        units = ds[name].attrs.get("units")
        expected = f"expected {variable.units} (also read: {', '.join(variable.accepted)})"
        if units is None:
            raise UserError(f"{path}: {name} has no units attribute, {expected}.")
        if fold(units) not in variable.spellings:
            raise UserError(f"{path}: {name} is in {fold(units)!r}, {expected}.")


def check_further(
    ds: xr.Dataset, path: Path, names: Iterable[str], dims: tuple[str, ...], flag: str, there: list[str]
) -> None:
    """Raises UserError where one of these further variables is missing or has unexpected values or dimensions.

    The error names the `flag` that asks for it, and what is `there` in the file.
    """
    for name in names:
        if name not in ds:
            raise UserError(f"{path}: {name}, which {flag} asks for, is missing; found {_listed(there)}.")
        if ds[name].dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} has values of type {ds[name].dtype}, expected numbers.")
        if set(ds[name].dims) != set(dims):
            found = _listed(ds[name].dims)
            raise UserError(f"{path}: {name} has the dimensions {found}, expected {_listed(dims)} for {flag}.")


def check_axes(ds: xr.Dataset, path: Path) -> None:
    """Raises UserError where lat or lon are not sorted cell centres in degrees."""
    for name, low, high in (("lat", -90, 90), ("lon", -180, 360)):
        if name not in ds.coords:
            raise UserError(f"{path}: the coordinate {name} is missing, expected cell centres in degrees.")
        values = ds[name].values
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise UserError(f"{path}: {name} has values that are no finite numbers, expected degrees.")
        if values.size and (values.min() < low or values.max() > high):
            raise UserError(
                f"{path}: {name} runs from {values.min():g} to {values.max():g}, expected {low} to {high} degrees."
            )
        steps = np.diff(values)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise UserError(f"{path}: {name} neither ascends nor descends throughout, expected sorted cell centres.")


def days_of(ds: xr.Dataset, path: Path) -> np.ndarray:
    """The time axis as midnights, datetime64[ns]. Raises UserError where it does not have each day once, in order."""
    if "time" not in ds.coords or ds["time"].dtype.kind != "M":
        kind = "no time coordinate" if "time" not in ds.coords else f"time of type {ds['time'].dtype}"
        raise UserError(f"{path} has {kind}, expected dates with CF units in the standard calendar.")
    time = ds["time"].values
    if not time.size:
        raise UserError(f"{path}: time is empty, expected daily values.")
    if np.isnat(time).any():
        raise UserError(f"{path}: time has {int(np.isnat(time).sum())} missing values, expected a date for every step.")
    steps = np.diff(time)
    if (steps < np.timedelta64(0)).any():
        first = int(np.argmax(steps < np.timedelta64(0)))
        raise UserError(f"{path}: time is not sorted, {_date(time[first + 1])} follows {_date(time[first])}.")
    days = time.astype("datetime64[D]")
    same_day = np.diff(days) == np.timedelta64(0, "D")
    if same_day.any():
        first = int(np.argmax(same_day))
        if steps[first] == np.timedelta64(0):
            raise UserError(f"{path}: time has the day {_date(time[first])} twice, expected each day once.")
        hours = steps[first] / np.timedelta64(1, "h")
        raise UserError(f"{path}: time has steps of {hours:g} hours on {_date(time[first])}, expected one a day.")
    hours = steps / np.timedelta64(1, "h")
    if (hours % 24 != 0).any():
        first = int(np.argmax(hours % 24 != 0))
        step, day = hours[first], _date(time[first])
        raise UserError(f"{path}: time has a step of {step:g} hours on {day}, expected whole days.")
    return days.astype("datetime64[ns]")


def check_values(values: xr.DataArray, path: Path) -> None:
    """Raises UserError for infinities, and in VARIABLES, [time, lat, lon], for values outside physical limits."""
    name, data = values.name, values.values
    if name not in VARIABLES:
        if count := int(np.isinf(data).sum()):
            raise UserError(f"{path}: {name} has {count} infinite values, expected numbers (missing values are NaN).")
        return
    limits = VARIABLES[name].limits
    low = PACKING_NOISE if name == "soil_moisture" else limits[0]
    if np.isinf(data).any() and not np.isfinite(data).any():
        raise UserError(f"{path}: {name} has infinite values only.")
    for bad, what in ((np.isinf(data), "infinite"), ((data < low) | (data > limits[1]), "outside physical limits")):
        if bad.any():
            day, row, column = np.argwhere(bad)[0]
            raise UserError(
                f"{path}: {name} has {int(bad.sum())} values that are {what}, the first {data[day, row, column]:g} on "
                f"{_date(values['time'].values[day])} at {values['lat'].values[row]:g}° N, "
                f"{values['lon'].values[column]:g}° E, expected {limits[0]:g} to {limits[1]:g} "
                f"{VARIABLES[name].units} (missing values are NaN)."
            )


def _date(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))


def _listed(names) -> str:
    return ", ".join(map(str, names)) or "none"
