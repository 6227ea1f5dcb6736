"""SMAP L4 granules (SPL4SMGP, HDF5), whole or cut by the server: their place on EASE-Grid 2.0, hyperslabs of them.

Nothing is assumed of a file's shape: its rows and columns are located by its own x and y, or by its cell_lat and
cell_lon where a cut file has no others.
"""

import re
from dataclasses import dataclass

import h5py
import numpy as np
from jaxtyping import Float
from pyproj import Transformer

from utils.common.cli import UserError, fold
from utils.dataset.prepared import VARIABLES
from utils.products.archives import Unreadable
from utils.products.raw_files import RawFile
from utils.products.regrid import Cells, ease_cells

# Brodzik et al. 2012 (doi:10.3390/ijgi1010032): the cell of the 9 km grid, and the centre of its north-west corner cell
CELL = 9008.055210146  # m
X_FIRST, Y_FIRST = -17367530.4451615 + CELL / 2, 7314540.8306386 - CELL / 2
SHAPE = (1624, 3856)
FILL = -9999.0
FLUX_UNITS = ("kg m-2 s-1", "kg m^-2 s^-1", "kg m**-2 s**-1", "kg/m2/s", "kg m-2 sec-1", "mm s-1", "mm/s")


@dataclass(frozen=True)
class Field:
    """A field of a granule and what turns its values into those of a prepared data set."""

    path: str
    units: tuple[str, ...]
    factor: float = 1.0


FIELDS = {
    "precipitation": Field("Geophysical_Data/precipitation_total_surface_flux", FLUX_UNITS, 86400.0),
    "soil_moisture": Field("Geophysical_Data/sm_surface", VARIABLES["soil_moisture"].spellings),
    "soil_temperature": Field("Geophysical_Data/soil_temp_layer1", VARIABLES["soil_temperature"].spellings),
}
# what h5py raises for damaged files, besides OSError
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError)
_NAME = re.compile(r"_(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})_(Vv\w+?_\d{3})")
_FIRST_TIME, _THREE_HOURS = np.datetime64("1970-01-01T01:30", "m"), np.timedelta64(180, "m")


@dataclass(frozen=True)
class Granule:
    """A granule and where its corner lies: global row and column of its first cell, and its shape."""

    file: RawFile
    time: np.datetime64  # the centre of its three hours, UTC
    version: str  # such as Vv7032_001
    row: int
    column: int
    shape: tuple[int, int]


def time_and_version(file: RawFile) -> tuple[np.datetime64, str]:
    """The time and version in a granule's name. Raises UserError where there is none, or it is no three-hourly one."""
    match = _NAME.search(file.path.name)
    if match is None:
        raise UserError(
            f"{file.name} is not named like a granule of SPL4SMGP (SMAP_L4_SM_gph_20150331T013000_Vv7032_001.h5), "
            "which its time is taken from."
        )
    year, month, day, hour, minute, second, version = match.groups()
    try:
        time = np.datetime64(f"{year}-{month}-{day}T{hour}:{minute}:{second}", "m")
    except ValueError as error:
        raise UserError(f"{file.name} has no possible date in its name.") from error
    if (time - _FIRST_TIME) % _THREE_HOURS != np.timedelta64(0, "m"):
        raise UserError(f"{file.name} is at {time} UTC, expected three-hourly granules at 01:30, 04:30, … 22:30.")
    return time, version


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers in a version, to compare versions by: (7032, 1) of Vv7032_001; as text, Vv10010 would be older."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version))


def scan(file: RawFile) -> Granule:
    """The granule in a file; its fields are not read.

    Raises Unreadable for a damaged file, UserError for one without the expected fields, units or grid.
    """
    time, version = time_and_version(file)
    try:
        with h5py.File(file.path) as content:
            shapes = {name: _check_field(file, content, name) for name in FIELDS}
            x, y = _centres(file, content)
    except _DAMAGE as error:
        raise Unreadable(f"damaged or truncated: {fold(error)}") from error
    if len(set(shapes.values())) > 1 or shapes["soil_moisture"] != (len(y), len(x)):
        raise UserError(f"{file.name}: its fields have the shapes {shapes} on a grid of {len(y)} × {len(x)} cells.")
    return Granule(
        file=file,
        time=time,
        version=version,
        row=_position(file, y, first=Y_FIRST, cell=-CELL),
        column=_position(file, x, first=X_FIRST, cell=CELL),
        shape=(len(y), len(x)),
    )


