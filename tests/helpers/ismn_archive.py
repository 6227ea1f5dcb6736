"""An archive in the layout of the International Soil Moisture Network, made up: its own data may not be passed on."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

STATIC = """quantity_name;unit;depth_from[m];depth_to[m];value;description;quantity_source_name
land cover classification;-;-;-;130;Grassland;CCI_landcover_2010
climate classification;-;-;-;{climate};Koeppen Geiger;koeppen_geiger_2007
"""


def hourly(daily: np.ndarray, start: str) -> pd.Series:
    """Each value for the 24 hours of its day."""
    times = pd.date_range(start, periods=24 * len(daily), freq="h")
    return pd.Series(np.repeat(daily, 24), index=times)


def write_sensor(
    archive: Path,
    values: pd.Series,
    *,
    network: str = "NET",
    station: str = "Meadow",
    place: tuple[float, float] = (40.0, 80.0),
    depth: tuple[float, float] = (0.05, 0.05),
    variable: str = "sm",
    sensor: str = "Probe-A",
    climate: str = "BSk",
    flags: np.ndarray | str = "G",
    ceop: bool = False,
) -> Path:
    """A file of one sensor, and the table of its station's fixed properties."""
    folder = archive / network / station
    folder.mkdir(parents=True, exist_ok=True)
    first, last = values.index[[0, -1]].strftime("%Y%m%d")
    name = f"{network}_{network}_{station}_{variable}_{depth[0]:f}_{depth[1]:f}_{sensor}_{first}_{last}.stm"
    fixed = f"{network} {network} {station} {place[0]:.5f} {place[1]:.5f} 1200.00 {depth[0]:.2f} {depth[1]:.2f}"
    lines = [] if ceop else [f"{fixed} {sensor}"]
    marks = np.broadcast_to(flags, len(values))
    for time, value, mark in zip(values.index.strftime("%Y/%m/%d %H:%M"), values, marks, strict=True):
        lines.append(f"{time} {time} {fixed} {value:.5f} {mark} M" if ceop else f"{time} {value:.5f} {mark} M")
    (folder / name).write_text("\n".join(lines) + "\n")
    (folder / f"{network}_{network}_{station}_static_variables.csv").write_text(STATIC.format(climate=climate))
    return folder / name


def zip_archive(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))
