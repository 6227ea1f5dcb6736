"""Contract 1: what is read, what is refused, what is written."""

import fcntl

import numpy as np
import pytest
import xarray as xr
from conftest import PERIODS, tiny

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.dataset.prepared import (
    VARIABLES,
    VariableNames,
    grid_of,
    is_synthetic,
    open_prepared,
    read_prepared,
    write_prepared,
)
from utils.dataset.weather_forecasts import WeatherForecasts
from utils.products.join.files import open_file


def written(ds: xr.Dataset, path, **encoding):
    """`ds` as a foreign program would write it: the units alone, no other metadata of ours."""
    for name, variable in VARIABLES.items():
        if name in ds and "units" not in ds[name].attrs:
            ds[name].attrs["units"] = variable.units
    ds.to_netcdf(path, engine="netcdf4", encoding=encoding)
    return path


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_what_is_written_reads_back_the_same(tmp_path, suffix):
    ds, path = tiny(), tmp_path / f"data.{suffix}"
    write_prepared(ds, path)
    back = read_prepared(path)
    for name in VARIABLES:
        np.testing.assert_array_equal(back[name].values, ds[name].values)
        assert back[name].dtype == np.float32
    assert is_synthetic(back)
    assert not list(tmp_path.glob(".*"))


def test_written_files_carry_cf_metadata(smap):
    with xr.open_dataset(smap) as ds:
        assert ds.attrs["Conventions"].startswith("CF-1.")
        assert ds["soil_moisture"].attrs["units"] == "m3 m-3"
        assert ds["lat"].attrs["units"] == "degrees_north" and ds["lon"].attrs["units"] == "degrees_east"
        assert ds["precipitation"].attrs["standard_name"] == "lwe_precipitation_rate"
    with xr.open_dataset(smap, decode_times=False) as ds:
        assert "since" in ds["time"].attrs["units"]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_grid_mapping_is_written_over_any_other_and_is_no_predictor(tmp_path, suffix):
    ds, path = tiny().assign(clay=(("lat", "lon"), np.ones((7, 8)))), tmp_path / f"data.{suffix}"
    ds["soil_moisture"].attrs["grid_mapping"] = "projection_of_another_program"
    write_prepared(ds, path)
    raw = xr.open_dataset(path, decode_cf=False, **({"consolidated": False} if suffix == "zarr" else {}))
    assert raw["crs"].shape == () and raw["crs"].attrs["grid_mapping_name"] == "latitude_longitude"
    assert all(raw[name].attrs["grid_mapping"] == "crs" for name in (*VARIABLES, "clay"))
    assert "coordinates" not in raw["soil_moisture"].attrs
    with pytest.raises(UserError, match="crs has the dimensions none, expected lat, lon for --static"):
        open_prepared(path, variables=VariableNames(static=("crs",)))
    with pytest.raises(UserError, match=r"wind, which --static asks for, is missing; found [a-z_, ]*clay") as refusal:
        open_prepared(path, variables=VariableNames(static=("wind",)))
    assert "crs" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("soil_moisture", "m**3 m**-3"),
        ("soil_moisture", "cm3 cm-3"),
        ("precipitation", "mm/day"),
        ("precipitation", "kg m-2 day-1"),
        ("soil_temperature", "Kelvin"),
    ],
)
def test_other_spellings_of_the_units_are_read(tmp_path, name, units):
    ds = tiny()
    ds[name].attrs["units"] = units
    assert read_prepared(written(ds, tmp_path / "data.nc"))[name].shape == (120, 7, 8)


def test_ascending_latitude_other_longitudes_order_of_dimensions_and_noon_stamps_are_kept(tmp_path):
    ds = tiny().isel(lat=slice(None, None, -1)).transpose("lon", "time", "lat")
    ds = ds.assign_coords(lon=ds["lon"] + 190, time=ds["time"] + np.timedelta64(12, "h"))
    back = read_prepared(written(ds, tmp_path / "data.nc"))
    np.testing.assert_array_equal(back["lat"], ds["lat"])
    np.testing.assert_array_equal(back["lon"], ds["lon"])
    assert back["soil_moisture"].dims == ("time", "lat", "lon")
    assert back["time"].values[0] == np.datetime64("2015-03-31")


def test_packing_noise_on_land_becomes_zero(tmp_path):
    ds = tiny()
    ds["soil_moisture"][3, 0, 0] = -0.006
    back = read_prepared(written(ds, tmp_path / "data.nc"))["soil_moisture"]
    assert back[3, 0, 0] == 0 and float(back.min()) == 0
    assert np.isnan(back[3, -1, 0])


def test_extra_variables_are_ignored(tmp_path):
    ds = tiny().assign(wind=("time", np.zeros(120), {"units": "days since launch"}))
    assert list(read_prepared(written(ds, tmp_path / "data.nc"))) == list(VARIABLES)


def test_only_days_from_the_start_asked_for_are_read(smap):
    assert read_prepared(smap, np.datetime64("2015-05-01"))["time"].values[0] == np.datetime64("2015-05-01")


def test_grids_match_to_a_ten_thousandth_of_a_degree():
    grid = Grid(np.array([2.0, 1.0]), np.array([5.0, 6.0, 7.0]))
    assert grid.matches(Grid(grid.lat + 5e-5, grid.lon))
    assert not grid.matches(Grid(grid.lat + 1e-2, grid.lon))
    assert not grid.matches(Grid(grid.lat[::-1], grid.lon))
    assert not grid.matches(Grid(grid.lat, grid.lon + 1e-3))
    assert grid_of(tiny()).shape == (7, 8)


