"""Days from ERA5 hours: which days are complete, what a day's values are, and whether precipitation is what it should.

- Soil moisture and temperature of day D: the mean of its 24 hourly values, 00 to 23 UTC.
- Precipitation of day D, ERA5-Land: the value stamped 00 UTC of D+1, which is the sum since 00 UTC of D.
- Precipitation of day D, ERA5 single levels: the sum of the hourly totals stamped 01 UTC of D to 00 UTC of D+1.
- Daily statistics: soil moisture and temperature are daily means already; precipitation as for ERA5-Land.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products.era5.files import Part
from utils.products.era5.mosaic import DAY, HOUR, Source

Product = Literal["era5-land", "era5", "daily"]
PACKING_STEP = 2e-5  # m3 m-3: 16 bits over the range of soil moisture
SEA = 1e-3  # m3 m-3: soil moisture constant in time and closer to 0 than this throughout is sea
RAIN_NOISE = 0.1  # mm: what packing may take below zero
SOIL = ("soil_moisture", "soil_temperature")


def hours_of(variable: str, day: np.datetime64, product: Product) -> np.ndarray:
    """The valid times that make the day's value of a variable, datetime64[m]."""
    day = day.astype("datetime64[D]")
    if variable == "precipitation":
        return (day + (np.arange(1, 25) if product == "era5" else np.array([24])) * HOUR).astype("datetime64[m]")
    return (day + (np.arange(24) if product != "daily" else np.array([0])) * HOUR).astype("datetime64[m]")


def as_days(part: Part, product: Product) -> Part:
    """The part with stamps as the product counts them: a daily mean may be stamped at any hour of its day.

    Raises UserError for monthly means, and for hours that are no whole hours.
    """
    if part.variable == "land":
        return part
    unique = np.unique(part.stamps)
    steps = np.diff(unique) / DAY
    monthly = part.evidence if product != "daily" else ""
    if len(steps) and np.median(steps) >= 28:
        monthly = f"its values are {np.median(steps):g} days apart"
    if monthly:
        raise UserError(
            f"{part.file.name} holds monthly means ({monthly}), expected hourly values of {part.name_in_file}."
        )
    if product == "daily" and part.variable in SOIL:
        days = part.stamps.astype("datetime64[D]")
        counts = np.unique(np.unique(part.stamps).astype("datetime64[D]"), return_counts=True)[1]
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


def complete_days(source: Source, product: Product) -> tuple[np.ndarray, dict[str, str]]:
    """The days on which all three variables are complete, and why each other day between is not.

    Returns (days, datetime64[D]; reason by ISO date, from the first to the last day that any file touches).
    Raises UserError where files lack most hours of their days, and where no day is complete.
    """
    stamps = {v: source.stamps(v) for v in ("precipitation", *SOIL)}
    touched = np.concatenate([(s - (HOUR if v == "precipitation" else 0 * HOUR)).astype("datetime64[D]")
                              for v, s in stamps.items()])  # fmt: skip
    if not len(touched):
        raise UserError("the files hold no valid time at which they cover the whole region.")
    days = np.arange(touched.min(), touched.max() + DAY, dtype="datetime64[D]")
    have, need = {}, {}
    for variable, times in stamps.items():
        offsets = hours_of(variable, np.datetime64("2000-01-01"), product) - np.datetime64("2000-01-01", "m")
        wanted = days[:, None].astype("datetime64[m]") + offsets
        have[variable], need[variable] = np.isin(wanted, times).sum(1), len(offsets)
        _refuse_sparse(source, variable, have[variable], need[variable], days)
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


