"""Where a map lies: the pixels of cells against PROJ, and files as GDAL sees them."""

import netCDF4
import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer

from utils.common.georeference import DEGREES, EASE_GRID, georeference, georeference_file, is_even, pixel_grid

NORTH_TO_SOUTH = np.arange(54.0, 48, -1)
EAST = np.arange(72.0, 80)
GRIDS = {  # name: latitudes and longitudes of an evenly spaced grid
    "north first": (NORTH_TO_SOUTH, EAST),
    "south first": (NORTH_TO_SOUTH[::-1], EAST),
    "east first": (NORTH_TO_SOUTH, EAST[::-1]),
    "America as 230 to 240": (NORTH_TO_SOUTH, np.arange(230.0, 240)),
    "the Earth as 0 to 360": (np.arange(-80.0, 81, 40), np.arange(0.0, 360, 30)),
    "across the date line": (NORTH_TO_SOUTH, np.arange(170.0, 190)),
    "a free box": (35 - np.r_[0:5, 5.01:9] * 0.1, EAST),  # one step of 0.101, as the Climate Data Store cuts it
    "a row": (NORTH_TO_SOUTH[:1], EAST),
    "two rows": (np.array([48.0, 51.0]), EAST),
    "a column": (NORTH_TO_SOUTH, EAST[:1]),
    "a column, south first": (NORTH_TO_SOUTH[::-1], EAST[:1]),
    "a cell": (NORTH_TO_SOUTH[:1], EAST[:1]),
}


def maps(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    """Two daily maps in which every cell has its own number."""
    values = np.arange(2 * len(lat) * len(lon), dtype="f4").reshape(2, len(lat), len(lon))
    axes = {
        "time": ("time", np.array(["2021-07-04", "2021-07-05"], "M8[ns]")),
        "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xr.Dataset({"wet": (("time", "lat", "lon"), values), "days": ("time", [1, 2])}, axes)


def nearest_cell(ds: xr.Dataset, lat: float, lon: float) -> tuple[int, int]:
    east = (ds["lon"].values - lon + 180) % 360 - 180
    return int(np.abs(ds["lat"].values - lat).argmin()), int(np.abs(east).argmin())


@pytest.mark.parametrize("name", GRIDS)
def test_a_pixel_lies_where_its_cell_lies(name):
    ds = maps(*GRIDS[name])
    pixels = pixel_grid(ds["lat"].values, ds["lon"].values)
    assert pixels.epsg == DEGREES and pixels.height > 0 and pixels.width > 0
    cells = np.arange(ds["wet"][0].size).reshape(ds["wet"].shape[1:])
    image = pixels.image(cells)
    for row, column in np.ndindex(image.shape):
        lat, lon = pixels.north - (row + 0.5) * pixels.height, pixels.west + (column + 0.5) * pixels.width
        assert image[row, column] == cells[nearest_cell(ds, lat, lon)]
    if name != "across the date line":
        assert pixels.west >= -195 and pixels.west + image.shape[1] * pixels.width <= 180 + pixels.width / 2


def test_rows_of_ease_grid_are_even_in_its_own_projection():
    """Every fourth row and column of the 36 km grid, whose cells measure 36,032.22 m (Brodzik et al. 2012)."""
    size = 4 * 36_032.22
    x, y = -10_000_000 + size * np.arange(9), 5_000_000 - size * np.arange(7)
    lon, lat = Transformer.from_crs(6933, 4326, always_xy=True).transform(x[:7], y)
    lon = np.r_[lon, Transformer.from_crs(6933, 4326, always_xy=True).transform(x[7:], y[:2])[0]]
    pixels = pixel_grid(lat[::-1], lon)
    assert pixels.epsg == EASE_GRID and not is_even(lat)
    found = [pixels.west, pixels.north, pixels.width, pixels.height]
    np.testing.assert_allclose(found, [x[0] - size / 2, y[0] + size / 2, size, size], atol=1e-3)
    assert pixels.rows.tolist() == list(range(7))[::-1]


def test_cells_that_no_image_can_hold_have_no_pixels():
    assert pixel_grid(np.array([50, 48.9, 47.0, 46.4, 45]), EAST) is None
    assert pixel_grid(NORTH_TO_SOUTH, np.array([1.0, 2, 4])) is None


@pytest.mark.parametrize("name", GRIDS)
def test_gdal_sees_the_place_of_a_file_with_north_on_top(tmp_path, name):
    """GDAL turns rows and no columns, and not the rows of a single column."""
    ds, path = maps(*GRIDS[name]), tmp_path / "maps.nc"
    georeference(ds).to_netcdf(path)
    with rasterio.open(f"netcdf:{path}:wet") as raster:
        assert raster.crs.to_epsg() == 4326
        assert raster.transform.e < 0 or name == "a column, south first"
        assert raster.transform.a > 0 or name == "east first"
        assert raster.count == 2
        image, cells = raster.read(1), ds["wet"][0].values
        for row, column in np.ndindex(image.shape):
            lon, lat = raster.xy(row, column)
            assert image[row, column] == cells[nearest_cell(ds, lat, lon)]


def test_an_open_file_is_georeferenced_in_the_same_way(tmp_path):
    ds = maps(*GRIDS["north first"])
    georeference(ds).to_netcdf(tmp_path / "one.nc")
    ds.to_netcdf(tmp_path / "other.nc")
    with netCDF4.Dataset(tmp_path / "other.nc", "a") as file:
        georeference_file(file)
    with xr.open_dataset(tmp_path / "one.nc") as one, xr.open_dataset(tmp_path / "other.nc") as other:
        assert one["crs"].attrs == other["crs"].attrs and one["crs"].shape == other["crs"].shape == ()
        for opened in (one, other):
            assert opened["wet"].attrs["grid_mapping"] == "crs" and "grid_mapping" not in opened["days"].attrs
        assert CRS.from_cf(one["crs"].attrs) == CRS.from_epsg(4326)
        assert one["crs"].attrs["grid_mapping_name"] == "latitude_longitude"
        assert one["crs"].attrs["semi_major_axis"] == 6378137 and "GeoTransform" not in one["crs"].attrs
    assert "grid_mapping" not in ds["wet"].attrs  # the data set itself stays as it was


def test_the_size_of_a_single_cell_is_said_to_be_taken():
    attributes = georeference(maps(*GRIDS["a cell"]))["crs"].attrs
    assert "1 degree is taken" in attributes["comment"]
    assert [float(number) for number in attributes["GeoTransform"].split()] == [71.5, 1, 0, 54.5, 0, -1]
