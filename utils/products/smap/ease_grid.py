"""EASE-Grid 2.0 global at 9 and 36 km, and where in it a file's rows and columns lie."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pyproj import Transformer

from utils.common.cli import UserError
from utils.products.regrid import Cells, ease_cells

# Brodzik et al. 2012 (doi:10.3390/ijgi1010032): the north-west corner of the global grids, and the cell of the 9 km one
WEST_EDGE, NORTH_EDGE = -17367530.4451615, 7314540.8306386  # m
CELL = 9008.055210146  # m
SHAPE = (1624, 3856)
X_FIRST, Y_FIRST = WEST_EDGE + CELL / 2, NORTH_EDGE - CELL / 2


@dataclass(frozen=True)
class EaseGrid:
    """One of the nested global grids: consecutive cells from north to south and from west to east."""

    cell: float  # m
    shape: tuple[int, int]

    @property
    def x(self) -> Float[np.ndarray, " columns"]:
        """Centres of the columns, metres of EPSG:6933."""
        return WEST_EDGE + self.cell * (np.arange(self.shape[1]) + 0.5)

    @property
    def y(self) -> Float[np.ndarray, " rows"]:
        """Centres of the rows, metres of EPSG:6933."""
        return NORTH_EDGE - self.cell * (np.arange(self.shape[0]) + 0.5)

    def cells(self) -> Cells:
        """All cells of the grid."""
        return ease_cells(self.x, self.y)

    def locate(self, name: str, y: np.ndarray, x: np.ndarray) -> tuple[int, int]:
        """Global row and column of the first of these centres [m].

        Raises UserError, which says `name`, for any others than consecutive cells of this grid.
        """
        return self._position(name, y, self.y[0], -self.cell), self._position(name, x, self.x[0], self.cell)

    def _position(self, name: str, centres: np.ndarray, first: float, cell: float) -> int:
        if len(centres) == 0:
            raise UserError(f"{name} holds no cell at all.")
        index = (centres - first) / cell
        if np.abs(index - np.round(index)).max() > 0.1 or (len(index) > 1 and (np.diff(np.round(index)) != 1).any()):
            step = np.median(np.abs(np.diff(centres))) if len(centres) > 1 else np.nan
            raise UserError(
                f"{name} is on another grid: its cells are {step:.0f} m apart, expected consecutive cells of "
                f"the global EASE-Grid 2.0 of {self.cell:.0f} m from north to south and west to east."
            )
        return round(index[0])

    def centres_of(self, name: str, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres of rows and columns [m] from maps of latitude and longitude, of which most may be missing.

        Cells lie one beside the other, so that a row without any value is found from the others. Raises UserError where
        all are missing.
        """
        row_lat, column_lon = _value_of_lines(lat, along=1), _value_of_lines(lon, along=0)
        project = Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True).transform
        x, _ = project(column_lon, np.zeros_like(column_lon))
        _, y = project(np.zeros_like(row_lat), row_lat)
        return _complete(name, y, -self.cell), _complete(name, x, self.cell)


NINE_KM, THIRTY_SIX_KM = EaseGrid(CELL, SHAPE), EaseGrid(4 * CELL, (SHAPE[0] // 4, SHAPE[1] // 4))


def _value_of_lines(degrees: np.ndarray, along: int) -> np.ndarray:
    """The one latitude of every row, or longitude of every column; NaN where a line holds fill alone."""
    values = np.asarray(degrees, np.float64)
    values = np.where(np.abs(values) <= 360, values, -np.inf)
    lines = values.max(axis=along) if values.ndim == 2 else values
    return np.where(np.isfinite(lines), lines, np.nan)


def _complete(name: str, centres: np.ndarray, cell: float) -> np.ndarray:
    """Centres [m] of which some are NaN, filled in by those that are known."""
    known = np.flatnonzero(np.isfinite(centres))
    if not len(known):
        raise UserError(f"{name}: its latitudes or longitudes hold no value at all, so that nothing locates its cells.")
    steps = np.arange(len(centres)) * cell
    filled = steps + np.median(centres[known] - steps[known])
    filled[known] = centres[known]
    return filled
