"""What a file is that is no prepared data set: a raw product, a table, or a data set with other names.

The readers refuse such a file. This module says which file it is, which script reads it, and which of its variables
look like the three that a prepared data set has.
"""

import contextlib
import csv
import re
import shlex
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import netCDF4

from utils.common.cli import UserError

ALIASES = {  # names that products give to the variables; the first of them that a file has is taken
    "precipitation": (
        "precipitation",
        "tp",  # ERA5 and ERA5-Land
        "total_precipitation_sum",  # Earth Engine
        "total_precipitation",
        "precipitation_total_surface_flux",  # SMAP L4
        "Rainf_f_tavg",  # GLDAS
        "Rainf_tavg",
        "Rainf",
        "rr",  # E-OBS
        "pr",  # CMIP, CHIRPS
        "precip",
        "prcp",
        "pre",
        "rain",
        "rainfall",
    ),
    "soil_moisture": (
        "soil_moisture",
        "sm",  # ESA CCI
        "swvl1",  # ERA5 and ERA5-Land
        "volumetric_soil_water_layer_1",
        "sm_surface",  # SMAP L4
        "SMsurf",  # GLEAM
        "SMs",
        "SoilMoi0_10cm_inst",  # GLDAS Noah
        "SoilMoist_S_tavg",  # GLDAS Catchment
        "mrsos",  # CMIP
        "ssm",
        "SSM",
    ),
    "soil_temperature": (
        "soil_temperature",
        "stl1",  # ERA5 and ERA5-Land
        "soil_temperature_level_1",
        "soil_temp_layer1",  # SMAP L4
        "SoilTMP0_10cm_inst",  # GLDAS Noah
        "tsl",  # CMIP
    ),
}
AIR_TEMPERATURE = ("t2m", "tg", "tas", "temperature_2m", "Tair_f_inst")  # no soil temperature; it may stand in for one
ERA5_NAMES = {"swvl1", "swvl2", "swvl3", "swvl4", "stl1", "stl2", "stl3", "stl4", "tp", "t2m", "d2m", "sp", "lsm"}
SMAP_L3_GROUP = "Soil_Moisture_Retrieval_Data"
SMAP_L4_GROUPS = {  # group: the product of SMAP L4 that has it
    "Geophysical_Data": "SPL4SMGP, the geophysical data",
    "Analysis_Data": "SPL4SMAU, the analysis update, which has no precipitation",
    "Forecast_Data": "SPL4SMAU, the analysis update, which has no precipitation",
    "Land-Model-Constants_Data": "SPL4SMLM, the constants of its land model",
}
_SIGNATURES = {b"GRIB": "a GRIB file", b"PK\x03\x04": "a ZIP archive", b"II*\0": "a GeoTIFF", b"MM\0*": "a GeoTIFF"}


def find_alias(variable: str, names: Iterable[str]) -> str | None:
    """Which of these names is one that products give to a variable; None where none is."""
    held = list(names)
    return next((name for name in ALIASES[variable] if name in held), None)


def refuse_foreign(path: Path) -> None:
    """Raises UserError, which says what a file is and which script reads it, where the file is known."""
    if foreign := _describe(path):
        raise UserError(f"{path} {foreign}.")


def refuse_smap(path: Path) -> None:
    """The same for raw files of SMAP alone."""
    if foreign := _describe_smap(path):
        raise UserError(f"{path} {foreign}.")


def _describe(path: Path) -> str:
    """What a file is, as the end of a sentence; empty for a file that is not known."""
    with contextlib.suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                start = file.read(4)
            for signature, kind in _SIGNATURES.items():
                if start == signature:
                    return f"is {kind}, no prepared data set; data/prepare_*.py read raw files (data/README.md)"
            return _describe_table(path) or _describe_smap(path) or _describe_era5(path)
    return ""


