"""SMAP L3 (SPL3SMP at 36 km, SPL3SMP_E at 9 km): the retrievals of a day's morning and evening overpasses.

What the swath or the quality leaves out stays missing. Rain and soil temperature are not in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import h5py
import numpy as np
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError
from utils.dataset.prepared import VARIABLES
from utils.products.raw_files import RawFile, cannot_be_read, explain
from utils.products.regrid import Cells, Regridder
from utils.products.smap.ease_grid import NINE_KM, THIRTY_SIX_KM, EaseGrid
from utils.products.smap.granules import DAMAGE, FILL, check_units, find_line

Overpass = Literal["morning", "evening", "both"]
GROUP = "Soil_Moisture_Retrieval_Data"
WANTED = "expected NASA's own files of SMAP L3, HDF5, one a day (by earthaccess: data/README.md)"
_NAME = re.compile(r"SMAP_L3_SM_P(_E)?_(\d{4})(\d{2})(\d{2})_(R\d{5}_\d{3})")


@dataclass(frozen=True)
class L3Granule:
    """A day's file, and where its corner lies in the global grid."""

    file: RawFile
    time: np.datetime64  # the UTC day
    version: str  # such as R19240_001
    grid: EaseGrid
    row: int
    column: int
    shape: tuple[int, int]


def scan(file: RawFile) -> L3Granule:
    """The granule in a file; its retrievals are not read.

    Raises Unreadable for a damaged file, UserError for one without soil moisture or a place on the grid.
    """
    if file.kind != "hdf5":
        kind = {"tiff": "a GeoTIFF, perhaps of AppEEARS or Earth Engine"}.get(file.kind, file.kind)
        raise UserError(f"{file.name} is {kind}; {WANTED}.")
    try:
        with h5py.File(file.path) as content:
            if not any(name.startswith(GROUP) for name in content):
                there = ", ".join(list(content)[:6]) or "nothing"
                raise UserError(f"{file.name} is no file of SMAP L3: the group {GROUP} is missing, found: {there}.")
            path = next((p for o in ("AM", "PM") for p in _spellings("soil_moisture", o) if p in content), None)
            if path is None:
                held = sorted({name for group in content.values() for name in getattr(group, "keys", list)()})
                raise UserError(f"{file.name} holds no soil_moisture, found: {', '.join(held[:8]) or 'nothing'}.")
            shape = content[path].shape
            if len(shape) != 2:
                raise UserError(f"{file.name} holds a series of maps, perhaps by AppEEARS; {WANTED}.")
            check_units(file, "soil_moisture", path, _own_units(content[path]))
            day, version, enhanced = _name(file)
            grid = NINE_KM if enhanced else THIRTY_SIX_KM
            row, column = (0, 0) if shape == grid.shape else _locate(file, content, grid)
    except DAMAGE as error:
        raise explain(file, error) from error
    return L3Granule(file, day, version, grid, row, column, shape)


def _spellings(name: str, overpass: str) -> list[str]:
    """Where a field of an overpass may be: in its group, flattened, and in old files with one overpass."""
    suffix = "_pm" if overpass == "PM" else ""
    nested = [f"{GROUP}_{overpass}/{name}{suffix}"] + ([f"{GROUP}/{name}"] if overpass == "AM" else [])
    return nested + [path.replace("/", "_") for path in nested]


def _own_units(field: h5py.Dataset) -> object:
    """The unit; None where it is NASA's cm**3/cm**3 in any form, which is the same."""
    units = field.attrs.get("units")
    text = units.decode() if isinstance(units, bytes) else units
    return None if isinstance(text, str) and re.sub(r"[\s*^]", "", text) in ("cm3/cm3", "m3/m3") else units


def _name(file: RawFile) -> tuple[np.datetime64, str, bool]:
    """Day, version, and whether it is the enhanced product, from the file's name."""
    match = _NAME.search(file.path.name)
    if match is None:
        raise UserError(
            f"{file.name} is not named like a file of SPL3SMP or SPL3SMP_E (SMAP_L3_SM_P_20150331_R19240_001.h5), "
            "which its day is taken from."
        )
    try:
        return np.datetime64("-".join(match.groups()[1:4]), "D"), match[5], match[1] is not None
    except ValueError as error:
        raise UserError(f"{file.name} has no possible date in its name.") from error


