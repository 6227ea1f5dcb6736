"""ERA5-Land as Google Earth Engine's daily aggregates, exported as GeoTIFF: a band or a file a day."""

import numpy as np

from utils.common.cli import UserError
from utils.products.era5.part import RAW, Part
from utils.products.geotiff import held_variables, read_bands, scan_raster
from utils.products.raw_files import RawFile

__all__ = ["held_variables", "read_planes", "scan"]


def scan(file: RawFile) -> list[Part]:
    """The parts of the wanted variables; values are not read.

    Raises Unreadable for a damaged file, UserError for one that is in order but not what is expected.
    """
    raster = scan_raster(file, {variable: raw.names for variable, raw in RAW.items()})
    if not raster.in_degrees:
        raise UserError(f"{file.name} is in metres of EPSG:6933, expected degrees; export it with crs EPSG:4326.")
    parts = []
    for variable in dict.fromkeys(band.variable for band in raster.bands):
        own = [band for band in raster.bands if band.variable == variable]
        if any(band.hourly for band in own):
            raise UserError(f"{file.name} holds hours of {RAW[variable].short}, expected daily aggregates.")
        parts.append(
            Part(
                file=file,
                variable=variable,
                name_in_file=RAW[variable].names[1],
                lat=raster.y,
                lon=raster.x,
                stamps=np.array([band.time for band in own], "datetime64[m]"),
                index=np.array([[band.number] for band in own]),
                rank=np.zeros(len(own), np.int8),
                chunks=(1, *raster.block),
                rain_stamp="same-day" if variable == "precipitation" else "",
            )
        )
    return parts


def read_planes(part: Part, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The planes of a part, float32 [planes, rows, columns], missing values NaN."""
    return read_bands(part.file, part.index[planes, 0], rows, columns)
