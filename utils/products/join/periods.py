"""Periods for a record of any length: what data/join.py proposes."""

import numpy as np

YEAR = 365  # days
FEWEST = 50  # days of a record that can be divided at all


def propose_periods(days: np.ndarray) -> dict[str, tuple[np.datetime64, np.datetime64]]:
    """First and last day of train, val and test; none for a record of a few weeks.

    The test is the last year and the validation the year before it, as in the study. Of less than three years, each is
    a fifth of the record.
    """
    first, last = days[0], days[-1]
    length = int((last - first).astype(int)) + 1
    if length < FEWEST:
        return {}
    part = YEAR if length >= 3 * YEAR else length // 5
    test, val = last - part + 1, last - 2 * part + 1
    return {"train": (first, val - 1), "val": (val, test - 1), "test": (test, last)}


def describe_periods(days: np.ndarray, name: str) -> list[str]:
    """The proposal as flags, and the command that trains with them; `name` is the data set as one types it."""
    periods = propose_periods(days)
    if not periods:
        return [f"  the record is too short to be divided: less than {FEWEST} days"]
    flags = " ".join(f"--{part} {start} {end}" for part, (start, end) in periods.items())
    command = f"python SMAPtest/train_compact.py --data {name} {flags}"
    return [f"  periods you could take: {flags}", f"  train with: {command}"]
