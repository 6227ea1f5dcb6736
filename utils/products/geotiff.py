"""GeoTIFF files of Earth Engine or AppEEARS: a band, or a file, a time. Names of bands and file tell what and when.

20150331_sm_surface                                        a band of ImageCollection.toBands()
sm_surface, in a file smap_20150331.tif                    a file a day
20150331, in a file sm_surface_2015.tif                    a file a variable
SPL4SMGP.008_Geophysical_Data_sm_surface_doy2015090013000_aid0001.tif      AppEEARS
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import rasterio
from jaxtyping import Float, Int
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
from utils.products.raw_files import RawFile

_DATE = re.compile(
    r"(?<!\d)(?:doy(?P<year>\d{4})(?P<yearday>\d{3})|(?P<date>(?:19|20)\d{2}([-_]?)[01]\d\4[0-3]\d))"
    r"(?:[T_ ]?(?P<hour>[0-2]\d):?(?P<minute>[0-5]\d)(?::?\d{2})?)?(?!\d)"
)
_OTHER = r"(?!_?(?:wetness|min|max|pctl|anomaly|analysis|forecast|std|count))"  # sm_surface_wetness is no sm_surface
_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


@dataclass(frozen=True)
class Band:
    """A band: which variable at which time [datetime64[m]]; `hourly` where the name tells an hour."""

    number: int  # from 1
    variable: str
    time: np.datetime64
    hourly: bool


@dataclass(frozen=True, eq=False)
class Raster:
    """The bands of a file and its cell centres, in degrees or in metres of EPSG:6933."""

    bands: Sequence[Band]
    x: Float[np.ndarray, " columns"]
    y: Float[np.ndarray, " rows"]
    in_degrees: bool
    block: tuple[int, int]  # rows and columns that are stored together


def scan_raster(file: RawFile, names: Mapping[str, Sequence[str]]) -> Raster:
    """The bands of the wanted variables, known by their `names` in the product; values are not read.

    Raises Unreadable for a damaged file, UserError for one whose bands have no date, or whose grid is of another kind.
    """
    try:
        with _open(file) as raster:
            x, y, in_degrees = _centres(file, raster)
            bands = [
                band
                for number, said in enumerate(raster.descriptions, start=1)
                if (band := _band(file, number, said or "", raster.count, names)) is not None
            ]
            return Raster(bands, x, y, in_degrees, block=raster.block_shapes[0])
    except RasterioError as error:
        raise Unreadable(f"damaged or truncated: {fold(error)}") from error


def held_variables(file: RawFile) -> list[str]:
    """The names of the bands."""
    with _open(file) as raster:
        return [said or f"band {number}" for number, said in enumerate(raster.descriptions, start=1)]


def read_bands(
    file: RawFile, numbers: Int[np.ndarray, " bands"], rows: slice, columns: slice
) -> Float[np.ndarray, "bands rows columns"]:
    """Bands of a window as float32, the file's missing value NaN. Raises OSError for damaged data."""
    window = Window.from_slices(rows, columns)
    try:
        with _open(file) as raster:
            stored = raster.read(numbers.tolist(), window=window)
            values = stored.astype(np.float32)
            if raster.nodata is not None and not np.isnan(raster.nodata):
                values[stored == raster.nodata] = np.nan
            return values
    except RasterioError as error:
        raise OSError(fold(error)) from error


def _open(file: RawFile) -> rasterio.DatasetReader:
    with rasterio.Env(**_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(file.path)


def _centres(file: RawFile, raster: rasterio.DatasetReader) -> tuple[np.ndarray, np.ndarray, bool]:
    """Centres of columns and rows, and whether they are in degrees."""
    transform, crs = raster.transform, raster.crs
    if crs is None or transform.b or transform.d:
        raise UserError(f"{file.name} has no place on the Earth, or lies aslant; export it with crs EPSG:4326.")
    in_degrees = crs.is_geographic
    if not in_degrees and crs.to_epsg(confidence_threshold=20) != 6933:
        raise UserError(
            f"{file.name} is in the projection {crs.to_string()[:60]}, expected EPSG:4326 (degrees) or EPSG:6933 "
            "(EASE-Grid 2.0); export it with crs EPSG:4326."
        )
    x = transform.c + transform.a * (np.arange(raster.width) + 0.5)
    y = transform.f + transform.e * (np.arange(raster.height) + 0.5)
    return x, y, in_degrees


def _band(file: RawFile, number: int, said: str, count: int, names: Mapping[str, Sequence[str]]) -> Band | None:
    """What a band is; None where it is of no wanted variable. Raises UserError where nothing tells its date."""
    stem = file.path.stem
    in_band, in_file = _DATE.search(said), _DATE.search(stem)
    rest = _DATE.sub("", said).strip("_- .")
    known = {name.lower(): variable for variable, spellings in names.items() for name in spellings}
    if rest:
        variable = known.get(rest.lower().removeprefix("geophysical_data_"))
        if variable is None and not re.fullmatch(r"(?i)band_?\d+|b\d+|\d+", rest):
            return _refuse_numbered(file, rest, known)
    else:
        variable = None
    if variable is None:  # the file's name must tell
        mentioned = [name for name in sorted(known, key=len, reverse=True) if re.search(name + _OTHER, stem.lower())]
        if not mentioned:
            return None
        variable = known[mentioned[0]]
    match = in_band or (in_file if count == 1 or rest else None)
    if match is None or (not in_band and count > 1 and not _is_name(rest, known)):
        raise UserError(
            f"{file.name}: its band {said or number!r} has no date, expected the day in the name of each band "
            "(20150331_sm_surface), or a file a day with the day in its name."
        )
    return Band(number, variable, *_time(file, match))


def _is_name(rest: str, known: Mapping[str, str]) -> bool:
    return rest.lower().removeprefix("geophysical_data_") in known


def _refuse_numbered(file: RawFile, rest: str, known: Mapping[str, str]) -> None:
    """Raises UserError for bands like 0_sm_surface, which are numbered; other names are of other variables."""
    if re.sub(r"^\d+_", "", rest.lower()) in known:
        raise UserError(
            f"{file.name}: its band {rest!r} is numbered and has no date; name the bands by their day "
            "(20150331_sm_surface), or export a file a day."
        )


def _time(file: RawFile, match: re.Match) -> tuple[np.datetime64, bool]:
    """The time that a name tells, and whether it tells an hour."""
    try:
        if match["yearday"]:
            day = np.datetime64(match["year"], "Y").astype("datetime64[D]") + (int(match["yearday"]) - 1)
        else:
            digits = re.sub(r"\D", "", match["date"])
            day = np.datetime64(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}", "D")
    except ValueError:
        raise UserError(f"{file.name} has the impossible date {match[0]!r} in a name.") from None
    if match["hour"] is None:
        return day.astype("datetime64[m]"), False
    minutes = 60 * int(match["hour"]) + int(match["minute"])
    return day.astype("datetime64[m]") + np.timedelta64(minutes, "m"), True