def changed(**values):
    """A way to spoil the data set: variables scaled, shifted or replaced, or units renamed."""

    def spoil(ds):
        for name, value in values.items():
            if isinstance(value, str):
                ds[name].attrs["units"] = value
            else:
                ds[name] = value(ds[name])
        return ds

    return spoil


def hourly(ds):
    return ds.isel(time=slice(0, 100)).assign_coords(
        time=ds["time"].values[0] + np.arange(100) * np.timedelta64(1, "h")
    )


def one_day_twice(ds):
    return ds.isel(time=[0, 1, 1, *range(2, 120)])


def one_value(name, value):
    def spoil(ds):
        ds[name][10, 2, 3] = value
        return ds

    return spoil


BAD = {
    "missing variable": (lambda ds: ds.drop_vars("soil_temperature"), "soil_temperature is missing"),
    "no units": (lambda ds: changed(soil_moisture="")(ds), "soil_moisture is in ''"),
    "Celsius": (changed(soil_temperature="°C"), "'°C', expected K"),
    "percent": (changed(soil_moisture="%"), "'%', expected m3 m-3"),
    "metres": (changed(precipitation="m"), "'m', expected mm day-1"),
    "a rate": (changed(precipitation="kg m-2 s-1"), "'kg m-2 s-1', expected mm day-1"),
    "Celsius called K": (changed(soil_temperature=lambda v: v - 273.15), "soil_temperature has .* outside physical"),
    "percent called m3 m-3": (changed(soil_moisture=lambda v: v * 100), "soil_moisture has .* expected 0 to 1 m3"),
    "35 instead of 0.35": (one_value("soil_moisture", 35), "1 values .* the first 35 on 2015-04-10"),
    "a fill value": (one_value("soil_moisture", -9999), "the first -9999"),
    "negative rain": (one_value("precipitation", -5), "precipitation has 1 values"),
    "infinite": (one_value("soil_temperature", np.inf), "soil_temperature has 1 values that are infinite"),
    "all missing": (changed(soil_moisture=lambda v: v * np.nan), "soil_moisture has no valid value"),
    "all infinite": (changed(soil_moisture=lambda v: v * 0 + np.inf), "soil_moisture has infinite values only"),
    "hourly": (hourly, "steps of 1 hours"),
    "a day twice": (one_day_twice, "the day 2015-04-01 twice"),
    "unsorted": (lambda ds: ds.isel(time=slice(None, None, -1)), "time is not sorted"),
    "no dates": (lambda ds: ds.assign_coords(time=np.arange(120)), "time of type int64"),
    "other dimensions": (lambda ds: ds.rename(lat="latitude"), "time, latitude, lon, expected time, lat, lon"),
    "no latitudes": (lambda ds: ds.drop_vars("lat"), "the coordinate lat is missing"),
    "latitudes in metres": (lambda ds: ds.assign_coords(lat=ds["lat"] * 1e5), "expected -90 to 90 degrees"),
    "latitudes out of order": (lambda ds: ds.isel(lat=[1, 0, 2, 3, 4, 5, 6]), "neither ascends nor descends"),
    "text": (lambda ds: ds.assign(soil_moisture=ds["soil_moisture"].astype(str)), "soil_moisture has values of type"),
    "steps of 36 hours": (
        lambda ds: ds.assign_coords(time=ds["time"].values[0] + np.arange(120) * np.timedelta64(36, "h")),
        "a step of 36 hours",
    ),
    "no days": (lambda ds: ds.isel(time=slice(0, 0)), "time is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_a_prepared_data_set_is_refused_in_one_sentence(tmp_path, script, case):
    spoil, message = BAD[case]
    path = written(spoil(tiny()), tmp_path / "data.nc")
    with pytest.raises(UserError, match=message):
        read_prepared(path)
    sentence = script("SMAPtest/train_cnn.py", "--data", path, "--out", tmp_path / "run", *PERIODS).sentence()
    assert str(path) in sentence
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_netcdf_or_truncated_are_refused(tmp_path, smap, script):
    text = tmp_path / "text.nc"
    text.write_text("time,lat,lon\n")
    short = tmp_path / "short.nc"
    short.write_bytes(smap.read_bytes()[: smap.stat().st_size // 2])
    empty = tmp_path / "folder.zarr"
    empty.mkdir()
    for path in (text, short, empty):
        assert "damaged" in script("SMAPtest/train_cnn.py", "--data", path, *PERIODS).sentence()
    missing = script("SMAPtest/train_cnn.py", "--data", tmp_path / "none.nc", *PERIODS).sentence()
    assert "does not exist" in missing


def test_a_file_that_another_process_holds_is_not_called_damaged(smap):
    with smap.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        forecasts = WeatherForecasts(("precipitation",), 3, smap)
        for read in (open_prepared, lambda path: open_file(path, None), lambda path: forecasts.kind):
            with pytest.raises(
                UserError, match=r"another process has it open for writing.*HDF5_USE_FILE_LOCKING=FALSE"
            ):
                read(smap)


def test_damage_inside_a_file_is_noticed_when_it_is_read(tmp_path, smap):
    content = bytearray(smap.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    smap.write_bytes(content)
    with pytest.raises(UserError):
        read_prepared(smap)


def test_the_file_is_closed_after_a_refusal(tmp_path):
    path = written(changed(soil_moisture="%")(tiny()), tmp_path / "data.nc")
    with pytest.raises(UserError):
        open_prepared(path)
    path.unlink()
    write_prepared(tiny(), path)
    assert read_prepared(path)["soil_moisture"].shape == (120, 7, 8)
