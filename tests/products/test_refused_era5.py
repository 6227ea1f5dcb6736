"""ERA5 input that cannot be right is refused, each case with one sentence."""

import shutil
import zipfile

import numpy as np
import pytest
import xarray as xr
from era5_shapes import LAT, LON, fields, grib, new_cds, old_cds, truth
from test_prepare_era5 import prepare, refused, run

__all__ = ["prepare", "refused"]  # fixtures


def test_running_sums_contradict_era5_and_are_said_to_once(refused, tmp_path):
    t = truth(days=65)
    land = new_cds(tmp_path / "land.nc", t, fields(t))
    said = refused(land, product="era5")
    assert "4 of 4 months failed: " in said and said.count("land.nc contradicts --product era5:") == 1
    assert "never falls" in said and said.endswith("try --product era5-land.")


def test_files_whose_rain_accumulates_in_two_ways_are_refused(refused, tmp_path):
    t, later = truth(), truth("2015-04-03")
    new_cds(tmp_path / "a.nc", t, fields(t), hours=slice(0, -1))
    new_cds(tmp_path / "b.nc", later, fields(later, hourly_totals=True))
    assert "b.nc contradicts --product era5-land" in (said := refused(tmp_path)) and "falls in" in said


def test_conflicting_values_for_the_same_hour_are_refused(refused, tmp_path):
    t, other = truth(), truth(seed=1)
    new_cds(tmp_path / "a.nc", t, fields(t))
    new_cds(tmp_path / "b.nc", other, fields(other))
    said = refused(tmp_path)
    assert "contradict each other" in said and "a.nc" in said and "b.nc" in said


def test_a_truncated_file_is_named_and_the_rest_counted(refused, tmp_path):
    t = truth()
    values = fields(t)
    for k, writer in enumerate((new_cds, old_cds, grib)):
        writer(tmp_path / f"{k}.raw", t, values, hours=slice(24 * k, 24 * k + 24))
    for k in range(3):
        file = tmp_path / f"{k}.raw"
        content = file.read_bytes()
        file.write_bytes(content[: len(content) * 7 // 10])
        assert f"1 of 3 files cannot be read: {file}" in (said := refused(tmp_path)) and "other 2 are in order" in said
        file.write_bytes(content)


def test_damage_inside_the_data_is_named(refused, tmp_path):
    t = truth()
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    file.write_bytes(content)
    assert "a.nc" in refused(file)


def test_a_missing_variable_is_named(refused, tmp_path):
    t = truth()
    values = fields(t)
    del values["stl1"]
    said = refused(new_cds(tmp_path / "a.nc", t, values))
    assert said == "no file has stl1 (soil_temperature_level_1), found: swvl1, tp."


def test_mixed_grids_are_refused(refused, tmp_path):
    t, other = truth(), truth("2015-04-03", lat=LAT[::2], lon=LON[::2])
    new_cds(tmp_path / "a.nc", t, fields(t))
    new_cds(tmp_path / "b.nc", other, fields(other), lat=LAT[::2], lon=LON[::2])
    assert "mixed grids" in refused(tmp_path)
    new_cds(tmp_path / "b.nc", t, fields(t), lat=LAT + 0.125)
    assert "mixed grids" in refused(tmp_path)


def test_other_units_are_refused(refused, tmp_path):
    t = truth()
    new_cds(tmp_path / "a.nc", t, fields(t))
    with xr.open_dataset(tmp_path / "a.nc") as ds:
        ds["tp"].attrs["units"] = "mm"
        ds.to_netcdf(tmp_path / "b.nc")
    assert "b.nc: tp (precipitation) has the unit 'mm', expected 'm'" in refused(tmp_path)


def test_monthly_means_and_sparse_hours_are_refused(refused, tmp_path):
    t = truth(days=92)
    once_a_month = new_cds(tmp_path / "a.nc", t, fields(t), hours=np.array([0, 24 * 31, 24 * 61]))
    said = refused(once_a_month)
    assert "a.nc holds 3 hours of 3 days, 30.5 days apart, expected hourly values of" in said
    with xr.open_dataset(once_a_month) as ds:
        ds["swvl1"].attrs["GRIB_stepType"] = "avgua"
        ds.to_netcdf(tmp_path / "means.nc")
    assert "means.nc holds monthly means" in refused(tmp_path / "means.nc")
    for hours, held in ((np.arange(0, 240, 6), "40 hours of 10 days"), (np.arange(0, 240, 24), "10 hours of 10 days")):
        said = refused(new_cds(tmp_path / "b.nc", t, fields(t), hours=hours))
        assert f"lacks most hours of its days: it holds {held}" in said


def test_a_region_outside_the_data_is_refused(refused, tmp_path):
    t = truth()
    box = ["--south", "30", "--north", "40", "--west", "110", "--east", "113"]
    said = refused(new_cds(tmp_path / "a.nc", t, fields(t)), box=box)
    assert "the region lies outside the data" in said and "29" not in said.split("hold ")[0]


def test_no_matching_file_is_refused(refused, tmp_path):
    assert "matches no file" in refused(tmp_path / "*.nc")


def test_a_full_disk_is_refused_before_work_starts(refused, tmp_path, monkeypatch):
    from collections import namedtuple

    from utils.common.text import format_bytes

    usage = namedtuple("usage", "total used free")
    t = truth()
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    said = refused(file)
    assert "not enough disk" in said and "needs up to 15.8 kB, 10 bytes are free" in said
    assert [format_bytes(n) for n in (0, 5e6, 2**30, 3e13)] == ["0 bytes", "4.77 MB", "1 GB", "27,940 GB"]


def test_archives_cannot_escape_or_explode(refused, tmp_path):

    t = truth()
    good = new_cds(tmp_path / "good", t, fields(t))
    for name in ("../evil.nc", "/evil.nc", "a/../../evil.nc", "C:\\evil.nc"):
        with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), good.read_bytes())
        assert "would be written outside its folder" in refused(tmp_path / "slip.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data_0.nc", bytes(64 * 2**20))
    assert "ZIP bomb" in refused(tmp_path / "bomb.zip")
    assert not list(tmp_path.parent.rglob("evil.nc"))


def test_members_of_equal_name_do_not_replace_each_other(refused, tmp_path):
    t = truth()
    good = new_cds(tmp_path / "good", t, fields(t)).read_bytes()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for content in (good, good[:100]):
            archive.writestr("data_0.nc", content)
    assert "its member 'data_0.nc' comes twice" in refused(tmp_path / "two.zip")


def test_the_script_says_one_sentence_and_no_traceback(tmp_path):
    done = run("--raw", tmp_path / "none", "--out", tmp_path / "out.nc", check=False)
    assert done.returncode == 1 and done.stderr.strip().count("\n") == 0 and done.stderr.startswith("error: ")
