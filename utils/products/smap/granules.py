"""SMAP L4 granules (SPL4SMGP, HDF5 or NetCDF-4): whole, cut or regridded by a server, groups kept or flattened.

Nothing is assumed of a file's shape: its rows and columns are located by its own x and y, or by its cell_lat and
cell_lon where a cut file has no others.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.dataset.prepared import VARIABLES
from utils.products.geotiff import read_bands
from utils.products.raw_files import RawFile, cannot_be_read, explain
from utils.products.regrid import Cells
from utils.products.smap.ease_grid import CELL, NINE_KM, SHAPE, X_FIRST, Y_FIRST

__all__ = ["CELL", "SHAPE", "X_FIRST", "Y_FIRST"]
FILL = -9999.0
BLOCK = 64 * 2**20  # bytes of a series that are read at a time
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
OTHER_PRODUCTS = {  # what the groups of other products of SMAP are called, and what to do with them
    "Analysis_Data": "SPL4SMAU, the analysis update of SMAP L4",
    "Land-Model-Constants_Data": "SPL4SMLM, the constants of SMAP L4",
    "Soil_Moisture_Retrieval_Data": "SMAP L3, which data/prepare_smap_l3.py reads",
}
# what h5py raises for damaged files, besides OSError
DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError)
_NAME = re.compile(r"_(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})_(Vv\w+?_\d{3})")
_FIRST_TIME, _THREE_HOURS = np.datetime64("1970-01-01T01:30", "m"), np.timedelta64(180, "m")


@dataclass(frozen=True, eq=False)
class Axes:
    """The cell centres of a file that is not on the 9 km grid: rows and columns, in degrees or metres of EPSG:6933."""

    y: Float[np.ndarray, " rows"]
    x: Float[np.ndarray, " columns"]
    in_degrees: bool


@dataclass(frozen=True)
class Place:
    """Where in a file a map of a variable is: its data set and the position along the dimensions before the map."""

    path: str
    index: tuple[int, ...] = ()


NESTED = {name: Place(field.path) for name, field in FIELDS.items()}


@dataclass(frozen=True)
class Granule:
    """Maps of one time, and where their corner lies in the grid of all files: row and column of the first cell."""

    file: RawFile
    time: np.datetime64  # the centre of its three hours, or the day of a daily mean, UTC
    version: str  # such as Vv7032_001
    row: int
    column: int
    shape: tuple[int, int]
    places: Mapping[str, Place] | None = None  # of the variables that it holds; None: those of a granule as delivered
    is_daily: bool = False
    axes: Axes | None = None  # of a file that is not on the 9 km grid
    from_south: bool = False  # its rows are stored from south to north

    def holds(self) -> Mapping[str, Place]:
        """The variables that it holds, and where."""
        return NESTED if self.places is None else self.places


def time_and_version(file: RawFile, named: str = "") -> tuple[np.datetime64, str]:
    """The time and version in a granule's name, or in the name `named` that it had once.

    Raises UserError where there is none, or it is no three-hourly one.
    """
    match = _NAME.search(file.path.name) or _NAME.search(named)
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
    if not is_granule_time(time):
        raise UserError(f"{file.name} is at {time} UTC, expected three-hourly granules at 01:30, 04:30, … 22:30.")
    return time, version


def is_granule_time(time: np.datetime64) -> bool:
    """Whether it is the centre of one of a day's eight three-hour spans."""
    return bool((time - _FIRST_TIME) % _THREE_HOURS == np.timedelta64(0, "m"))


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers in a version, to compare versions by: (7032, 1) of Vv7032_001; as text, Vv10010 would be older."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version))


