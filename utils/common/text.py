"""How numbers and counts are written in sentences."""

from collections.abc import Sequence

import pandas as pd


def format_number(value: float | None, digits: int) -> str:
    """A number with so many decimals and a true minus sign; a dash where there is no value."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def format_percent(share: float | None) -> str:
    """A share (0.25) as per cent ("25.0 %"); a dash where there is no value."""
    return f"{format_number(None if share is None else 100 * share, 1)} %"


def format_days(count: int) -> str:
    """A number of days with its unit: "1 day", "3 days"."""
    return f"{count} day{'' if count == 1 else 's'}"


def join_words(words: Sequence[str]) -> str:
    """A list in a sentence: "30, 90 and 180"; empty for none."""
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last


def format_bytes(count: float) -> str:
    """A size with a unit in which it has up to three digits: "512 bytes", "3.1 MB", "1.5 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} GB" if count < 1000 else f"{count:,.0f} GB"


def format_unit(unit: str) -> str:
    """A CF unit as it is printed, with superscripts: "m3 m-3" is "m³ m⁻³", and "1" is nothing."""
    return "" if unit == "1" else unit.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
