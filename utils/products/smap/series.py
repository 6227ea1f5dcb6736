"""SMAP L4 as series of maps in one file: AppEEARS's NetCDF (time × day_period), other NetCDF, and GeoTIFF."""

import re

import h5py
import netCDF4
import numpy as np

from utils.common.cli import UserError
from utils.products.geotiff import scan_raster
from utils.products.raw_files import RawFile, explain
from utils.products.smap.granules import DAMAGE, FIELDS, Axes, Granule, Place, check_units, is_granule_time, spellings

PERIODS = 8  # three-hour spans of a day
_FIRST, _LENGTH = np.timedelta64(90, "m"), np.timedelta64(180, "m")
_SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
_ROWS, _COLUMNS = ("lat", "latitude", "y", "ydim"), ("lon", "longitude", "x", "xdim")
_VERSION = re.compile(r"SPL4SMGP[._](\d{3})")


def is_series(file: RawFile) -> bool:
    """Whether an HDF5 or NetCDF-4 file holds several times: it has a time of its own and fields with three axes."""
    try:
        with h5py.File(file.path) as content:
            names = [name for field in FIELDS for name in spellings(field) if name in content]
            return any(content[name].ndim > 2 for name in names)
    except DAMAGE as error:
        raise explain(file, error) from error


def scan_series(file: RawFile) -> list[Granule]:
    """The maps of a NetCDF-4 file with dimensions time and rows, columns, and perhaps the eight periods of a day.

    Raises Unreadable for a damaged file, UserError for one without the expected fields, units or axes.
    """
    try:
        dataset = netCDF4.Dataset(file.path)
    except OSError as error:
        raise explain(file, error) from error
    with dataset:
        dataset.set_auto_maskandscale(False)
        there = {key: [name for name in spellings(key) if _holds(dataset, name)] for key in FIELDS}
        held = {key: dataset[names[0]] for key, names in there.items() if names}
        for key, variable in held.items():
            check_units(file, key, variable.name, getattr(variable, "units", None))
        times = [_times(file, variable) for variable in held.values()]
        axes = [_axes(file, variable) for variable in held.values()]
    if any(not np.array_equal(other, times[0]) for other in times[1:]):
        raise UserError(f"{file.name}: its fields have different times.")
    return _granules(file, {key: names[0] for key, names in there.items() if names}, times[0], axes[0])


def _holds(dataset: netCDF4.Dataset, path: str) -> bool:
    group, _, name = path.rpartition("/")
    return (not group or group in dataset.groups) and name in (dataset[group] if group else dataset).variables


def _coordinate(variable: netCDF4.Variable, name: str) -> netCDF4.Variable | None:
    """The variable of a dimension's name, in the field's own group or in one around it."""
    group = variable.group()
    while group is not None:
        if name in group.variables:
            return group.variables[name]
        group = group.parent
    return None


def _granules(file: RawFile, held: dict[str, str], times: np.ndarray, axes: Axes) -> list[Granule]:
    """A granule for each of the times, which have the shape of the dimensions before the map."""
    is_daily = bool((times == times.astype("datetime64[D]")).all())
    odd = [] if is_daily else [time for time in times.ravel() if not is_granule_time(time)]
    if odd:
        raise UserError(f"{file.name} has a map at {odd[0]} UTC, expected 01:30, 04:30, … 22:30, or one a day.")
    version = _version(file)
    return [
        Granule(
            file=file,
            time=times[index],
            version=version,
            row=0,
            column=0,
            shape=(len(axes.y), len(axes.x)),
            places={key: Place(name, tuple(map(int, index))) for key, name in held.items()},
            is_daily=is_daily,
            axes=axes,
        )
        for index in np.ndindex(times.shape)
    ]


def _version(file: RawFile) -> str:
    match = _VERSION.search(file.path.name)
    return f"Vv{int(match[1])}" if match else ""