def _locate(file: RawFile, content: h5py.File, grid: EaseGrid) -> tuple[int, int]:
    """Global row and column of the first cell of a cut file, by its x and y or by its latitudes and longitudes."""
    x, y = (find_line(content, name) for name in ("x", "y"))
    if x is not None and y is not None:
        return grid.locate(file.name, np.asarray(y, np.float64), np.asarray(x, np.float64))
    for overpass in ("AM", "PM"):
        lat, lon = (
            next((content[path] for path in _spellings(name, overpass) if path in content), None)
            for name in ("latitude", "longitude")
        )
        if lat is not None and lon is not None:
            return grid.locate(file.name, *grid.centres_of(file.name, np.asarray(lat), np.asarray(lon)))
    raise UserError(f"{file.name} has neither x and y nor latitude and longitude to locate its cells by.")


def read(
    granule: L3Granule, rows: slice, columns: slice, overpass: Overpass, recommended: bool
) -> Float[np.ndarray, "rows columns"]:
    """Soil moisture [m3 m-3] on global rows and columns, NaN where none was retrieved.

    `both` overpasses: the mean where there are two. `recommended`: only retrievals of recommended quality, bit 0 of
    retrieval_qual_flag clear. Raises UserError for damaged data and where the file lacks the overpass.
    """
    window = tuple(
        slice(wanted.start - first, wanted.stop - first)
        for wanted, first in ((rows, granule.row), (columns, granule.column))
    )
    wanted = {"morning": ["AM"], "evening": ["PM"], "both": ["AM", "PM"]}[overpass]
    try:
        with h5py.File(granule.file.path) as content:
            maps = [_read_overpass(granule.file, content, window, one, recommended) for one in wanted]
    except DAMAGE as error:
        raise cannot_be_read(granule.file, error) from error
    valid = [np.isfinite(values) for values in maps]
    total = np.sum([np.where(there, values, 0) for there, values in zip(valid, maps, strict=True)], axis=0)
    count = np.sum(valid, axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan, np.float32), where=count > 0)


def _read_overpass(
    file: RawFile, content: h5py.File, window: tuple[slice, slice], overpass: str, recommended: bool
) -> Float[np.ndarray, "rows columns"]:
    """Soil moisture of one overpass, NaN on fill, outside the file's own valid range and of other quality."""
    paths = {
        name: next((path for path in _spellings(name, overpass) if path in content), None)
        for name in ("soil_moisture", "retrieval_qual_flag")
    }
    if paths["soil_moisture"] is None or (recommended and paths["retrieval_qual_flag"] is None):
        missing = "soil_moisture" if paths["soil_moisture"] is None else "retrieval_qual_flag"
        raise UserError(
            f"{file.name} has no {missing} of the {'morning' if overpass == 'AM' else 'evening'} overpass; choose "
            "--overpass, or --no-recommended where the quality flag is missing."
        )
    stored = content[paths["soil_moisture"]]
    values = stored[window].astype(np.float32)
    low, high = (
        float(np.ravel(stored.attrs.get(name, limit))[0])
        for name, limit in zip(("valid_min", "valid_max"), VARIABLES["soil_moisture"].limits, strict=True)
    )
    # of float32 limits and values, equal ones must count as equal
    kept = (values != FILL) & (values >= np.float32(low)) & (values <= np.float32(high))
    if recommended:
        kept &= (content[paths["retrieval_qual_flag"]][window].astype(np.int64) & 1) == 0
    return np.where(kept, values, np.nan).astype(np.float32)


def l3_month(
    by_day: dict[np.datetime64, L3Granule],
    days: np.ndarray,
    rows: slice,
    columns: slice,
    cells: Cells,
    target: Cells,
    min_valid: float | None,
    overpass: Overpass,
    recommended: bool,
) -> xr.Dataset:
    """All days of a month on the target cells; one without a file, or without any retrieval, is missing throughout."""
    values = np.full((len(days), *cells.shape), np.nan, np.float32)
    for k, day in enumerate(days):
        if day in by_day:
            values[k] = read(by_day[day], rows, columns, overpass, recommended)
    if min_valid is not None:
        values, cells = Regridder(cells, target, min_valid)(values), target
    time = days.astype("datetime64[ns]")
    coords = {"time": time, "lat": cells.lat, "lon": cells.lon}
    return xr.Dataset({"soil_moisture": (("time", "lat", "lon"), values)}, coords, {"left_out": "{}"})


def newest_of_each_day(granules: Sequence[L3Granule], key: object) -> dict[np.datetime64, L3Granule]:
    """Of each day the file of the newest version."""
    newest: dict[np.datetime64, L3Granule] = {}
    for granule in granules:
        other = newest.get(granule.time)
        if other is None or key(granule.version) > key(other.version):
            newest[granule.time] = granule
    return dict(sorted(newest.items()))
