"""A stranger's folder: one month of the same fields in every form of SMAP L4 and of ERA5-Land gives the same values.

The fields are constant within each cell of the target. Source cells that two of them share are missing, so that nothing
is mixed.
"""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from earth_engine import geotiff
from era5_shapes import Truth, new_cds
from smap_granules import LAT, LON, PATHS, granule
from smap_shapes import appeears
from test_prepare_era5 import in_process

DAYS = np.arange("2015-06-01", "2015-07-01", dtype="datetime64[D]")
HOURS = np.arange(1.5, 24, 3)
CENTRES = (np.arange(33.0, 29.0, -1.0), np.arange(100.0, 104.0))  # 4 × 4 cells of 1°
BOX = ["--south", "30", "--north", "33", "--west", "100", "--east", "103"]
LIMITS = {"soil_moisture": (0.05, 0.45), "soil_temperature": (270, 305), "precipitation": (0, 4e-4)}


def weather(name: str, hours: int) -> np.ndarray:
    """Random values of every cell, [days, hours of the day, rows, columns]; precipitation in mm s-1, often none."""
    rng = np.random.default_rng(list(LIMITS).index(name))
    shape = (len(DAYS), hours, 4, 4)
    values = rng.uniform(*LIMITS[name], shape)
    return np.where(rng.random(shape) < 0.5, 0, values) if name == "precipitation" else values


def spread(values: np.ndarray, lat: np.ndarray, lon: np.ndarray, half: float) -> np.ndarray:
    """Values of the target cells on source cells of a half-width [degrees]; those on or beyond an edge are NaN."""
    rows, columns = np.round(CENTRES[0][0] - lat).astype(int), np.round(lon - CENTRES[1][0]).astype(int)
    out = values[..., np.clip(rows, 0, 3)[:, None], np.clip(columns, 0, 3)[None]].astype(np.float32)
    inner = [np.abs(axis - np.round(axis)) + half <= 0.5 for axis in (lat, lon)]
    inner[0] &= (rows >= 0) & (rows <= 3)
    inner[1] &= (columns >= 0) & (columns <= 3)
    return np.where(np.outer(*inner), out, np.nan)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    def road(name: str, *more) -> xr.Dataset:
        arguments = ["--raw", tmp_path / name, "--out", tmp_path / "out" / f"{name}.nc", *BOX, *more]
        script = "prepare_smap_l4.py" if name.startswith("smap") else "prepare_era5_land.py"
        in_process(monkeypatch, *arguments, script=script)
        with xr.open_dataset(arguments[3]) as ds:
            return ds.load()

    return road


def assert_same(data_sets: list[xr.Dataset], expected: dict[str, np.ndarray]) -> None:
    for ds in data_sets:
        np.testing.assert_array_equal(ds.time.values.astype("datetime64[D]"), DAYS)
        np.testing.assert_allclose(ds.lat, CENTRES[0])
        np.testing.assert_allclose(ds.lon, CENTRES[1])
        for name, values in expected.items():
            np.testing.assert_allclose(ds[name], values, rtol=1e-5, atol=1e-4, err_msg=name)


def test_smap_l4_by_granules_appeears_and_earth_engine(prepared, tmp_path):
    fields = {name: weather(name, 8) for name in PATHS}
    rows, columns = (
        np.flatnonzero((axis > low) & (axis < high)) for axis, low, high in ((LAT, 29, 34), (LON, 99, 104))
    )
    cut = {"rows": slice(rows[0], rows[-1] + 1), "columns": slice(columns[0], columns[-1] + 1)}
    lat, lon = LAT[cut["rows"]], LON[cut["columns"]]
    for d, day in enumerate(DAYS):
        for k, hour in enumerate(HOURS):
            own = {name: spread(values[d, k], lat, lon, half=0.06) for name, values in fields.items()}
            filled = {name: np.where(np.isnan(values), -9999, values) for name, values in own.items()}
            stamp = f"{day}T{int(hour):02d}:30"
            granule(tmp_path / "smap_granules", stamp, **cut, change=lambda name, _, own=filled: own[name], level=1)
    lat, lon = np.arange(33.955, 29, -0.09), np.arange(99.045, 104, 0.09)
    own = {name: spread(values, lat, lon, half=0.045) for name, values in fields.items()}
    appeears(tmp_path / "smap_appeears" / "SPL4SMGP.008_9km_aid0001.nc", DAYS, own, lat, lon)
    means = {name: values.mean(1) for name, values in own.items()}
    names = [f"{str(day).replace('-', '')}_{PATHS[name][0].split('/')[1]}" for name in PATHS for day in DAYS]
    geotiff(tmp_path / "smap_earth_engine" / "smap.tif", np.concatenate([means[n] for n in PATHS]), names, lat, lon)
    expected = {name: values.mean(1) * (86400 if name == "precipitation" else 1) for name, values in fields.items()}
    ways = ("smap_granules", "smap_appeears", "smap_earth_engine")
    assert_same([prepared(way) for way in ways], expected)


def test_era5_land_by_hours_daily_statistics_and_earth_engine(prepared, tmp_path):
    lat, lon = np.round(np.arange(33.95, 29, -0.1), 2), np.round(np.arange(99.05, 104, 0.1), 2)
    fields = {name: weather(name, 24) for name in LIMITS}
    totals = fields["precipitation"] * 3600 / 1000  # m an hour: those stamped 01 to 24 UTC
    time = pd.date_range(DAYS[0], periods=len(DAYS) * 24 + 1, freq="h")
    t = Truth(time, *[None] * 3, None)

    def hours(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(-1, 4, 4)
        return spread(np.concatenate([flat, flat[-1:]]), lat, lon, half=0.05)

    soil = {"swvl1": hours(fields["soil_moisture"]), "stl1": hours(fields["soil_temperature"])}
    running = np.concatenate(
        [np.zeros((1, 4, 4)), totals.cumsum(1).reshape(-1, 4, 4)]
    )  # stamped 00 UTC: the day before
    rain = {"tp": spread(running, lat, lon, half=0.05)}
    for folder in ("era5_hours", "era5_daily", "era5_earth_engine"):
        (tmp_path / folder).mkdir()
    new_cds(tmp_path / "era5_hours" / "soil.nc", t, soil, lat=lat, lon=lon)
    for folder in ("era5_hours", "era5_daily"):
        new_cds(tmp_path / folder / "rain.nc", t, rain, lat=lat, lon=lon)
    daily = {name: spread(values.mean(1), lat, lon, half=0.05) for name, values in fields.items()}
    days = Truth(time[:-1:24], *[None] * 3, None)
    for short, name in (("swvl1", "soil_moisture"), ("stl1", "soil_temperature")):
        new_cds(tmp_path / "era5_daily" / f"{short}.nc", days, {short: daily[name]}, lat=lat, lon=lon)
    daily["precipitation"] = spread(totals.sum(1), lat, lon, half=0.05)
    bands = {
        "volumetric_soil_water_layer_1": "soil_moisture",
        "soil_temperature_level_1": "soil_temperature",
        "total_precipitation_sum": "precipitation",
    }
    for d, day in enumerate(DAYS):
        maps = [daily[name][d] for name in bands.values()]
        geotiff(tmp_path / "era5_earth_engine" / f"{day}.tif", maps, list(bands), lat, lon)
    expected = {name: values.mean(1) for name, values in fields.items()} | {"precipitation": totals.sum(1) * 1000}
    ways = {"era5_hours": "era5-land", "era5_daily": "daily", "era5_earth_engine": "earth-engine"}
    assert_same([prepared(way, "--product", product) for way, product in ways.items()], expected)