def _check_field(file: RawFile, content: h5py.File, name: str) -> tuple[int, ...]:
    """The shape of a field. Raises UserError where it is missing or has another unit."""
    field = FIELDS[name]
    if field.path not in content:
        there = ", ".join(content.get("Geophysical_Data", content)) or "nothing"
        raise UserError(f"{file.name}: the field {field.path} ({name}) is missing, found: {there}.")
    units = content[field.path].attrs.get("units")
    if units is not None:
        text = fold(units.decode() if isinstance(units, bytes) else units)
        if text not in field.units:
            raise UserError(f"{file.name}: {field.path} has the unit {text!r}, expected {field.units[0]!r}.")
    return content[field.path].shape


def _centres(file: RawFile, content: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    """Centres of columns and rows in metres of EPSG:6933."""
    if "x" in content and "y" in content:
        return np.asarray(content["x"], np.float64), np.asarray(content["y"], np.float64)
    if "cell_lat" not in content or "cell_lon" not in content:
        raise UserError(f"{file.name} has neither x and y nor cell_lat and cell_lon to locate its cells by.")
    lon, lat = _degrees(file, content["cell_lon"], along=0), _degrees(file, content["cell_lat"], along=1)
    project = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True).transform
    x, _ = project(lon, np.zeros_like(lon))
    _, y = project(np.zeros_like(lat), lat)
    return x, y


def _degrees(file: RawFile, stored: h5py.Dataset, along: int) -> np.ndarray:
    """The one latitude of every row, or longitude of every column: the values do not vary along the other axis."""
    values = np.asarray(stored, np.float64)
    values[(values < -360) | (values > 360)] = np.nan  # fill
    known = np.isfinite(values)
    if values.ndim == 2:
        known = known.any(along)
    if not known.all():
        raise UserError(f"{file.name}: cell_lat or cell_lon has rows or columns without any value.")
    return np.nanmax(values, axis=along) if values.ndim == 2 else values


def _position(file: RawFile, centres: np.ndarray, first: float, cell: float) -> int:
    """The global index of the first centre. Raises UserError for any grid but consecutive cells of the 9 km one."""
    if len(centres) == 0:
        raise UserError(f"{file.name} holds no cell at all.")
    index = (centres - first) / cell
    if np.abs(index - np.round(index)).max() > 0.1 or (len(index) > 1 and (np.diff(np.round(index)) != 1).any()):
        step = np.median(np.abs(np.diff(centres))) if len(centres) > 1 else np.nan
        raise UserError(
            f"{file.name} is on another grid: its cells are {step:.0f} m apart, expected consecutive cells of "
            f"the global EASE-Grid 2.0 of {CELL:.0f} m from north to south and west to east."
        )
    return round(index[0])


def window_cells(rows: slice, columns: slice) -> Cells:
    """The EASE-Grid 2.0 cells of global rows and columns."""
    x, y = X_FIRST + CELL * np.arange(SHAPE[1]), Y_FIRST - CELL * np.arange(SHAPE[0])
    return ease_cells(x, y).window(rows, columns)


def read(granule: Granule, rows: slice, columns: slice) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """The three fields on global rows and columns, in the units of a prepared data set, NaN on fill.

    Only the chunks that the window touches are unpacked. Raises UserError for damaged data.
    """
    own_rows = slice(rows.start - granule.row, rows.stop - granule.row)
    own_columns = slice(columns.start - granule.column, columns.stop - granule.column)
    out = {}
    try:
        with h5py.File(granule.file.path) as content:
            for name, field in FIELDS.items():
                stored = content[field.path]
                values = stored[own_rows, own_columns].astype(np.float32, copy=False)
                fill = float(np.ravel(stored.attrs.get("_FillValue", FILL))[0])
                values[(values == fill) | (values == FILL)] = np.nan
                if field.factor != 1:
                    values = values * np.float32(field.factor)
                out[name] = values
    except _DAMAGE as error:
        raise UserError(f"{granule.file.name} cannot be read to its end, it may be damaged: {fold(error)}.") from error
    return out
