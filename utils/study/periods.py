"""The periods of a study: as asked for, else chosen from the records of the source and the target.

    target   train | validation | test      the last year of its record, and the year before it
    source   train | validation | test      the same, but its record counts up to the day before the target's test

The source's own test period is scored, and nothing is learned from it. Where nothing is asked for, it lies in the
target's validation year at the latest. So the source learns from no day that the target is validated or tested on.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from utils.common.cli import UserError
from utils.common.periods import Periods, Span, Split, overlap, refuse_disorder, spans
from utils.dataset.prepared import open_prepared
from utils.settings import EXPERIMENTS

TEST_DAYS = 365  # of the test period, and of the validation period before it
PARTS = ("train", "val", "test")
Asked = Mapping[str, Periods | None]  # of PARTS; a part that is None or missing is chosen from the record


def choose_periods(
    source: Path, target: Path, asked: Asked | None = None, source_asked: Asked | None = None
) -> dict[str, dict[str, Periods]]:
    """First and last target day of train, val and test of each experiment.

    Raises UserError for periods out of order, for one without a day in its record, and where the source would learn
    from a day that the target is validated or tested on.
    """
    record = read_first_and_last_day(target)
    smap = split_record(record, target, asked or {})
    record = read_first_and_last_day(source)
    before_test = smap.test[0][0] - 1
    era5 = split_record(record, source, source_asked or {}, prefix="source-", latest=min(record[1], before_test))
    for learned, scored in product(("train", "val"), ("val", "test")):
        day = overlap(getattr(era5, learned), getattr(smap, scored))
        if day is not None:
            raise UserError(
                f"--source-{learned} has {day}, which lies in --{scored}; the source may not learn from days that the "
                "target is validated or tested on."
            )
    pretraining, scratch, transferred = EXPERIMENTS
    return {pretraining: _plain(era5), scratch: _plain(smap), transferred: _plain(smap)}


def read_first_and_last_day(path: Path) -> Span:
    """Of a prepared data set."""
    with open_prepared(path) as ds:
        days = ds["time"].values.astype("datetime64[D]")
    return days[0], days[-1]


def split_record(
    record: Span, path: Path, asked: Asked, prefix: str = "", latest: np.datetime64 | None = None
) -> Split:
    """The periods of a record, cut to its days; what is not asked for ends on `latest`, or with the record.

    `prefix` stands before a part's name in its flag. Raises UserError where no day would be left to train on.
    """
    first, last = record[0], record[1] if latest is None else latest
    own = {part: spans(prefix + part, asked[part]) for part in PARTS if asked.get(part)}
    test = own.get("test", ((last - TEST_DAYS + 1, last),))
    val = own.get("val", ((test[0][0] - TEST_DAYS, test[0][0] - 1),))
    train = own.get("train", ((first, val[0][0] - 1),))
    if train[0][1] < train[0][0]:
        needed = (last - val[0][0]).astype(int) + 1
        raise UserError(f"{path} offers {first} to {last} to this study, expected more than {needed} days.")
    split = Split(train=train, val=val, test=test)
    refuse_disorder(split, prefix)
    return Split(**{part: _cut(getattr(split, part), record, f"--{prefix}{part}", path) for part in PARTS})


def _cut(periods: tuple[Span, ...], record: Span, flag: str, path: Path) -> tuple[Span, ...]:
    """The days of some periods that the record spans."""
    cut = tuple((max(start, record[0]), min(end, record[1])) for start, end in periods)
    for (start, end), (first, last) in zip(periods, cut, strict=True):
        if last < first:
            raise UserError(f"{flag} {start} {end} has no day in {path}, which has {record[0]} to {record[1]}.")
    return cut


def _plain(split: Split) -> dict[str, Periods]:
    return {part: tuple(str(day) for span in getattr(split, part) for day in span) for part in PARTS}
