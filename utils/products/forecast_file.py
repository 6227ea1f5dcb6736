"""A file of weather forecasts, as docs/weather_forecasts.md describes it: created here, filled by whoever has them."""

from collections.abc import Mapping, Sequence

import netCDF4
import numpy as np

from utils.common.georeference import georeference_file
from utils.common.grid import Grid
from utils.dataset.prepared import AXES, VARIABLES
from utils.dataset.weather_forecasts import DIMENSIONS

EPOCH = np.datetime64("2000-01-01", "D")
INITS_IN_CHUNK = 8  # forecasts that are stored together
SIDE_OF_CHUNK = 64  # cells


def create_forecast_file(
    file: netCDF4.Dataset,
    inits: np.ndarray,
    leads: int,
    grid: Grid,
    variables: Sequence[str],
    attributes: Mapping[str, str],
) -> None:
    """Dimensions, coordinates, empty variables and global attributes of a file that is open for writing.

    `inits` are the last days known, datetime64[D]; the leads are 1 to `leads` days; `variables` are some of VARIABLES.
    """
    sizes = len(inits), leads, *grid.shape
    for name, size in zip(DIMENSIONS, sizes, strict=True):
        file.createDimension(name, size)
    init_time = {"units": f"days since {EPOCH}", "standard_name": "forecast_reference_time"}
    init_time |= {"long_name": "last day known"}
    lead_time = {"units": "days", "standard_name": "forecast_period"}
    coordinates = {
        "init_time": ((inits - EPOCH).astype(int), "i4", init_time),
        "lead_time": (np.arange(1, leads + 1), "i4", lead_time),
        "lat": (grid.lat, "f8", AXES["lat"]),
        "lon": (grid.lon, "f8", AXES["lon"]),
    }
    for name, (values, kind, about) in coordinates.items():
        variable = file.createVariable(name, kind, (name,))
        variable[:] = values
        variable.setncatts(about)
    chunks = (min(INITS_IN_CHUNK, sizes[0]), leads, *(min(SIDE_OF_CHUNK, side) for side in sizes[2:]))
    for name in variables:
        options = {"zlib": True, "complevel": 1, "fill_value": np.float32(np.nan), "chunksizes": chunks}
        variable = file.createVariable(name, "f4", DIMENSIONS, **options)
        variable.setncatts({"units": VARIABLES[name].units, **VARIABLES[name].attributes})
    georeference_file(file)
    file.setncatts({"Conventions": "CF-1.11", **attributes})
