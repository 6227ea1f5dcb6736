"""To which day rain belongs, in files of daily values, of points and of Earth Engine; and what is refused of them."""

import errno
import fcntl
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import REAL, tiny
from earth_engine import geotiff
from era5_shapes import LAT, LON, Truth, fields, new_cds, truth
from test_prepare_era5 import assert_days, prepare, refused

from utils.common import cli
from utils.products.archives import Locked
from utils.products.era5.accumulation import HOURLY, RUNNING_SUM, find_accumulation
from utils.products.era5.files import scan
from utils.products.raw_files import RawFile, explain, find_files, scan_files

__all__ = ["prepare", "refused"]  # fixtures
DAY = np.timedelta64(1, "D")


def daily(folder, t: Truth, hour=0, rain="tp", bounds=None):
    """Daily means and sums of days, stamped at an hour of their own day, as programs write them."""
    folder.mkdir(exist_ok=True)
    units = {"precipitation": "m", "soil_moisture": "m**3 m**-3", "soil_temperature": "K"}
    names = {"precipitation": rain, "soil_moisture": "swvl1", "soil_temperature": "stl1"}
    stamps = t.time[:-1:24] + pd.Timedelta(hours=hour)
    for name, values in t.daily().items():
        values = np.where(t.sea, np.nan, values / 1000 if name == "precipitation" else values).astype(np.float32)
        ds = xr.Dataset(
            {names[name]: (("time", "latitude", "longitude"), values, {"units": units[name]})},
            {"time": stamps, "latitude": LAT, "longitude": LON},
        )
        if bounds is not None and name == "precipitation":
            start = t.time[:-1:24] + pd.Timedelta(days=bounds)
            ds["time_bnds"] = ("time", "bnds"), np.stack([start, start + pd.Timedelta(hours=23)], 1)
            ds["time"].attrs["bounds"] = "time_bnds"
        ds.to_netcdf(folder / f"{names[name]}.nc", encoding={"time": {"units": "hours since 1970-01-01"}})
    return folder


# --- one value of rain a day


def test_the_day_of_daily_rain_is_asked_for_and_followed(prepare, refused, tmp_path, capsys):
    t = truth(days=5)
    raw = daily(tmp_path / "raw", t)
    said = refused(raw, product="daily")
    assert "tp.nc holds one value of precipitation a day and does not tell of which day: give --rain-stamp" in said
    assert_days(prepare(raw, product="daily", more=["--rain-stamp", "same-day"]), t)
    assert "precipitation of day D is the value stamped on D itself" in capsys.readouterr().out
    moved = prepare(raw, product="daily", more=["--rain-stamp", "next-day"])
    np.testing.assert_allclose(moved.precipitation[0, 5, 5], t.daily()["precipitation"][1, 5, 5], rtol=1e-4)
    assert moved.attrs["rain_stamp"] == "precipitation of day D is the value stamped 00 UTC of D+1"


@pytest.mark.parametrize(
    "told", [{"hour": 12}, {"hour": 23}, {"bounds": 0}, {"rain": "total_precipitation_sum"}], ids=str
)
def test_files_that_tell_the_day_of_their_rain_are_believed(prepare, refused, tmp_path, told):
    t = truth(days=3)
    raw = daily(tmp_path / "raw", t, **told)
    assert_days(prepare(raw, product="daily"), t)
    assert "--rain-stamp is next-day, but" in refused(raw, product="daily", more=["--rain-stamp", "next-day"])


def test_bounds_of_the_day_before_say_next_day(prepare, tmp_path):
    t = truth(days=3)
    ds = prepare(daily(tmp_path / "raw", t, bounds=-1), product="daily")
    assert ds.attrs["rain_stamp"].endswith("stamped 00 UTC of D+1") and ds.sizes["time"] == 2


def test_hourly_rain_beside_daily_means_needs_no_flag_and_takes_none(prepare, refused, tmp_path):
    t = truth()
    raw = daily(tmp_path / "raw", t)
    (raw / "tp.nc").unlink()
    for hourly_totals in (False, True):
        new_cds(raw / "rain.nc", t, {"tp": fields(t, hourly_totals=hourly_totals)["tp"]})
        assert_days(prepare(raw, product="daily"), t)
    assert "hour by hour" in refused(raw, product="daily", more=["--rain-stamp", "same-day"])