def _refuse_sparse(source: Source, variable: str, have: np.ndarray, need: int, days: np.ndarray) -> None:
    """Raises UserError for a file whose days lack most of their hours, even with all other files' hours."""
    if need == 1:
        return
    for i in source.of(variable):
        part = source.parts[i]
        times = part.stamps - (HOUR if variable == "precipitation" else 0 * HOUR)
        touched = np.intersect1d(times.astype("datetime64[D]"), days)  # a part may lie outside the window and its days
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
    source: Source, variable: str, days: np.ndarray, product: Product, sea: Bool[np.ndarray, "rows columns"] | None
) -> Float[np.ndarray, "days rows columns"]:
    """The variable's daily values on the source's window, in the unit of a prepared data set, float32.

    Soil moisture in [−0.01, 0) becomes 0 hour by hour. A cell that is missing in one hour is missing that day.
    Raises UserError for values outside physical limits.
    """
    out = np.empty((len(days), *source.cells.shape), np.float32)
    offsets = hours_of(variable, np.datetime64("2000-01-01"), product) - np.datetime64("2000-01-01", "m")
    per_day = len(offsets)
    block = source.days_at_once(variable, len(days))
    for tile in source.tiles(variable, block * per_day):
        for first in range(0, len(days), block):
            some = slice(first, min(first + block, len(days)))
            stamps = (days[some, None].astype("datetime64[m]") + offsets).reshape(-1)
            hours = source.read(variable, stamps, tile)
            if sea is not None:  # land alone: the sea's rain and temperature would stain the coast
                hours[:, sea[tile]] = np.nan
            _clean(source, variable, hours, stamps)
            total = np.zeros((some.stop - some.start, *hours.shape[1:]), np.float64)
            for hour in range(per_day):
                total += hours[hour::per_day]
            out[(some, *tile)] = total * 1000 if variable == "precipitation" else total / per_day
    return out


def _clean(source: Source, variable: str, hours: np.ndarray, stamps: np.ndarray) -> None:
    """Packing noise below zero becomes 0, in place; anything else outside physical limits is a UserError."""
    low, high = VARIABLES[variable].limits
    noise = {"soil_moisture": PACKING_NOISE, "precipitation": -RAIN_NOISE / 1000}.get(variable, low)
    high = high / 1000 if variable == "precipitation" else high
    below = hours < low
    if below.any():
        if (hours[below] < noise).any():
            _refuse_value(source, variable, hours, stamps, hours < noise)
        hours[below] = 0.0
    above = hours > high
    if above.any():
        _refuse_value(source, variable, hours, stamps, above)


def _refuse_value(source: Source, variable: str, hours: np.ndarray, stamps: np.ndarray, bad: np.ndarray) -> None:
    hour, row, column = np.argwhere(bad)[0]
    files = [source.parts[i].file.name for i in source.of(variable) if stamps[hour] in source.parts[i].stamps]
    low, high = VARIABLES[variable].limits
    limits = (
        f"0 to {high / 1000:g} m" if variable == "precipitation" else f"{low:g} to {high:g} {VARIABLES[variable].units}"
    )
    raise UserError(
        f"{files[0]}: {variable} is {hours[hour, row, column]:g} at {stamps[hour]} UTC, outside its physical limits; "
        f"expected {limits}, or the file's missing value."
    )


