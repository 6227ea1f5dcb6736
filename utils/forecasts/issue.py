"""From which day a forecast starts, when it is issued, and what is known of the inputs then.

The initial day is the newest day of soil moisture. Its values are there some days later, on the day of issue. So a
forecast that is issued on a given day starts from that day less the lag of soil moisture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from utils.common.cli import UserError
from utils.common.periods import spans, starts_of_runs
from utils.common.text import format_days, join_words
from utils.dataset.lags import KnownInputs, choose_lags, find_newest
from utils.dataset.open import open_data_set
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import VariableNames
from utils.training.checkpoint import load_finished
from utils.training.setup import start_of

RECENTLY = 60  # days: an issue that lies so far back at most may have been meant for today


@dataclass(frozen=True)
class Issue:
    """The initial days of one forecast or of hindcasts, and what they know."""

    first: np.datetime64
    last: np.datetime64
    known: KnownInputs
    history: int  # the smallest number of days in a row up to an initial day
    advice: str = ""  # a sentence where another day of issue would use newer inputs

    @property
    def is_single(self) -> bool:
        return bool(self.first == self.last)

    @property
    def day(self) -> np.datetime64:
        """The day on which the first forecast is issued."""
        return self.first + self.known.lag

    def describe(self) -> str:
        """When a forecast was issued and how old its inputs were, in words."""
        ages = {name.replace("_", " "): int((self.day - day).astype(int)) for name, day in self.known.newest.items()}
        told = join_words([f"{name} of {format_days(age)} ago" for name, age in ages.items()])
        since = _days_since(self.day)
        when = f"{format_days(since)} ago" if since >= 0 else f"in {format_days(-since)}"
        return f"issued on {self.day}, {when}, with {told}"


def find_issue(
    run_dirs: Sequence[Path], data: Path, init: Sequence[str], issue: str | None, lag: Sequence[str]
) -> Issue:
    """What is to be forecast from: `init` and `issue` are dates, `lag` words NAME=DAYS.

    Without dates, the initial day is the last one with soil moisture. Lags hide what came after a day of issue in the
    past. From the last day with soil moisture on, all that the data set has was there: only lags of `lag` hide some.

    Raises UserError for days that the data set does not have, and for lags that mean nothing.
    """
    if init and issue:
        raise UserError("--issue and --init both name a day to start from; give one of them.")
    names = {name: None for run_dir in run_dirs for name in load_finished(run_dir).variables.daily}
    variables = variables_of(names)
    lags = choose_lags(data, variables, lag)
    if init:
        first, last = _read_init(data, init)
        if first != last:
            return Issue(first, last, KnownInputs(lags), _count_history(data, run_dirs, first, last))
    newest_day = find_newest(data, {"soil_moisture": open_data_set(data).days[-1]})["soil_moisture"]
    if issue:
        first = _init_of(data, issue, lags["soil_moisture"])
    elif not init:
        first = newest_day
    if first >= newest_day:
        lags = choose_lags(data, variables, lag, as_expected=False)
    behind = KnownInputs(lags).behind
    newest = find_newest(data, {name: first - behind.get(name, 0) for name in variables.daily}, variables)
    advice = "" if init or issue else _advise(data, first, lags["soil_moisture"], variables)
    history = _count_history(data, run_dirs, first, first)
    return Issue(first, first, KnownInputs(lags, newest), history, advice)


def _count_history(data: Path, run_dirs: Sequence[Path], first: np.datetime64, last: np.datetime64) -> int:
    """The smallest number of days in a row up to a day from `first` to `last`; days after the data count.

    A run reads no day before the first that it may read.
    """
    days = open_data_set(data).days
    begins = [begin for run_dir in run_dirs if (begin := start_of(load_finished(run_dir))) and begin in days]
    starts = np.sort(np.append(days[starts_of_runs(days)], np.array(begins, days.dtype)))
    between = starts[(starts > first) & (starts <= last)]
    return 1 if len(between) else int((first - starts[starts <= first][-1]).astype(int)) + 1


def _read_init(data: Path, words: Sequence[str]) -> tuple[np.datetime64, np.datetime64]:
    if len(words) > 2:
        raise UserError(f"--init has {len(words)} dates, expected a date, or START END.")
    ((first, last),) = spans("init", (words[0], words[-1]))
    days = open_data_set(data).days
    if first < days[0] or last > days[-1]:
        raise UserError(f"{data} has the days {days[0]} to {days[-1]}, --init asks for {first} to {last}.")
    if first == last and first not in days:
        raise UserError(f"{data} does not have the day {first} of --init, there is a gap in its time.")
    return first, last


def _init_of(data: Path, issue: str, lag: int) -> np.datetime64:
    """The initial day of a forecast that is issued on this day; it may lie behind the last day of the data set."""
    ((day, _),) = spans("issue", (issue, issue))
    init, days = day - lag, open_data_set(data).days
    if _days_since(day) < -1:  # where it is tomorrow already, today is a day ahead of UTC
        raise UserError(f"--issue {day} has not come yet; give a day up to today, or leave it out for the newest.")
    if init < days[0] or (init <= days[-1] and init not in days):
        why = f"there is a gap in its time; it has days from {days[0]} to {days[-1]}, but for gaps"
        if init < days[0]:
            why = f"it has days from {days[0]} to {days[-1]}"
        raise UserError(f"--issue {day} starts from {init}, {format_days(lag)} earlier, which {data} lacks: {why}.")
    return init


def _advise(data: Path, init: np.datetime64, lag: int, variables: VariableNames) -> str:
    """A sentence where other inputs go on after soil moisture, or where the issue lies some days back."""
    last = open_data_set(data).days[-1]
    newest = find_newest(data, dict.fromkeys(variables.daily, last), variables)
    later = {name: day for name, day in newest.items() if day > init}
    if later:
        end = max(later.values())
        names = join_words([name.replace("_", " ") for name in later])
        return (
            f"{names} of {data.name} go on for {format_days(int((end - init).astype(int)))} after the last soil "
            f"moisture ({init}); --issue {end + lag} starts from {end}, with soil moisture of that age."
        )
    days = _days_since(init + lag)
    if 0 < days <= RECENTLY:
        today = np.datetime64(datetime.now(UTC).date())
        return f"--issue {today} starts from {today - lag}, with inputs that are {format_days(days)} older than usual."
    return ""


def _days_since(day: np.datetime64) -> int:
    return int((np.datetime64(datetime.now(UTC).date()) - day).astype(int))