def columns_of(path: Path) -> list[str]:
    """The column names of a table with at least one row, such as a CSV file; none where the file is no table."""
    with contextlib.suppress(OSError, UnicodeDecodeError, csv.Error), path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in islice(file, 50) if line.strip() and not line.startswith("#")]
        if len(lines) < 2 or "\0" in "".join(lines):
            return []
        separator = csv.Sniffer().sniff(lines[0], delimiters=",;\t").delimiter
        rows = list(csv.reader(lines[:2], delimiter=separator))
        if len(rows[0]) > 1 and len(rows[0]) == len(rows[1]):
            return [name.strip() for name in rows[0]]
    return []


def has_places(columns: Iterable[str]) -> bool:
    """Whether a table has a column of latitudes: it may hold many places."""
    return bool({name.lower() for name in columns} & {"lat", "latitude"})


def describe_missing(path: Path, held: Iterable[str]) -> str:
    """What a file without the three variables holds, what looks like them, and the command that joins them."""
    names = list(held)
    alike = {variable: name for variable in ALIASES if (name := find_alias(variable, names))}
    listed = ", ".join(names) or "none"
    if not alike:
        return f"found {listed}; data/join.py makes a data set of files with other names (docs/own_data.md)"
    told = ", ".join(f"{name} looks like {variable}" for variable, name in alike.items() if name != variable)
    this = shlex.quote(str(path))
    target = f"{this}:{alike['soil_moisture']}" if "soil_moisture" in alike else "TARGET.nc:NAME"
    pairs = [f"{alike[name]}={name}" for name in ("precipitation", "soil_temperature") if name in alike]
    predictors = f"{this}:{','.join(pairs)}" if pairs else "OTHER.nc"
    command = f"python data/join.py --target {target} --predictors {predictors} --out mine.nc (docs/own_data.md)"
    return f"found {listed}; {told + '; ' if told else ''}join what you have with: {command}"


def _describe_table(path: Path) -> str:
    columns = columns_of(path)
    if not columns:
        return ""
    service = describe_service(columns)
    if service:
        return f"is a CSV table of {service}, no prepared data set; python data/join.py reads the series of one site"
    if has_places(columns):
        return (
            "is a CSV table with latitudes, no prepared data set; python data/join.py reads the series of one site, "
            "get a grid as NetCDF (docs/own_data.md)"
        )
    return "is a CSV table, no prepared data set; python data/join.py reads the series of one site (docs/own_data.md)"


def describe_service(columns: Iterable[str]) -> str:
    """Which service made a table of these columns, and how to get maps from it; empty for any other table."""
    names = list(columns)
    if any(re.match(r"SPL\w+_\d{3}_", name) for name in names):
        return "AppEEARS (point samples; for maps, ask it for an area as NetCDF-4)"
    if {"system:index", ".geo"} & {*names}:
        return "Earth Engine (for maps, export images as GeoTIFF: data/README.md)"
    return ""


def _describe_smap(path: Path) -> str:
    """The product of SMAP that a raw file is of, as the end of a sentence; empty for any other file."""
    groups, names, _ = _content(path)
    for group, product in SMAP_L4_GROUPS.items():
        if any(name.startswith(group) for name in groups | names):
            reader = "data/prepare_smap_l4.py reads SPL4SMGP, the geophysical data"
            return f"is a raw file of SMAP L4 ({product}), no prepared data set; {reader}"
    if any(name.startswith(SMAP_L3_GROUP) for name in groups | names):
        return "is a raw file of SMAP L3, no prepared data set; data/prepare_smap_l3.py reads its granules"
    return ""


def _describe_era5(path: Path) -> str:
    _, names, history = _content(path)
    held = sorted(ERA5_NAMES & names)
    if held and ("grib" in history.lower() or "valid_time" in names):
        return (
            f"is a raw file of ERA5 or ERA5-Land (it holds {', '.join(held)}), no prepared data set; "
            "data/prepare_era5_land.py reads such files"
        )
    return ""


def _content(path: Path) -> tuple[set[str], set[str], str]:
    """The groups and variables at the root of a NetCDF or HDF5 file, and its history; nothing of another file."""
    with contextlib.suppress(OSError, RuntimeError), netCDF4.Dataset(path) as file:
        return set(file.groups), set(file.variables), str(getattr(file, "history", ""))
    return set(), set(), ""
