"""Open a prepared data set that a script was given, and take its fingerprint.

Where the file is missing and is part of the sample, the error names the command that makes it.
"""

import re
from pathlib import Path

import numpy as np

from utils.common.cli import UserError, fold
from utils.common.files import ROOT, file_hash
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import THREE, VariableNames

SAMPLES = ROOT / "data" / "sample"  # where data/make_sample.py writes


def data_hash(path: Path) -> str:
    """SHA-256 of a data set; a UserError that names the command which makes it where it is missing."""
    if not path.exists():
        open_data_set(path)
    try:
        return file_hash(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {fold(error.strerror or error)}.") from error


def open_data_set(
    path: Path,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    beyond: int = 0,
    variables: VariableNames = THREE,
) -> DataSet:
    """A prepared data set from day `start` to day `end`, and `beyond` days without values behind it.

    Raises UserError where the file is missing or unreadable, where it begins after `start`, and where no day is left.
    """
    resolution = re.fullmatch(r"(?:era5_land|smap_l4)_(.+)deg\.nc", path.name)
    made_by = ""
    if resolution and path.parent == SAMPLES:
        made_by = "python data/make_sample.py" + (f" --resolution {resolution[1]}" if resolution[1] != "1" else "")
    data = DataSet(path, start, made_by, end, beyond, variables)
    if end is not None and not len(data.days):
        raise UserError(f"{path} has no day from {start}, the first that a run may read, to {end}.")
    if start is not None and (not len(data.days) or data.first > start):
        raise UserError(f"{path} begins on {data.first}, the last --target-days on {start}; ask for fewer of them.")
    return data
