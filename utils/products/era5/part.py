"""What every ERA5 file comes down to: parts, each of them the hourly planes of one variable.

A plane is one variable at one valid time on the file's own grid. Its rank is 0 for final data (expver 1) and 1 for
preliminary data (expver 5).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError, fold
from utils.dataset.prepared import VARIABLES
from utils.products.raw_files import RawFile


@dataclass(frozen=True)
class RawVariable:
    """A variable as the Climate Data Store names it."""

    short: str
    names: tuple[str, ...]  # lower case
    param: int  # ECMWF parameter number
    units: tuple[str, ...]


RAW = {
    "precipitation": RawVariable(
        short="tp",
        names=("tp", "total_precipitation", "var228", "total_precipitation_sum"),
        param=228,
        units=("m", "metre", "metres", "m of water equivalent"),
    ),
    "soil_moisture": RawVariable(
        short="swvl1",
        names=("swvl1", "volumetric_soil_water_layer_1", "var39"),
        param=39,
        units=VARIABLES["soil_moisture"].spellings,
    ),
    "soil_temperature": RawVariable(
        short="stl1",
        names=("stl1", "soil_temperature_level_1", "var139"),
        param=139,
        units=VARIABLES["soil_temperature"].spellings,
    ),
    "land": RawVariable(
        short="lsm",
        names=("lsm", "land_sea_mask", "var172"),
        param=172,
        units=("(0 - 1)", "1", "0 - 1", "dimensionless"),
    ),
}


@dataclass(frozen=True, eq=False)
class Part:
    """The planes of one variable in one file. Values are not read."""

    file: RawFile
    variable: str  # precipitation, soil_moisture, soil_temperature or land
    name_in_file: str
    lat: Float[np.ndarray, " rows"]  # the file's own, degrees
    lon: Float[np.ndarray, " columns"]
    stamps: np.ndarray  # valid time of each plane, datetime64[m]
    index: np.ndarray  # where each plane is: [planes, leading dimensions], or [planes, 1] byte offsets in a GRIB file
    rank: np.ndarray  # of each plane: 0 final, 1 preliminary
    dims: tuple[str, ...] = ()  # NetCDF: the variable's dimensions in their order
    axes: tuple[str, str] = ("latitude", "longitude")
    chunks: tuple[int, int, int] = (1, 1, 1)  # what is stored together: along the time axis, rows, columns
    packed: bool = False  # NetCDF: integers with one scale for all hours, so that what is constant stays so exactly
    evidence: str = ""  # what the file itself says of its statistics, such as monthly means
    rain_stamp: str = ""  # which day a daily total belongs to, where the file tells: same-day or next-day


def check_units(file: RawFile, variable: str, units: object) -> None:
    """Raises UserError for units other than the Climate Data Store's own."""
    raw = RAW[variable]
    if variable == "land":
        return
    if units is None or fold(units) not in raw.units:
        unit = "no units attribute" if units is None else f"the unit {fold(units)!r}"
        raise UserError(
            f"{file.name}: {raw.short} ({variable}) has {unit}, expected {raw.units[0]!r} as in every file of the "
            "product."
        )


def rank_of(expver: object) -> int:
    """0 for final data (expver 1 in any spelling), 1 for anything else."""
    text = expver.decode() if isinstance(expver, bytes) else str(expver)
    try:
        return 0 if float(text) == 1 else 1
    except ValueError:
        return 1
