"""Days of a record: which lie in a period, where gaps are, and where in the year they stand."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Bool, Float, Int

from utils.common.cli import UserError

YEAR = 365.2425  # days
Period = Annotated[tuple[str, str], tyro.conf.arg(metavar="START END")]  # ISO dates of target days, inclusive
Periods = Annotated[tuple[str, ...], tyro.conf.arg(metavar="START END ...")]  # one or several pairs
Span = tuple[np.datetime64, np.datetime64]  # first and last day, inclusive


def in_spans(days: np.ndarray, periods: tuple[Span, ...]) -> Bool[np.ndarray, "time"]:
    """Which days lie in any of the periods."""
    inside = np.zeros(len(days), bool)
    for start, end in periods:
        inside |= (days >= start) & (days <= end)
    return inside


def annual_harmonics(days: np.ndarray, harmonics: int) -> Float[np.ndarray, "time term"]:
    """1 and the cosine and sine of the first harmonics of the year, at each day."""
    angle = 2 * np.pi * (days - np.datetime64("2000-01-01", "D")).astype(float)[:, None] / YEAR
    waves = [wave(k * angle) for k in range(1, harmonics + 1) for wave in (np.cos, np.sin)]
    return np.concatenate([np.ones_like(angle), *waves], axis=1)


def starts_of_runs(days: np.ndarray) -> Bool[np.ndarray, "time"]:
    """Which days do not follow the day before: the first, and the first behind each gap."""
    return np.diff(days, prepend=days[0] - 2) != np.timedelta64(1, "D")


def with_days_before(wanted: Int[np.ndarray, "wanted"], days: np.ndarray, count: int) -> Int[np.ndarray, "sample"]:
    """Those of the wanted positions that have `count` days before them without a gap."""
    later = wanted[wanted >= count]
    return later[days[later] - days[later - count] == np.timedelta64(count, "D")]


def format_periods(periods: tuple[Span, ...]) -> str:
    """Periods in words, for a sentence."""
    return ", ".join(f"{start} to {end}" for start, end in periods)


@dataclass(frozen=True)
class Split:
    """Spans of target days. Training ends before validation starts, validation before the test."""

    train: tuple[Span, ...]
    val: tuple[Span, ...]
    test: tuple[Span, ...]

    def plain(self) -> dict[str, list[list[str]]]:
        return {name: [[str(a), str(b)] for a, b in getattr(self, name)] for name in ("train", "val", "test")}

    @classmethod
    def from_plain(cls, periods: dict[str, list[list[str]]]) -> "Split":
        day = np.datetime64
        return cls(**{name: tuple((day(a, "D"), day(b, "D")) for a, b in periods[name]) for name in periods})


def spans(name: str, words: Periods) -> tuple[Span, ...]:
    """START END [START END …] as spans in order of time; UserError for anything that is no period."""
    if not words or len(words) % 2:
        raise UserError(f"--{name} has {len(words)} dates, expected START END pairs.")
    days = [_day(name, word) for word in words]
    found = sorted(zip(days[::2], days[1::2], strict=True))
    for start, end in found:
        if end < start:
            raise UserError(f"--{name} {start} {end} is an empty period: it ends before it starts.")
    for (_, end), (start, _) in pairwise(found):
        if start <= end:
            raise UserError(f"--{name} has overlapping periods: {start} lies in the one that ends on {end}.")
    return tuple(found)


def refuse_disorder(split: Split, prefix: str = "") -> None:
    """A UserError unless train ends before val starts, and val before test; `prefix` is of the flags' names."""
    for first, second in pairwise(("train", "val", "test")):
        end, start = getattr(split, first)[-1][1], getattr(split, second)[0][0]
        if start <= end:
            raise UserError(f"--{prefix}{first} ends on {end}, expected before --{prefix}{second} starts on {start}.")


def overlap(one: tuple[Span, ...], other: tuple[Span, ...]) -> np.datetime64 | None:
    """The first day that lies in a span of both; each span counts by itself, never their hull."""
    common = [max(a, c) for a, b in one for c, d in other if max(a, c) <= min(b, d)]
    return min(common, default=None)


def _day(name: str, word: str) -> np.datetime64:
    try:
        day = np.datetime64(word, "D")
        if len(word) != 10 or np.isnat(day):
            raise ValueError
    except ValueError:
        raise UserError(f"--{name} has {word!r}, expected an ISO date such as 2015-03-31.") from None
    return day


def fills_a_year(days: np.ndarray) -> bool:
    return len(np.unique((days - days.astype("datetime64[Y]")).astype(int))) >= 365


def season_of(days: np.ndarray) -> Int[np.ndarray, "time"]:
    """Index of SEASONS."""
    month = days.astype("datetime64[M]").astype(int) % 12
    return (month + 1) % 12 // 3
