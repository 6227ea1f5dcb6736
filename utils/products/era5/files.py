"""ERA5-Land and ERA5 files of any shape the Climate Data Store has written, as one list of hourly planes.

A plane is one variable at one valid time on the file's own grid. Old and new NetCDF, expver as scalar, string per time
or dimension, and GRIB all come down to planes with a rank: 0 for final data (expver 1), 1 for preliminary (expver 5).
"""

import contextlib
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import netCDF4
import numpy as np
import scipy.io
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.dataset.prepared import VARIABLES
from utils.products.archives import Unreadable
from utils.products.raw_files import RawFile


@dataclass(frozen=True)
class RawVariable:
    """A variable as the Climate Data Store names it."""

    short: str
    names: tuple[str, ...]  # lower case
    param: int  # ECMWF parameter number
    units: tuple[str, ...]


RAW = {
    "precipitation": RawVariable(
        "tp", ("tp", "total_precipitation", "var228"), 228, ("m", "metre", "metres", "m of water equivalent")
    ),
    "soil_moisture": RawVariable(
        "swvl1", ("swvl1", "volumetric_soil_water_layer_1", "var39"), 39, VARIABLES["soil_moisture"].spellings
    ),
    "soil_temperature": RawVariable(
        "stl1", ("stl1", "soil_temperature_level_1", "var139"), 139, VARIABLES["soil_temperature"].spellings
    ),
    "land": RawVariable("lsm", ("lsm", "land_sea_mask", "var172"), 172, ("(0 - 1)", "1", "0 - 1", "dimensionless")),
}
HOUR = np.timedelta64(1, "h")
# SciPy says so of every damaged file, whose memory map it is used to look for
warnings.filterwarnings("ignore", "Cannot close a netcdf_file", RuntimeWarning)


