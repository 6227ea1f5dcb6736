"""GRIB files message by message with eccodes, so that instant and accumulated fields and expver may mix freely."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

import eccodes
import numpy as np

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
from utils.products.era5.files import RAW, Part, check_units, rank_of
from utils.products.raw_files import RawFile

_PARAMS = {raw.param: key for key, raw in RAW.items()}


@contextlib.contextmanager
def _heard(failure: type[Exception]) -> Iterator[None]:
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


def scan_grib(file: RawFile) -> list[Part]:
    """The parts of the wanted variables; headers alone are read. Raises Unreadable for a damaged file."""
    found: dict[str, list[tuple]] = {}
    grids: dict[str, tuple] = {}
    evidence: dict[str, str] = {}
    try:
        with _heard(Unreadable), file.path.open("rb") as stream:
            while (message := eccodes.codes_new_from_file(stream, eccodes.CODES_PRODUCT_GRIB, True)) is not None:
                try:
                    if (key := _PARAMS.get(eccodes.codes_get_long(message, "paramId"))) is None:
                        continue
                    grid = _grid(file, message)
                    if grids.setdefault(key, grid) != grid:
                        raise UserError(
                            f"{file.name}: {RAW[key].short} comes on mixed grids, expected one grid a file."
                        )
                    check_units(file, key, eccodes.codes_get_string(message, "units"))
                    if eccodes.codes_get_string(message, "stepType").startswith("avg") or "moda" in _stream(message):
                        evidence[key] = f"its GRIB stream is {_stream(message)!r}, monthly means"
                    offset = eccodes.codes_get_long(message, "offset")
                    found.setdefault(key, []).append((_valid_time(message), offset, _rank(message)))
                finally:
                    eccodes.codes_release(message)
            _refuse_truncated(stream, file)
    except eccodes.CodesInternalError as error:
        raise Unreadable(f"a damaged or truncated GRIB file: {fold(error)}") from error
    return [
        Part(
            file,
            key,
            RAW[key].short,
            *_coordinates(grids[key]),
            np.array([m[0] for m in messages], "datetime64[m]"),
            np.array([[m[1]] for m in messages], np.int64),
            np.array([m[2] for m in messages], np.int8),
            chunks=(1, grids[key][1], grids[key][0]),
            evidence=evidence.get(key, ""),
        )
        for key, messages in found.items()
    ]


def read_planes(part: Part, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The planes of a part, float32 [planes, rows, columns], missing values NaN."""
    out = np.empty((len(planes), rows.stop - rows.start, columns.stop - columns.start), np.float32)
    with _heard(OSError), part.file.path.open("rb") as stream:
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


def _grid(file: RawFile, message: int) -> tuple:
    kind = eccodes.codes_get_string(message, "gridType")
    by_column = kind == "regular_ll" and eccodes.codes_get_long(message, "jPointsAreConsecutive")
    if kind != "regular_ll" or by_column:
        raise UserError(f"{file.name}: the GRIB grid is {kind}, expected regular_ll (latitude–longitude) in rows.")
    ends = ("latitudeOfFirst", "latitudeOfLast", "longitudeOfFirst", "longitudeOfLast")
    return (
        eccodes.codes_get_long(message, "Ni"),
        eccodes.codes_get_long(message, "Nj"),
        *(eccodes.codes_get_double(message, f"{end}GridPointInDegrees") for end in ends),
        eccodes.codes_get_long(message, "iScansNegatively"),
    )


def _coordinates(grid: tuple) -> tuple[np.ndarray, np.ndarray]:
    columns, rows, north, south, west, east, westward = grid
    if not westward and east < west:
        east += 360
    if westward and east > west:
        east -= 360
    return np.round(np.linspace(north, south, rows), 6), np.round(np.linspace(west, east, columns), 6)


def _valid_time(message: int) -> np.datetime64:
    date, time = (eccodes.codes_get_long(message, k) for k in ("validityDate", "validityTime"))
    day = f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}"
    return np.datetime64(day, "m") + np.timedelta64(time // 100 * 60 + time % 100, "m")


def _rank(message: int) -> int:
    try:
        return rank_of(eccodes.codes_get_string(message, "expver"))
    except eccodes.KeyValueNotFoundError:
        return 0


def _stream(message: int) -> str:
    try:
        return eccodes.codes_get_string(message, "stream")
    except eccodes.KeyValueNotFoundError:
        return ""


def _refuse_truncated(stream, file: RawFile) -> None:
    """Headers are read without their data, so a cut last message shows only at the file's very end."""
    stream.seek(-4, 2)
    if stream.read(4) != b"7777":
        raise Unreadable("a truncated GRIB file: its last message is cut off")
