"""The rows and columns of a grid that a region needs and that files hold at all times."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.common.cli import UserError
from utils.products.regrid import Cells

Piece = Any  # with time, row, column, shape and file: a granule of SMAP L4 or L3


def find_window(granules: Sequence[Piece], grid: Cells, target: Cells, native: bool) -> tuple[slice, slice]:
    """The rows and columns of the grid that the target needs; UserError where the granules of a time lack them."""
    if target.lon.max() > 180:  # longitudes −180…180 as the grid has them
        raise UserError(f"the region reaches {target.lon.max():g} °E, expected −180 to 180 for SMAP.")
    if native:
        rows, columns = _between(grid.lat, target.lat), _between(grid.lon, target.lon)
    else:
        rows, columns = grid.overlapping(target)
    rows = _held_at_all_times(granules, "row", rows, edges=grid.lat_edges, wanted=target.lat)
    columns = _held_at_all_times(granules, "column", columns, edges=grid.lon_edges, wanted=target.lon)
    return rows, columns


def _between(centres: np.ndarray, wanted: np.ndarray) -> slice:
    """The rows or columns whose centres lie between the outermost wanted ones."""
    inside = np.flatnonzero((centres >= wanted.min()) & (centres <= wanted.max()))
    if not len(inside):
        raise UserError("the region holds no cell centre of the files' own grid.")
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _held_at_all_times(
    granules: Sequence[Piece], axis: str, needed: slice, edges: np.ndarray, wanted: np.ndarray
) -> slice:
    """The needed rows or columns that the granules of every time hold together.

    Cells at the region's rim that cut files lack are done without, as long as they reach every target centre.
    """
    name, dimension = {"row": ("latitude", 0), "column": ("longitude", 1)}[axis]
    first: dict[np.datetime64, int] = {}
    last: dict[np.datetime64, int] = {}
    for granule in granules:
        begin = getattr(granule, axis)
        first[granule.time] = min(first.get(granule.time, begin), begin)
        last[granule.time] = max(last.get(granule.time, 0), begin + granule.shape[dimension])
    start, stop = max(first.values()), min(last.values())
    held = edges[[start, stop]] if start < stop else np.array([np.nan, np.nan])
    if not (held.min() <= wanted.min() + 1e-6 and held.max() >= wanted.max() - 1e-6):
        worst = max(granules, key=lambda granule: getattr(granule, axis))
        raise UserError(
            f"the region lies outside the data: {name} {wanted.min():g} to {wanted.max():g} is wanted, the "
            f"granules all hold {held.min():.2f} to {held.max():.2f} (such as {worst.file.name}); choose --south "
            "--north --west --east within them."
        )
    return slice(max(needed.start, start), min(needed.stop, stop))
