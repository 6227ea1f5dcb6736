"""Values of any unit in the units of a prepared data set, by pint with the spellings of CF (cf-xarray)."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pint
from cf_xarray.units import units as registry
from jaxtyping import Float

from utils.common.cli import UserError
from utils.dataset.prepared import VARIABLES

WATER = registry.Quantity(1000.0, "kg m-3")
SPELLINGS = {  # regular expression: what pint understands
    r"\s*of water( equivalent)?": "",
    r"degrees?_(?=[CFK])": "deg",
    r"^degK$": "K",
    r"^(fraction|[Pp]roportion|unitless|-)$": "1",
    r"^[Cc]elcius$": "degC",
}
LENGTH, RATE = "[length]", "[length] / [time]"


@dataclass(frozen=True)
class Conversion:
    """value · factor + offset is in the units of a prepared data set; for an amount, that of its time step."""

    factor: float
    offset: float = 0.0
    per_step: bool = False  # an amount of each time step, to be added up over a day; otherwise a mean is taken

    def __call__(self, values: Float[np.ndarray, "*axis"]) -> Float[np.ndarray, "*axis"]:
        return values * self.factor + self.offset


def find_conversion(
    variable: str,
    units: str,
    field: str,
    layer_depth: float | None = None,
    advice: str = "give the right one with --units NAME=UNIT",
) -> Conversion:
    """From `units` to those of a variable of a prepared data set.

    `field` names the values in errors. `layer_depth`, m, is that of the layer whose water is given in kg m-2 or mm.
    Raises UserError where the unit is of something else, and, with this `advice`, where it is unknown.
    """
    unit = _parse(units)
    if unit is None:
        raise UserError(f"{field} is in {units!r}, which is no known unit; {advice}.")
    kinds: dict[str, Callable[..., Conversion]] = {
        "precipitation": _of_precipitation,
        "soil_moisture": _of_soil_moisture,
        "soil_temperature": _of_temperature,
    }
    try:
        return kinds[variable](unit, units, field, layer_depth)
    except pint.DimensionalityError:
        raise UserError(
            f"{field} is in {units!r}, expected {variable} in a unit such as {_examples(variable)}."
        ) from None


def _parse(units: str) -> pint.Unit | None:
    """The unit of a text; None where pint does not know it."""
    text = units.strip()
    for spelling, understood in SPELLINGS.items():
        text = re.sub(spelling, understood, text)
    try:
        return registry.Unit(text)
    except Exception:  # pint's parser raises a dozen kinds
        return None


def _examples(variable: str) -> str:
    more = {"precipitation": "mm, m, kg m-2 s-1", "soil_moisture": "%, kg m-2", "soil_temperature": "degC"}
    return f"{VARIABLES[variable].units}, {more[variable]}"


def _of_precipitation(unit: pint.Unit, units: str, field: str, layer_depth: float | None) -> Conversion:
    """Mass of water as its depth. An amount becomes mm, a rate mm day-1."""
    one = registry.Quantity(1.0, unit)
    if unit.is_compatible_with("kg m-2") or unit.is_compatible_with("kg m-2 s-1"):
        one = one / WATER
    if one.check(LENGTH):
        return Conversion(float(one.m_as("mm")), per_step=True)
    return Conversion(float(one.m_as("mm / day")))


def _of_soil_moisture(unit: pint.Unit, units: str, field: str, layer_depth: float | None) -> Conversion:
    """Water of a layer as the share of its volume."""
    one = registry.Quantity(1.0, unit)
    if one.dimensionless and re.search(r"\bk?g\b", units):
        raise UserError(f"{field} is in {units!r}, mass of water per mass of soil; expected its volume, m3 m-3 or %.")
    if unit.is_compatible_with("kg m-2"):
        one = one / WATER
    if one.check(LENGTH):
        if layer_depth is None:
            raise UserError(f"{field} is in {units!r}, water of a layer; give its depth in m, as --layer-depth 0.1.")
        one = one / registry.Quantity(layer_depth, "m")
    return Conversion(float(one.m_as("dimensionless")))


def _of_temperature(unit: pint.Unit, units: str, field: str, layer_depth: float | None) -> Conversion:
    zero, one = (float(registry.Quantity(value, unit).m_as("K")) for value in (0.0, 1.0))
    return Conversion(one - zero, zero)
