"""Grids of cells: a map cut into tiles, and the area of each cell.

A large map is learned and forecast tile by tile, by models that are not bound to one grid. A tile has its own cells,
and a halo of neighbours around them, as wide as a forecast looks. The halo is read too, but only the own cells count.
Their forecasts are therefore the same as those from the whole map. A tile at the edge of the map has no halo beyond the
edge; it is longer on its other side, so that all tiles that are read have the same shape.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Real


@dataclass(frozen=True)
class Tile:
    """A part of a grid: the rows and columns that are read (own cells and halo), and those of the own cells alone."""

    rows: slice
    columns: slice
    own_rows: slice
    own_columns: slice

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns that are read, counted in the whole grid."""
        return self.rows, self.columns

    @property
    def own(self) -> tuple[slice, slice]:
        """Rows and columns of the own cells, counted in the whole grid."""
        return self.own_rows, self.own_columns

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the own cells, counted from the first row and column that are read."""
        return tuple(slice(o.start - w.start, o.stop - w.start) for o, w in zip(self.own, self.window, strict=True))

    def mask(self) -> Bool[np.ndarray, "lat lon"]:
        """Of the cells that are read, True for the own cells."""
        counts = np.zeros([w.stop - w.start for w in self.window], bool)
        counts[self.inside] = True
        return counts


def tiles(shape: tuple[int, int], size: int, halo: int = 0, within: Tile | None = None) -> list[Tile]:
    """Tiles of `size` × `size` own cells that cover a map of this shape, row by row, all read with the same shape.

    `within`: of this shape's own cells alone, counted from its corner. The last tiles of a row or column have fewer
    own cells where `size` does not divide the map.
    """
    own = within.inside if within else tuple(slice(0, length) for length in shape)
    axes = [_ranges(length, part, size, halo) for length, part in zip(shape, own, strict=True)]
    return [Tile(rows, columns, own_rows, own_columns) for (rows, own_rows), (columns, own_columns) in product(*axes)]


def _ranges(length: int, part: slice, size: int, halo: int) -> list[tuple[slice, slice]]:
    """What is read and what counts, along one axis."""
    side = min(size + 2 * halo, length)
    found = []
    for first in range(part.start, part.stop, size):
        start = min(max(first - halo, 0), length - side)
        found.append((slice(start, start + side), slice(first, min(first + size, part.stop))))
    return found


def midpoints(centres: np.ndarray) -> np.ndarray:
    """Edges half-way between centres, the outermost half a cell beyond. Needs two centres."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])


@dataclass(frozen=True, eq=False)
class Grid:
    """Cell centres of a latitude–longitude grid, as the data set has them."""

    lat: np.ndarray  # degrees north, [H]
    lon: np.ndarray  # degrees east, [W]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.lat), len(self.lon)

    def matches(self, other: "Grid") -> bool:
        """The same cells, to a ten-thousandth of a degree."""
        return self.shape == other.shape and bool(
            np.abs(self.lat - other.lat).max() <= 1e-4 and np.abs(self.lon - other.lon).max() <= 1e-4
        )

    def __str__(self) -> str:
        (h, w), lat, lon = self.shape, self.lat, self.lon
        return f"{h} × {w} cells, latitude {lat[0]:g} to {lat[-1]:g}, longitude {lon[0]:g} to {lon[-1]:g}"


WHOLE = (slice(None), slice(None))  # all rows and columns


RADIUS = 6371.0088  # km, the Earth's mean radius


LONE_CELL = 1.0  # degrees, the width of a grid's only cell


FEW_CELLS = 6  # of so few cells a map shows nothing


EVEN = 0.02  # EASE-Grid 2.0 rows on the ellipsoid are evenly spaced in sin(latitude) to 1.4 %


def cell_area(lat: Real[np.ndarray, " lat"], lon: Real[np.ndarray, " lon"]) -> Float[np.ndarray, "lat lon"]:
    """Areas in km2 of the cells around these centres [degrees], on a sphere of RADIUS.

    Bounds lie half-way between centres: in degrees, or in sin(latitude) where that is what the rows are evenly spaced
    in (EASE-Grid 2.0); the outermost as far beyond as within, but not beyond a pole or more than once around the Earth.
    Either axis may ascend or descend and be uneven, `lon` may cross 0/360 or the date line. A single row or column is
    as wide as the other axis' median spacing, a single cell LONE_CELL.
    """
    rows, columns = np.asarray(lat, np.float64), np.unwrap(np.asarray(lon, np.float64), period=360)
    heights = np.abs(np.diff(_sine_bounds(rows, columns)))
    widths = np.deg2rad(np.abs(np.diff(_lon_bounds(columns, rows))))
    return RADIUS**2 * np.outer(heights, widths)


def _sine_bounds(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    sine = np.sin(np.deg2rad(lat))
    if len(lat) > 2 and _unevenness(sine) < min(EVEN, _unevenness(lat)):
        return np.clip(midpoints(sine), -1, 1)
    return np.sin(np.deg2rad(np.clip(bounds(lat, lon), -90, 90)))


def _lon_bounds(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    edges, ends = bounds(lon, lat), [0, -1]
    room = max(360 - abs(lon[-1] - lon[0]), 0) / 2
    edges[ends] = lon[ends] + np.clip(edges[ends] - lon[ends], -room, room)
    return edges


def bounds(centres: np.ndarray, other: np.ndarray, lone: float = LONE_CELL) -> np.ndarray:
    """Edges of cells: half-way between centres; a single centre gets the spacing of the `other` axis, else `lone`."""
    if len(centres) > 1:
        return midpoints(centres)
    width = np.median(np.abs(np.diff(other))) if len(other) > 1 else lone
    return centres[0] + np.array([-width / 2, width / 2])


def _unevenness(centres: np.ndarray) -> float:
    steps = np.abs(np.diff(centres))
    return float(np.ptp(steps) / steps.mean())