def test_rain_of_its_own_day_is_not_put_a_day_early_unseen(prepare, refused, tmp_path, capsys):
    own = tiny(days=120, shape=(7, 8))
    time = pd.date_range("2015-03-31", periods=121 * 24, freq="h")
    soil = {"swvl1": ("soil_moisture", "m**3 m**-3"), "stl1": ("soil_temperature", "K")}
    coords = {"latitude": own.lat.values, "longitude": own.lon.values}
    for short, (name, units) in soil.items():  # every hour of a day has its mean
        hours = np.repeat(own[name].values, 24, axis=0)
        ds = xr.Dataset({short: (("time", "latitude", "longitude"), hours, {"units": units})}, coords)
        ds.assign_coords(time=time[: len(hours)]).to_netcdf(tmp_path / f"{short}.nc")
    rain = xr.Dataset(
        {"tp": (("time", "latitude", "longitude"), own.precipitation.values / 1000, {"units": "m"})}, coords
    )
    rain.assign_coords(time=own.time.values).to_netcdf(tmp_path / "tp.nc")
    box = ["--south", "40", "--north", "54", "--west", "72", "--east", "88"]
    said = refused(tmp_path / "*.nc", box=box)
    assert "precipitation of day D goes better with the change of soil moisture from D to D+1 (correlation 0.9" in said
    assert "say --rain-stamp same-day" in said and not (tmp_path / "out" / "prepared.nc").exists()
    ds = prepare(tmp_path / "*.nc", box=box, more=["--rain-stamp", "same-day"])
    np.testing.assert_allclose(ds.precipitation, own.precipitation, rtol=1e-5)
    assert "CHECK THIS" not in capsys.readouterr().out
    prepare(tmp_path / "*.nc", box=box, more=["--rain-stamp", "next-day"])
    assert "CHECK THIS: precipitation of day D goes better" in capsys.readouterr().out


@pytest.mark.parametrize("shift", ["0 days 08:00:00", "-1 days +19:00:00", "local"])
def test_statistics_of_local_days_are_refused(prepare, refused, tmp_path, shift):
    t = truth(days=2)
    raw = daily(tmp_path / "raw", t)
    for text in (shift, "0 days 00:00:00"):
        with xr.open_dataset(raw / "swvl1.nc") as ds:
            ds = ds.load()
        ds["time"].attrs["time_shift"] = text
        ds.to_netcdf(raw / "swvl1.nc")
        if text == shift:
            said = refused(raw, product="daily", more=["--rain-stamp", "same-day"])
            assert f"swvl1.nc holds statistics of local days (time_shift {shift}), expected days that begin" in said
        else:
            assert_days(prepare(raw, product="daily", more=["--rain-stamp", "same-day"]), t)


# --- a point


@pytest.mark.parametrize("hourly_totals", [True, False])
def test_the_series_of_a_point_is_a_data_set_of_one_cell(prepare, refused, tmp_path, hourly_totals):
    t = truth(days=60)
    values = fields(t, hourly_totals=hourly_totals)
    for name, unit in (("swvl1", "m**3 m**-3"), ("stl1", "K"), ("tp", "m")):
        point = {name: ("valid_time", values[name][:, 8, 8], {"units": unit})}
        scalars = {"latitude": LAT[8], "longitude": LON[8]}
        xr.Dataset(point, {"valid_time": t.time, **scalars}).to_netcdf(tmp_path / f"{name}.nc")
    ds = prepare(tmp_path / "*.nc")
    assert ds.soil_moisture.shape == (60, 1, 1) and (ds.lat, ds.lon) == (LAT[8], LON[8])
    for name, expected in t.daily().items():
        np.testing.assert_allclose(ds[name][:, 0, 0], expected[:, 8, 8], atol=1e-3)
    here = ["--south", LAT[8], "--north", LAT[8], "--west", LON[8], "--east", LON[8]]
    xr.testing.assert_equal(prepare(tmp_path / "*.nc", box=list(map(str, here))), ds)
    assert "lies outside the data" in refused(tmp_path / "*.nc", box=["--south", "50", "--north", "51"])