def _axes(file: RawFile, variable: netCDF4.Variable) -> Axes:
    """The cell centres along the last two dimensions."""
    rows, columns = variable.dimensions[-2:]
    y, x = _coordinate(variable, rows), _coordinate(variable, columns)
    if rows.lower() not in _ROWS or columns.lower() not in _COLUMNS or y is None or x is None:
        raise UserError(
            f"{file.name}: {variable.name} has the dimensions {', '.join(variable.dimensions)}, expected time, perhaps "
            "the periods of a day, and rows and columns with their coordinates."
        )
    units, centres = str(getattr(x, "units", "")), x[:].astype(np.float64)
    in_degrees = units.startswith("degree") or (units != "m" and np.abs(centres).max(initial=0) <= 360)
    return Axes(y[:].astype(np.float64), centres, bool(in_degrees))


def _times(file: RawFile, variable: netCDF4.Variable) -> np.ndarray:
    """The times of a field's maps, datetime64[m], in the shape of the dimensions before the last two."""
    leading = variable.dimensions[:-2]
    time = _coordinate(variable, leading[0])
    if time is None or len(leading) > 2:
        raise UserError(f"{file.name}: {variable.name} has the dimensions {', '.join(variable.dimensions)}.")
    times = _decode_times(file, time)
    if len(leading) == 1:
        return times
    if variable.shape[1] != PERIODS:
        raise UserError(f"{file.name}: {leading[1]} has {variable.shape[1]} steps, expected {PERIODS} a day.")
    order, periods = np.arange(PERIODS), _coordinate(variable, leading[1])
    if periods is not None:  # its values may be hours, minutes or numbers: their order tells
        order = np.argsort(np.argsort(periods[:], kind="stable"), kind="stable")
    return times.astype("datetime64[D]").astype("datetime64[m]")[:, None] + _FIRST + order * _LENGTH


def _decode_times(file: RawFile, time: netCDF4.Variable) -> np.ndarray:
    """Times as datetime64[m]. AppEEARS calls its calendar Julian, and means dates as everybody writes them."""
    said = str(getattr(time, "units", ""))
    match = re.match(r"(days|hours|minutes|seconds) since (\d{4})-(\d{1,2})-(\d{1,2})[T ]?([\d:]*)", said)
    if match is None:
        raise UserError(f"{file.name}: time has the units {said!r}, expected such as days since 2000-01-01.")
    year, month, day = match[2], match[3].zfill(2), match[4].zfill(2)
    start = np.datetime64(f"{year}-{month}-{day}T{match[5] or '00:00'}", "s")
    seconds = np.round(time[:].astype(np.float64) * _SECONDS[match[1]]).astype("timedelta64[s]")
    return (start + seconds).astype("datetime64[m]")


def scan_geotiff(file: RawFile) -> list[Granule]:
    """The maps of a GeoTIFF of Earth Engine or AppEEARS, each time with the variables that the file has of it.

    A band whose name tells an hour is a three-hourly map, one that tells a day the mean of it.
    """
    raster = scan_raster(file, {key: (spellings(key)[2],) for key in FIELDS})
    axes = Axes(raster.y, raster.x, raster.in_degrees)
    version = _version(file)
    granules = []
    for time in dict.fromkeys(band.time for band in raster.bands):
        bands = [band for band in raster.bands if band.time == time]
        hourly = any(band.hourly for band in bands)
        if hourly:
            time = _centre(file, time)
        granules.append(
            Granule(
                file=file,
                time=time,
                version=version,
                row=0,
                column=0,
                shape=(len(axes.y), len(axes.x)),
                places={band.variable: Place("", (band.number,)) for band in bands},
                is_daily=not hourly,
                axes=axes,
            )
        )
    return granules


def _centre(file: RawFile, time: np.datetime64) -> np.datetime64:
    """The centre of the three hours: Earth Engine stamps them by their start, NASA by their centre."""
    for centre in (time, time + _FIRST):
        if is_granule_time(centre):
            return centre
    raise UserError(f"{file.name} has a band at {time} UTC, expected 00:00, 03:00, … or 01:30, 04:30, …")
