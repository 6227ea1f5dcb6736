"""A forecast in a GIS: names of its bands, GeoTIFF files against the values of the forecast, and what is refused."""

import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
import xarray as xr

from utils.common.cli import UserError
from utils.common.files import ROOT
from utils.common.georeference import georeference
from utils.common.grid import Grid
from utils.forecasts import gis

LEVELS = np.round(np.arange(0.05, 0.951, 0.05), 2)
QUANTITY = ("soil_moisture", "soil_moisture_q05", "soil_moisture_q50", "soil_moisture_q95")
EAST = np.arange(72.0, 80)
EASE_LAT = np.array([49.86661, 48.15719, 46.5023, 44.89572, 43.33227, 41.80753])  # every fourth row of the 36 km grid


def forecast_of(lat: np.ndarray, lon: np.ndarray) -> xr.Dataset:
    """A forecast from one day as forecast.py makes it, with leads of 3 and 5 days and random values."""
    random = np.random.default_rng(0)
    shape = (2, len(lat), len(lon))
    moisture = random.uniform(0.1, 0.4, shape).astype("f4")
    moisture[0, 0, 0] = np.nan
    quantiles = moisture[:, None] + ((LEVELS - 0.5) / 10).astype("f4")[:, None, None]
    dims, unit = ("lead_time", "lat", "lon"), {"units": "m3 m-3", "long_name": "forecast soil moisture"}
    chance = random.uniform(0, 1, shape).astype("f4")
    chance[1] = np.nan  # too few years at this lead
    variables = {
        "soil_moisture": (dims, moisture, unit),
        "soil_moisture_quantile": (("lead_time", "quantile", "lat", "lon"), quantiles, unit),
        "probability_below_p10": (dims, chance, {"units": "1"}),
        "probability_above_p90": (dims, chance / 2, {"units": "1"}),
        "input_age": (("lat", "lon"), np.zeros(shape[1:], "i2"), {"units": "day"}),
    }
    coords = {
        "init_time": np.datetime64("2021-07-01", "ns"),
        "lead_time": ("lead_time", np.array([3, 5], "i4"), {"units": "days"}),
        "valid_time": ("lead_time", np.array(["2021-07-04", "2021-07-06"], "M8[ns]")),
        "quantile": LEVELS,
        "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return georeference(xr.Dataset(variables, coords, {"title": "SYNTHETIC test", "synthetic": "true"}))


def written(ds: xr.Dataset, out: Path) -> list[Path]:
    pixels = gis.find_pixels(Grid(ds["lat"].values, ds["lon"].values), out)
    return gis.write_geotiffs(ds, out, pixels)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> tuple[xr.Dataset, Path]:
    """A forecast with its GeoTIFF files."""
    ds, out = forecast_of(np.arange(48.0, 54), EAST), tmp_path_factory.mktemp("gis") / "july.nc"
    ds.to_netcdf(out)
    gis.name_bands(ds, out)
    written(ds, out)
    return ds, out


def test_a_file_for_each_lead_time_and_layer_with_any_value(one):
    names = {path.name for path in one[1].parent.glob("*.tif")}
    expected = {f"july_lead{lead}_{layer}.tif" for lead in (3, 5) for layer in QUANTITY}
    expected |= {f"july_lead3_probability_{event}.tif" for event in ("below_p10", "above_p90")}
    assert names == expected
    assert sorted(path.name for path in one[1].parent.iterdir()) == sorted(expected | {"july.nc", "july.nc.aux.xml"})


@pytest.mark.parametrize(("layer", "level"), [("soil_moisture_q05", 0.05), ("soil_moisture_q95", 0.95)])
def test_a_geotiff_holds_the_map_with_its_day_unit_and_missing_value(one, layer, level):
    ds, out = one
    with rasterio.open(out.with_name(f"july_lead3_{layer}.tif")) as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and raster.count == 1
        assert raster.crs.to_epsg() == 4326 and raster.bounds == (71.5, 47.5, 79.5, 53.5)
        expected = ds["soil_moisture_quantile"].sel(lead_time=3, quantile=level, method="nearest")
        np.testing.assert_array_equal(raster.read(1), expected.values[::-1])  # the forecast has the south first
        assert np.isnan(raster.nodata) and raster.read(1, masked=True).mask.sum() == 1
        assert raster.units == ("m3 m-3",) and raster.dtypes == ("float32",)
        assert raster.descriptions == (f"2021-07-04, 3 days ahead: {layer}",)
        tags = raster.tags()
        assert (tags["valid_time"], tags["init_time"], tags["lead_days"]) == ("2021-07-04", "2021-07-01", "3")
        assert float(tags["quantile"]) == level and tags["title"] == "SYNTHETIC test" and tags["synthetic"] == "true"


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        (np.arange(54.0, 48, -1), np.arange(230.0, 240)),
        (np.arange(-80.0, 81, 40), np.arange(0.0, 360, 30)),
        (EASE_LAT, -123.42323 + 1.4937756756756757 * np.arange(8)),
        (np.array([54.0]), np.array([72.0])),
    ],
    ids=["as 230 to 240", "as 0 to 360", "EASE-Grid 2.0", "a cell"],
)
def test_a_geotiff_shows_each_cell_at_its_place(tmp_path, lat, lon):
    ds = forecast_of(lat, lon)
    moisture = ds["soil_moisture"].isel(lead_time=1).values
    paths = written(ds, tmp_path / "f.nc")
    with rasterio.open(next(path for path in paths if path.name == "f_lead5_soil_moisture.tif")) as raster:
        image, transform = raster.read(1), rasterio.warp.transform
        assert image.shape == moisture.shape and raster.transform.e < 0
        for row, column in np.ndindex(image.shape):
            (east,), (north,) = transform(raster.crs, 4326, *([value] for value in raster.xy(row, column)))
            nearest = np.abs(lat - north).argmin(), np.abs((lon - east + 180) % 360 - 180).argmin()
            assert np.abs(lat[nearest[0]] - north) < 1e-4
            assert image[row, column] == moisture[nearest]


