"""Conservative regridding between rectilinear grids: each target cell gets the area-weighted mean of the valid source
cells that it overlaps.

On rectilinear grids the overlap area factorises into latitude and longitude, so two small weight matrices do it all.
Areas are those of a sphere, proportional to sin(latitude) × longitude. (xarray-regrid factorises alike, but splits a
source row linearly in degrees and takes edges half-way between centres, which EASE-Grid rows have elsewhere; it keeps
totals to some 5e-6, this to float32 rounding: `benchmarks/bench_prepare.py`.)
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Float
from pyproj import Transformer
from scipy import sparse

from utils.common.cli import UserError
from utils.common.grid import bounds, midpoints

POINT = 1e-3  # degrees: a site is a point, and takes the values of the cell around it
MIN_VALID_FRACTION = 0.5  # a target cell with less valid area than this share is missing


@dataclass(frozen=True, eq=False)
class Cells:
    """Rectilinear cells: centres and edges in degrees, rows and columns in the order of the data."""

    lat: Float[np.ndarray, " rows"]
    lon: Float[np.ndarray, " columns"]
    lat_edges: Float[np.ndarray, " row_edges"]
    lon_edges: Float[np.ndarray, " column_edges"]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.lat), len(self.lon)

    def window(self, rows: slice, columns: slice) -> "Cells":
        """The cells of a contiguous block of rows and columns."""
        edges = [slice(s.start, s.stop + 1) for s in (rows, columns)]
        return Cells(self.lat[rows], self.lon[columns], self.lat_edges[edges[0]], self.lon_edges[edges[1]])

    def overlapping(self, other: "Cells") -> tuple[slice, slice]:
        """The rows and columns whose cells share area with `other`; a slice is empty where none does."""
        return _touching(self.lat_edges, other.lat_edges), _touching(self.lon_edges, other.lon_edges)


def latlon_cells(lat: np.ndarray, lon: np.ndarray) -> Cells:
    """Cells of a latitude–longitude grid, edges half-way between centres [degrees] and never beyond a pole."""
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    return Cells(lat, lon, np.clip(midpoints(lat), -90, 90), midpoints(lon))


def source_cells(lat: np.ndarray, lon: np.ndarray, around: float) -> tuple[Cells, np.ndarray]:
    """Cells of these centres with longitudes that ascend within 180° of `around`, and the order of their columns."""
    lon = (lon - around + 180) % 360 - 180 + around
    order = np.argsort(lon)
    return cells_around(lat, lon[order]), order


def cells_around(lat: np.ndarray, lon: np.ndarray, lone: float | None = None) -> Cells:
    """Cells with edges half-way between these centres.

    A lone row or column is as wide as the other axis' spacing. A lone cell is `lone` degrees wide, or as wide as all
    lone cells of the project.
    """
    if lone is not None and len(lat) == len(lon) == 1:
        half = np.array([-lone / 2, lone / 2])
        return Cells(lat, lon, lat + half, lon + half)
    return Cells(lat, lon, np.clip(bounds(lat, lon), -90, 90), bounds(lon, lat))


def ease_cells(x: np.ndarray, y: np.ndarray) -> Cells:
    """Cells of EASE-Grid 2.0 global (EPSG:6933) from their centres in metres; any contiguous rows and columns."""
    to_degrees = Transformer.from_crs("EPSG:6933", "EPSG:4326", always_xy=True).transform
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x_edges, y_edges = midpoints(x), midpoints(y)
    lon, lon_edges = to_degrees(x, np.zeros_like(x))[0], to_degrees(x_edges, np.zeros_like(x_edges))[0]
    # the outermost edges of the global grid lie on ±180° and may come back with the other sign
    lon_edges[0] = lon_edges[0] if lon_edges[0] < lon[0] else -180.0
    lon_edges[-1] = lon_edges[-1] if lon_edges[-1] > lon[-1] else 180.0
    lat, lat_edges = to_degrees(np.zeros_like(y), y)[1], to_degrees(np.zeros_like(y_edges), y_edges)[1]
    return Cells(lat, lon, lat_edges, lon_edges)


def region_cells(south: float, north: float, west: float, east: float, resolution: float) -> Cells:
    """Square cells whose outermost centres are the bounds [degrees]; latitude descends.

    Raises UserError where the bounds are no whole number of cells apart or no region at all.
    """
    if not np.isfinite([south, north, west, east, resolution]).all():
        raise UserError("--south, --north, --west, --east and --resolution must be finite numbers of degrees.")
    counts = []
    for low, high, names in ((south, north, "--south and --north"), (west, east, "--west and --east")):
        steps = (high - low) / resolution if resolution > 0 else -1.0
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise UserError(
                f"{names} are {low:g} and {high:g}, expected centres a whole number of cells of {resolution:g}° apart."
            )
        counts.append(round(steps))
    if not (-90 <= south <= north <= 90 and -180 <= west <= 360 and east - west <= 360):
        raise UserError(f"latitude {south:g} to {north:g}, longitude {west:g} to {east:g} is no region of the Earth.")
    half = resolution / 2
    rows, columns = np.arange(counts[0] + 1), np.arange(counts[1] + 1)
    return Cells(
        north - rows * float(resolution),
        west + columns * float(resolution),
        np.clip(north + half - np.arange(counts[0] + 2) * resolution, -90, 90),
        west - half + np.arange(counts[1] + 2) * resolution,
    )


@dataclass(frozen=True, eq=False)
class Regridder:
    """Area-weighted means from `source` cells on `target` cells.

    A target cell is missing where less than `min_valid_fraction` of its area *within the source grid* is valid: the
    outermost cells of a region may reach beyond the downloaded box, and are then the mean of what the box holds.
    """

    source: Cells
    target: Cells
    min_valid_fraction: float = MIN_VALID_FRACTION

    @cached_property
    def _weights(self) -> tuple[sparse.csr_array, sparse.csr_array]:
        sine = [np.sin(np.deg2rad(cells.lat_edges)) for cells in (self.source, self.target)]
        longitude = _overlap(self.source.lon_edges, self.target.lon_edges)
        return sparse.csr_array(_overlap(*sine)), sparse.csr_array(longitude)

    def __call__(self, values: Float[np.ndarray, "time rows columns"]) -> Float[np.ndarray, "time lat lon"]:
        rows, columns = self._weights
        full = np.outer(rows.sum(1), columns.sum(1))
        out = np.empty((len(values), *self.target.shape), np.float32)
        for day, field in enumerate(values):
            valid = np.isfinite(field)
            area = (columns @ (rows @ valid.astype(np.float64)).T).T
            total = (columns @ (rows @ np.where(valid, field, 0.0).astype(np.float64)).T).T
            # rounding must not turn a cell that is valid to exactly the minimum into a missing one
            kept = (area > 0) & (area >= (self.min_valid_fraction - 1e-9) * full)
            out[day] = np.divide(total, area, out=np.full(area.shape, np.nan), where=kept)
        return out


def regrid_days(
    values: dict[str, Float[np.ndarray, "days rows columns"]],
    days: np.ndarray,
    source: Cells,
    target: Cells,
    min_valid: float | None,
) -> xr.Dataset:
    """Daily fields on the target cells; `min_valid` None keeps the source's own cells.

    Days without any valid value of a variable are left out and named in the attribute `left_out`, with the reason.
    """
    blank = {name: ~np.isfinite(fields).any((1, 2)) for name, fields in values.items()}
    kept = ~np.any(list(blank.values()), axis=0)
    left_out = {}
    for i in np.flatnonzero(~kept):
        left_out[str(days[i])] = "no valid value of " + ", ".join(name for name in blank if blank[name][i])
    cells = source
    if min_valid is not None:
        cells = target
        regrid = Regridder(source, target, min_valid)
        values = {name: regrid(fields) for name, fields in values.items()}
    return xr.Dataset(
        {name: (("time", "lat", "lon"), fields[kept]) for name, fields in values.items()},
        {"time": days[kept].astype("datetime64[ns]"), "lat": cells.lat, "lon": cells.lon},
        {"left_out": json.dumps(left_out)},
    )


def _overlap(source: np.ndarray, target: np.ndarray) -> Float[np.ndarray, "target source"]:
    """Length shared by each target and source interval; edges may ascend or descend."""
    low = np.maximum(np.minimum(target[:-1], target[1:])[:, None], np.minimum(source[:-1], source[1:]))
    high = np.minimum(np.maximum(target[:-1], target[1:])[:, None], np.maximum(source[:-1], source[1:]))
    return np.clip(high - low, 0, None)


def _touching(edges: np.ndarray, other: np.ndarray) -> slice:
    shared = np.flatnonzero(_overlap(edges, np.array([other.min(), other.max()]))[0] > 1e-9)
    return slice(int(shared[0]), int(shared[-1]) + 1) if len(shared) else slice(0, 0)
