"""A file as fields [time, lat, lon]: NetCDF or Zarr on a latitude–longitude grid, or the CSV of one site."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from utils.common.cli import UserError, fold
from utils.common.files import refuse_locked
from utils.dataset.prepared import check_axes
from utils.dataset.recognise import columns_of, refuse_foreign, refuse_smap

AXES = {
    "time": ("time", "valid_time", "date", "datetime", "day"),
    "lat": ("lat", "latitude", "y"),
    "lon": ("lon", "longitude", "x"),
}
FILL = -9998.0  # a value below it is missing, whatever the attributes say: no quantity of ours reaches it
MISSING = ["-9999", "-9999.0", "-999", "-999.0"]  # in a CSV
APPEEARS = re.compile(r"^SPL\w+?_\d{3}_(Geophysical_Data_)?")  # before a column's name: product and version
GRANULE = re.compile(r"SPL4SMGP_\d{3}_.*_[0-7]")  # of the eight of a day
POINT = r"\"Point\".*?\[(?P<lon>[-\d.eE]+), *(?P<lat>[-\d.eE]+)\]"  # in Earth Engine's column .geo
MILLISECONDS = 1e10  # a number of a date above it counts them since 1970; below it are numbers such as 20150331
HEADING = re.compile(r"^(?P<name>[^\[(]+?)\s*[\[(](?P<units>[^\])]+)[\])]$")  # of a column: sm (m3 m-3)


def open_file(path: Path, site: tuple[float, float] | None) -> xr.Dataset:
    """All variables of a file that have a time, on the axes time, lat, lon; values are read later.

    `site` is the latitude and longitude of a CSV that does not hold them. Raises UserError for what is no such file.
    """
    if columns_of(path):
        return _read_table(path, site)
    try:
        options = {"engine": "zarr", "consolidated": None} if path.is_dir() else {"engine": "netcdf4"}
        ds = xr.open_dataset(path, decode_timedelta=False, **options)
    except Exception as error:  # every engine raises its own kinds
        refuse_locked(path)
        refuse_foreign(path)
        raise UserError(f"{path} cannot be read: {fold(error)[:150]}.") from error
    try:
        refuse_smap(path)
        return _on_axes(ds, path)
    except BaseException:
        ds.close()
        raise


def check_field(ds: xr.Dataset, name: str, path: Path) -> None:
    """Raises UserError where a variable is missing or is no field [time, lat, lon] on cells in degrees."""
    if name not in ds:
        there = ", ".join(map(str, ds.data_vars)) or "no field with a time"
        raise UserError(f"{path} has no variable {name}, found {there}.")
    further = [str(axis) for axis in ds[name].dims if axis not in AXES]
    if further:
        raise UserError(f"{path}: {name} has the further dimension {further[0]}; choose one of its values first.")
    if ds[name].dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} has values of type {ds[name].dtype}, expected numbers.")
    if missing := [axis for axis in AXES if axis not in ds[name].dims]:
        raise UserError(f"{path}: {name} has no axis of {' and '.join(missing)}, expected time, lat and lon.")
    check_axes(ds, path)
    about = " ".join(str(value) for value in ds[name].attrs.values()).lower()
    if "saturation" in about:
        raise UserError(f"{path}: {name} is a degree of saturation; multiply it by the porosity of the soil first.")


def read_values(ds: xr.Dataset, name: str, steps: slice, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some time steps of a field as float64 [time, lat, lon]; NaN where missing."""
    field = ds[name].transpose(*AXES).isel(time=steps, lat=rows, lon=columns)
    values = field.values.astype(np.float64)
    return np.where(values > FILL, values, np.nan)


def _on_axes(ds: xr.Dataset, path: Path) -> xr.Dataset:
    """The variables with a time, on axes of our names; lone values of latitude and longitude become an axis."""
    for axis, names in AXES.items():
        present = [name for name in ds.variables if str(name).lower() in names]
        if axis not in ds.variables and present:
            first = min(present, key=lambda name: names.index(str(name).lower()))
            ds = ds.rename({first: axis})
    if "time" not in ds.variables or ds["time"].dtype.kind != "M":
        kind = f"time of type {ds['time'].dtype}" if "time" in ds.variables else "no time"
        raise UserError(f"{path} has {kind}, expected dates with CF units in the standard calendar.")
    _refuse_local_days(ds, path)
    for axis in AXES:
        if axis not in ds.variables:
            raise UserError(f"{path} has no {axis}, expected time, lat and lon.")
        if ds[axis].ndim > 1:
            raise UserError(f"{path}: {axis} varies along {' and '.join(map(str, ds[axis].dims))}; regrid it first.")
        if ds[axis].ndim == 0:
            ds = ds.expand_dims(axis) if axis == "time" else ds.set_coords(axis).expand_dims(axis)
    ds = ds.set_coords(list(AXES))
    lone = [axis for axis, size in ds.sizes.items() if axis not in AXES and size == 1]
    ds = ds.squeeze(lone, drop=True).drop_vars("expver", errors="ignore")
    return ds[[name for name in ds.data_vars if "time" in ds[name].dims]]


