"""The fields of a GRIB file, by their headers: ECMWF (IFS, AIFS), GFS, GEFS."""

import functools

import eccodes
import numpy as np

from utils.common.cli import UserError
from utils.products.grib import (
    coordinates_of,
    grid_of_message,
    raise_spoken_errors,
    read_message,
    scan_headers,
    text_or_empty,
)
from utils.products.raw_files import RawFile
from utils.products.weather.fields import Field, Place, convert

PARAMETERS = {  # ecCodes' numbers of the parameters: their short names are not the same in all tables
    228: "precipitation",  # tp in m: ECMWF
    228228: "precipitation",  # tp in kg m-2: AIFS, and APCP of GFS and GEFS
    39: "soil_moisture",  # swvl1, the uppermost layer: ECMWF before November 2024
    260199: "soil_moisture",  # vsw of any layer: ECMWF
    260185: "soil_moisture",  # soilw of any layer: GFS and GEFS
}
MEANS = (0, 1)  # derived forecasts of an ensemble that are a mean of it (WMO code table 4.7); others are spreads


def scan(file: RawFile) -> tuple[list[Field], list[str]]:
    """The fields of wanted variables, and the short names of all.

    Raises Unreadable for a damaged file, UserError for a grid or a unit that is not expected.
    """
    places: dict[tuple, Place] = {}
    found = scan_headers(file, functools.partial(_header, file, places))
    return [field for _, field in found if field is not None], list(dict.fromkeys(name for name, _ in found))


def read(field: Field) -> np.ndarray:
    """All values of a field in the file's unit, missing ones NaN. Raises OSError where it is damaged."""
    with raise_spoken_errors(OSError), field.file.path.open("rb") as stream:
        return read_message(stream, field.position[0], field.place.shape)


def _header(file: RawFile, places: dict[tuple, Place], handle: int) -> tuple[str, Field | None]:
    """The short name of a message, and its field where it is of a wanted variable and layer."""
    name = text_or_empty(handle, "shortName")
    variable = PARAMETERS.get(eccodes.codes_get_long(handle, "paramId"))
    if variable is None or (variable == "soil_moisture" and not _is_uppermost(handle)):
        return name, None
    hours = tuple(eccodes.codes_get_long(handle, key) for key in ("startStep", "endStep"))
    units = eccodes.codes_get_string(handle, "units")
    if variable == "precipitation" and eccodes.codes_get_string(handle, "stepType") == "instant":
        if hours[1]:
            raise UserError(f"{file.name}: {name} is a value of a moment, {hours[1]} hours ahead; expected an amount.")
        return name, None  # the sum of no time, at the start of a run
    grid = grid_of_message(file, handle)
    return name, Field(
        file=file,
        variable=variable,
        name=name,
        run=_start(handle),
        hours=hours,
        conversion=convert(variable, name, units, file),
        model=_model(handle),
        place=places.setdefault(grid, Place(*coordinates_of(grid))),
        position=(eccodes.codes_get_long(handle, "offset"),),
    )


def _is_uppermost(handle: int) -> bool:
    """Whether a soil layer begins at the surface. The depths of a layer in metres are rounded in `topLevel`."""
    if text_or_empty(handle, "shortName") == "swvl1":
        return True
    if text_or_empty(handle, "typeOfLevel") == "soilLayer":  # numbered from 1
        return text_or_empty(handle, "level") == "1"
    return text_or_empty(handle, "scaledValueOfFirstFixedSurface") == "0"


def _start(handle: int) -> np.datetime64:
    date, time = (eccodes.codes_get_long(handle, key) for key in ("dataDate", "dataTime"))
    return np.datetime64(f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}T{time // 100:02d}", "h")


def _model(handle: int) -> str:
    """Centre, class and member, as far as the message has them; the mean of an ensemble is a member."""
    parts = [text_or_empty(handle, key) for key in ("centre", "class")]
    if parts[1] == "ai":  # of ECMWF's learned models there are several
        parts.append(text_or_empty(handle, "model"))
    derived, member = text_or_empty(handle, "derivedForecast"), text_or_empty(handle, "perturbationNumber")
    if derived:
        parts.append("ensemble mean" if int(derived) in MEANS else f"ensemble statistic {derived}")
    elif member:
        parts.append(f"member {member}")
    return " ".join(part for part in parts if part and part != "unknown")
