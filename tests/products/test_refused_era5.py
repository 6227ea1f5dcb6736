"""ERA5 input that cannot be right is refused, each case with one sentence."""

import shutil
import zipfile

import numpy as np
import pytest
import xarray as xr
from era5_shapes import LAT, LON, fields, grib, new_cds, old_cds, truth
from test_prepare_era5 import prepare, refused, run

__all__ = ["prepare", "refused"]  # fixtures


def test_running_sums_contradict_era5_and_hourly_totals_contradict_era5_land(refused, tmp_path):
    t = truth()
    land = new_cds(tmp_path / "land.nc", t, fields(t))
    single = new_cds(tmp_path / "single.nc", t, fields(t, hourly_totals=True))
    said = refused(land, product="era5")
    assert "land.nc contradicts --product era5" in said and "never falls" in said
    said = refused(single, product="era5-land")
    assert "single.nc contradicts --product era5-land" in said and "falls in" in said


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
    assert "no file has stl1" in refused(new_cds(tmp_path / "a.nc", t, values))


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
    monthly = np.array([0, 24 * 31, 24 * 61])
    assert "holds monthly means" in refused(new_cds(tmp_path / "a.nc", t, fields(t), hours=monthly))
    sparse = np.arange(0, 24 * 10, 6)
    assert "lacks most hours of its days" in refused(new_cds(tmp_path / "b.nc", t, fields(t), hours=sparse))


def test_a_region_outside_the_data_is_refused(refused, tmp_path):
    t = truth()
    box = ["--south", "30", "--north", "40", "--west", "110", "--east", "113"]
    said = refused(new_cds(tmp_path / "a.nc", t, fields(t)), box=box)
    assert "the region lies outside the data" in said and "29" not in said.split("hold ")[0]


def test_no_matching_file_is_refused(refused, tmp_path):
    assert "matches no file" in refused(tmp_path / "*.nc")


def test_a_full_disk_is_refused_before_work_starts(refused, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    t = truth()
    file = new_cds(tmp_path / "a.nc", t, fields(t))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 90, 10))
    assert "not enough disk" in refused(file)


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
