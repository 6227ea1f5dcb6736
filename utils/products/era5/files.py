"""ERA5-Land and ERA5 files of any shape that the Climate Data Store has written, scanned and read in one way."""

from types import ModuleType

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.products.era5 import netcdf
from utils.products.era5.part import Part
from utils.products.raw_files import RawFile


def scan(file: RawFile) -> list[Part]:
    """The parts of the wanted variables in a file; values are not read.

    Raises Unreadable for a damaged file, UserError for one that is in order but not what is expected.
    """
    return _reader(file).scan(file)


def read_planes(
    part: Part, planes: np.ndarray, rows: slice, columns: slice
) -> Float[np.ndarray, "planes rows columns"]:
    """The planes (positions in `part.stamps`) as float32 in the file's unit, missing values NaN.

    Raises UserError for damaged data.
    """
    try:
        return _reader(part.file).read_planes(part, planes, rows, columns)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{part.file.name} cannot be read to its end, it may be damaged: {fold(error)}.") from error


def _reader(file: RawFile) -> ModuleType:
    """The module that scans and reads files of this kind."""
    if file.kind == "grib":
        from utils.products.era5 import grib  # loads eccodes, which those who have NetCDF do not need

        return grib
    return netcdf
