"""The cells of the data set: those of the target, as far as the predictors cover them."""

import numpy as np

from utils.common.cli import UserError
from utils.products.join.scan import Field
from utils.products.regrid import POINT, Cells, cells_around, source_cells

Bounds = tuple[float, float, float, float]  # south, north, west, east


def choose_cells(fields: dict[str, Field], grid: tuple[np.ndarray, np.ndarray] | None, box: Bounds) -> Cells:
    """The cells of `grid`, or of the target, with their centres inside the box and inside the grid of every field.

    Raises UserError where none is left.
    """
    target = fields["soil_moisture"]
    lat, lon = grid or (target.lat, target.lon)
    inside_lat, inside_lon = _within(lat, *box[:2]), _within_lon(lon, *box[2:])
    for field in fields.values():
        if field is target and grid is None:
            continue
        cells, _ = source_cells(field.lat, field.lon, around=float(lon.mean()))
        inside_lat &= _within(lat, cells.lat_edges.min(), cells.lat_edges.max())
        inside_lon &= _within(lon, cells.lon_edges.min(), cells.lon_edges.max())
        if not (inside_lat.any() and inside_lon.any()):
            raise UserError(
                f"{field.variable} of {field.pieces[0].path} covers latitude {_range(cells.lat_edges)} and longitude "
                f"{_range(cells.lon_edges)}; no cell of the target lies there and in the region asked for: its "
                f"latitude is {_range(lat)}, its longitude {_range(lon)}."
            )
    return cells_around(lat[inside_lat], lon[inside_lon], POINT)


def _within(centres: np.ndarray, low: float, high: float) -> np.ndarray:
    return (centres >= low - 1e-6) & (centres <= high + 1e-6)


def _within_lon(lon: np.ndarray, west: float, east: float) -> np.ndarray:
    """Which longitudes lie from west to east, in either convention."""
    if (west, east) == (-180.0, 360.0):
        return np.ones(len(lon), bool)
    return (lon - west + 1e-6) % 360 <= east - west + 2e-6


def _range(values: np.ndarray) -> str:
    return f"{values.min():g} to {values.max():g}"
