"""NetCDF files of the Climate Data Store, old and new: where their planes are, and how they are read.

expver may be a scalar, a string at each time, or a dimension.
"""

import functools
import warnings
from itertools import pairwise
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
import scipy.io
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.products import HOUR
from utils.products.archives import Unreadable
from utils.products.era5.part import RAW, Part, check_units, rank_of
from utils.products.raw_files import RawFile, explain

_TIME_DIMENSIONS = ("time", "valid_time", "forecast_reference_time", "date", "step", "expver")
_STEP_UNITS = {"hours": "h", "days": "D", "minutes": "m", "seconds": "s", "nanoseconds": "ns"}
# SciPy says so of every damaged file, whose memory map it is used to look for
warnings.filterwarnings("ignore", "Cannot close a netcdf_file", RuntimeWarning)


# ----------------------------------------------------------------------------------------------------- scanning


def scan(file: RawFile) -> list[Part]:
    """The parts of the wanted variables in a file; values are not read.

    Raises Unreadable for a damaged file, UserError for one that is in order but not what is expected.
    """
    if file.kind == "netcdf3":
        _refuse_truncated_netcdf3(file.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what xarray warns of is refused below, or does not matter here
        with _open(file) as ds:
            wanted = {name: _which_variable(ds[name]) for name in ds.variables}
            parts = [_scan_variable(file, ds, name, variable) for name, variable in wanted.items() if variable]
            if parts:
                _refuse_shifted_days(file, ds)
            return parts


def held_variables(file: RawFile) -> list[str]:
    """The names of the variables of a file that is in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _open(file) as ds:
            return [str(name) for name in ds.data_vars]


def _refuse_shifted_days(file: RawFile, ds: xr.Dataset) -> None:
    """Raises UserError for daily statistics of days that do not begin at 00 UTC (attribute `time_shift`)."""
    described = [ds.attrs, *(variable.attrs for variable in ds.variables.values())]
    for shift in (attrs["time_shift"] for attrs in described if "time_shift" in attrs):
        try:
            hours = pd.Timedelta(str(shift)) / pd.Timedelta("1h")
        except ValueError:
            hours = np.nan
        if hours != 0:
            raise UserError(
                f"{file.name} holds statistics of local days (time_shift {fold(shift)}), expected days that begin at "
                "00 UTC; choose the time zone UTC+00:00 when you download it."
            )


def _open(file: RawFile) -> xr.Dataset:
    try:
        return xr.open_dataset(
            file.path,
            engine="netcdf4",
            mask_and_scale=False,
            decode_timedelta=False,
            decode_coords="all",
            cache=False,
        )
    except Exception as error:  # the engine raises its own kinds
        raise explain(file, error) from error


def _which_variable(variable: xr.DataArray) -> str | None:
    """Which of RAW a variable of a file is, by its name or by the GRIB number or long name it carries along."""
    attrs = variable.attrs
    for key, raw in RAW.items():
        if str(variable.name).lower() in raw.names or attrs.get("GRIB_paramId") == raw.param:
            return key
        long_name = str(attrs.get("long_name", "")).lower().replace(" ", "_")
        if long_name in raw.names and variable.ndim >= 2:
            return key
    return None


def _scan_variable(file: RawFile, ds: xr.Dataset, name: str, key: str) -> Part:
    variable = ds[name]
    check_units(file, key, variable.attrs.get("units"))
    is_point = _is_point(ds, variable)
    axes = ("latitude", "longitude") if is_point else _horizontal_axes(file, variable)
    leading = [d for d in variable.dims if d not in axes]
    for dim in leading:
        if dim not in _TIME_DIMENSIONS and variable.sizes[dim] > 1:
            raise UserError(
                f"{file.name}: {name} has the dimension {dim} of {variable.sizes[dim]}, expected hours alone."
            )
    shape = tuple(variable.sizes[d] for d in leading)
    index = np.indices(shape).reshape(len(shape), -1).T if shape else np.zeros((1, 0), int)
    if key == "land":  # one plane is enough of what does not change
        index = index[:1]
    positions = tuple(index.T)
    return Part(
        file=file,
        variable=key,
        name_in_file=name,
        lat=_share_axis(ds[axes[0]].values.reshape(-1)),
        lon=_share_axis(ds[axes[1]].values.reshape(-1)),
        stamps=_stamps(file, ds, variable, leading, key)[positions].reshape(-1),
        index=index,
        rank=_ranks(ds, leading, shape)[positions].reshape(-1),
        dims=tuple(variable.dims),
        axes=axes,
        chunks=_stored_together(variable, leading, axes),
        packed=variable.dtype.kind in "iu",
        evidence=_evidence_of_means(variable),
        rain_stamp=_rain_stamp(ds, variable) if key == "precipitation" else "",
    )


def _is_point(ds: xr.Dataset, variable: xr.DataArray) -> bool:
    """Whether the variable is the series of one point, whose latitude and longitude are scalars."""
    scalars = all(name in ds.variables and ds[name].size == 1 for name in ("latitude", "longitude"))
    return scalars and not {"latitude", "longitude", "lat", "lon"} & set(variable.dims)


def _rain_stamp(ds: xr.Dataset, variable: xr.DataArray) -> str:
    """Which day a daily total belongs to, where its name, its steps, its bounds or its hour tell; else nothing."""
    if str(variable.name).lower() == "total_precipitation_sum":  # of Earth Engine's daily aggregates
        return "same-day"
    if "step" in variable.coords and "valid_time" not in variable.dims:  # a forecast from 00 UTC
        return "next-day"
    time = next((variable[c] for c in ("valid_time", "time", "date") if c in variable.coords), None)
    if time is None or time.dtype.kind != "M" or time.ndim != 1 or not time.size:
        return ""
    days = time.values.astype("datetime64[D]")
    bounds = ds.variables.get(time.attrs.get("bounds") or time.encoding.get("bounds") or "time_bnds")
    if bounds is not None and bounds.ndim == 2 and np.asarray(bounds.values).dtype.kind == "M":
        starts = bounds.values[:, 0].astype("datetime64[D]")
        if (starts == days).all():
            return "same-day"
        if (starts == days - 1).all():
            return "next-day"
    return "same-day" if (time.values != days).all() else ""


def _share_axis(axis: np.ndarray) -> np.ndarray:
    """The coordinate as float64, one copy for all files that have it: there may be tens of thousands of them."""
    return _axis_of(np.asarray(axis, np.float64).tobytes())


@functools.cache
def _axis_of(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.float64)


def _horizontal_axes(file: RawFile, variable: xr.DataArray) -> tuple[str, str]:
    """The names of the dimensions of latitude and longitude. Raises UserError where one is missing."""
    latitude = _axis(file, variable, names=("latitude", "lat"), standard_name="latitude")
    longitude = _axis(file, variable, names=("longitude", "lon"), standard_name="longitude")
    return latitude, longitude


def _axis(file: RawFile, variable: xr.DataArray, names: tuple[str, ...], standard_name: str) -> str:
    with_coordinate = [d for d in variable.dims if d in variable.coords]
    by_name = [d for d in variable.dims if str(d).lower() in names]
    by_standard = [d for d in with_coordinate if variable[d].attrs.get("standard_name") == standard_name]
    matches = by_name or by_standard
    if not matches or matches[0] not in with_coordinate:
        raise UserError(
            f"{file.name}: {variable.name} has the dimensions {', '.join(map(str, variable.dims))}, "
            f"expected one {standard_name} with its coordinate in degrees."
        )
    return str(matches[0])


def _stamps(file: RawFile, ds: xr.Dataset, variable: xr.DataArray, leading: list, key: str) -> np.ndarray:
    """Valid times, datetime64[m], of the shape of the leading dimensions."""
    shape = tuple(variable.sizes[d] for d in leading)
    if key == "land":  # a mask does not change
        return np.zeros(shape, "datetime64[m]")
    time = _valid_time(file, ds, variable)
    if not set(time.dims) <= set(leading):
        raise UserError(f"{file.name}: the valid times of {variable.name} do not follow its dimensions.")
    own = [d for d in leading if d in time.dims]
    values = time.transpose(*own).values.reshape([time.sizes[d] if d in own else 1 for d in leading])
    if np.isnat(values).any():
        raise UserError(f"{file.name}: {variable.name} has {int(np.isnat(values).sum())} steps without a valid time.")
    return np.broadcast_to(values.astype("datetime64[m]"), shape)


def _valid_time(file: RawFile, ds: xr.Dataset, variable: xr.DataArray) -> xr.DataArray:
    """The valid times along whatever dimensions they have: given as such, or as start and step of a forecast."""
    coords = {c: variable[c] for c in variable.coords if c in ("valid_time", "time", "date", "step")}
    time = next((coords[c] for c in ("valid_time", "time", "date") if c in coords), None)
    if time is None and "valid_time" in ds.variables:
        time = ds["valid_time"]
    if time is None or time.dtype.kind != "M":
        kind = "no time coordinate" if time is None else f"time of type {time.dtype}"
        raise UserError(f"{file.name}: {variable.name} has {kind}, expected valid_time or time with CF units.")
    if time.name == "valid_time" or "step" not in coords:
        return time
    steps = coords["step"]
    if steps.dtype.kind != "m":
        unit = np.timedelta64(1, _STEP_UNITS.get(str(steps.attrs.get("units", "hours")), "h"))
        steps = steps.copy(data=(steps.values * unit / HOUR).astype(int) * HOUR)
    return time + steps


def _ranks(ds: xr.Dataset, leading: list, shape: tuple[int, ...]) -> np.ndarray:
    """0 where the data are final (expver 1, or no expver at all), 1 where preliminary, of the leading shape."""
    if "expver" not in ds.variables or not set(ds["expver"].dims) <= set(leading):
        return np.zeros(shape, np.int8)
    expver = ds["expver"]
    ranks = np.array([rank_of(value) for value in expver.values.reshape(-1)], np.int8)
    return np.broadcast_to(ranks.reshape([expver.sizes.get(d, 1) for d in leading]), shape)


def _evidence_of_means(variable: xr.DataArray) -> str:
    step = str(variable.attrs.get("GRIB_stepType", ""))
    return f"its GRIB_stepType is {step!r}" if step.startswith("avg") else ""


def _stored_together(variable: xr.DataArray, leading: list, axes: tuple[str, str]) -> tuple[int, int, int]:
    """How much lies in one chunk: steps along the leading dimensions, rows, columns."""
    sizes = variable.encoding.get("chunksizes")
    if not sizes or variable.encoding.get("contiguous"):
        return 1, 1, variable.sizes.get(axes[1], 1)
    chunk = dict(zip(variable.dims, map(int, sizes), strict=True))
    return max([chunk[d] for d in leading], default=1), chunk.get(axes[0], 1), chunk.get(axes[1], 1)


def _refuse_truncated_netcdf3(path: Path) -> None:
    """netCDF4 reads zeros beyond the end of a truncated NETCDF3 file; SciPy's memory map notices."""
    with path.open("rb") as stream:
        if stream.read(4) == b"CDF\x05":  # 64-bit data, which SciPy does not know
            return
    try:
        scipy.io.netcdf_file(path, mmap=True).close()
    except Exception as error:
        raise Unreadable(f"damaged or truncated NetCDF-3: {fold(error)}") from error


# ------------------------------------------------------------------------------------------------------ reading


def read_planes(
    part: Part, planes: np.ndarray, rows: slice, columns: slice
) -> Float[np.ndarray, "planes rows columns"]:
    """The planes (positions in `part.stamps`) as float32 in the file's unit, missing values NaN."""
    window = dict(zip(part.axes, (rows, columns), strict=True))
    leading = [d for d in part.dims if d not in part.axes]
    with netCDF4.Dataset(part.file.path) as dataset:
        dataset.set_auto_maskandscale(False)
        variable = dataset.variables[part.name_in_file]
        if not leading:  # one hour, its time a scalar
            block = np.atleast_2d(_decode(variable, variable[tuple(window[d] for d in part.dims)]))
            return (block.T if part.dims == part.axes[::-1] else block)[None]
        index = part.index[planes]
        along = int(np.argmax([len(np.unique(column)) for column in index.T]))
        runs = _runs(index, along, part.chunks[0])
        if len(runs) == 1 and (np.diff(runs[0]) == 1).all():  # the usual case, without a copy
            return _read_run(part, variable, window, index, along)
        out = np.empty((len(planes), rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for run in runs:
            out[run] = _read_run(part, variable, window, index[run], along)
        return out


def _runs(index: np.ndarray, along: int, chunk: int) -> list[np.ndarray]:
    """Planes to read in one go: those next to each other, or in the same chunk, along one leading dimension.

    Each run holds positions in `index`, ascending along the dimension.
    """
    others = [k for k in range(index.shape[1]) if k != along]
    order = np.lexsort([index[:, along], *[index[:, k] for k in others]])
    runs = [[order[0]]]
    for previous, this in pairwise(order):
        before, now = index[previous, along], index[this, along]
        near = now == before + 1 or now // chunk == before // chunk
        if near and (index[previous, others] == index[this, others]).all():
            runs[-1].append(this)
        else:
            runs.append([this])
    return [np.array(run) for run in runs]


def _read_run(
    part: Part, variable: netCDF4.Variable, window: dict[str, slice], index: np.ndarray, along: int
) -> Float[np.ndarray, "planes rows columns"]:
    """The planes at `index`, which differ along one leading dimension alone and ascend there."""
    leading = [d for d in part.dims if d not in part.axes]
    steps = index[:, along]
    first = int(steps.min())
    where = dict(zip(leading, index[0].tolist(), strict=True)) | window
    where[leading[along]] = slice(first, int(steps.max()) + 1)
    block = _decode(variable, variable[tuple(where[d] for d in part.dims)])
    kept = [d for d in part.dims if isinstance(where[d], slice)]
    block = block.reshape(*block.shape, *[1 for axis in part.axes if axis not in kept])  # of a point
    kept += [axis for axis in part.axes if axis not in kept]
    block = block.transpose([kept.index(d) for d in (leading[along], *part.axes)])
    return block if len(block) == len(steps) else block[steps - first]


def _decode(variable: netCDF4.Variable, stored: np.ndarray) -> np.ndarray:
    """Stored numbers as float32 in the variable's unit, missing values NaN (CF packing)."""
    values = stored.astype(np.float32, copy=False)
    scale = float(getattr(variable, "scale_factor", 1.0))
    offset = float(getattr(variable, "add_offset", 0.0))
    if scale != 1.0 or offset != 0.0:
        values = (stored * scale + offset).astype(np.float32)
    for attribute in ("_FillValue", "missing_value"):
        for fill in np.atleast_1d(getattr(variable, attribute, [])):
            if not np.isnan(fill):  # NaN is missing already
                values[stored == fill] = np.nan
    return values
