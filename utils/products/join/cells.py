"""The cells of the data set: those of the target, as far as the predictors cover them."""

import numpy as np

from utils.common.cli import UserError
from utils.common.grid import bounds
from utils.products.join.scan import Field
from utils.products.regrid import Cells

POINT = 1e-3  # degrees: a site is a point, and takes the values of the cell around it
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
        cells, _ = source_cells(field, around=float(lon.mean()))
        inside_lat &= _within(lat, cells.lat_edges.min(), cells.lat_edges.max())
        inside_lon &= _within(lon, cells.lon_edges.min(), cells.lon_edges.max())
        if not (inside_lat.any() and inside_lon.any()):
            raise UserError(
                f"{field.variable} of {field.pieces[0].path} covers latitude {_range(cells.lat_edges)} and longitude "
                f"{_range(cells.lon_edges)}; no cell of the target lies there and in the region asked for: its "
                f"latitude is {_range(lat)}, its longitude {_range(lon)}."
            )
    return cells_around(lat[inside_lat], lon[inside_lon], POINT)


def source_cells(field: Field, around: float) -> tuple[Cells, np.ndarray]:
    """The cells of a field with longitudes that ascend within 180° of `around`, and the order of its columns."""
    lon = (field.lon - around + 180) % 360 - 180 + around
    order = np.argsort(lon)
    return cells_around(field.lat, lon[order]), order


def cells_around(lat: np.ndarray, lon: np.ndarray, lone: float | None = None) -> Cells:
    """Cells with edges half-way between these centres.

    A lone row or column is as wide as the other axis' spacing. A lone cell is `lone` degrees wide, or as wide as all
    lone cells of the project.
    """
    if lone is not None and len(lat) == len(lon) == 1:
        half = np.array([-lone / 2, lone / 2])
        return Cells(lat, lon, lat + half, lon + half)
    return Cells(lat, lon, np.clip(bounds(lat, lon), -90, 90), bounds(lon, lat))


def _within(centres: np.ndarray, low: float, high: float) -> np.ndarray:
    return (centres >= low - 1e-6) & (centres <= high + 1e-6)


def _within_lon(lon: np.ndarray, west: float, east: float) -> np.ndarray:
    """Which longitudes lie from west to east, in either convention."""
    if (west, east) == (-180.0, 360.0):
        return np.ones(len(lon), bool)
    return (lon - west + 1e-6) % 360 <= east - west + 2e-6


def _range(values: np.ndarray) -> str:
    return f"{values.min():g} to {values.max():g}"