def scan(file: RawFile) -> Granule:
    """The granule in a file; its fields are not read.

    Raises Unreadable for a damaged file, UserError for one without the expected fields, units or grid.
    """
    try:
        with h5py.File(file.path) as content:
            refuse_other_product(file, content)
            time, version = time_and_version(file, _text(content.attrs.get("Filename", "")))
            places = {name: Place(_find(file, content, name)) for name in FIELDS}
            shapes = {name: _check_field(file, content, name, place.path) for name, place in places.items()}
            x, y, in_degrees = _centres(file, content)
    except DAMAGE as error:
        raise explain(file, error) from error
    if len(set(shapes.values())) > 1 or shapes["soil_moisture"] != (len(y), len(x)):
        raise UserError(f"{file.name}: its fields have the shapes {shapes} on a grid of {len(y)} × {len(x)} cells.")
    known = {"file": file, "time": time, "version": version, "shape": (len(y), len(x)), "places": places}
    if in_degrees:
        return Granule(**known, row=0, column=0, axes=Axes(y, x, in_degrees=True))
    row, column = NINE_KM.locate(file.name, y, x)
    return Granule(**known, row=row, column=column)


def refuse_other_product(file: RawFile, content: h5py.File) -> None:
    """Raises UserError for files of other products of SMAP, known by the names of their groups or data sets."""
    for group, product in OTHER_PRODUCTS.items():
        if any(name.startswith(group) for name in content):
            raise UserError(f"{file.name} is of {product}; expected SPL4SMGP, the geophysical data of SMAP L4.")


def _find(file: RawFile, content: h5py.File, name: str) -> str:
    """The path of a field: in its group, flattened (Geophysical_Data_sm_surface) or by its own name alone.

    Raises UserError where it is missing.
    """
    path = FIELDS[name].path
    for spelling in spellings(name):
        if spelling in content:
            return spelling
    there = ", ".join(content.get("Geophysical_Data", content)) or "nothing"
    raise UserError(f"{file.name}: the field {path} ({name}) is missing, found: {there}.")


def spellings(name: str) -> tuple[str, str, str]:
    """How a field may be called: in its group, flattened, or without the group."""
    path = FIELDS[name].path
    return path, path.replace("/", "_"), path.rsplit("/", 1)[1]


def _check_field(file: RawFile, content: h5py.File, name: str, path: str) -> tuple[int, ...]:
    """The shape of a field. Raises UserError where it has another unit."""
    check_units(file, name, path, content[path].attrs.get("units"))
    return content[path].shape


def check_units(file: RawFile, name: str, path: str, units: Any) -> None:
    """Raises UserError for a unit other than the product's; a file that says none is believed."""
    if units is not None and fold(_text(units)) not in FIELDS[name].units:
        raise UserError(f"{file.name}: {path} has the unit {fold(_text(units))!r}, expected {FIELDS[name].units[0]!r}.")


def _text(value: Any) -> str:
    value = np.ravel(value)[0] if np.size(value) else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _centres(file: RawFile, content: h5py.File) -> tuple[np.ndarray, np.ndarray, bool]:
    """Centres of columns and rows, in metres of EPSG:6933 or degrees, and whether they are in degrees."""
    x, y = (find_line(content, name) for name in ("x", "y"))
    if x is not None and y is not None:
        units = fold(_text(x.attrs.get("units", "")))
        values = np.asarray(x, np.float64), np.asarray(y, np.float64)
        small = bool(np.abs(values[0]).max(initial=0) <= 360)
        return *values, units.startswith("degree") or (not units and small)
    if "cell_lat" not in content or "cell_lon" not in content:
        raise UserError(f"{file.name} has neither x and y nor cell_lat and cell_lon to locate its cells by.")
    y, x = NINE_KM.centres_of(file.name, np.asarray(content["cell_lat"]), np.asarray(content["cell_lon"]))
    return x, y, False


def find_line(content: h5py.File, name: str) -> h5py.Dataset | None:
    """The data set of this name with one dimension, at the root or inside a group."""
    found = []

    def look(path: str, item: h5py.HLObject) -> None:
        if path.rsplit("/", 1)[-1] == name and isinstance(item, h5py.Dataset) and item.ndim == 1:
            found.append(item)

    if name in content:
        look(name, content[name])
    if not found:
        content.visititems(look)
    return found[0] if found else None


