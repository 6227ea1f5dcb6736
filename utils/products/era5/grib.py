"""GRIB files message by message with eccodes, so that instant and accumulated fields and expver may mix freely."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import eccodes
import numpy as np

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
from utils.products.era5.part import RAW, Part, check_units, rank_of
from utils.products.raw_files import RawFile

_PARAMS = {raw.param: key for key, raw in RAW.items()}


@contextlib.contextmanager
def _raise_spoken_errors(failure: type[Exception]) -> Iterator[None]:
    """What eccodes writes to stderr, past Python, is caught; an error it only speaks of there becomes a `failure`."""
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        caught.seek(0)
        said = caught.read().decode(errors="replace").splitlines()
    errors = [line.split("ECCODES ERROR")[1].strip(" :") for line in said if "ECCODES ERROR" in line]
    if errors:
        raise failure(f"a damaged or truncated GRIB file: {fold(errors[0])}")


@dataclass(frozen=True)
class _Message:
    """What the header of a message says."""

    variable: str
    stamp: np.datetime64  # valid time
    offset: int  # bytes from the start of the file
    rank: int
    grid: tuple
    evidence: str
    is_forecast: bool  # summed up since the start of a forecast


def scan(file: RawFile) -> list[Part]:
    """The parts of the wanted variables; headers alone are read.

    Raises Unreadable for a damaged file, UserError for other units and for grids that are not expected.
    """
    messages: dict[str, list[_Message]] = {}
    try:
        with _raise_spoken_errors(Unreadable), file.path.open("rb") as stream:
            while (handle := eccodes.codes_new_from_file(stream, eccodes.CODES_PRODUCT_GRIB, True)) is not None:
                try:
                    message = _header(file, handle)
                finally:
                    eccodes.codes_release(handle)
                if message is not None:
                    messages.setdefault(message.variable, []).append(message)
            _refuse_truncated(stream)
    except eccodes.CodesInternalError as error:
        raise Unreadable(f"a damaged or truncated GRIB file: {fold(error)}") from error
    return [_part(file, of_one_variable) for of_one_variable in messages.values()]


def held_variables(file: RawFile) -> list[str]:
    """The short names of the variables of a file that is in order."""
    names: dict[str, None] = {}
    with file.path.open("rb") as stream:
        while (handle := eccodes.codes_new_from_file(stream, eccodes.CODES_PRODUCT_GRIB, True)) is not None:
            names[_text_or_empty(handle, "shortName")] = None
            eccodes.codes_release(handle)
    return list(names)


def _header(file: RawFile, handle: int) -> _Message | None:
    """The header of a message; None where it is of no wanted variable."""
    variable = _PARAMS.get(eccodes.codes_get_long(handle, "paramId"))
    if variable is None:
        return None
    check_units(file, variable, eccodes.codes_get_string(handle, "units"))
    stream = _text_or_empty(handle, "stream")
    means = eccodes.codes_get_string(handle, "stepType").startswith("avg") or "moda" in stream
    return _Message(
        variable=variable,
        stamp=_valid_time(handle),
        offset=eccodes.codes_get_long(handle, "offset"),
        rank=rank_of(_text_or_empty(handle, "expver") or "1"),
        grid=_grid(file, handle),
        is_forecast=eccodes.codes_get_string(handle, "stepType") == "accum" and not _is_analysis(handle),
        evidence=f"its GRIB stream is {stream!r}, monthly means" if means else "",
    )


def _part(file: RawFile, messages: list[_Message]) -> Part:
    variable, grid = messages[0].variable, messages[0].grid
    if any(message.grid != grid for message in messages):
        raise UserError(f"{file.name}: {RAW[variable].short} comes on mixed grids, expected one grid a file.")
    lat, lon = _coordinates(grid)
    return Part(
        file=file,
        variable=variable,
        name_in_file=RAW[variable].short,
        lat=lat,
        lon=lon,
        stamps=np.array([message.stamp for message in messages], "datetime64[m]"),
        index=np.array([[message.offset] for message in messages], np.int64),
        rank=np.array([message.rank for message in messages], np.int8),
        chunks=(1, len(lat), len(lon)),
        evidence=next((message.evidence for message in messages if message.evidence), ""),
        rain_stamp="next-day" if all(message.is_forecast for message in messages) else "",
    )


def read_planes(part: Part, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The planes of a part, float32 [planes, rows, columns], missing values NaN."""
    out = np.empty((len(planes), rows.stop - rows.start, columns.stop - columns.start), np.float32)
    with _raise_spoken_errors(OSError), part.file.path.open("rb") as stream:
        for i in np.argsort(part.index[planes, 0]):
            stream.seek(int(part.index[planes[i], 0]))
            message = eccodes.codes_grib_new_from_file(stream)
            if message is None:
                raise OSError("a GRIB message is missing")
            try:
                eccodes.codes_set(message, "missingValue", 1e20)
                values = eccodes.codes_get_values(message).reshape(len(part.lat), len(part.lon))[rows, columns]
                out[i] = np.where(values == 1e20, np.nan, values)
            except eccodes.CodesInternalError as error:
                raise OSError(fold(error)) from error
            finally:
                eccodes.codes_release(message)
    return out


def _is_analysis(handle: int) -> bool:
    """Whether the valid time is that of the start: a sum of no length, as other programs may write it."""
    return eccodes.codes_get_long(handle, "endStep") == 0


def _grid(file: RawFile, handle: int) -> tuple:
    kind = eccodes.codes_get_string(handle, "gridType")
    by_column = kind == "regular_ll" and eccodes.codes_get_long(handle, "jPointsAreConsecutive")
    if kind != "regular_ll" or by_column:
        raise UserError(f"{file.name}: the GRIB grid is {kind}, expected regular_ll (latitude–longitude) in rows.")
    ends = ("latitudeOfFirst", "latitudeOfLast", "longitudeOfFirst", "longitudeOfLast")
    return (
        eccodes.codes_get_long(handle, "Ni"),
        eccodes.codes_get_long(handle, "Nj"),
        *(eccodes.codes_get_double(handle, f"{end}GridPointInDegrees") for end in ends),
        eccodes.codes_get_long(handle, "iScansNegatively"),
    )


def _coordinates(grid: tuple) -> tuple[np.ndarray, np.ndarray]:
    columns, rows, north, south, west, east, westward = grid
    if not westward and east < west:
        east += 360
    if westward and east > west:
        east -= 360
    return np.round(np.linspace(north, south, rows), 6), np.round(np.linspace(west, east, columns), 6)


def _valid_time(handle: int) -> np.datetime64:
    date, time = (eccodes.codes_get_long(handle, k) for k in ("validityDate", "validityTime"))
    day = f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}"
    return np.datetime64(day, "m") + np.timedelta64(time // 100 * 60 + time % 100, "m")


def _text_or_empty(handle: int, key: str) -> str:
    try:
        return eccodes.codes_get_string(handle, key)
    except eccodes.KeyValueNotFoundError:
        return ""


def _refuse_truncated(stream: BinaryIO) -> None:
    """Headers are read without their data, so a cut last message shows only at the file's very end."""
    stream.seek(-4, 2)
    if stream.read(4) != b"7777":
        raise Unreadable("a truncated GRIB file: its last message is cut off")