def _refuse_local_days(ds: xr.Dataset, path: Path) -> None:
    """Raises UserError where the Climate Data Store has made days of local time."""
    for attributes in (ds.attrs, *(variable.attrs for variable in ds.variables.values())):
        shift = str(attributes.get("time_shift", "0"))
        if re.search("[1-9]", shift):
            raise UserError(f"{path} has days of local time (time_shift {shift}), expected days of UTC.")


def _read_table(path: Path, site: tuple[float, float] | None) -> xr.Dataset:
    """The numeric columns of the CSV of one site. A heading may hold the unit: sm (m3 m-3)."""
    table = pd.read_csv(path, sep=None, engine="python", na_values=MISSING, comment="#", skipinitialspace=True)
    names = [str(name).strip() for name in table.columns]
    if numbered := next((name for name in names if GRANULE.fullmatch(name)), None):
        raise UserError(f"{path}: {numbered} is of one time of the day alone; ask AppEEARS for an area as NetCDF-4.")
    table.columns = [APPEEARS.sub("", name) for name in names]
    places = _take_point(table)
    for axis in ("lat", "lon"):
        column = next((name for name in table.columns if name.lower() in AXES[axis]), None)
        if column is not None:
            places[axis] = table.pop(column).dropna().unique()
    if any(len(values) > 1 for values in places.values()):
        raise UserError(f"{path} is a CSV table of many places, expected one site; get a grid as NetCDF.")
    if len(places) == 2:
        site = (float(places["lat"][0]), float(places["lon"][0]))
    if site is None:
        raise UserError(f"{path} does not say where its site is; give --site LATITUDE LONGITUDE.")
    days, stamps = _find_dates(table, path)
    fields = {}
    for name in table.columns.drop(days):
        if table[name].dtype.kind in "fiu" and name not in AXES:
            heading = HEADING.match(name)
            attributes = {"units": heading["units"]} if heading else {}
            values = table[name].to_numpy(float)[:, None, None]
            fields[heading["name"] if heading else name] = (tuple(AXES), values, attributes)
    return xr.Dataset(fields, {"time": stamps.to_numpy(), "lat": [site[0]], "lon": [site[1]]})


def _take_point(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The places in Earth Engine's column of geometries, which is taken out; empty where there are none."""
    if ".geo" not in table:
        return {}
    points = table.pop(".geo").astype(str).str.extract(POINT).dropna().astype(float)
    return {axis: points[axis].unique() for axis in ("lat", "lon")} if len(points) else {}


def _find_dates(table: pd.DataFrame, path: Path) -> tuple[str, pd.Series]:
    """The first column of dates, and the dates. Raises UserError where there is none, or where some are no dates."""
    for name in table.columns:
        stamps = _read_dates(table[name])
        if stamps.notna().any():
            if stamps.isna().any():
                row = int(stamps.isna().to_numpy().argmax())
                raise UserError(f"{path}: {name} has {table[name].iloc[row]!r} in row {row + 2}, expected a date.")
            return name, stamps
    raise UserError(f"{path} has no column of dates such as 2015-03-31.")


def _read_dates(column: pd.Series) -> pd.Series:
    """The dates of a column, NaT for what is none: 2015-03-31, 20150331_0130, or Earth Engine's milliseconds."""
    if column.dtype.kind in "fiu":
        if str(column.name).lower() not in (*AXES["time"], "system:index"):
            return pd.Series(pd.NaT, column.index)
        if column.abs().max() > MILLISECONDS:
            return pd.to_datetime(column, errors="coerce", unit="ms")
        column = column.round().astype("Int64")
    text = column.astype(str).str.replace(r"^(\d{4})_?(\d\d)_?(\d\d)", r"\1-\2-\3", regex=True)
    text = text.str.replace(r"^(\d{4}-\d\d-\d\d)_(\d\d)(\d\d)(\d\d)?$", r"\1T\2:\3", regex=True)
    return pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
