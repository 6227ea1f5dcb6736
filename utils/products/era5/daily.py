"""Days from ERA5 hours: which days are complete, and what a day's values are (rules.py says of which hours)."""

import json

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products import DAY, RAIN_NOISE
from utils.products.era5.accumulation import check_accumulation
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.rules import DayRule, count_hours
from utils.products.regrid import Cells, regrid_days

SOIL = ("soil_moisture", "soil_temperature")


def era5_month(
    mosaic: Mosaic,
    days: np.ndarray,
    rule: DayRule,
    sea: Bool[np.ndarray, "rows columns"] | None,
    target: Cells,
    min_valid: float | None,
) -> xr.Dataset:
    """The complete `days` of one month on the target cells (on the source's own where `min_valid` is None)."""
    decided = check_accumulation(mosaic, days, rule)
    values = {variable: daily_values(mosaic, variable, days, rule, sea) for variable in VARIABLES}
    month = regrid_days(values, days, source=mosaic.cells, target=target, min_valid=min_valid)
    return month.assign_attrs(decided=json.dumps(decided))


def complete_days(mosaic: Mosaic, rule: DayRule) -> tuple[np.ndarray, dict[str, str]]:
    """The days on which all three variables are complete, and why each other day between is not.

    Returns (days, datetime64[D]; reason by ISO date, from the first to the last day that any file touches).
    Raises UserError where files lack most hours of their days, and where no day is complete.
    """
    stamps = {v: mosaic.stamps(v) for v in ("precipitation", *SOIL)}
    touched = np.concatenate([rule.day_of(times, variable) for variable, times in stamps.items()])
    if not len(touched):
        raise UserError("the files hold no valid time at which they cover the whole region.")
    days = np.arange(touched.min(), touched.max() + DAY, dtype="datetime64[D]")
    have, need = {}, {}
    for variable, times in stamps.items():
        offsets = rule.hours_of(variable)
        wanted = days[:, None].astype("datetime64[m]") + offsets
        have[variable], need[variable] = np.isin(wanted, times).sum(1), len(offsets)
        _refuse_sparse(mosaic, variable, have[variable], need[variable], days, rule)
    whole = np.all([have[v] == need[v] for v in stamps], axis=0)
    reasons = {}
    for i in np.flatnonzero(~whole):
        short = [f"{have[v][i]} of {need[v]} hours of {v}" for v in stamps if have[v][i] < need[v]]
        reasons[str(days[i])] = ", ".join(short).replace("of 1 hours of precipitation", "of 1 total of precipitation")
    if not whole.any():
        best = int(np.argmax(np.min([have[v] / need[v] for v in SOIL], axis=0)))
        raise UserError(
            f"no day is complete: {days[best]}, the fullest of {len(days)}, has {reasons[str(days[best])]} ({rule})."
        )
    return days[whole], reasons


def _refuse_sparse(mosaic: Mosaic, variable: str, have: np.ndarray, need: int, days: np.ndarray, rule: DayRule) -> None:
    """Raises UserError for a file whose days lack most of their hours, even with all other files' hours."""
    if need == 1:
        return
    for i in mosaic.of(variable):
        part = mosaic.parts[i]
        touched = np.intersect1d(
            rule.day_of(part.stamps, variable), days
        )  # a part may lie outside the window and its days
        if not len(touched):
            continue
        counts = have[np.searchsorted(days, touched)]
        # a file of one day may be the hour after another file's end, which its last day needs
        if len(touched) > 1 and np.median(counts) < need / 2:
            raise UserError(
                f"{part.file.name} lacks most hours of its days: it holds {count_hours(part.stamps)} of "
                f"{part.name_in_file}, expected {need} of every day (daily means: --product daily)."
            )


def daily_values(
    mosaic: Mosaic, variable: str, days: np.ndarray, rule: DayRule, sea: Bool[np.ndarray, "rows columns"] | None
) -> Float[np.ndarray, "days rows columns"]:
    """The variable's daily values on the source's window, in the unit of a prepared data set, float32.

    Soil moisture in [−0.01, 0) becomes 0 hour by hour. A cell that is missing in one hour is missing that day.
    Raises UserError for values outside physical limits.
    """
    out = np.empty((len(days), *mosaic.cells.shape), np.float32)
    offsets = rule.hours_of(variable)
    per_day = len(offsets)
    block = mosaic.days_at_once(variable, len(days))
    for tile in mosaic.tiles(variable, block * per_day):
        for first in range(0, len(days), block):
            some = slice(first, min(first + block, len(days)))
            stamps = (days[some, None].astype("datetime64[m]") + offsets).reshape(-1)
            hours = mosaic.read(variable, stamps, tile)
            if sea is not None:  # land alone: the sea's rain and temperature would stain the coast
                hours[:, sea[tile]] = np.nan
            _clean(mosaic, variable, hours, stamps)
            total = np.zeros((some.stop - some.start, *hours.shape[1:]), np.float64)
            for hour in range(per_day):
                total += hours[hour::per_day]
            out[(some, *tile)] = total * 1000 if variable == "precipitation" else total / per_day
    return out


def _clean(mosaic: Mosaic, variable: str, hours: np.ndarray, stamps: np.ndarray) -> None:
    """Packing noise below zero becomes 0, in place; anything else outside physical limits is a UserError."""
    low, high = VARIABLES[variable].limits
    noise = {"soil_moisture": PACKING_NOISE, "precipitation": -RAIN_NOISE / 1000}.get(variable, low)
    high = high / 1000 if variable == "precipitation" else high
    below = hours < low
    if below.any():
        if (hours[below] < noise).any():
            _refuse_value(mosaic, variable, hours, stamps, hours < noise)
        hours[below] = 0.0
    above = hours > high
    if above.any():
        _refuse_value(mosaic, variable, hours, stamps, above)


def _refuse_value(mosaic: Mosaic, variable: str, hours: np.ndarray, stamps: np.ndarray, bad: np.ndarray) -> None:
    hour, row, column = np.argwhere(bad)[0]
    files = [mosaic.parts[i].file.name for i in mosaic.of(variable) if stamps[hour] in mosaic.parts[i].stamps]
    low, high = VARIABLES[variable].limits
    limits = (
        f"0 to {high / 1000:g} m" if variable == "precipitation" else f"{low:g} to {high:g} {VARIABLES[variable].units}"
    )
    raise UserError(
        f"{files[0]}: {variable} is {hours[hour, row, column]:g} at {stamps[hour]} UTC, outside its physical limits; "
        f"expected {limits}, or the file's missing value."
    )
