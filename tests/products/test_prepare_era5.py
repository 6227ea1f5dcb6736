"""ERA5-Land and ERA5 files of every shape become the daily values computed by hand."""

import functools
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from conftest import ROOT
from era5_shapes import LAT, LON, Truth, fields, grib, new_cds, old_cds, truth, zipped

REAL = ROOT.parent / "shared" / "realdata" / "formats"
BOX = ["--south", "30", "--north", "33", "--west", "110", "--east", "113"]
TOLERANCE = {"precipitation": 1e-3, "soil_moisture": 2e-6, "soil_temperature": 1e-3}
PACKED = {"precipitation": 5e-3, "soil_moisture": 2e-5, "soil_temperature": 5e-3}  # half a packing step and more
prepared_days = np.array(["2015-03-30", "2015-03-31", "2015-04-01", "2015-04-02"], "datetime64[ns]")


def run(*arguments, check=True) -> subprocess.CompletedProcess:
    command = [sys.executable, "data/prepare_era5_land.py", *map(str, arguments), "--workers", "1"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def in_process(monkeypatch, *arguments, script="prepare_era5_land.py", workers=1, draws=False) -> None:
    """What a script does without a new process, for tests of many cases. Maps are drawn where they are asked for."""
    if not draws:
        monkeypatch.setattr("utils.products.report._draw", lambda *_: None)
    from utils.common import cli
    from utils.products.era5.prepare import ERA5PrepareSettings, prepare_era5
    from utils.products.smap.prepare import SMAPPrepareSettings, prepare_smap

    kind, prepare = {
        "prepare_era5_land.py": (ERA5PrepareSettings, prepare_era5),
        "prepare_smap_l4.py": (SMAPPrepareSettings, prepare_smap),
    }[script]
    monkeypatch.setattr(sys, "argv", [f"data/{script}", *map(str, arguments), "--workers", str(workers)])
    prepare(cli.parse(kind, sys.argv[1:]))


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Prepare files on their own cells (as netCDF) and give the data set."""

    def road(*raw, product="era5-land", more=(), box=BOX) -> xr.Dataset:
        out = tmp_path / "out" / "prepared.nc"
        in_process(
            monkeypatch, "--raw", *raw, "--out", out, "--product", product, "--resolution", "native", *box, *more
        )
        with xr.open_dataset(out) as ds:
            return ds.load()

    return road


@pytest.fixture
def refused(prepare):
    from utils.common.cli import UserError

    def sentence(*raw, **options) -> str:
        with pytest.raises(UserError) as error:
            prepare(*raw, **options)
        return str(error.value)

    return sentence


def assert_days(ds: xr.Dataset, t: Truth, tolerance=TOLERANCE, days=slice(None)) -> None:
    expected = t.daily()
    wanted = t.time[0].to_datetime64() + np.arange(len(expected["precipitation"])) * np.timedelta64(1, "D")
    np.testing.assert_array_equal(ds.time.values, wanted[days])
    np.testing.assert_allclose(ds.lat, LAT)
    np.testing.assert_allclose(ds.lon, LON)
    for name, values in expected.items():
        got = ds[name].values
        assert np.isnan(got[:, t.sea]).all(), f"{name} on sea"
        np.testing.assert_allclose(got[:, ~t.sea], values[days][:, ~t.sea], atol=tolerance[name], err_msg=name)


# --- file shapes


def test_new_cds_netcdf(prepare, tmp_path):
    t = truth()
    assert_days(prepare(new_cds(tmp_path / "a.nc", t, fields(t))), t)


def test_zip_named_nc_with_instant_and_accumulated_members(prepare, tmp_path):
    t = truth()
    values = fields(t)
    soil = new_cds(tmp_path / "1", t, {k: values[k] for k in ("swvl1", "stl1")})
    rain = new_cds(tmp_path / "2", t, {"tp": values["tp"]})
    names = ("data_stream-oper_stepType-instant.nc", "data_stream-oper_stepType-accum.nc")
    folder = tmp_path / "raw"
    folder.mkdir()
    zipped(folder / "download.nc", dict(zip(names, (soil, rain), strict=True)))
    assert_days(prepare(folder), t)


def test_old_cds_packed_with_fill_on_sea(prepare, tmp_path):
    t = truth()
    assert_days(prepare(old_cds(tmp_path / "a.nc", t, fields(t))), t, PACKED)


@pytest.mark.parametrize("near_zero", [5e-6, -3e-4])
@pytest.mark.parametrize("with_lsm", [True, False])
def test_sea_packed_as_one_value_near_zero(prepare, tmp_path, near_zero, with_lsm):
    t = truth()
    lsm = np.where(t.sea, 0.1, 0.9) if with_lsm else None
    assert_days(prepare(old_cds(tmp_path / "a.nc", t, fields(t, sea=near_zero), lsm=lsm)), t, PACKED)


def test_dry_land_that_varies_near_zero_is_no_sea(prepare, tmp_path):
    t = truth()
    t.swvl1[:, 8, 8] = np.where(np.arange(len(t.time)) % 2, 0.0009, -0.0004)
    ds = prepare(old_cds(tmp_path / "a.nc", t, fields(t, sea=-3e-4)))
    assert_days(ds, t, PACKED)
    np.testing.assert_allclose(ds.soil_moisture[:, 8, 8], 0.00045, atol=2e-5)  # hours below zero count as zero


def test_expver_as_a_dimension_takes_final_data_where_present(prepare, tmp_path):
    t = truth()
    both = {}
    for name, values in fields(t).items():
        both[name] = np.full((len(t.time), 2, *values.shape[1:]), np.nan, np.float32)
        both[name][:60, 0], both[name][60:, 1] = values[:60], values[60:]
        both[name][:50, 1] = values[:50] * 0.5  # preliminary values that final ones replace
    assert_days(prepare(old_cds(tmp_path / "a.nc", t, both, expver=(1, 5))), t, PACKED)


def test_expver_as_a_string_per_time(prepare, tmp_path):
    t = truth()
    expver = ["0001"] * 60 + ["0005"] * (len(t.time) - 60)
    assert_days(prepare(new_cds(tmp_path / "a.nc", t, fields(t), expver=expver)), t)


def test_final_file_goes_before_preliminary_file(prepare, tmp_path):
    t, other = truth(), truth(seed=1)
    new_cds(tmp_path / "a.nc", other, fields(other), expver="0005")
    new_cds(tmp_path / "b.nc", t, fields(t), expver="0001")
    assert_days(prepare(tmp_path / "*.nc"), t)


def test_longitudes_0_to_360_and_minus_180_to_180_are_the_same_cells(prepare, tmp_path):
    lon = LON - 200.0  # about −90, the Americas
    box = ["--south", "30", "--north", "33", "--west", str(lon[0]), "--east", str(lon[-1])]
    t = truth()
    first = prepare(new_cds(tmp_path / "a.nc", t, fields(t), lon=lon), box=box)
    second = prepare(new_cds(tmp_path / "b.nc", t, fields(t), lon=lon % 360), box=box)
    xr.testing.assert_equal(first, second)
    np.testing.assert_allclose(second.lon, lon)


def test_ascending_latitude(prepare, tmp_path):
    t = truth()
    flipped = {name: values[:, ::-1] for name, values in fields(t).items()}
    assert_days(prepare(new_cds(tmp_path / "a.nc", t, flipped, lat=LAT[::-1])), t)


@pytest.mark.parametrize("land", [True, False])
def test_grib_with_instant_and_accumulated_fields(prepare, tmp_path, land):
    t = truth()
    file = grib(tmp_path / "a.grib", t, fields(t, hourly_totals=not land), land)
    assert_days(prepare(file, product="era5-land" if land else "era5"), t)


@pytest.mark.parametrize("product", ["era5", "era5-land"])
def test_hourly_totals_are_summed_whatever_the_product_is_called(prepare, tmp_path, capsys, product):
    t = truth()
    ds = prepare(new_cds(tmp_path / "a.nc", t, fields(t, hourly_totals=True)), product=product)
    assert_days(ds, t)
    assert ds.attrs["rain_stamp"] in capsys.readouterr().out and "hourly totals" in ds.rain_stamp


def test_daily_statistics_paired_with_precipitation_at_00(prepare, tmp_path):
    t = truth()
    daily, hourly = t.daily(), fields(t)
    days = Truth(t.time[:-1:24], *[None] * 3, t.sea)
    means = {"swvl1": daily["soil_moisture"], "stl1": daily["soil_temperature"]}
    for name, values in means.items():
        values = values.astype(np.float32)
        values[:, t.sea] = np.nan
        new_cds(tmp_path / f"{name}.nc", days, {name: values})
    midnight = Truth(t.time[::24], *[None] * 3, t.sea)
    new_cds(tmp_path / "tp.nc", midnight, {"tp": hourly["tp"][::24]})
    assert_days(prepare(tmp_path, product="daily", more=["--rain-stamp", "next-day"]), t)


def test_chunks_of_many_hours_give_the_same_as_chunks_of_one(prepare, tmp_path):
    t = truth(days=6)
    assert_days(prepare(new_cds(tmp_path / "a.nc", t, fields(t), chunksizes=(97, 5, 4))), t)


def test_netcdf_written_by_cfgrib_with_time_and_step(prepare, tmp_path):
    t = truth()
    values = fields(t)
    for name in ("swvl1", "stl1"):
        new_cds(tmp_path / f"{name}.nc", t, {name: values[name]})
    rain = values["tp"][1:].reshape(-1, 24, *t.sea.shape)  # runs from 00 UTC, steps 1 to 24 hours
    start, step = t.time[:-1:24], np.arange(1, 25) * np.timedelta64(3600 * 10**9, "ns")
    ds = xr.Dataset(
        {"tp": (("time", "step", "latitude", "longitude"), rain, {"units": "m"})},
        {"time": start, "step": step, "latitude": LAT, "longitude": LON},
    ).assign_coords(valid_time=(("time", "step"), start.values[:, None] + step))
    ds.to_netcdf(tmp_path / "tp.nc")
    assert_days(prepare(tmp_path), t)
    ds.drop_vars("valid_time").to_netcdf(tmp_path / "tp.nc")
    assert_days(prepare(tmp_path), t)


def test_one_file_an_hour_with_a_scalar_time_and_longitude_first(prepare, tmp_path):
    t = truth(days=2)
    values = fields(t)
    for k in range(len(t.time)):
        dims = ("longitude", "latitude")
        xr.Dataset(
            {name: (dims, data[k].T, {"units": unit}) for (name, data), unit in
             zip(values.items(), ("m**3 m**-3", "K", "m"), strict=True)},
            {"latitude": LAT, "longitude": LON, "valid_time": t.time[k]},
        ).to_netcdf(tmp_path / f"{k}.nc")  # fmt: skip
    assert_days(prepare(tmp_path), t)


# --- parts, gaps and ends


def test_overlapping_parts_in_any_order_give_the_same(prepare, tmp_path):
    t = truth()
    values = fields(t)
    for name, hours in (("z", slice(0, 40)), ("m", slice(30, 70)), ("a", slice(60, None))):
        new_cds(tmp_path / f"{name}.nc", t, values, hours)
    assert_days(prepare(tmp_path / "a.nc", tmp_path / "z.nc", tmp_path / "m.nc", tmp_path / "z.nc"), t)


def test_parts_that_tile_the_region_are_joined(prepare, tmp_path):
    t = truth()
    for name, rows in (("north", slice(0, 8)), ("south", slice(6, None))):
        new_cds(tmp_path / f"{name}.nc", t, {k: v[:, rows] for k, v in fields(t).items()}, lat=LAT[rows])
    assert_days(prepare(tmp_path), t)


def test_incomplete_ends_are_dropped_and_an_incomplete_day_inside_is_left_out(prepare, tmp_path, capsys):
    t = truth(days=5)
    hours = np.ones(len(t.time), bool)
    hours[:3] = False  # the first day starts at 03 UTC
    hours[24 * 2 + 7] = False  # one hour of the third day
    ds = prepare(new_cds(tmp_path / "a.nc", t, fields(t), hours=np.flatnonzero(hours)))
    assert list(ds.time.dt.day.values) == [31, 2, 3]
    said = capsys.readouterr().out
    assert "left out: 2015-04-01 (23 of 24 hours of soil_moisture" in said
    assert "dropped at the ends: 2015-03-30" in said and "dropped at the ends: 2015-04-04" in said


def test_an_hour_without_any_value_makes_its_day_incomplete(prepare, tmp_path, capsys):
    t = truth()
    values = fields(t)
    values["swvl1"][30] = np.nan
    assert list(prepare(new_cds(tmp_path / "a.nc", t, values)).time.dt.day.values) == [30, 1, 2]
    assert "left out: 2015-03-31 (no valid value of soil_moisture)" in capsys.readouterr().out


def test_last_day_of_a_month_takes_its_rain_from_the_next_file(prepare, tmp_path):
    t = truth()
    values = fields(t)
    new_cds(tmp_path / "march.nc", t, values, slice(0, 48))
    new_cds(tmp_path / "april.nc", t, values, slice(48, None))
    assert_days(prepare(tmp_path), t)


def test_precipitation_total_does_not_depend_on_hours_within_the_day(prepare, tmp_path):
    t = truth()
    values = fields(t)
    new_cds(tmp_path / "soil.nc", t, {k: values[k] for k in ("swvl1", "stl1")})
    new_cds(tmp_path / "tp.nc", t, {"tp": values["tp"]}, slice(0, None, 24))
    assert_days(prepare(tmp_path), t)


# --- regridded, Zarr, resume


def test_default_grid_is_the_published_52_by_65_cells(tmp_path, monkeypatch):
    lat, lon = np.arange(56.0, 0.9, -1.0), np.arange(70.0, 138.1, 1.0)
    t = truth(days=1, lat=lat, lon=lon)
    new_cds(tmp_path / "a.nc", t, fields(t), lat=lat, lon=lon)
    out = tmp_path / "out.zarr"
    in_process(monkeypatch, "--raw", tmp_path / "a.nc", "--out", out, draws=True)
    with xr.open_zarr(out, consolidated=False) as ds:
        assert ds.soil_moisture.shape == (1, 52, 65)
        assert (ds.lat[0], ds.lat[-1], ds.lon[0], ds.lon[-1]) == (54, 3, 72, 136)
        # cells of the same size in the same place: regridding changes nothing
        np.testing.assert_allclose(
            ds.soil_temperature[0], np.where(t.sea, np.nan, t.stl1[:24].mean(0))[2:54, 2:67], atol=1e-3
        )
        assert ds.attrs["history"].startswith("python data/prepare_era5_land.py --raw")
    assert {p.name for p in tmp_path.glob("out*.png")} == {
        f"out_{v}.png" for v in ("precipitation", "soil_moisture", "soil_temperature")
    }


def test_a_run_that_stopped_continues_and_no_finished_month_is_repeated(prepare, tmp_path, monkeypatch):
    from utils.products import monthly
    from utils.products.era5 import prepare as era5_prepare

    t = truth("2015-03-30", days=70)
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    whole = prepare(file)
    (tmp_path / "out" / "prepared.nc").unlink()
    asked = []
    month = era5_prepare.era5_month

    @functools.wraps(month)
    def stops_in_may(days, **rest):
        asked.append(str(days[0])[:7])
        if asked.count("2015-05") == 1 and asked[-1] == "2015-05":
            raise KeyboardInterrupt
        return month(days=days, **rest)

    monkeypatch.setattr(era5_prepare, "era5_month", stops_in_may)
    with pytest.raises(KeyboardInterrupt):
        prepare(file)
    assert len(list((tmp_path / "out" / ".prepared.nc.work").glob("2015-*.nc"))) == 2
    again = prepare(file)
    assert asked == ["2015-03", "2015-04", "2015-05", "2015-05", "2015-06"]
    xr.testing.assert_identical(whole, again)
    assert not (tmp_path / "out" / ".prepared.nc.work").exists()
    prepare(file)  # finished: nothing is done again
    assert len(asked) == 5
    assert monthly.by_month(whole.time.values.astype("datetime64[D]")).keys() == {
        "2015-03", "2015-04", "2015-05", "2015-06",
    }  # fmt: skip


def test_killed_at_any_moment_and_started_again_the_file_is_the_same(tmp_path):
    t = truth("2015-03-30", days=200)
    new_cds(tmp_path / "a.nc", t, fields(t))
    out = tmp_path / "out" / "era5.nc"
    arguments = ["--raw", tmp_path / "a.nc", "--out", out, "--resolution", "native", *BOX]
    run(*arguments)
    with xr.open_dataset(out) as ds:
        expected = ds.load()
    shutil.rmtree(out.parent)
    command = [sys.executable, "data/prepare_era5_land.py", *map(str, arguments), "--workers", "1"]
    work = out.parent / ".era5.nc.work"
    kept = set()
    for months in (1, 3, 5):  # killed as soon as that many months are there
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=-3, stdout=-3)
        while process.poll() is None and len(list(work.glob("2015-*.nc"))) < months:
            time.sleep(0.002)
        process.kill()
        process.wait()
        if out.exists():
            break
        now = {(p.name, p.stat().st_mtime_ns) for p in work.glob("2015-*.nc")}
        assert kept <= now, "a finished month was made again"
        kept = now
    assert kept
    run(*arguments)
    with xr.open_dataset(out) as ds:
        xr.testing.assert_identical(ds.load(), expected)


def test_workers_and_a_dask_scheduler_give_the_same_file(tmp_path, monkeypatch):
    import distributed

    t = truth("2015-03-30", days=70)
    new_cds(tmp_path / "a.nc", t, fields(t))
    arguments = ["--raw", tmp_path / "a.nc", "--resolution", "native", *BOX, "--out"]
    in_process(monkeypatch, *arguments, tmp_path / "one.nc")
    in_process(monkeypatch, *arguments, tmp_path / "two.nc", workers=2)
    with distributed.LocalCluster(
        1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        in_process(monkeypatch, *arguments, tmp_path / "three.nc", "--dask-scheduler", cluster.scheduler_address)
    with xr.open_dataset(tmp_path / "one.nc") as one:
        for other in ("two.nc", "three.nc"):
            with xr.open_dataset(tmp_path / other) as ds:
                xr.testing.assert_equal(one, ds)


def test_an_error_on_a_worker_is_one_sentence_too(tmp_path, monkeypatch):
    from utils.common.cli import UserError

    t = truth("2015-03-30", days=70)
    new_cds(tmp_path / "a.nc", t, fields(t))
    arguments = ["--raw", tmp_path / "a.nc", "--resolution", "native", *BOX, "--out", tmp_path / "two.nc"]
    with pytest.raises(UserError, match=r"4 of 4 months failed: .*contradicts --product era5:"):
        in_process(monkeypatch, *arguments, "--product", "era5", workers=2)


# --- the real files


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_real_new_cds_files_read_as_plain_xarray_reads_them():
    from utils.products.era5.files import read_planes, scan
    from utils.products.raw_files import RawFile

    for name, variables in (("era5_land_newcds_data_0.nc", ("swvl1", "stl1")), ("era5_land_newcds_data_1.nc", ("tp",))):
        parts = {p.name_in_file: p for p in scan(RawFile(REAL / name, name, "hdf5"))}
        assert set(parts) == set(variables)
        with xr.open_dataset(REAL / name) as ds:
            for variable in variables:
                part = parts[variable]
                np.testing.assert_array_equal(part.stamps, np.array(["2025-10-17T00:00"], "datetime64[m]"))
                got = read_planes(part, np.array([0]), slice(0, 11), slice(0, 11))
                np.testing.assert_array_equal(got, ds[variable].values)
                assert np.isnan(got).sum() == 62
                np.testing.assert_allclose(part.lon, ds.longitude)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_real_old_cds_file_unpacks_by_hand_and_its_sea_follows_the_land_mask():
    import netCDF4

    from utils.products.era5.files import read_planes, scan
    from utils.products.era5.mosaic import Mosaic
    from utils.products.era5.sea import sea_mask
    from utils.products.raw_files import RawFile
    from utils.products.regrid import latlon_cells

    file = REAL / "era5_oldcds_packed_china.nc"
    parts = {p.variable: p for p in scan(RawFile(file, file.name, "netcdf3"))}
    soil = parts["soil_moisture"]
    got = read_planes(soil, np.array([0, 1]), slice(0, 157), slice(0, 249))
    with netCDF4.Dataset(file) as ds:
        ds.set_auto_maskandscale(False)
        packed, mask = ds["swvl1"], ds["lsm"]
        by_hand = packed[:] * packed.scale_factor + packed.add_offset
        land = mask[0] * mask.scale_factor + mask.add_offset
    np.testing.assert_allclose(got, by_hand, atol=1e-7)
    assert -0.005 < got.min() < 0
    every = np.arange(157), np.arange(249)
    both = (soil, parts["land"])
    mosaic = Mosaic(both, (every[0],) * 2, (every[1],) * 2, latlon_cells(soil.lat, soil.lon))
    np.testing.assert_array_equal(sea_mask(mosaic), land < 0.5)
    without = Mosaic(both[:1], (every[0],), (every[1],), latlon_cells(soil.lat, soil.lon))
    constant = (by_hand[0] == by_hand[1]) & (np.abs(by_hand) < 1e-3).all(0)
    np.testing.assert_array_equal(sea_mask(without), constant)