def read(granule: Granule, rows: slice, columns: slice) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """The fields that a granule holds on rows and columns of the common grid, in the units of a prepared data set.

    NaN on fill, and where the granule does not reach. Only the chunks that the window touches are unpacked. Raises
    UserError for damaged data.
    """
    own_rows, rows_there = _overlap(rows, granule.row, granule.shape[0])
    own_columns, columns_there = _overlap(columns, granule.column, granule.shape[1])
    if granule.from_south:
        own_rows = slice(granule.shape[0] - own_rows.stop, granule.shape[0] - own_rows.start)
    out = {}
    try:
        for name, values in _stored(granule, own_rows, own_columns).items():
            field = np.full((rows.stop - rows.start, columns.stop - columns.start), np.nan, np.float32)
            field[rows_there, columns_there] = values[::-1] if granule.from_south else values
            factor = FIELDS[name].factor
            out[name] = field if factor == 1 else field * np.float32(factor)
    except DAMAGE as error:
        raise cannot_be_read(granule.file, error) from error
    return out


def _overlap(wanted: slice, first: int, count: int) -> tuple[slice, slice]:
    """Which of a granule's `count` lines from `first` on are wanted, and where they are among the wanted ones."""
    start, stop = max(wanted.start, first), max(min(wanted.stop, first + count), max(wanted.start, first))
    return slice(start - first, stop - first), slice(start - wanted.start, stop - wanted.start)


def _stored(granule: Granule, rows: slice, columns: slice) -> dict[str, Float[np.ndarray, "rows columns"]]:
    """The fields as they are stored, NaN on fill."""
    places = granule.holds()
    if granule.file.kind == "tiff":
        numbers = np.array([place.index[0] for place in places.values()])
        fields = dict(zip(places, read_bands(granule.file, numbers, rows, columns), strict=True))
        return {name: np.where(values == FILL, np.nan, values) for name, values in fields.items()}
    if any(place.index for place in places.values()):
        return {name: _from_block(granule.file, place, rows, columns) for name, place in places.items()}
    with h5py.File(granule.file.path) as content:
        return {name: _without_fill(content[place.path], (rows, columns)) for name, place in places.items()}


def _without_fill(stored: h5py.Dataset, window: tuple[slice, ...]) -> Float[np.ndarray, "..."]:
    values = stored[window].astype(np.float32, copy=False)
    fill = float(np.ravel(stored.attrs.get("_FillValue", FILL))[0])
    values[(values == fill) | (values == FILL)] = np.nan
    return values


def _from_block(file: RawFile, place: Place, rows: slice, columns: slice) -> Float[np.ndarray, "rows columns"]:
    """A map of a series. Its neighbours in time are read with it: they are stored together and wanted next."""
    window = rows.start, rows.stop, columns.start, columns.stop
    time, *between = place.index
    cells = max(1, (window[1] - window[0]) * (window[3] - window[2]))
    length = max(1, BLOCK // (4 * 8 * cells))  # there are eight maps a day at most
    first = time // length * length
    block = _read_block(file.path, file.fingerprint(), place.path, window, first, length)
    return block[(time - first, *between)].copy()


@functools.lru_cache(maxsize=len(FIELDS))
def _read_block(
    path: Path, mark: tuple, name: str, window: tuple[int, int, int, int], first: int, length: int
) -> Float[np.ndarray, "..."]:
    """Maps from position `first` along time, kept for the next call. `mark` changes when the file does."""
    rows, columns = slice(*window[:2]), slice(*window[2:])
    with h5py.File(path) as content:
        stored = content[name]
        between = [slice(None)] * (stored.ndim - 3)
        return _without_fill(stored, (slice(first, first + length), *between, rows, columns))


def window_cells(rows: slice, columns: slice) -> Cells:
    """The EASE-Grid 2.0 cells of global rows and columns of the 9 km grid."""
    return NINE_KM.cells().window(rows, columns)
