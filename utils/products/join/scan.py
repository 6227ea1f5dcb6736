"""Which files and variables make each field of the data set, found before any value is read."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError
from utils.dataset.prepared import VARIABLES, is_synthetic
from utils.dataset.recognise import AIR_TEMPERATURE, find_alias
from utils.products.join.days import DAY, day_of
from utils.products.join.files import check_field, open_file
from utils.products.join.words import PREDICTORS, Named
from utils.products.units import Conversion, find_conversion

Site = tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Piece:
    """The steps that a file has of a calendar month."""

    path: Path
    steps: slice
    days: np.ndarray  # of each step, datetime64[D]


@dataclass(frozen=True, eq=False)
class Field:
    """A variable of the data set in the files that hold it; all have one grid and one unit."""

    variable: str
    name: str  # in the files
    pieces: list[Piece]  # in order of time
    lat: np.ndarray  # cell centres in the order of the files, degrees
    lon: np.ndarray
    units: str
    conversion: Conversion
    site: Site
    attributes: dict[str, Any]  # global ones of the first file
    synthetic: bool

    @property
    def steps_a_day(self) -> int:
        """The usual number of steps a day."""
        counts = Counter(np.concatenate([piece.days for piece in self.pieces]).tolist())
        return Counter(counts.values()).most_common(1)[0][0]

    @property
    def source(self) -> str:
        """Where the values come from, in words."""
        names = list(dict.fromkeys(piece.path.name for piece in self.pieces))
        return f"{self.name} of {_listed(names)} ({self.units}, {self.steps_a_day} a day)"


@dataclass(frozen=True, eq=False)
class Scan:
    """What is known of a file without its values."""

    path: Path
    ds: xr.Dataset  # closed; its axes and attributes are in memory


@dataclass(frozen=True)
class Asked:
    """What the user says of the files."""

    units: dict[str, str]  # by the name of a variable in its file
    site: Site  # latitude and longitude of a CSV
    layer_depth: float | None  # m
    next_day: bool  # whether rain stamped 00 UTC is of the day before


def _listed(files: Sequence[Path | str]) -> str:
    """The first of some files, and how many others there are."""
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def find_fields(target: Sequence[Named], predictors: Sequence[Named], asked: Asked) -> dict[str, Field]:
    """The fields of all VARIABLES. Raises UserError where one is missing, or where files do not fit each other."""
    paths = list(dict.fromkeys(path for named in (*target, *predictors) for path in named.files))
    bar = tqdm(paths, "looking at files", unit="file", disable=None, leave=False)
    scans = {path: _scan(path, asked.site) for path in bar}
    chosen = {"soil_moisture": _choose(target, "soil_moisture", scans)}
    if not chosen["soil_moisture"]:
        raise _missing("--target", ["soil_moisture"], target, scans)
    chosen |= {variable: _choose(predictors, variable, scans) for variable in PREDICTORS}
    if missing := [variable for variable in PREDICTORS if not chosen[variable]]:
        raise _missing("--predictors", missing, predictors, scans)
    return {variable: _make_field(variable, chosen[variable], asked) for variable in VARIABLES}


def _scan(path: Path, site: Site) -> Scan:
    with open_file(path, site) as ds:
        return Scan(path, ds.assign_coords({axis: ds[axis].load() for axis in ("time", "lat", "lon")}))


def _choose(named: Sequence[Named], variable: str, scans: dict[Path, Scan]) -> list[tuple[Scan, str]]:
    """The files of a variable with its name in each: those that the command line names, else those that it looks like.

    Raises UserError where it has several names.
    """
    files = [(path, word.variables.get(variable)) for word in named for path in word.files]
    chosen = [(scans[path], name) for path, name in files if name]
    if chosen:  # a folder may hold files of other variables too
        chosen = [(scan, name) for scan, name in chosen if name in scan.ds] or chosen
    else:
        alike = {path: find_alias(variable, map(str, scans[path].ds.data_vars)) for path, _ in files}
        chosen = [(scans[path], name) for path, name in alike.items() if name]
    names = list(dict.fromkeys(name for _, name in chosen))
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} could both be {variable}; name one: FILE:{names[0]}={variable}.")
    return chosen


def _missing(flag: str, variables: Sequence[str], named: Sequence[Named], scans: dict[Path, Scan]) -> UserError:
    """The error that says what is missing, what the files hold, and what could stand in."""
    files = [path for word in named for path in word.files]
    held = list(dict.fromkeys(str(name) for path in files for name in scans[path].ds.data_vars))
    example = "FILE:NAME" if flag == "--target" else f"FILE:NAME={variables[0]}"
    hint = ""
    if "soil_temperature" in variables and (air := next((name for name in AIR_TEMPERATURE if name in held), None)):
        hint = f"; {air} is of the air, and may stand in as FILE:{air}=soil_temperature"
    return UserError(
        f"{flag}: nothing in {_listed(files)} looks like {' and '.join(variables)}, found {', '.join(held) or 'none'}; "
        f"name it as {example}{hint}."
    )


def _make_field(variable: str, chosen: list[tuple[Scan, str]], asked: Asked) -> Field:
    first, name = chosen[0]
    units = {asked.units.get(name, scan.ds[name].attrs.get("units")) for scan, _ in chosen if name in scan.ds}
    for scan, _ in chosen:
        check_field(scan.ds, name, scan.path)
        _refuse_other_grid(scan, first, name)
    if len(units) > 1:
        raise UserError(f"{name} has several units: {', '.join(map(str, units))} (in {first.path} and other files).")
    unit = units.pop()
    if unit is None:
        raise UserError(f"{first.path}: {name} has no unit; give it with --units {name}=UNIT.")
    _refuse_odd_times(variable, [scan for scan, _ in chosen])
    next_day = asked.next_day and variable == "precipitation"
    pieces = [piece for scan, _ in chosen for piece in _pieces(scan, next_day)]
    return Field(
        variable=variable,
        name=name,
        pieces=sorted(pieces, key=lambda piece: piece.days[0]),
        lat=first.ds["lat"].values.astype(np.float64),
        lon=first.ds["lon"].values.astype(np.float64),
        units=str(unit),
        conversion=find_conversion(variable, str(unit), f"{first.path}: {name}", asked.layer_depth),
        site=asked.site,
        attributes=first.ds.attrs,
        synthetic=any(is_synthetic(scan.ds) for scan, _ in chosen),
    )


def _refuse_other_grid(scan: Scan, first: Scan, name: str) -> None:
    for axis in ("lat", "lon"):
        one, other = scan.ds[axis].values, first.ds[axis].values
        if one.shape != other.shape or np.abs(one - other).max() > 1e-4:
            raise UserError(f"{scan.path} and {first.path} have {name} on different cells ({axis}).")


def _pieces(scan: Scan, next_day: bool) -> list[Piece]:
    """A file's steps month by month, in its own order of time."""
    days = day_of(scan.ds["time"].values, next_day)
    if not len(days):
        return []
    starts = np.flatnonzero(np.diff(days.astype("datetime64[M]").astype(int), prepend=-(10**6)))
    ends = [*starts[1:], len(days)]
    return [Piece(scan.path, slice(start, end), days[start:end]) for start, end in zip(starts, ends, strict=True)]


def _refuse_odd_times(variable: str, scans: list[Scan]) -> None:
    """Raises UserError for times that are missing, come twice, or are more than a day apart as a rule."""
    times = np.sort(np.concatenate([scan.ds["time"].values for scan in scans]))
    where = scans[0].path
    if not len(times) or np.isnat(times).any():
        raise UserError(f"{where}: time is empty or has missing values, expected a date for every step.")
    steps = np.diff(times)
    if (steps == np.timedelta64(0)).any():
        day = times[1:][steps == np.timedelta64(0)][0]
        raise UserError(f"{variable} has the time {str(day)[:16]} twice, expected each once ({where} or another file).")
    if len(steps) and np.median(steps) > DAY:
        days = np.median(steps) / DAY
        raise UserError(f"{where}: {variable} has steps of {days:g} days, expected one a day or more.")
