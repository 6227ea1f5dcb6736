"""Days of a record: which lie in a period, where gaps are, and where in the year they stand."""

import numpy as np
from jaxtyping import Bool, Float

from utils.settings import Span

YEAR = 365.2425  # days


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


def named(periods: tuple[Span, ...]) -> str:
    """Periods in words, for a sentence."""
    return ", ".join(f"{start} to {end}" for start, end in periods)