@pytest.mark.parametrize("kind", [HOURLY, RUNNING_SUM])
def test_how_a_single_cells_rain_accumulates_is_seen_over_many_days(kind):
    """One rainy day of a cell may look like either: rain that only grows to midnight never falls."""
    t = truth(days=50)
    hours = (t.rain if kind == HOURLY else t.since_midnight)[:, 8:9, 8:9] * 1000
    windows = np.concatenate([hours[24 * d : 24 * d + 25] for d in range(50)], axis=2)
    found = find_accumulation(windows, t.time.values[:25].astype("datetime64[m]"), "within 50 days")
    assert found.kind == kind and "within 50 days" in found.evidence


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_real_files_that_lack_something_say_what(refused, tmp_path):
    real = REAL / "found"
    box = ["--south", "-90", "--north", "90", "--west", "-180", "--east", "180"]
    said = refused(*real.glob("WxFormer*.nc"), box=box)
    assert said == "no file has stl1 (soil_temperature_level_1), found: d2m, sp, swvl1, t2m, tp."
    (pakistan,) = real.glob("Pakistan*.nc")
    assert refused(pakistan, product="era5", box=box) == "no file has tp (total_precipitation), found: lsm, swvl1."
    (statistics,) = real.glob("era5-land-daily-mean*.nc")
    assert refused(statistics, product="daily", box=box) == "no file has tp (total_precipitation), found: t2m."
    said = refused(real / "reanalysis-era5-land_2025_10_25.csv")
    assert "is a text file such as a CSV table" in said and "it begins 'valid_time,latitude,longitude" in said


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_the_rain_of_a_real_series_of_era5_land_is_summed_hour_by_hour(prepare, tmp_path, capsys):
    (rain,) = (REAL / "found").glob("WxFormer*precipitation*.nc")
    (water,) = (REAL / "found").glob("WxFormer*water*.nc")
    with xr.open_dataset(rain) as ds, xr.open_dataset(water) as soil:
        part = ds.isel(valid_time=slice(0, 24 * 200 + 1)).load()
        expected = 1000 * part.tp.values[1:].reshape(200, 24).sum(1)
        part.to_netcdf(tmp_path / "tp.nc")
        soil = soil.isel(valid_time=slice(0, 24 * 200 + 1)).load()
        soil.to_netcdf(tmp_path / "swvl1.nc")
        temperature = "valid_time", np.full(soil.sizes["valid_time"], 285.0, np.float32), {"units": "K"}
        soil.drop_vars("swvl1").assign(stl1=temperature).to_netcdf(tmp_path / "stl1.nc")
    ds = prepare(tmp_path / "*.nc", box=["--south", "-90", "--north", "90", "--west", "-180", "--east", "180"])
    np.testing.assert_allclose(ds.precipitation[:, 0, 0], expected, atol=1e-3)
    assert "precipitation is hourly totals: within" in capsys.readouterr().out


# --- Earth Engine


def names_of(days, variable):
    return [f"{str(day)[:10].replace('-', '')}_{variable}" for day in days]


EE = {
    "soil_moisture": "volumetric_soil_water_layer_1",
    "soil_temperature": "soil_temperature_level_1",
    "precipitation": "total_precipitation_sum",
}


@pytest.mark.parametrize("shape", ["a band a day", "a file a day", "a file a variable", "tiles"])
@pytest.mark.parametrize("masked", [np.nan, 0.0])
def test_daily_aggregates_of_earth_engine(prepare, tmp_path, shape, masked):
    t = truth()
    days = t.time[:-1:24].values.astype("datetime64[D]")
    values = {name: v / 1000 if name == "precipitation" else v for name, v in t.daily().items()}
    values = {name: np.where(t.sea, masked, v) for name, v in values.items()}
    if shape == "a file a day":
        for k, day in enumerate(days):
            bands, names = [values[name][k] for name in EE], [*EE.values(), "soil_temperature_level_1_max"]
            geotiff(tmp_path / f"era5_{day}.tif", [*bands, bands[1] + 9], names, LAT, LON)
    elif shape == "a file a variable":
        for name, band in EE.items():
            geotiff(tmp_path / f"{band}_2015.tif", values[name], [str(day) for day in days], LAT, LON)
    else:
        tiles = [slice(0, 7), slice(7, 13)] if shape == "tiles" else [slice(None)]
        for k, rows in enumerate(tiles):
            bands = np.concatenate([values[name][:, rows] for name in EE])
            names = [name for band in EE.values() for name in names_of(days, band)]
            geotiff(tmp_path / f"era5-{k}.tif", bands, names, LAT[rows], LON)
    assert_days(prepare(tmp_path / "*.tif", product="earth-engine"), t)


