"""What the command line of data/join.py names: FILE, FILE:NAME, FILE:NAME=precipitation,NAME=…, NAME=UNIT."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.common.cli import UserError
from utils.common.files import is_store
from utils.dataset.prepared import VARIABLES

SUFFIXES = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".csv", ".txt")


@dataclass
class Named:
    """Files of one word of the command line, and which of their variables are asked for."""

    files: list[Path]
    variables: dict[str, str] = field(default_factory=dict)  # variable of a prepared data set → name in the files


def read_target(words: Sequence[str]) -> list[Named]:
    """The words of --target: the name behind a colon is that of soil moisture."""
    return [_read_word(word, "--target", ("soil_moisture",)) for word in words]


def read_predictors(words: Sequence[str]) -> list[Named]:
    """The words of --predictors; a word NAME=precipitation belongs to the file before it."""
    named: list[Named] = []
    for word in words:
        if named and "=" in word and ":" not in word and not Path(word).exists():
            named[-1].variables |= _read_names(word, "--predictors", PREDICTORS)
        else:
            named.append(_read_word(word, "--predictors", PREDICTORS))
    return named


PREDICTORS = tuple(name for name in VARIABLES if name != "soil_moisture")


def read_units(words: Iterable[str]) -> dict[str, str]:
    """The words of --units by the name of the variable in its file."""
    units = dict(word.split("=", 1) for word in words if "=" in word)
    if strange := [word for word in words if "=" not in word]:
        raise UserError(f"--units has {strange[0]!r}, expected NAME=UNIT, such as sm='m3 m-3'.")
    return units


def _read_word(word: str, flag: str, meant: tuple[str, ...]) -> Named:
    start, colon, names = word.rpartition(":")
    if not colon or Path(word).exists() or (len(start) == 1 and not Path(start).exists()):  # a drive, as in C:\cci.nc
        start, names = word, ""
    return Named(_find(start, flag), _read_names(names, flag, meant) if names else {})


def _read_names(words: str, flag: str, meant: tuple[str, ...]) -> dict[str, str]:
    """NAME=precipitation,NAME=soil_temperature; where one variable alone can be meant, NAME is enough."""
    variables = {}
    for pair in words.split(","):
        name, equals, variable = pair.partition("=")
        if not equals and len(meant) == 1:
            variable = meant[0]
        if variable not in meant:
            raise UserError(f"{flag} has {pair!r}, expected NAME={' or NAME='.join(meant)}.")
        variables[variable] = name
    return variables


def _find(word: str, flag: str) -> list[Path]:
    """The files of a name, a folder or a quoted pattern, in order. Raises UserError where there is none."""
    path = Path(word).expanduser()
    if path.is_dir() and not (is_store(path) and any(path.iterdir())):
        found = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
    elif path.exists():
        found = [path]
    else:
        pattern = path.relative_to(path.anchor) if path.is_absolute() else path
        base = Path(path.anchor) if path.is_absolute() else Path()
        found = list(base.glob(str(pattern))) if any(mark in word for mark in "*?[") else []
    if not found:
        raise UserError(f"{flag}: there is no file {word}.")
    return sorted(found)
