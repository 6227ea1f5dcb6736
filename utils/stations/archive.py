"""Stations of the International Soil Moisture Network (ISMN): daily means of surface soil moisture, good values alone.

The archive is read as it was downloaded, a folder or its ZIP, in either of ISMN's formats (header and values, CEOP).
The name of a file says variable and depth, so only the sensors that are asked for are opened, and no index is built.

sensors     those of a station that measure within SHALLOW; where none has values in the period, those within SURFACE
values      with ISMN's quality flag G alone
day         the mean of the UTC day, where at least HOURS of its hours have a good value
several     the sensors of a station, or the stations of a cell, are averaged as deviations from their own means, so
            that the series does not jump where a sensor begins or ends
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from ismn.base import IsmnRoot
from ismn.filehandlers import DataFile, StaticMetaFile

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.periods import Span
from utils.common.places import cell_at
from utils.common.progress import Progress
from utils.products.archives import refuse_unsafe

SHALLOW, SURFACE = 0.05, 0.10  # m, the lower end of a sensor's layer
HOURS = 12  # of a day
NAME = re.compile(r"_sm_(-?\d+\.\d+)_(-?\d+\.\d+)_")  # of a sensor of soil moisture: its depths, m
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sensor:
    """A file of the archive: one sensor of soil moisture."""

    file: str  # inside the archive
    depth: tuple[float, float]  # m, of its layer


@dataclass(frozen=True, eq=False)
class Station:
    """A station that lies in a cell, and what its sensors measured."""

    network: str
    name: str
    climate: str  # Köppen–Geiger, such as BSk
    lat: float
    lon: float  # −180 to 180
    elevation: float  # m
    depth: tuple[float, float]  # m, from the shallowest to the deepest sensor
    sensors: int
    cell: tuple[int, int]  # row and column of the grid
    moisture: pd.Series  # by day of the whole record, m3 m-3


@dataclass
class Archive:
    """The stations that lie in a grid and have values, and how many others there are."""

    path: Path
    stations: list[Station] = field(default_factory=list)
    outside: list[tuple[float, float]] = field(default_factory=list)  # latitude and longitude
    no_values: int = 0  # in the grid, but without a good day in the period
    unreadable: list[str] = field(default_factory=list)  # files


def read_archive(path: Path, grid: Grid, period: Span) -> Archive:
    """The stations of ISMN's folder or ZIP archive that lie in a cell of the grid, with their days of the period.

    Raises UserError for what is no such archive, and for an archive without surface soil moisture.
    """
    root = _open_root(path)
    archive = Archive(path)
    stations = _find_sensors(root)
    with Progress(total=len(stations), name="stations", unit="station", quiet=True) as progress:
        for folder, sensors in stations.items():
            _add_station(archive, root, sensors, grid, period)
            progress.step(folder)
    root.close()
    return archive


def combine(series: Sequence[pd.Series]) -> pd.Series:
    """The mean of several series, by day, of those that have a value; each has its own mean removed and added again."""
    table = pd.concat(series, axis=1).sort_index()
    means = table.mean()
    return (table - means).mean(axis=1).dropna() + means.mean()


def _open_root(path: Path) -> IsmnRoot:
    expected = "expected the folder or the ZIP archive of a download from ISMN"
    if not path.exists():
        raise UserError(f"{path} does not exist, {expected}.")
    if not path.is_dir() and not zipfile.is_zipfile(path):
        raise UserError(f"{path} is no ZIP archive, or a damaged one, {expected}.")
    root = IsmnRoot(path)
    if root.zip:
        refuse_unsafe(path, root.zip.infolist())
    return root


def _find_sensors(root: IsmnRoot) -> dict[str, list[Sensor]]:
    """The sensors of the surface layer, by the folder of their station. Raises UserError where there is none."""
    files = root.zip.namelist() if root.zip else [str(p.relative_to(root.path)) for p in root.path.rglob("*.stm")]
    files = [file for file in files if file.endswith(".stm")]
    if not files:
        raise UserError(
            f"{root.path} holds no file of ISMN (*.stm in folders of networks and stations); give the folder or the "
            "ZIP archive as it was downloaded (docs/stations.md)."
        )
    stations: dict[str, list[Sensor]] = {}
    for file in sorted(files):
        name = NAME.search(Path(file).name)
        if name and float(name[1]) >= 0 and float(name[2]) <= SURFACE:
            depth = float(name[1]), float(name[2])
            stations.setdefault(str(Path(file).parent), []).append(Sensor(file, depth))
    if not stations:
        raise UserError(
            f"{root.path} holds {len(files)} files of ISMN, but none of soil moisture within {SURFACE:g} m; download "
            "the variable soil moisture."
        )
    return stations


def _add_station(archive: Archive, root: IsmnRoot, sensors: list[Sensor], grid: Grid, period: Span) -> None:
    """Read a station and add it, or count why it is not added."""
    files = _open_sensors(archive, root, sensors)
    if not files:
        return
    first = next(iter(files.values()))
    about = {name: first.metadata[name].val for name in ("station", "latitude", "longitude", "elevation")}
    cell = cell_at(grid, about["latitude"], about["longitude"])
    if cell is None:
        archive.outside.append((about["latitude"], about["longitude"]))
        return
    open_then = {sensor: file for sensor, file in files.items() if _overlaps(file, period)}
    shallow = {sensor: file for sensor, file in open_then.items() if sensor.depth[1] <= SHALLOW}
    deeper = {sensor: file for sensor, file in open_then.items() if sensor not in shallow}
    for group in (shallow, deeper):
        chosen = _read_sensors(archive, group)
        if _has_days(chosen, period):
            break
    else:
        archive.no_values += 1
        return
    station = Station(
        network=(root.path.resolve() / sensors[0].file).parts[-3],
        name=about["station"],
        climate=_read_climate(root, sensors[0].file),
        lat=about["latitude"],
        lon=about["longitude"],
        elevation=about["elevation"],
        depth=(min(sensor.depth[0] for sensor in chosen), max(sensor.depth[1] for sensor in chosen)),
        sensors=len(chosen),
        cell=cell,
        moisture=combine(list(chosen.values())),
    )
    archive.stations.append(station)


def _has_days(series: Mapping[Sensor, pd.Series], period: Span) -> bool:
    first, last = map(pd.Timestamp, period)
    return any(len(days.loc[first:last]) for days in series.values())


def _open_sensors(archive: Archive, root: IsmnRoot, sensors: list[Sensor]) -> dict[Sensor, DataFile]:
    """The files of these sensors, with what is known of the sensor; damaged ones are noted and left out."""
    files = {}
    for sensor in sensors:
        try:
            files[sensor] = DataFile(root, Path(sensor.file), verify_filepath=False)
        except Exception:  # ismn raises many kinds; all mean the same here
            archive.unreadable.append(sensor.file)
    return files


def _read_sensors(archive: Archive, files: Mapping[Sensor, DataFile]) -> dict[Sensor, pd.Series]:
    """Daily means of each sensor that has any."""
    series = {}
    for sensor, file in files.items():
        try:
            table = file.read_data()
        except Exception:  # as above
            archive.unreadable.append(str(file.file_path))
            continue
        good = table.loc[table["soil_moisture_flag"] == "G", "soil_moisture"].astype(float)
        days = daily_means(good, name=str(file.file_path))
        if len(days):
            series[sensor] = days
    return series


def _overlaps(sensor: DataFile, period: Span) -> bool:
    first, last = (sensor.metadata[name].val for name in ("timerange_from", "timerange_to"))
    return first < pd.Timestamp(period[1]) + pd.Timedelta(days=1) and last >= pd.Timestamp(period[0])


def daily_means(good: pd.Series, name: str) -> pd.Series:
    """Means of UTC days from good values by time, m3 m-3, where HOURS hours have one.

    Raises UserError, with the `name` of the file, for values that are no fraction of volume.
    """
    if len(good) and not good.between(0, 1).all():
        raise UserError(
            f"{name} has good values from {good.min():g} to {good.max():g}, expected soil moisture in m3 m-3, 0 to 1."
        )
    hourly = good.groupby(good.index.floor("h")).mean()
    days = hourly.groupby(hourly.index.floor("D").as_unit("ns")).agg(["mean", "count"])
    return days["mean"][days["count"] >= HOURS]


def _read_climate(root: IsmnRoot, file: str) -> str:
    """The Köppen–Geiger class of a station, from the table of its fixed properties."""
    try:
        tables = root.find_files(Path(file).parent, "*.csv")
        climate = StaticMetaFile(root, tables[0]).metadata["climate_KG"].val
    except Exception:  # stations without this table, or without this line, are as good as others
        return UNKNOWN
    return UNKNOWN if pd.isna(climate) else str(climate)


def describe_places(places: Sequence[tuple[float, float]]) -> str:
    """The box around places, in words."""
    (south, west), (north, east) = np.min(places, axis=0), np.max(places, axis=0)
    return f"latitude {south:g} to {north:g}, longitude {west:g} to {east:g}"
