"""How a file's precipitation accumulates: hour by hour, or as a running sum since 00 UTC.

Taking one for the other gives rain that is many times too much or too little, so it is looked up in the rain itself.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from utils.products import HOUR, SameInEveryMonth
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.rules import SEVERAL, DayRule

HOURLY, RUNNING_SUM = "hourly totals", "a running sum since 00 UTC"
LOOKED_AT = 6  # days of a file, at most
ENOUGH_CELLS = 50  # where there are fewer, several days are looked at together


@dataclass(frozen=True)
class Accumulation:
    """What a day's rain shows: HOURLY or RUNNING_SUM, the evidence in words, and the file that it is from."""

    kind: str
    evidence: str
    file: str = ""


def which_accumulation(mosaic: Mosaic, days: np.ndarray) -> Accumulation | None:
    """How the rain of the first file that tells accumulates; None where all are too dry."""
    have = mosaic.stamps("precipitation")
    for i in mosaic.of("precipitation"):
        seen = _first_decision(mosaic, _days_to_look_at(mosaic, mosaic.parts[i].stamps, days), have)
        if seen is not None:
            return replace(seen, file=mosaic.parts[i].file.name)
    return None


def check_accumulation(mosaic: Mosaic, days: np.ndarray, rule: DayRule) -> dict[str, bool]:
    """Whether rain decided, by the name of each file that was looked at.

    Every file that holds several hours of a day is looked at, on some of its days, until rain decides. Raises UserError
    where precipitation, within its days, contradicts the rule by which days are made.
    """
    expected = HOURLY if rule.rain == "hourly" else RUNNING_SUM
    have = mosaic.stamps("precipitation")
    decided: dict[str, bool] = {}
    for i in mosaic.of("precipitation"):
        part = mosaic.parts[i]
        some_days = _days_to_look_at(mosaic, part.stamps, days)
        if not len(some_days):
            continue
        decided.setdefault(part.file.name, False)
        seen = _first_decision(mosaic, some_days, have)
        if seen is None:
            continue
        if seen.kind != expected:
            product = "era5" if expected == HOURLY else "era5-land"
            advice = "try --product era5-land" if expected == HOURLY else "prepare the other files apart"
            raise SameInEveryMonth(
                f"{part.file.name} contradicts --product {product}: {seen.evidence}, so its precipitation is "
                f"{seen.kind}, not {expected} as expected; {advice}."
            )
        decided[part.file.name] = True
    return decided


def _days_to_look_at(mosaic: Mosaic, stamps: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Days at most, evenly spread over those of which a file holds several hours: more of them where cells are few."""
    own_days, counts = np.unique((np.unique(stamps) - HOUR).astype("datetime64[D]"), return_counts=True)
    several = np.intersect1d(own_days[counts >= SEVERAL], days)
    most = LOOKED_AT * _days_together(mosaic)
    if len(several) <= most:
        return several
    return several[np.linspace(0, len(several) - 1, most).astype(int)]


def _days_together(mosaic: Mosaic) -> int:
    """Days that are looked at as one, so that there is the rain of enough cells to tell by."""
    return max(1, ENOUGH_CELLS // int(np.prod(mosaic.cells.shape)))


def _first_decision(mosaic: Mosaic, days: np.ndarray, have: np.ndarray) -> Accumulation | None:
    """What rain shows on the first of these days that decides, each looked at on another tile of the window.

    `have`: the valid times that cover the window.
    """
    tiles = list(mosaic.tiles("precipitation", 24))
    together = _days_together(mosaic)
    for k, first in enumerate(range(0, len(days), together)):
        tile = tiles[(len(tiles) // 2 + k) % len(tiles)]
        windows, shown = [], np.array([], "datetime64[m]")
        for day in days[first : first + together]:
            stamps = (day + np.arange(25) * HOUR).astype("datetime64[m]")
            stamps = stamps[np.isin(stamps, have)]
            if together == 1 or len(stamps) == 25:
                windows.append(mosaic.read("precipitation", stamps, tile) * 1000)
                shown = stamps
        if windows:
            where = f"within {len(windows)} days from {days[first]}" if len(windows) > 1 else f"within {days[first]}"
            accumulation = find_accumulation(np.concatenate(windows, axis=2), shown, where)
            if accumulation is not None:
                return accumulation
    return None


def find_accumulation(
    hours: Float[np.ndarray, "hours rows columns"], stamps: Shaped[np.ndarray, "hours"], where: str
) -> Accumulation | None:
    """How the hours 00 to 24 UTC of a day, in mm, accumulate; None where there is too little rain to tell.

    Several days may lie side by side as further columns: `where` says which days, and `stamps` are those of one.

    A running sum never falls from 01 to 24 UTC and starts anew after; hourly totals fall as often as they rise.
    """
    tolerance = max(0.01, 1e-3 * float(np.nanmax(hours, initial=0.0)))
    day = (stamps[-1] - HOUR).astype("datetime64[D]")
    starts_at_00 = bool(stamps[0] == day)  # this hour still belongs to the day before
    first = 1 if starts_at_00 else 0
    steps = np.diff(hours[first:], axis=0)
    falls, rises = steps < -tolerance, steps > tolerance
    count_falls, count_rises = int(falls.sum()), int(rises.sum())
    changes = count_falls + count_rises
    if count_falls >= 3 and count_falls > 0.01 * changes:
        hour, row, column = np.argwhere(falls)[0]
        hour += first
        return Accumulation(
            HOURLY,
            f"{where} it falls in {count_falls} of {changes} hourly changes, as from "
            f"{hours[hour, row, column]:.2f} mm at {str(stamps[hour])[11:16]} UTC to "
            f"{hours[hour + 1, row, column]:.2f} mm an hour later",
        )
    wet = hours[0] > tolerance
    if starts_at_00 and not changes and wet.sum() >= 3:
        steady = (np.abs(hours[1] - hours[0]) <= tolerance)[wet].mean()
        if steady > 0.9:
            return Accumulation(
                HOURLY,
                f"{where} it stays the same from hour to hour and does not start anew after 00 UTC in "
                f"{steady:.0%} of the wet cells",
            )
    never_falls = count_falls <= 0.01 * changes  # but for rounding
    if starts_at_00 and wet.any() and count_rises >= 3 and never_falls:
        starts_anew = (hours[1] < hours[0] - tolerance)[wet].mean()
        if starts_anew > 0.5:
            return Accumulation(
                RUNNING_SUM,
                f"{where} it rises {count_rises} times from hour to hour and never falls, and it starts anew "
                f"after 00 UTC in {starts_anew:.0%} of the wet cells",
            )
    return None
