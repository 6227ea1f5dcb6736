"""ERA5-Land and ERA5 files of any shape that the Climate Data Store has written, scanned and read in one way."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError
from utils.products.era5 import netcdf
from utils.products.era5.part import RAW, Part
from utils.products.raw_files import RawFile, cannot_be_read


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
        raise cannot_be_read(part.file, error) from error


def refuse_missing_variable(parts: Sequence[Part], files: Sequence[RawFile]) -> None:
    """Raises UserError where one of the three variables is in none of the files, with what they hold."""
    for variable in ("precipitation", "soil_moisture", "soil_temperature"):
        if not any(part.variable == variable for part in parts):
            held = sorted({name for file in files for name in _reader(file).held_variables(file)})
            raw = RAW[variable]
            raise UserError(
                f"no file has {raw.short} ({raw.names[1]}), found: {', '.join(held[:12]) or 'no variable at all'}."
            )


def _reader(file: RawFile) -> ModuleType:
    """The module that scans and reads files of this kind."""
    if file.kind == "tiff":
        from utils.products.era5 import earth_engine  # loads rasterio

        return earth_engine
    if file.kind == "grib":
        from utils.products.era5 import grib  # loads eccodes, which those who have NetCDF do not need

        return grib
    return netcdf
