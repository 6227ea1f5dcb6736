"""How numbers and counts are written in answers."""

import pandas as pd


def number(value: float | None, digits: int) -> str:
    """With a true minus sign; a dash where there is no value."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def percent(share: float | None) -> str:
    """A share as per cent, with its sign where it is a change."""
    return f"{number(None if share is None else 100 * share, 1)} %"


def days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


def format_unit(unit: str) -> str:
    """A CF unit as it is printed, with superscripts: "m3 m-3" is "m³ m⁻³", and "1" is nothing."""
    return "" if unit == "1" else unit.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