def check_accumulation(source: Source, days: np.ndarray, product: Product) -> dict[str, bool]:
    """Whether rain decided, of each file that was looked at.

    Raises UserError where precipitation, within its days, contradicts the product's accumulation rule. ERA5-Land's
    running sums never fall from 01 to 24 UTC and start anew after; hourly totals fall as often as they rise. Each file
    that holds several hours of a day is looked at, on up to six of its days, until rain decides.
    """
    have = source.stamps("precipitation")
    decided: dict[str, bool] = {}
    for i in source.of("precipitation"):
        own = np.unique(source.parts[i].stamps)
        own_days, counts = np.unique((own - HOUR).astype("datetime64[D]"), return_counts=True)
        several = np.intersect1d(own_days[counts >= 6], days)
        several = (
            several[np.linspace(0, len(several) - 1, min(6, len(several))).astype(int)] if len(several) else several
        )
        if not len(several):
            continue
        name = source.parts[i].file.name
        decided.setdefault(name, False)
        tiles = list(source.tiles("precipitation", 24))
        for k, day in enumerate(several):
            stamps = (day + np.arange(25) * HOUR).astype("datetime64[m]")
            stamps = stamps[np.isin(stamps, have)]
            hours = source.read("precipitation", stamps, tiles[(len(tiles) // 2 + k) % len(tiles)]) * 1000
            kind, evidence = accumulation(hours, stamps)
            if kind == "undecided":
                continue
            expected = "hourly" if product == "era5" else "since 00 UTC"
            if kind != expected:
                other = {"era5": "era5-land"}.get(product, "era5")
                raise UserError(
                    f"{name} contradicts --product {product}: {evidence}, so its precipitation is "
                    + ("a running sum since 00 UTC" if kind == "since 00 UTC" else "hourly totals")
                    + f", not {'hourly totals' if product == 'era5' else 'a running sum since 00 UTC'}; "
                    f"try --product {other}."
                )
            decided[name] = True
            break
    return decided


def accumulation(hours: Float[np.ndarray, "hours rows columns"], stamps: np.ndarray) -> tuple[str, str]:
    """("hourly", "since 00 UTC" or "undecided"; the evidence in words) for the hours 00 to 24 UTC of one day, in mm."""
    tolerance = max(0.01, 1e-3 * float(np.nanmax(hours, initial=0.0)))
    day = stamps[-1] - HOUR  # any time within the day
    starts = bool(stamps[0] == day.astype("datetime64[D]"))  # 00 UTC still belongs to the day before
    within = np.diff(hours[1:] if starts else hours, axis=0)
    falls, rises = within < -tolerance, within > tolerance
    changes = int(falls.sum() + rises.sum())
    if falls.sum() >= 3 and falls.sum() > 0.01 * changes:
        hour, row, column = np.argwhere(falls)[0] + [1 if starts else 0, 0, 0]
        return "hourly", (
            f"within {day.astype('datetime64[D]')} it falls in {int(falls.sum())} of {changes} hourly changes, "
            f"as from {hours[hour, row, column]:.2f} mm at {stamps[hour]} to {hours[hour + 1, row, column]:.2f} mm an "
            "hour later"
        )
    wet = hours[0] > tolerance
    if starts and not changes and wet.sum() >= 3:
        same = (np.abs(hours[1] - hours[0]) <= tolerance)[wet]
        if same.mean() > 0.9:
            return "hourly", (
                f"within {day.astype('datetime64[D]')} it stays the same from hour to hour and does not start anew "
                f"after 00 UTC in {same.mean():.0%} of the wet cells"
            )
    if rises.sum() >= 3 and falls.sum() <= 0.01 * changes and starts:
        reset = (hours[1] < hours[0] - tolerance)[wet]
        if wet.any() and reset.mean() > 0.5:
            return "since 00 UTC", (
                f"within {day.astype('datetime64[D]')} it rises {int(rises.sum())} times from hour to hour and never "
                f"falls, and it starts anew after 00 UTC in {reset.mean():.0%} of the wet cells"
            )
    return "undecided", ""


def sea_mask(source: Source) -> Bool[np.ndarray, "rows columns"] | None:
    """True on sea where the files do not say so with NaN; None where they do.

    Old NetCDF and ERA5 single levels put one value near 0, of either sign, on the sea. Sea is then where `lsm` is below
    0.5 if files have it for the whole window; otherwise where soil moisture lies between packing noise and 0.001
    throughout all files and is constant in time: exactly within each file of packed integers, whose scale is its own,
    and to a packing step over all others.
    """
    land = source.of("land")
    masked = np.zeros(source.cells.shape, bool)
    if land and source._cover(frozenset(land)):
        masked = ~(source.read("land", source.parts[land[0]].stamps[:1])[0] >= 0.5)
    parts = [source.only([i]) for i in source.of("soil_moisture")]
    # the first hour of every file usually tells that there is no such sea, without reading the rest
    sea, seen = np.ones(source.cells.shape, bool), np.zeros(source.cells.shape, bool)
    for part in parts:
        first = part.read("soil_moisture", part.parts[0].stamps[:1])[0]
        if np.isfinite(first[masked]).any():
            return masked
        near_zero = (first >= PACKING_NOISE) & (first < SEA)
        seen |= near_zero
        sea &= np.isnan(first) | near_zero
    if masked.any() or not (sea & seen).any():
        return None
    lowest, highest = np.full(sea.shape, np.inf), np.full(sea.shape, -np.inf)  # of all files that are not packed
    for part in parts:
        low, high = _extremes(part)
        sea &= (low >= PACKING_NOISE) & (high < SEA)
        if part.parts[0].packed:
            sea &= high <= low
        else:
            lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
    return sea & (highest - lowest <= PACKING_STEP)


def _extremes(part: Source) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest soil moisture of every cell in one file; +inf and −inf where it is missing throughout."""
    low, high = np.full(part.cells.shape, np.inf, np.float32), np.full(part.cells.shape, -np.inf, np.float32)
    stamps = np.unique(part.parts[0].stamps)
    block = 24 * part.days_at_once("soil_moisture", 31)
    for tile in part.tiles("soil_moisture", min(block, len(stamps))):
        for first in range(0, len(stamps), block):
            hours = part.read("soil_moisture", stamps[first : first + block], tile)
            low[tile] = np.fmin(low[tile], np.fmin.reduce(hours))
            high[tile] = np.fmax(high[tile], np.fmax.reduce(hours))
    return low, high
