"""What the readers of weather forecasts make of a file: fields, each of one variable, model run and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError
from utils.products.raw_files import RawFile
from utils.products.units import Conversion, find_conversion

EXPECTED = "tp of ECMWF or APCP of GFS"


@dataclass(frozen=True, eq=False)
class Place:
    """The grid of a file: cell centres in degrees, in the order of the values."""

    lat: Float[np.ndarray, " rows"]
    lon: Float[np.ndarray, " columns"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.lat), len(self.lon)


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a model run; its values are not read yet."""

    file: RawFile
    variable: str  # precipitation or soil_moisture
    name: str  # in the file
    run: np.datetime64  # start of the model run, UTC, datetime64[h]
    hours: tuple[int, int]  # after the start: an amount is that from the first to the second; else both are the same
    conversion: Conversion
    model: str  # which model and member it is of, as far as the file tells
    place: Place
    position: tuple[int, ...]  # the offset in bytes, or the index along the dimensions before latitude and longitude


def convert(variable: str, name: str, units: str, file: RawFile) -> Conversion:
    """The conversion to mm or m3 m-3, by the unit. Raises UserError for a unit of something else, and for a rate."""
    found = find_conversion(variable, units, f"{file.name}: {name}", advice="mend the units of the file")
    if variable == "precipitation" and not found.per_step:
        raise UserError(f"{file.name}: {name} is in {units!r}, a rate; expected amounts of rain, such as {EXPECTED}.")
    return found


def one_model(fields: Sequence[Field]) -> str:
    """The model and member that all fields are of. Raises UserError where they are of several."""
    models = dict.fromkeys(field.model for field in fields)
    if len(models) > 1:
        first, second = list(models)[:2]
        raise UserError(
            f"The files of --raw are of several models or members, {first or 'unnamed'} and {second or 'unnamed'} "
            "among them; give those of one, or of the mean of an ensemble."
        )
    return next(iter(models), "")
