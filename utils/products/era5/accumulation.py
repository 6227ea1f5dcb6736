"""How a file's precipitation accumulates: hour by hour, or as a running sum since 00 UTC.

Taking one for the other gives rain that is many times too much or too little, so it is looked up in the rain itself.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from utils.common.cli import UserError
from utils.products import HOUR
from utils.products.era5 import Product
from utils.products.era5.mosaic import Mosaic

HOURLY, RUNNING_SUM = "hourly totals", "a running sum since 00 UTC"
LOOKED_AT = 6  # days of a file, at most


@dataclass(frozen=True)
class Accumulation:
    """What a day's rain shows: HOURLY or RUNNING_SUM, and the evidence in words."""

    kind: str
    evidence: str


def check_accumulation(mosaic: Mosaic, days: np.ndarray, product: Product) -> dict[str, bool]:
    """Whether rain decided, by the name of each file that was looked at.

    Every file that holds several hours of a day is looked at, on up to LOOKED_AT of its days, until rain decides.
    Raises UserError where precipitation, within its days, contradicts the product.
    """
    expected = HOURLY if product == "era5" else RUNNING_SUM
    have = mosaic.stamps("precipitation")
    decided: dict[str, bool] = {}
    for i in mosaic.of("precipitation"):
        part = mosaic.parts[i]
        some_days = _days_to_look_at(part.stamps, days)
        if not len(some_days):
            continue
        decided.setdefault(part.file.name, False)
        seen = _first_decision(mosaic, some_days, have)
        if seen is None:
            continue
        if seen.kind != expected:
            other = "era5-land" if expected == HOURLY else "era5"
            raise UserError(
                f"{part.file.name} contradicts --product {product}: {seen.evidence}, so its precipitation is "
                f"{seen.kind}, not {expected}; try --product {other}."
            )
        decided[part.file.name] = True
    return decided


def _days_to_look_at(stamps: np.ndarray, days: np.ndarray) -> np.ndarray:
    """LOOKED_AT days at most, evenly spread over those of which a file holds several hours."""
    own_days, counts = np.unique((np.unique(stamps) - HOUR).astype("datetime64[D]"), return_counts=True)
    several = np.intersect1d(own_days[counts >= 6], days)
    if len(several) <= LOOKED_AT:
        return several
    return several[np.linspace(0, len(several) - 1, LOOKED_AT).astype(int)]


def _first_decision(mosaic: Mosaic, days: np.ndarray, have: np.ndarray) -> Accumulation | None:
    """What rain shows on the first of these days that decides, each looked at on another tile of the window.

    `have`: the valid times that cover the window.
    """
    tiles = list(mosaic.tiles("precipitation", 24))
    for k, day in enumerate(days):
        stamps = (day + np.arange(25) * HOUR).astype("datetime64[m]")
        stamps = stamps[np.isin(stamps, have)]
        tile = tiles[(len(tiles) // 2 + k) % len(tiles)]
        accumulation = find_accumulation(mosaic.read("precipitation", stamps, tile) * 1000, stamps)
        if accumulation is not None:
            return accumulation
    return None


def find_accumulation(
    hours: Float[np.ndarray, "hours rows columns"], stamps: Shaped[np.ndarray, "hours"]
) -> Accumulation | None:
    """How the hours 00 to 24 UTC of one day, in mm, accumulate; None where there is too little rain to tell.

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
            f"within {day} it falls in {count_falls} of {changes} hourly changes, as from "
            f"{hours[hour, row, column]:.2f} mm at {stamps[hour]} to {hours[hour + 1, row, column]:.2f} mm an hour "
            "later",
        )
    wet = hours[0] > tolerance
    if starts_at_00 and not changes and wet.sum() >= 3:
        steady = (np.abs(hours[1] - hours[0]) <= tolerance)[wet].mean()
        if steady > 0.9:
            return Accumulation(
                HOURLY,
                f"within {day} it stays the same from hour to hour and does not start anew after 00 UTC in "
                f"{steady:.0%} of the wet cells",
            )
    never_falls = count_falls <= 0.01 * changes  # but for rounding
    if starts_at_00 and wet.any() and count_rises >= 3 and never_falls:
        starts_anew = (hours[1] < hours[0] - tolerance)[wet].mean()
        if starts_anew > 0.5:
            return Accumulation(
                RUNNING_SUM,
                f"within {day} it rises {count_rises} times from hour to hour and never falls, and it starts anew "
                f"after 00 UTC in {starts_anew:.0%} of the wet cells",
            )
    return None
