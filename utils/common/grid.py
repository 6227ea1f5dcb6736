"""A map cut into tiles: what models free of the grid learn from on a large grid, and forecast by.

A tile is read with a halo of neighbours, as wide as a forecast looks; what counts are its own cells. A tile at the edge
of the map begins there and is as large as the others, so that they can be stacked and the edge stays the map's edge.
Forecasts of own cells are then those of the whole map.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True)
class Tile:
    """Ranges of rows and columns of a grid: those that are read, and among them those that count."""

    rows: slice
    columns: slice
    own_rows: slice
    own_columns: slice

    @property
    def window(self) -> tuple[slice, slice]:
        """What is read, in the grid."""
        return self.rows, self.columns

    @property
    def own(self) -> tuple[slice, slice]:
        """What counts, in the grid."""
        return self.own_rows, self.own_columns

    @property
    def inside(self) -> tuple[slice, slice]:
        """What counts, in what is read."""
        return tuple(slice(o.start - w.start, o.stop - w.start) for o, w in zip(self.own, self.window, strict=True))

    def mask(self) -> Bool[np.ndarray, "lat lon"]:
        """Which of the cells that are read count."""
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
