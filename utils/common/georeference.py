"""Where a map lies on the Earth, as GIS programs want to be told: CF's grid mapping, and the pixels of an image."""

import functools
from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float, Int, Real, Shaped
from pyproj import CRS, Transformer

from utils.common.grid import LONE_CELL, bounds

GRID_MAPPING = "crs"  # the scalar variable that says what latitude and longitude mean
DEGREES, EASE_GRID = 4326, 6933  # EPSG codes: WGS 84; the cylindrical equal-area projection of EASE-Grid 2.0
OFF_CENTRE = 0.05  # of a cell: a centre may lie so far beside that of its pixel


@dataclass(frozen=True, eq=False)
class PixelGrid:
    """The cells of a grid as the pixels of an image with north on top."""

    epsg: int  # DEGREES or EASE_GRID
    west: float  # edges of the image, in the units of the projection
    north: float
    width: float  # of a pixel
    height: float
    rows: Int[np.ndarray, " lat"]  # of the grid, from north to south
    columns: Int[np.ndarray, " lon"]  # of the grid, from west to east

    def image(self, values: Shaped[np.ndarray, "lat lon"]) -> Shaped[np.ndarray, "lat lon"]:
        """The values of the grid's cells, [lat, lon], as pixels."""
        return values[np.ix_(self.rows, self.columns)]

    @property
    def geotransform(self) -> tuple[float, ...]:
        """The six numbers by which GDAL places an image."""
        return self.west, self.width, 0.0, self.north, 0.0, -self.height


def pixel_grid(lat: Real[np.ndarray, " lat"], lon: Real[np.ndarray, " lon"]) -> PixelGrid | None:
    """The pixels of the cells around these centres, degrees; None where the centres are not evenly spaced.

    Rows that are even in degrees make an image in degrees, and rows of EASE-Grid 2.0 one in its projection. Longitudes
    become those of −180 to 180, but for a map across the date line. A single row or column is as wide as the other
    axis' spacing, a single cell is LONE_CELL wide (`utils.common.grid.bounds`).
    """
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    rows, columns = np.argsort(-lat), np.argsort(lon)
    wrapped = np.where(lon > 180, lon - 360, lon)
    if is_even(wrapped[np.argsort(wrapped)]):
        lon, columns = wrapped, np.argsort(wrapped)
    epsg, x, y = DEGREES, lon[columns], lat[rows]
    if not is_even(y):
        epsg = EASE_GRID
        x, y = _project(x, y)
    if not (is_even(x) and is_even(y)):
        return None
    x_edges, y_edges = bounds(x, y), bounds(y, x)
    width = float(x_edges[-1] - x_edges[0]) / len(x)
    height = float(abs(y_edges[-1] - y_edges[0])) / len(y)
    return PixelGrid(epsg, float(x_edges[0]), float(y_edges.max()), width, height, rows, columns)


def is_even(centres: Float[np.ndarray, " cells"]) -> bool:
    """Whether sorted centres are evenly spaced, to OFF_CENTRE of a cell."""
    if len(centres) < 3:
        return True
    even = np.linspace(centres[0], centres[-1], len(centres))
    return bool(np.abs(centres - even).max() <= OFF_CENTRE * abs(even[1] - even[0]))


def _project(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres to the east of each longitude and to the north of each latitude, in the projection of EASE-Grid 2.0."""
    to_metres = Transformer.from_crs(DEGREES, EASE_GRID, always_xy=True)
    metres_a_degree, _ = to_metres.transform(1.0, 0.0)  # the same everywhere, across the date line too
    return lon * metres_a_degree, to_metres.transform(np.zeros_like(lat), lat)[1]


@functools.cache
def _wgs84() -> dict[str, Any]:
    return CRS.from_epsg(DEGREES).to_cf()


def describe_grid_mapping(lat: np.ndarray, lon: np.ndarray) -> dict[str, Any]:
    """The attributes of the variable `crs`: WGS 84.

    GDAL takes the size of a cell from its neighbours. Where a grid has a single row or column, its own attribute
    GeoTransform tells it: of the rows as they stand in the file.
    """
    attributes = {"long_name": "coordinate reference system", **_wgs84()}
    pixels = pixel_grid(lat, lon) if 1 in (len(lat), len(lon)) else None
    if pixels is None or pixels.epsg != DEGREES or not np.array_equal(pixels.columns, np.arange(len(lon))):
        return attributes
    if len(lat) == len(lon) == 1:
        attributes["comment"] = f"A single cell does not tell its size: {LONE_CELL:g} degree is taken."
    west, width, _, top, _, down = pixels.geotransform
    if lat[0] < lat[-1]:
        top, down = top + len(lat) * down, -down
    attributes["GeoTransform"] = f"{west} {width} 0 {top} 0 {down}"
    return attributes | {"spatial_ref": attributes["crs_wkt"]}


def georeference(ds: xr.Dataset) -> xr.Dataset:
    """The data set with the variable `crs`, which each variable with `lat` and `lon` names as its `grid_mapping`."""
    ds = ds.copy()
    for variable in ds.data_vars.values():
        if {"lat", "lon"} <= set(variable.dims):
            variable.attrs["grid_mapping"] = GRID_MAPPING
    attributes = describe_grid_mapping(ds["lat"].values, ds["lon"].values)
    return ds.assign({GRID_MAPPING: ((), np.int32(0), attributes)})


def georeference_file(file: netCDF4.Dataset) -> None:
    """The same for a file that is open to be written and has its coordinates and variables."""
    for variable in file.variables.values():
        if {"lat", "lon"} <= set(variable.dimensions):
            variable.grid_mapping = GRID_MAPPING
    attributes = describe_grid_mapping(np.asarray(file["lat"][:]), np.asarray(file["lon"][:]))
    file.createVariable(GRID_MAPPING, "i4").setncatts(attributes)