def test_geotiff_that_cannot_be_placed_or_dated_is_refused(refused, tmp_path):
    bands = [np.full((13, 13), 0.2)] * 2
    names = ["20150331_volumetric_soil_water_layer_1", "20150401_volumetric_soil_water_layer_1"]
    said = {"": names, "0_": ["0_volumetric_soil_water_layer_1", "1_volumetric_soil_water_layer_1"]}
    good = geotiff(tmp_path / "a.tif", bands, names, LAT, LON)
    assert "is a GeoTIFF, as Earth Engine exports" in refused(good)
    assert "no file has tp" in refused(good, product="earth-engine")
    numbered = geotiff(tmp_path / "b.tif", bands, said["0_"], LAT, LON)
    assert "its band '0_volumetric_soil_water_layer_1' is numbered" in refused(numbered, product="earth-engine")
    undated = geotiff(tmp_path / "volumetric_soil_water_layer_1_20150331.tif", bands, [None, None], LAT, LON)
    assert "has no date" in refused(undated, product="earth-engine")
    web = geotiff(tmp_path / "c.tif", bands, names, LAT * 1e5, LON * 1e5, crs="EPSG:3857")
    assert "is in the projection EPSG:3857, expected EPSG:4326" in refused(web, product="earth-engine")
    hourly = geotiff(tmp_path / "d.tif", bands[:1], ["20150331T0300_total_precipitation"], LAT, LON)
    assert "holds hours of tp, expected daily aggregates" in refused(hourly, product="earth-engine")
    content = good.read_bytes()
    good.write_bytes(content[: len(content) // 3])
    assert "1 of 1 files cannot be read: " in refused(good, product="earth-engine")


# --- locks, names and other files


@pytest.mark.parametrize("granules", [False, True])
def test_a_locked_file_is_not_called_damaged(tmp_path, granules):
    from utils.products.smap import granules as smap_granules

    t = truth(days=1)
    path = new_cds(tmp_path / "SMAP_L4_SM_gph_20150331T013000_Vv7032_001.h5", t, fields(t))
    scanner = smap_granules.scan if granules else scan
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(cli.UserError) as error:
            scan_files([path], scanner, tmp_path / "scratch", "files")
    said = str(error.value)
    assert "another process has it open for writing" in said and "HDF5_USE_FILE_LOCKING=FALSE" in said
    assert "damaged" not in said


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def without_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "a.nc").touch()
    monkeypatch.setattr("h5py.File", without_locks)
    why = explain(RawFile(tmp_path / "a.nc", "a.nc", "hdf5"), OSError("NetCDF: HDF error"))
    assert isinstance(why, Locked) and "has no locks" in str(why)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "is a web page, perhaps a login page"),
        (b"time,lat,lon,tp\n2015-03-31,30,110,0.1\n", "is a text file such as a CSV table"),
        (b"ID,Latitude,SPL4SMGP_008_x\na,30,0.1\n", r"a CSV table of AppEEARS .*NetCDF-4.*; data/join.py reads"),
        (b'system:index,.geo\n0,"{""a"":[1,2]}"\n', "a CSV table of Earth Engine .*GeoTIFF"),
        (b"", "is empty"),
        (bytes(range(256)), "is neither NetCDF, GRIB, HDF5, GeoTIFF nor ZIP"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, said):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(cli.UserError, match=said):
        scan_files(find_files([tmp_path / "a.nc"]), scan, tmp_path / "scratch", "files")


def test_a_script_in_another_locale_starts_anew_in_utf8(monkeypatch):
    started = []
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    monkeypatch.setattr("os.execv", lambda *call: started.append(call))
    for _ in range(2):  # the second time it is in UTF-8
        cli._use_utf8()
    assert len(started) == 1 and started[0][1][0] == started[0][0]
    name = UnicodeEncodeError("ascii", "données", 4, 5, "ordinal not in range")
    assert "not written in UTF-8: rename it" in str(explain(RawFile(Path("d"), "d", "hdf5"), name))
