"""Raw input that is damaged, unusual or in the way of the output: read rightly or refused, and nothing is lost."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from era5_shapes import LAT, LON, fields, grib, new_cds, old_cds, truth, zipped
from smap_granules import PATHS, day, granule
from test_prepare_era5 import BOX, PACKED, ROOT, assert_days, in_process, prepare, refused, run

from utils.common.cli import UserError

__all__ = ["prepare", "refused"]  # fixtures
SMAP_BOX = ["--south", "25", "--north", "35", "--west", "95", "--east", "115"]
SMAP_CUT = {"rows": slice(300, 500), "columns": slice(2900, 3200)}


# --- the output


def test_a_folder_is_never_replaced(tmp_path, monkeypatch):
    t = truth(days=2)
    file = new_cds(tmp_path / "raw.nc", t, fields(t))
    for name in ("results", "results.zarr", "results.nc"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        with pytest.raises(UserError, match="is a folder"):
            in_process(monkeypatch, "--raw", file, "--out", folder, "--resolution", "native", *BOX)
        assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    (tmp_path / "file.zarr").write_text("a file")
    for out, said in (("file.zarr", "is a file"), (".", "a folder|raw files"), ("..", "a folder|raw files")):
        with pytest.raises(UserError, match=said):
            in_process(monkeypatch, "--raw", file, "--out", tmp_path / out if out[0] != "." else out, *BOX)


def test_whole_file_replaces_zarr_stores_and_files_only(tmp_path):
    from utils.common.files import whole_file

    for name, inside in (("empty", None), ("store", "zarr.json"), ("old_store", ".zgroup")):
        (tmp_path / name).mkdir()
        if inside:
            (tmp_path / name / inside).write_text("{}")
        with whole_file(tmp_path / name) as partial:
            partial.write_text("new")
        assert (tmp_path / name).read_text() == "new"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("old")
    with pytest.raises(UserError, match="left as it is"), whole_file(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder" / "mine").read_text() == "old"


def test_raw_files_are_never_the_output(tmp_path, monkeypatch):
    t = truth(days=2)
    raw = tmp_path / "raw"
    raw.mkdir()
    file = new_cds(raw / "a.nc", t, fields(t))
    content = file.read_bytes()
    for given, out in ((raw, raw), (raw, file), (file, file), (raw / "*.nc", file)):
        with pytest.raises(UserError, match="is one of the raw files"):
            in_process(monkeypatch, "--raw", given, "--out", out, "--resolution", "native", *BOX)
    assert file.read_bytes() == content and [p.name for p in raw.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("out", ["era5.nc", "era5.zarr"])
def test_an_output_among_the_raw_files_is_passed_over_by_the_next_run(tmp_path, monkeypatch, capsys, out):
    t = truth(days=2)
    raw = tmp_path / "raw"
    raw.mkdir()
    new_cds(raw / "a.nc", t, fields(t))
    for given in (raw, raw / "*", raw / "*"):
        in_process(monkeypatch, "--raw", given, "--out", raw / out, "--resolution", "native", *BOX)
    assert "holds all 1 months already" in capsys.readouterr().out


def test_raw_paths_do_not_depend_on_the_folder_of_the_process_that_reads(tmp_path, monkeypatch):
    from utils.products.monthly import work_folder
    from utils.products.raw_files import find_files, scan_files

    t = truth(days=1)
    new_cds(tmp_path / "a.nc", t, fields(t))
    monkeypatch.chdir(tmp_path)
    (file,) = scan_files(find_files(["a.nc"]), lambda found: found, tmp_path / "scratch", "files")
    assert file.path.is_absolute() and file.name == "a.nc"
    with work_folder(Path("out.nc")) as folder:
        assert folder.is_absolute()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--south", "nan"], "finite"),
        (["--resolution", "inf"], "finite"),
        (["--resolution", "native", "--west", "nan"], "finite"),
        (["--workers", "-1"], "--workers is -1"),
        (["--workers", "0"], "--workers is 0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, monkeypatch, flags, said):
    from utils.products.monthly import PrepareSettings

    keys = {k.removeprefix("--"): v for k, v in zip(flags[::2], flags[1::2], strict=True)}
    kinds = {"workers": int, "resolution": lambda v: v if v == "native" else float(v)}
    settings = PrepareSettings((tmp_path,), tmp_path / "x.nc", **{k: kinds.get(k, float)(v) for k, v in keys.items()})
    with pytest.raises(UserError, match=said):
        settings.target()


# --- damage


def impossible(path, at):
    """A file in order to all appearance whose values at one hour are impossible."""
    with netCDF4.Dataset(path, "a") as ds:
        ds["stl1"][at] = 1000.0
    return path


def test_one_bad_month_of_four_is_one_line_and_the_others_are_finished(tmp_path):
    t = truth("2015-03-30", days=70)
    file = impossible(new_cds(tmp_path / "a.nc", t, fields(t)), 60)
    out = tmp_path / "out" / "x.nc"
    command = [sys.executable, "data/prepare_era5_land.py", "--raw", file, "--out", out, "--resolution", "native", *BOX]
    done = subprocess.run(
        [*map(str, command), "--workers", "2"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1 and len(lines) == 1, done.stderr[-2000:]
    assert "1 of 4 months failed" in lines[0] and "the other 3 are finished" in lines[0]
    assert len(list((out.parent / ".x.nc.work").glob("2015-*.nc"))) == 3


def test_every_bad_month_is_named_in_one_process_too(refused, tmp_path):
    t = truth("2015-03-30", days=70)
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    for hour in (60, 24 * 35):
        impossible(file, hour)
    said = refused(file)
    assert "2 of 4 months failed" in said and "2015-04-01T12:00" in said and "2015-05-04T00:00" in said


def test_refused_input_leaves_no_work_folder(refused, tmp_path):
    t = truth(days=2)
    raw = tmp_path / "raw"
    raw.mkdir()
    soil = new_cds(raw / "good", t, fields(t))
    zipped(raw / "b.zip", {"data_0.nc": soil})
    with netCDF4.Dataset(soil.rename(raw / "a.nc"), "a") as ds:
        ds["stl1"][30] = 290.0
    assert "contradict each other" in refused(raw)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"", bytes(5000), b"<html>not found</html>"])
def test_a_damaged_member_of_a_zip_is_named(refused, tmp_path, content):
    t = truth(days=2)
    good = new_cds(tmp_path / "good", t, fields(t))
    zipped(tmp_path / "a.zip", {"data_0.nc": good})
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("data_2.nc", content)
        archive.writestr("readme.txt", "passed over")
    assert "its member data_2.nc is empty or damaged" in refused(tmp_path / "a.zip")


def test_a_zip_in_a_zip_is_named(refused, tmp_path):
    t = truth(days=2)
    good = new_cds(tmp_path / "good", t, fields(t))
    inner = zipped(tmp_path / "inner", {"data_0.nc": good})
    zipped(tmp_path / "a.zip", {"data_0.nc": good, "inner.zip": inner})
    assert "inner.zip is a ZIP itself" in refused(tmp_path / "a.zip")


def test_damaged_grib_is_one_sentence_without_the_words_of_the_library(tmp_path):
    t = truth(days=2)
    file = grib(tmp_path / "a.grib", t, fields(t))
    content = bytearray(file.read_bytes())
    message = content.index(b"GRIB", len(content) // 2)
    content[message + 12 : message + 40] = bytes(28)  # its grid and time
    file.write_bytes(content)
    done = run("--raw", file, "--out", tmp_path / "x.nc", "--resolution", "native", *BOX, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1 and len(lines) == 1 and "a.grib" in lines[0], done.stderr


def test_warnings_of_xarray_do_not_reach_the_user(prepare, tmp_path, recwarn):
    t = truth(days=2)
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    with netCDF4.Dataset(file, "a") as ds:
        ds["swvl1"].coordinates = "number valid_time nowhere"
        ds["swvl1"].cell_measures = "area: nowhere"
    prepare(file)
    assert not [w for w in recwarn if "nowhere" in str(w.message)]


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyError, TypeError, ValueError])
def test_whatever_h5py_raises_for_a_damaged_granule_is_a_sentence(tmp_path, monkeypatch, error):
    from utils.products.archives import Unreadable
    from utils.products.raw_files import RawFile
    from utils.products.smap import granules

    path = granule(tmp_path, day("2015-03-31")[0], **SMAP_CUT)
    file = RawFile(path, path.name, "hdf5")
    found = granules.scan(file)

    def broken(*_):
        raise error("bad heap")

    monkeypatch.setattr(granules.h5py, "File", broken)
    with pytest.raises(Unreadable, match="bad heap"):
        granules.scan(file)
    with pytest.raises(UserError, match="may be damaged"):
        granules.read(found, slice(310, 320), slice(2910, 2920))


def test_an_older_version_with_a_smaller_box_does_not_shrink_the_region(tmp_path, monkeypatch):
    for stamp in day("2015-03-31"):
        granule(tmp_path / "raw", stamp, **SMAP_CUT)
    granule(tmp_path / "raw", stamp, slice(400, 420), slice(3000, 3020), version="Vv6030_001")
    out = tmp_path / "smap.nc"
    arguments = ["--raw", tmp_path / "raw", "--out", out, *SMAP_BOX]
    in_process(monkeypatch, *arguments, script="prepare_smap_l4.py")
    with xr.open_dataset(out) as ds:
        assert ds.sizes["time"] == 1 and PATHS.keys() <= set(ds.data_vars)


# --- grids


@pytest.mark.parametrize("first", [0.0, -180.0])
def test_a_meridian_that_comes_twice_is_one_column(prepare, tmp_path, first):
    lon = np.arange(first, first + 360.5, 2.0)
    t = truth(days=1, lon=lon)
    values = fields(t)
    for name in values:
        values[name][..., -1] = values[name][..., 0]
    file = new_cds(tmp_path / "a.nc", t, values, lon=lon)
    box = ["--south", "30", "--north", "33", "--west", "-6", "--east", "6"]
    if first == -180:
        box = ["--south", "30", "--north", "33", "--west", "174", "--east", "186"]
    ds = prepare(file, box=box)
    np.testing.assert_allclose(ds.lon, np.arange(-6, 7, 2) + (180 if first == -180 else 0))
    np.testing.assert_allclose(ds.soil_temperature[0, :, 3], t.stl1[:24, :, 0].mean(0), atol=1e-3)


@pytest.mark.parametrize("wider", ["lsm", "swvl1"])
def test_a_larger_mask_or_variable_does_not_spoil_the_others(prepare, tmp_path, wider):
    lat, lon = np.arange(34.0, 28.9, -0.25), np.arange(109.0, 114.1, 0.25)
    t, large = truth(), truth(lat=lat, lon=lon)
    inner = np.isin(lat, LAT)[:, None] & np.isin(lon, LON)
    values = fields(t)
    if wider == "lsm":
        mask = np.ones(inner.shape, np.float32)
        mask[inner] = np.where(t.sea, 0, 1).reshape(-1)
        ds = xr.Dataset({"lsm": (("latitude", "longitude"), mask)}, {"latitude": lat, "longitude": lon})
        ds.to_netcdf(tmp_path / "lsm.nc")
    else:
        soil = large.swvl1.copy()
        soil[:, inner] = values.pop("swvl1").reshape(len(soil), -1)
        new_cds(tmp_path / "soil.nc", large, {"swvl1": soil}, lat=lat, lon=lon)
    new_cds(tmp_path / "a.nc", t, values)
    assert_days(prepare(tmp_path), t)
    one = ["--resolution", "1", "--south", "30", "--north", "33", "--west", "110", "--east", "113"]
    assert prepare(tmp_path, more=one, box=[]).sizes["time"] == 4  # a degree's cell reaches beyond the smaller box


def test_float32_coordinates_keep_the_outermost_rows_and_columns(prepare, tmp_path):
    lat, lon = np.arange(53.9, 53.05, -0.1).astype("f4"), np.arange(134.1, 135.15, 0.1).astype("f4")
    t = truth(days=1, lat=lat, lon=lon)
    box = ["--south", "53.1", "--north", "53.9", "--west", "134.1", "--east", "135.1"]
    ds = prepare(new_cds(tmp_path / "a.nc", t, fields(t), lat=lat, lon=lon), box=box)
    assert ds.soil_moisture.shape == (1, 9, 11)


def test_a_part_outside_the_days_of_the_window_is_no_error(prepare, tmp_path):
    t = truth()
    new_cds(tmp_path / "a.nc", t, fields(t))
    rows = slice(0, 6)
    later = truth("2015-06-01", days=3, lat=LAT[rows])
    new_cds(tmp_path / "b.nc", later, fields(later), lat=LAT[rows])
    assert_days(prepare(tmp_path), t)


# --- sea and precipitation


@pytest.mark.parametrize("value", [-0.0012, -0.006])
@pytest.mark.parametrize("with_lsm", [True, False])
def test_sea_packed_well_below_zero_is_sea(prepare, tmp_path, value, with_lsm):
    t = truth()
    lsm = np.where(t.sea, 0.1, 0.9) if with_lsm else None
    assert_days(prepare(old_cds(tmp_path / "a.nc", t, fields(t, sea=value), lsm=lsm)), t, PACKED)


def test_a_land_mask_counts_whatever_the_sea_holds(prepare, tmp_path):
    t = truth()
    lsm = np.where(t.sea, 0.1, 0.9)
    values = fields(t)
    values["swvl1"][:, t.sea] = 0.3
    assert_days(prepare(old_cds(tmp_path / "a.nc", t, values, lsm=lsm)), t, PACKED)


def test_files_too_dry_to_check_are_reported(prepare, tmp_path, capsys):
    t = truth(days=2)
    t.rain[:] = 0
    prepare(new_cds(tmp_path / "dry.nc", t, fields(t)))
    said = capsys.readouterr().out
    assert "too little rain to check how precipitation accumulates" in said and "dry.nc" in said
    t = truth(days=2)
    prepare(new_cds(tmp_path / "wet.nc", t, fields(t)))
    assert "too little rain" not in capsys.readouterr().out


def test_steady_hourly_totals_are_no_running_sum(prepare, tmp_path, capsys):
    t = truth()
    t.rain[:] = 1e-4
    assert_days(prepare(new_cds(tmp_path / "a.nc", t, fields(t, hourly_totals=True))), t)
    assert "does not start anew" in capsys.readouterr().out