def test_a_full_disk_gets_one_sentence_and_leaves_nothing(tmp_path):
    ds = forecast_of(np.linspace(54, 5, 100), np.linspace(70, 120, 100))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # bytes; Python ignores the signal
    try:
        with pytest.raises(UserError, match="could not be written, the disk or quota is full"):
            written(ds, tmp_path / "f.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_uneven_cells_are_refused_with_one_sentence():
    grid = Grid(np.array([50, 48.9, 47.0, 46.4]), EAST)
    with pytest.raises(UserError, match="evenly spaced neither in degrees nor in EASE-Grid"):
        gis.find_pixels(grid, Path("mine.nc"))


def test_gdal_names_the_bands_of_the_netcdf_file_by_their_day(one):
    ds, out = one
    with rasterio.open(f"netcdf:{out}:soil_moisture") as raster:
        assert raster.descriptions == ("2021-07-04", "2021-07-06")
        assert raster.tags()["lead_time#units"] == "days from 2021-07-01"  # which QGIS shows
        np.testing.assert_array_equal(raster.read(2), ds["soil_moisture"].values[1, ::-1])
    with rasterio.open(f"netcdf:{out}:soil_moisture_quantile") as raster:
        assert raster.count == 2 * len(LEVELS)
        for band in (2, len(LEVELS) + 19):  # GDAL's order against ours
            day, level = raster.descriptions[band - 1].split(", quantile ")
            tags = raster.tags(band)
            assert day == {"3": "2021-07-04", "5": "2021-07-06"}[tags["NETCDF_DIM_lead_time"]]
            assert float(level) == pytest.approx(float(tags["NETCDF_DIM_quantile"]))


def test_an_earlier_forecast_is_removed_and_nothing_else(tmp_path):
    ours = ["f_lead3_soil_moisture.tif", "f_lead12_soil_moisture_q95.tif.aux.xml", "f.nc.aux.xml"]
    others = ["f_lead3_mine.tif", "f_leads.tif", "ff_lead3_soil_moisture.tif", "f.tif"]
    for name in ours + others:
        (tmp_path / name).touch()
    gis.remove_gis_files(tmp_path / "f.nc")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_git_ignores_what_a_forecast_leaves_in_the_repository():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/forecast*.tif", "/forecast*.xml"} <= set(ignored)
