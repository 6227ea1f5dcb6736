"""Reads the published folder: CSV files with a row a cell and a column a day, and where the cells lie."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from utils.common.cli import UserError, fold
from utils.common.grid import Grid

MISSING = -9999
YEARS = ("2015", "2016", "2017")  # each from April to March
SMAP = "SMAP_AM"  # absent in 2017, as published
WEATHER = ("APCP_FORA", "TMP_2_FORA", "SPFH_2_FORA", "UGRD_10_FORA", "VGRD_10_FORA", "DSWRF_FORA", "DLWRF_FORA")
CONSTANTS = ("Sand", "Silt", "Clay", "Bulk", "Capa", "NDVI")


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of the folder on their grid: every fourth row and column of EASE-Grid 2.0 at 36 km."""

    grid: Grid  # latitudes descend
    row: Int[np.ndarray, " cell"]
    column: Int[np.ndarray, " cell"]

    def on_map(self, values: Float[np.ndarray, "... cell"]) -> Float[np.ndarray, "... lat lon"]:
        """Values of the cells as maps, NaN elsewhere, float32."""
        maps = np.full((*values.shape[:-1], *self.grid.shape), np.nan, np.float32)
        maps[..., self.row, self.column] = values
        return maps


def read_cells(folder: Path) -> Cells:
    """The cells of crd.csv: latitude and longitude, degrees, a row each."""
    lat, lon = _read(folder / "crd.csv").T.round(5)  # the same row's latitudes differ in the seventh digit
    rows, columns = np.unique(lat)[::-1], np.unique(lon)
    return Cells(Grid(rows, columns), np.searchsorted(-rows, -lat), np.searchsorted(columns, lon))


def complete_years(folder: Path) -> list[str]:
    """The years whose weather is there. Raises UserError where there is none."""
    years = [year for year in YEARS if all((folder / year / f"{name}.csv").exists() for name in (*WEATHER, "timeStr"))]
    if not years:
        raise UserError(f"{folder} has no complete year, expected {WEATHER[0]}.csv and its neighbours in {YEARS[0]}.")
    return years


def read_days(folder: Path, year: str) -> np.ndarray:
    """The days of a year, datetime64[D]. Raises UserError where they are not consecutive dates."""
    path = folder / year / "timeStr.csv"
    try:
        days = np.array(path.read_text().split(), "datetime64[D]")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as dates: {fold(error)}.") from None
    if not len(days) or (np.diff(days).astype(int) != 1).any():
        raise UserError(f"{path} does not hold consecutive days.")
    return days


def read_year(folder: Path, year: str, name: str, shape: tuple[int, int]) -> Float[np.ndarray, "time cell"]:
    """A variable on every day of a year, NaN where it is missing. `shape`: expected days and cells."""
    path = folder / year / f"{name}.csv"
    values = _read(path).T
    if values.shape != shape:
        found, expected = (f"{cells} cells and {days} days" for days, cells in (values.shape, shape))
        raise UserError(f"{path} has {found}, expected {expected}.")
    return np.where(values == MISSING, np.nan, values)


def read_constant(folder: Path, name: str, cells: int) -> Float[np.ndarray, " cell"]:
    """A constant of every cell, NaN where it is missing."""
    path = folder / "const" / f"{name}.csv"
    values = _read(path).ravel()
    if values.size != cells:
        raise UserError(f"{path} has {values.size} cells, expected {cells}.")
    return np.where(values == MISSING, np.nan, values)


def _read(path: Path) -> Float[np.ndarray, "row column"]:
    """The numbers of a CSV file without a heading."""
    try:
        return pd.read_csv(path, header=None, dtype=np.float64).to_numpy()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as rows of numbers: {fold(error)}.") from None
