"""GRIB files message by message with eccodes, so that instant and accumulated fields and expver may mix freely."""

import functools
from dataclasses import dataclass

import eccodes
import numpy as np

from utils.common.cli import UserError
from utils.products.era5.part import RAW, Part, check_units, rank_of
from utils.products.grib import (
    coordinates_of,
    grid_of_message,
    raise_spoken_errors,
    read_message,
    scan_headers,
    text_or_empty,
)
from utils.products.raw_files import RawFile

_PARAMS = {raw.param: key for key, raw in RAW.items()}


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
    for message in scan_headers(file, functools.partial(_header, file)):
        messages.setdefault(message.variable, []).append(message)
    return [_part(file, of_one_variable) for of_one_variable in messages.values()]


def held_variables(file: RawFile) -> list[str]:
    """The short names of the variables of a file that is in order."""
    return list(dict.fromkeys(scan_headers(file, lambda handle: text_or_empty(handle, "shortName"))))


def _header(file: RawFile, handle: int) -> _Message | None:
    """The header of a message; None where it is of no wanted variable."""
    variable = _PARAMS.get(eccodes.codes_get_long(handle, "paramId"))
    if variable is None:
        return None
    check_units(file, variable, eccodes.codes_get_string(handle, "units"))
    stream = text_or_empty(handle, "stream")
    means = eccodes.codes_get_string(handle, "stepType").startswith("avg") or "moda" in stream
    return _Message(
        variable=variable,
        stamp=_valid_time(handle),
        offset=eccodes.codes_get_long(handle, "offset"),
        rank=rank_of(text_or_empty(handle, "expver") or "1"),
        grid=grid_of_message(file, handle),
        is_forecast=eccodes.codes_get_string(handle, "stepType") == "accum" and not _is_analysis(handle),
        evidence=f"its GRIB stream is {stream!r}, monthly means" if means else "",
    )


def _part(file: RawFile, messages: list[_Message]) -> Part:
    variable, grid = messages[0].variable, messages[0].grid
    if any(message.grid != grid for message in messages):
        raise UserError(f"{file.name}: {RAW[variable].short} comes on mixed grids, expected one grid a file.")
    lat, lon = coordinates_of(grid)
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
    with raise_spoken_errors(OSError), part.file.path.open("rb") as stream:
        for i in np.argsort(part.index[planes, 0]):
            values = read_message(stream, int(part.index[planes[i], 0]), (len(part.lat), len(part.lon)))
            out[i] = values[rows, columns]
    return out


def _is_analysis(handle: int) -> bool:
    """Whether the valid time is that of the start: a sum of no length, as other programs may write it."""
    return eccodes.codes_get_long(handle, "endStep") == 0


def _valid_time(handle: int) -> np.datetime64:
    date, time = (eccodes.codes_get_long(handle, k) for k in ("validityDate", "validityTime"))
    day = f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}"
    return np.datetime64(day, "m") + np.timedelta64(time // 100 * 60 + time % 100, "m")
