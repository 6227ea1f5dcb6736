"""GRIB files message by message with eccodes: what the readers of all products share."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

import eccodes
import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
from utils.products.raw_files import RawFile

T = TypeVar("T")


def scan_headers(file: RawFile, read: Callable[[int], T | None]) -> list[T]:
    """What `read` makes of the header of each message, given its eccodes handle; without those of which it makes None.

    Raises Unreadable for a damaged or truncated file.
    """
    found = []
    try:
        with raise_spoken_errors(Unreadable), file.path.open("rb") as stream:
            while (handle := eccodes.codes_new_from_file(stream, eccodes.CODES_PRODUCT_GRIB, True)) is not None:
                try:
                    found.append(read(handle))
                finally:
                    eccodes.codes_release(handle)
            _refuse_truncated(stream)
    except eccodes.CodesInternalError as error:
        raise Unreadable(f"a damaged or truncated GRIB file: {fold(error)}") from error
    return [item for item in found if item is not None]


def read_message(stream: BinaryIO, offset: int, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """The values of the message at this offset in bytes, missing ones NaN. Raises OSError where it is damaged."""
    stream.seek(offset)
    message = eccodes.codes_grib_new_from_file(stream)
    if message is None:
        raise OSError("a GRIB message is missing")
    try:
        eccodes.codes_set(message, "missingValue", 1e20)
        values = eccodes.codes_get_values(message).reshape(shape)
    except eccodes.CodesInternalError as error:
        raise OSError(fold(error)) from error
    finally:
        eccodes.codes_release(message)
    return np.where(values == 1e20, np.nan, values)


@contextlib.contextmanager
def raise_spoken_errors(failure: type[Exception]) -> Iterator[None]:
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


def grid_of_message(file: RawFile, handle: int) -> tuple:
    """What `coordinates_of` needs to know; equal for equal grids. Raises UserError for any other than regular_ll."""
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


def coordinates_of(grid: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of the rows and columns, degrees, in the order of the values."""
    columns, rows, north, south, west, east, westward = grid
    if not westward and east < west:
        east += 360
    if westward and east > west:
        east -= 360
    return np.round(np.linspace(north, south, rows), 6), np.round(np.linspace(west, east, columns), 6)


def text_or_empty(handle: int, key: str) -> str:
    """The value of a key as text; empty where the message has no such key."""
    try:
        return eccodes.codes_get_string(handle, key)
    except eccodes.KeyValueNotFoundError:
        return ""


def _refuse_truncated(stream: BinaryIO) -> None:
    """Headers are read without their data, so a cut last message shows only at the file's very end."""
    stream.seek(-4, 2)
    if stream.read(4) != b"7777":
        raise Unreadable("a truncated GRIB file: its last message is cut off")
