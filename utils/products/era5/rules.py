"""How hours, or daily values, make the values of a day: by the product, the stamps, and what the rain itself does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from utils.common.cli import UserError
from utils.products import DAY, HOUR
from utils.products.era5 import Product, RainStamp
from utils.products.era5.part import Part

SEVERAL = 6  # hours of a day with rain values, at least, where rain is hourly
_IN_WORDS = {
    "hourly": "the sum of the hourly totals stamped 01 UTC of D to 00 UTC of D+1",
    "next-day": "the value stamped 00 UTC of D+1",
    "same-day": "the value stamped on D itself",
}


@dataclass(frozen=True)
class DayRule:
    """How the values of day D are made. Soil moisture and temperature are means of the 24 hours of D."""

    soil_daily: bool  # soil moisture and temperature are daily means already
    rain: Literal["hourly", "next-day", "same-day"]
    is_certain: bool = True  # the product, the file or the user says so; else it is only the usual convention
    is_from_hours: bool = False  # rain comes hour by hour, which leaves no doubt about its day

    def __str__(self) -> str:
        return f"precipitation of day D is {_IN_WORDS[self.rain]}"

    def hours_of(self, variable: str) -> np.ndarray:
        """The valid times that make a day's value of a variable, counted from 00 UTC of that day, timedelta64[m]."""
        if variable == "precipitation":
            hours = {"hourly": np.arange(1, 25), "next-day": np.array([24]), "same-day": np.array([0])}[self.rain]
        else:
            hours = np.array([0]) if self.soil_daily else np.arange(24)
        return (hours * HOUR).astype("timedelta64[m]")

    def day_of(self, stamps: np.ndarray, variable: str) -> np.ndarray:
        """The day that each valid time belongs to: rain stamped 00 UTC is that of the day before, by most rules."""
        before = variable == "precipitation" and self.rain != "same-day"
        return (stamps - HOUR if before else stamps).astype("datetime64[D]")


def has_hourly_rain(parts: Sequence[Part]) -> bool:
    """Whether some file holds the rain of several hours of a day."""
    for part in parts:
        if part.variable == "precipitation" and len(part.stamps) >= SEVERAL:
            _, counts = np.unique((np.unique(part.stamps) - HOUR).astype("datetime64[D]"), return_counts=True)
            if counts.max() >= SEVERAL:
                return True
    return False


def rule_of_daily_rain(parts: Sequence[Part], product: Product, given: RainStamp | None) -> DayRule:
    """The rule where rain comes as one value a day: what the user says, else the files, else the product.

    Raises UserError where nobody tells, and where files and user, or two files, contradict each other.
    """
    soil_daily = product in ("daily", "earth-engine")
    told = {part.rain_stamp: part for part in parts if part.variable == "precipitation" and part.rain_stamp}
    if len(told) > 1:
        first, second = (part.file.name for part in told.values())
        raise UserError(f"{first} and {second} stamp their daily precipitation differently; prepare them apart.")
    by_file = next(iter(told), None)
    if given and by_file and given != by_file:
        raise UserError(f"--rain-stamp is {given}, but {told[by_file].file.name} stamps its precipitation {by_file}.")
    if product == "earth-engine":
        by_file = by_file or "same-day"
    if rain := given or by_file:
        return DayRule(soil_daily, rain)
    if product == "daily":
        name = next(part.file.name for part in parts if part.variable == "precipitation")
        raise UserError(
            f"{name} holds one value of precipitation a day and does not tell of which day: give --rain-stamp next-day "
            "where the value at 00 UTC is the total of the day before, as in hourly ERA5-Land, or --rain-stamp "
            "same-day where it is the total of its own day, as from cdo daysum or Earth Engine."
        )
    return DayRule(soil_daily, "hourly" if product == "era5" else "next-day", is_certain=False)


def as_days(part: Part, rule: DayRule, product: Product) -> Part:
    """The part with stamps as the rule counts them: a daily value may be stamped at any hour of its day.

    Raises UserError for values that are no whole hours, and for too few of them to make a day.
    """
    if part.variable == "land":
        return part
    unique = np.unique(part.stamps)
    daily = rule.rain == "same-day" if part.variable == "precipitation" else rule.soil_daily
    _refuse_monthly(part, unique, daily)
    if daily:
        days = part.stamps.astype("datetime64[D]")
        _, counts = np.unique(unique.astype("datetime64[D]"), return_counts=True)
        if counts.max() > 1:
            raise UserError(
                f"{part.file.name} has {counts.max()} values of {part.name_in_file} a day, expected one a day by "
                f"--product {product}; hourly files are --product era5-land or era5."
            )
        return replace(part, stamps=days.astype("datetime64[m]"))
    odd = unique[unique.astype("datetime64[h]") != unique]
    if len(odd):
        raise UserError(f"{part.file.name}: {part.name_in_file} has the valid time {odd[0]}, expected whole hours.")
    return part


def _refuse_monthly(part: Part, unique_stamps: np.ndarray, daily: bool) -> None:
    """Raises UserError for monthly means, where the file says so, and for hours or days that lie a month apart."""
    expected = f"expected {'daily' if daily else 'hourly'} values of {part.name_in_file}"
    if part.evidence and not daily:
        raise UserError(f"{part.file.name} holds monthly means ({part.evidence}), {expected}.")
    steps = np.diff(unique_stamps) / DAY
    if len(steps) and np.median(steps) >= 28:
        held = count_hours(unique_stamps)
        raise UserError(f"{part.file.name} holds {held}, {np.median(steps):g} days apart, {expected}.")


def count_hours(stamps: np.ndarray) -> str:
    """What is there of the days, in words: "12 hours of 12 days"."""
    days = len(np.unique(stamps.astype("datetime64[D]")))
    hours = len(np.unique(stamps))
    return f"{hours} hour{'' if hours == 1 else 's'} of {days} day{'' if days == 1 else 's'}"