@dataclass(frozen=True, eq=False)
class Part:
    """The planes of one variable in one file."""

    file: RawFile
    variable: str  # precipitation, soil_moisture, soil_temperature or land
    name_in_file: str
    lat: Float[np.ndarray, " rows"]  # the file's own, degrees
    lon: Float[np.ndarray, " columns"]
    stamps: np.ndarray  # valid time of each plane, datetime64[m]
    index: np.ndarray  # where each plane is: [planes, leading dimensions], or [planes, 1] byte offsets in a GRIB file
    rank: np.ndarray  # of each plane: 0 final, 1 preliminary
    dims: tuple[str, ...] = ()  # NetCDF: the variable's dimensions in their order
    axes: tuple[str, str] = ("latitude", "longitude")
    chunks: tuple[int, int, int] = (1, 1, 1)  # what is stored together: along the time axis, rows, columns
    packed: bool = False  # NetCDF: integers with one scale for all hours, so that what is constant stays so exactly
    evidence: str = ""  # what the file itself says of its statistics, such as monthly means

    def read(self, planes: np.ndarray, rows: slice, columns: slice) -> Float[np.ndarray, "planes rows columns"]:
        """The planes (positions in `stamps`) as float32, missing values NaN. Raises UserError for damaged data."""
        try:
            if self.file.kind == "grib":
                from utils.products.era5.grib import read_planes

                return read_planes(self, planes, rows, columns)
            return self._read_netcdf(planes, rows, columns)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.file.name} cannot be read to its end, it may be damaged: {fold(error)}.") from error

    def _read_netcdf(self, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        leading = [d for d in self.dims if d not in self.axes]
        with netCDF4.Dataset(self.file.path) as dataset:
            dataset.set_auto_maskandscale(False)
            variable = dataset.variables[self.name_in_file]
            if not leading:  # one hour, its time a scalar
                where = dict(zip(self.axes, (rows, columns), strict=True))
                block = _decoded(variable, variable[tuple(where[d] for d in self.dims)])
                return (block if self.dims == self.axes else block.T)[None]
            runs = _runs(self.index[planes], self.chunks[0])
            out = None
            for run, along in runs:
                index = self.index[planes[run]]
                first = index[:, along].min()
                where = dict(zip(leading, index[0].tolist(), strict=True)) | dict(
                    zip(self.axes, (rows, columns), strict=True)
                )
                where[leading[along]] = slice(int(first), int(index[:, along].max()) + 1)
                kept = [d for d in self.dims if isinstance(where[d], slice)]
                block = _decoded(variable, variable[tuple(where[d] for d in self.dims)])
                block = block.transpose([kept.index(d) for d in (leading[along], *self.axes)])
                block = block[index[:, along] - first] if len(block) != len(run) else block
                if len(runs) == 1 and (np.diff(run) == 1).all():
                    return block
                out = np.empty((len(planes), *block.shape[1:]), np.float32) if out is None else out
                out[run] = block
        return out


def scan(file: RawFile) -> list[Part]:
    """The parts of the wanted variables in a file; values are not read.

    Raises Unreadable for a damaged file, UserError for one that is in order but not what is expected.
    """
    if file.kind == "grib":
        from utils.products.era5.grib import scan_grib

        return scan_grib(file)
    if file.kind == "netcdf3":
        _refuse_truncated_netcdf3(file.path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # what xarray warns of is refused below, or does not matter here
        try:
            ds = xr.open_dataset(
                file.path,
                engine="netcdf4",
                mask_and_scale=False,
                decode_timedelta=False,
                decode_coords="all",
                cache=False,
            )
        except Exception as error:  # the engine raises its own kinds; all mean the same here
            raise Unreadable(f"damaged or truncated: {fold(error)}") from error
        stack.enter_context(ds)
        return [_scan_variable(file, ds, name, key) for name in ds.variables if (key := _wanted(ds[name]))]


def _wanted(variable: xr.DataArray) -> str | None:
    """Which of RAW a variable of a file is, by its name or by the GRIB number or long name it carries along."""
    attrs = variable.attrs
    for key, raw in RAW.items():
        if str(variable.name).lower() in raw.names or attrs.get("GRIB_paramId") == raw.param:
            return key
        if str(attrs.get("long_name", "")).lower().replace(" ", "_") in raw.names and variable.ndim >= 2:
            return key
    return None


def check_units(file: RawFile, key: str, units: object) -> None:
    """Raises UserError for units other than the Climate Data Store's own."""
    raw = RAW[key]
    if key != "land" and (units is None or fold(units) not in raw.units):
        found = "no units attribute" if units is None else f"the unit {fold(units)!r}"
        raise UserError(
            f"{file.name}: {raw.short} ({key}) has {found}, expected {raw.units[0]!r} as in every file of the product."
        )


def _scan_variable(file: RawFile, ds: xr.Dataset, name: str, key: str) -> Part:
    variable = ds[name]
    check_units(file, key, variable.attrs.get("units"))
    axes = _horizontal_axes(file, variable)
    leading = [d for d in variable.dims if d not in axes]
    for dim in leading:
        known = dim in ("time", "valid_time", "forecast_reference_time", "date", "step", "expver")
        if not known and variable.sizes[dim] > 1:
            raise UserError(
                f"{file.name}: {name} has the dimension {dim} of {variable.sizes[dim]}, expected hours alone."
            )
    shape = tuple(variable.sizes[d] for d in leading)
    index = np.indices(shape).reshape(len(shape), -1).T if shape else np.zeros((1, 0), int)
    if key == "land":  # one plane is enough of what does not change
        index = index[:1]
    chunks = _stored_together(variable, leading, axes)
    return Part(
        file,
        key,
        name,
        _shared(ds[axes[0]].values),
        _shared(ds[axes[1]].values),
        _stamps(file, ds, variable, leading, key)[tuple(index.T)].reshape(-1),
        index,
        _ranks(ds, leading, shape)[tuple(index.T)].reshape(-1),
        tuple(variable.dims),
        axes,
        chunks,
        variable.dtype.kind in "iu",
        _evidence_of_means(variable),
    )


_axes: dict[bytes, np.ndarray] = {}


def _shared(axis: np.ndarray) -> np.ndarray:
    """The coordinate as float64, one copy for all files that have it: there may be tens of thousands of them."""
    axis = np.asarray(axis, np.float64)
    return _axes.setdefault(axis.tobytes(), axis)


def _horizontal_axes(file: RawFile, variable: xr.DataArray) -> tuple[str, str]:
    found = []
    for names, standard in ((("latitude", "lat"), "latitude"), (("longitude", "lon"), "longitude")):
        match = [d for d in variable.dims if str(d).lower() in names]
        match = match or [
            d for d in variable.dims if d in variable.coords and variable[d].attrs.get("standard_name") == standard
        ]
        if not match or match[0] not in variable.coords:
            raise UserError(
                f"{file.name}: {variable.name} has the dimensions {', '.join(map(str, variable.dims))}, "
                f"expected one {standard} with its coordinate in degrees."
            )
        found.append(str(match[0]))
    return found[0], found[1]


def _stamps(file: RawFile, ds: xr.Dataset, variable: xr.DataArray, leading: list, key: str) -> np.ndarray:
    """Valid times, datetime64[m], of the shape of the leading dimensions."""
    shape = tuple(variable.sizes[d] for d in leading)
    coords = {c: variable[c] for c in variable.coords if c in ("valid_time", "time", "date", "step")}
    if key == "land":  # a mask does not change
        return np.zeros(shape, "datetime64[m]")
    time = next((coords[c] for c in ("valid_time", "time", "date") if c in coords), None)
    if time is None and "valid_time" in ds.variables:
        time = ds["valid_time"]
    if time is None or time.dtype.kind != "M":
        kind = "no time coordinate" if time is None else f"time of type {time.dtype}"
        raise UserError(f"{file.name}: {variable.name} has {kind}, expected valid_time or time with CF units.")
    if time.name != "valid_time" and "step" in coords:
        steps = coords["step"]
        if steps.dtype.kind != "m":
            unit = {"hours": "h", "days": "D", "minutes": "m", "seconds": "s", "nanoseconds": "ns"}.get(
                str(steps.attrs.get("units", "hours")), "h"
            )
            steps = steps.copy(data=(steps.values * np.timedelta64(1, unit) / HOUR).astype(int) * HOUR)
        time = time + steps
    if not set(time.dims) <= set(leading):
        raise UserError(f"{file.name}: the valid times of {variable.name} do not follow its dimensions.")
    own = [d for d in leading if d in time.dims]
    values = time.transpose(*own).values.reshape([time.sizes[d] if d in own else 1 for d in leading])
    if np.isnat(values).any():
        raise UserError(f"{file.name}: {variable.name} has {int(np.isnat(values).sum())} steps without a valid time.")
    return np.broadcast_to(values.astype("datetime64[m]"), shape)


def _ranks(ds: xr.Dataset, leading: list, shape: tuple[int, ...]) -> np.ndarray:
    """0 where the data are final (expver 1, or no expver at all), 1 where preliminary, of the leading shape."""
    if "expver" not in ds.variables or not set(ds["expver"].dims) <= set(leading):
        return np.zeros(shape, np.int8)
    expver = ds["expver"]
    ranks = np.array([rank_of(v) for v in np.asarray(expver.values).reshape(-1)], np.int8).reshape(expver.shape)
    return np.broadcast_to(ranks.reshape([expver.sizes[d] if d in expver.dims else 1 for d in leading]), shape)


def rank_of(expver: object) -> int:
    """0 for final data (expver 1 in any spelling), 1 for anything else."""
    text = expver.decode() if isinstance(expver, bytes) else str(expver)
    try:
        return 0 if float(text) == 1 else 1
    except ValueError:
        return 1


def _evidence_of_means(variable: xr.DataArray) -> str:
    step = str(variable.attrs.get("GRIB_stepType", ""))
    return f"its GRIB_stepType is {step!r}" if step.startswith("avg") else ""


def _stored_together(variable: xr.DataArray, leading: list, axes: tuple[str, str]) -> tuple[int, int, int]:
    sizes = variable.encoding.get("chunksizes")
    if not sizes or variable.encoding.get("contiguous"):
        return 1, 1, variable.sizes[axes[1]]
    chunk = dict(zip(variable.dims, sizes, strict=True))
    return max([int(chunk[d]) for d in leading], default=1), int(chunk[axes[0]]), int(chunk[axes[1]])


def _runs(index: np.ndarray, chunk: int) -> list[tuple[np.ndarray, int]]:
    """Planes to read in one go: those next to each other, or in the same chunk, along one leading dimension.

    Returns (positions in `index`, ascending along the dimension; that dimension).
    """
    along = int(np.argmax([len(np.unique(column)) for column in index.T]))
    others = [k for k in range(index.shape[1]) if k != along]
    order = np.lexsort([index[:, along], *[index[:, k] for k in others]])
    runs = [[order[0]]]
    for previous, this in pairwise(order):
        steps = index[[previous, this], along]
        near = steps[1] == steps[0] + 1 or steps[1] // chunk == steps[0] // chunk
        if near and (index[previous, others] == index[this, others]).all():
            runs[-1].append(this)
        else:
            runs.append([this])
    return [(np.array(run), along) for run in runs]


def _decoded(variable: netCDF4.Variable, stored: np.ndarray) -> np.ndarray:
    """Stored numbers as float32 in the variable's unit, missing values NaN (CF packing)."""
    values = stored.astype(np.float32, copy=False)
    scale, offset = (float(getattr(variable, a, d)) for a, d in (("scale_factor", 1.0), ("add_offset", 0.0)))
    if scale != 1.0 or offset != 0.0:
        values = (stored * scale + offset).astype(np.float32)
    for attribute in ("_FillValue", "missing_value"):
        for fill in np.atleast_1d(getattr(variable, attribute, [])):
            if fill == fill:  # NaN is missing already
                missing = stored == fill
                values[missing] = np.nan
    return values


def _refuse_truncated_netcdf3(path: Path) -> None:
    """netCDF4 reads zeros beyond the end of a truncated NETCDF3 file; SciPy's memory map notices."""
    with path.open("rb") as stream:
        if stream.read(4) == b"CDF\x05":  # 64-bit data, which SciPy does not know
            return
    try:
        scipy.io.netcdf_file(path, mmap=True).close()
    except Exception as error:
        raise Unreadable(f"damaged or truncated NetCDF-3: {fold(error)}") from error
