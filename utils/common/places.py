"""In which cell of a grid a place lies."""

import numpy as np

from utils.common.grid import Grid, bounds


def cell_at(grid: Grid, lat: float, lon: float) -> tuple[int, int] | None:
    """Row and column of the cell in which a place lies; None outside the grid.

    Cells reach half-way to their neighbours, the outermost as far beyond as within. Longitudes may be −180 to 180 or 0
    to 360, whatever those of the grid are.
    """
    columns = np.unwrap(np.asarray(grid.lon, np.float64), period=360)
    rows, edges = bounds(np.asarray(grid.lat, np.float64), columns), bounds(columns, grid.lat)
    west = edges.min()
    place = _between(rows, lat), _between(edges, west + (lon - west) % 360)
    return None if None in place else place


def _between(edges: np.ndarray, value: float) -> int | None:
    """Between which neighbouring edges the value lies; the lower edge belongs to a cell."""
    inside = (np.minimum(edges[:-1], edges[1:]) <= value) & (value < np.maximum(edges[:-1], edges[1:]))
    return int(inside.argmax()) if inside.any() else None
