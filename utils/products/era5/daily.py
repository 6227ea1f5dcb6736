"""Days from ERA5 hours: which days are complete, and what a day's values are.

- Soil moisture and temperature of day D: the mean of its 24 hourly values, 00 to 23 UTC.
- Precipitation of day D, ERA5-Land: the value stamped 00 UTC of D+1, which is the sum since 00 UTC of D.
- Precipitation of day D, ERA5 single levels: the sum of the hourly totals stamped 01 UTC of D to 00 UTC of D+1.
- Daily statistics: soil moisture and temperature are daily means already; precipitation as for ERA5-Land.
"""

import json
from dataclasses import replace

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products import DAY, HOUR, RAIN_NOISE
from utils.products.era5 import Product
from utils.products.era5.accumulation import check_accumulation
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.part import Part
from utils.products.regrid import Cells, regrid_days

SOIL = ("soil_moisture", "soil_temperature")


def era5_month(
    mosaic: Mosaic,
    days: np.ndarray,
    product: Product,
    sea: Bool[np.ndarray, "rows columns"] | None,
    target: Cells,
    min_valid: float | None,
) -> xr.Dataset:
    """The complete `days` of one month on the target cells (on the source's own where `min_valid` is None)."""
    decided = check_accumulation(mosaic, days, product)
    values = {variable: daily_values(mosaic, variable, days, product, sea) for variable in VARIABLES}
    month = regrid_days(values, days, source=mosaic.cells, target=target, min_valid=min_valid)
    return month.assign_attrs(decided=json.dumps(decided))


def hours_of(variable: str, product: Product) -> np.ndarray:
    """The valid times that make a day's value of a variable, counted from 00 UTC of that day, timedelta64[m]."""
    if variable == "precipitation":
        hours = np.arange(1, 25) if product == "era5" else np.array([24])
    else:
        hours = np.array([0]) if product == "daily" else np.arange(24)
    return (hours * HOUR).astype("timedelta64[m]")


def day_of(stamps: np.ndarray, variable: str) -> np.ndarray:
    """The day that each valid time belongs to: rain stamped 00 UTC is that of the day before."""
    return (stamps - HOUR if variable == "precipitation" else stamps).astype("datetime64[D]")


def as_days(part: Part, product: Product) -> Part:
    """The part with stamps as the product counts them: a daily mean may be stamped at any hour of its day.

    Raises UserError for monthly means, and for hours that are no whole hours.
    """
    if part.variable == "land":
        return part
    unique = np.unique(part.stamps)
    _refuse_monthly(part, unique, product)
    if product == "daily" and part.variable in SOIL:
        days = part.stamps.astype("datetime64[D]")
        _, counts = np.unique(unique.astype("datetime64[D]"), return_counts=True)
        if counts.max() > 1:
            raise UserError(
                f"{part.file.name} has {counts.max()} values of {part.name_in_file} a day, expected daily means as "
                "--product daily says; hourly files are --product era5-land or era5."
            )
        return replace(part, stamps=days.astype("datetime64[m]"))
    odd = unique[unique.astype("datetime64[h]") != unique]
    if len(odd):
        raise UserError(f"{part.file.name}: {part.name_in_file} has the valid time {odd[0]}, expected whole hours.")
    return part


def _refuse_monthly(part: Part, unique_stamps: np.ndarray, product: Product) -> None:
    steps = np.diff(unique_stamps) / DAY
    evidence = part.evidence if product != "daily" else ""
    if len(steps) and np.median(steps) >= 28:
        evidence = f"its values are {np.median(steps):g} days apart"
    if evidence:
        raise UserError(
            f"{part.file.name} holds monthly means ({evidence}), expected hourly values of {part.name_in_file}."
        )


def complete_days(mosaic: Mosaic, product: Product) -> tuple[np.ndarray, dict[str, str]]:
    """The days on which all three variables are complete, and why each other day between is not.

    Returns (days, datetime64[D]; reason by ISO date, from the first to the last day that any file touches).
    Raises UserError where files lack most hours of their days, and where no day is complete.
    """
    stamps = {v: mosaic.stamps(v) for v in ("precipitation", *SOIL)}
    touched = np.concatenate([day_of(times, variable) for variable, times in stamps.items()])
    if not len(touched):
        raise UserError("the files hold no valid time at which they cover the whole region.")
    days = np.arange(touched.min(), touched.max() + DAY, dtype="datetime64[D]")
    have, need = {}, {}
    for variable, times in stamps.items():
        offsets = hours_of(variable, product)
        wanted = days[:, None].astype("datetime64[m]") + offsets
        have[variable], need[variable] = np.isin(wanted, times).sum(1), len(offsets)
        _refuse_sparse(mosaic, variable, have[variable], need[variable], days)
    whole = np.all([have[v] == need[v] for v in stamps], axis=0)
    reasons = {}
    for i in np.flatnonzero(~whole):
        short = [f"{have[v][i]} of {need[v]} hours of {v}" for v in stamps if have[v][i] < need[v]]
        reasons[str(days[i])] = ", ".join(short).replace("of 1 hours of precipitation", "of 1 total of precipitation")
    if not whole.any():
        best = int(np.argmax(np.min([have[v] / need[v] for v in SOIL], axis=0)))
        raise UserError(
            f"no day is complete: {days[best]}, the fullest of {len(days)}, has {reasons[str(days[best])]} "
            f"(--product {product})."
        )
    return days[whole], reasons


def _refuse_sparse(mosaic: Mosaic, variable: str, have: np.ndarray, need: int, days: np.ndarray) -> None:
    """Raises UserError for a file whose days lack most of their hours, even with all other files' hours."""
    if need == 1:
        return
    for i in mosaic.of(variable):
        part = mosaic.parts[i]
        touched = np.intersect1d(day_of(part.stamps, variable), days)  # a part may lie outside the window and its days
        if not len(touched):
            continue
        counts = have[np.searchsorted(days, touched)]
        # a file of one day may be the hour after another file's end, which its last day needs
        if len(touched) > 1 and np.median(counts) < need / 2:
            raise UserError(
                f"{part.file.name} lacks most hours of its days: {part.name_in_file} has {int(np.median(counts))} of "
                f"{need} hours on {touched[len(touched) // 2]}, expected hourly values (daily means: --product daily)."
            )


def daily_values(
    mosaic: Mosaic, variable: str, days: np.ndarray, product: Product, sea: Bool[np.ndarray, "rows columns"] | None
) -> Float[np.ndarray, "days rows columns"]:
    """The variable's daily values on the source's window, in the unit of a prepared data set, float32.

    Soil moisture in [−0.01, 0) becomes 0 hour by hour. A cell that is missing in one hour is missing that day.
    Raises UserError for values outside physical limits.
    """
    out = np.empty((len(days), *mosaic.cells.shape), np.float32)
    offsets = hours_of(variable, product)
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
