"""What is said of files that are no prepared data sets: which file it is, and what makes one of it."""

import re
import shlex

import h5py
import numpy as np
import pytest
import xarray as xr
from conftest import REAL, tiny

from utils.common.cli import UserError, parse
from utils.dataset.prepared import open_prepared, read_prepared
from utils.dataset.recognise import ALIASES, columns_of, find_alias
from utils.products.join.join import JoinSettings, join

FOUND = REAL / "found"


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        open_prepared(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def foreign(names: dict[str, str], **attributes) -> xr.Dataset:
    """The tiny data set with other names."""
    ds = tiny(days=60).rename(names).assign_attrs(attributes)
    units = {"tp": "m", "swvl1": "m**3 m**-3", "stl1": "K", "sm": "m3 m-3", "rr": "mm"}
    for name in ds.data_vars:
        ds[name].attrs["units"] = units.get(name, "1")
    return ds


def test_the_command_in_the_sentence_makes_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"precipitation": "tp", "soil_moisture": "swvl1", "soil_temperature": "stl1"}
    path = tmp_path / "of mine.nc"
    ds = foreign(names)
    ds["tp"] = (ds["tp"] / 1000).assign_attrs(units="m")
    ds.to_netcdf(path)
    said = refusal(path)
    assert "found tp, swvl1, stl1" in said and "swvl1 looks like soil_moisture" in said
    command = re.search(r"python data/join\.py (.+) \(docs", said)[1]
    join(parse(JoinSettings, shlex.split(command)))
    made = read_prepared(tmp_path / "mine.nc")
    for name in ("precipitation", "soil_moisture", "soil_temperature"):
        np.testing.assert_allclose(made[name], tiny(days=60)[name], rtol=1e-5)


def test_a_file_of_anything_else_lists_what_it_holds(tmp_path):
    foreign({"precipitation": "a", "soil_moisture": "b", "soil_temperature": "c"}).to_netcdf(tmp_path / "x.nc")
    said = refusal(tmp_path / "x.nc")
    assert "the variable precipitation is missing, found a, b, c; data/join.py makes" in said


def test_what_is_there_already_is_not_said_to_look_like_itself(tmp_path):
    foreign({"precipitation": "rr"}).to_netcdf(tmp_path / "x.nc")
    said = refusal(tmp_path / "x.nc")
    assert "rr looks like precipitation" in said and "soil_moisture looks" not in said


def grouped(path, *groups: str) -> None:
    with h5py.File(path, "w") as file:
        for group in groups:
            file[group] = np.zeros((2, 2), "f4")


FILES = {  # name: how it is written, and what is said of it
    "site.csv": (lambda p: p.write_text("date,sm\n2015-03-31,0.2\n"), "is a CSV table, .*data/join.py"),
    "site.txt": (lambda p: p.write_text("# a note\ndate;sm\n2015-03-31;0,2\n"), "is a CSV table"),
    "grid.csv": (lambda p: p.write_text("time,latitude,longitude,tp\n1,2,3,4\n"), "CSV table with latitudes"),
    "appeears.csv": (
        lambda p: p.write_text("ID,Latitude,Longitude,Date,SPL4SMGP_008_Geophysical_Data_sm_surface\na,1,2,3,4\n"),
        "table of AppEEARS .*area as NetCDF-4.*data/join.py reads the series of one site",
    ),
    "engine.csv": (
        lambda p: p.write_text('system:index,sm,.geo\n0,0.2,"{""type"":""Point"",""coordinates"":[1,2]}"\n'),
        "table of Earth Engine .*GeoTIFF: data/README.md.*data/join.py reads the series of one site",
    ),
    "era5.grib": (lambda p: p.write_bytes(b"GRIB" + bytes(100)), "is a GRIB file, .*prepare"),
    "era5.zip": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(100)), "is a ZIP archive"),
    "ee.tif": (lambda p: p.write_bytes(b"II*\0" + bytes(100)), "is a GeoTIFF"),
    "l4.h5": (lambda p: grouped(p, "Geophysical_Data/sm_surface"), "SMAP L4 .*data/prepare_smap_l4.py"),
    "flat.nc4": (lambda p: grouped(p, "Geophysical_Data_sm_surface"), "SMAP L4 .*data/prepare_smap_l4.py"),
    "au.h5": (lambda p: grouped(p, "Analysis_Data/sm_surface_analysis"), "SPL4SMAU, the analysis update"),
    "l3.h5": (lambda p: grouped(p, "Soil_Moisture_Retrieval_Data_AM/soil_moisture"), "SMAP L3.*prepare_smap_l3.py"),
    "raw.nc": (
        lambda p: foreign({"soil_moisture": "swvl1", "time": "valid_time"}).to_netcdf(p),
        r"ERA5 or ERA5-Land \(it holds swvl1\).*data/prepare_era5_land.py",
    ),
    "old.nc": (
        lambda p: foreign({"soil_temperature": "stl1"}, history="grib_to_netcdf: old CDS").to_netcdf(p),
        "ERA5 or ERA5-Land",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_raw_file_is_named_with_the_script_that_reads_it(tmp_path, name):
    write, said = FILES[name]
    write(tmp_path / name)
    assert re.search(said, refusal(tmp_path / name))


def test_noise_and_a_lone_heading_are_no_table(tmp_path):
    for content in (b"time,lat,lon\n", bytes(range(256)) * 4, b"\n\n", b"one two three\nfour five six\n"):
        (tmp_path / "x").write_bytes(content)
        assert columns_of(tmp_path / "x") == []
        assert "may be damaged" in refusal(tmp_path / "x")


def test_the_first_alias_counts_and_our_own_name_before_all():
    assert find_alias("precipitation", ["pre", "tp", "precipitation"]) == "precipitation"
    assert find_alias("soil_moisture", ["swvl2", "swvl1"]) == "swvl1" and find_alias("soil_moisture", ["t2m"]) is None
    everything = [name for names in ALIASES.values() for name in names]
    assert len(set(everything)) == len(everything)


@pytest.mark.skipif(not FOUND.exists(), reason="the real files are not here")
def test_files_as_people_have_them():
    ds = read_prepared(FOUND / "era5_land_one_cell_10y_prepared.nc")
    assert ds.sizes == {"time": 3653, "lat": 1, "lon": 1}
    assert float(ds["precipitation"].sum()) == pytest.approx(10817.24, abs=0.01)
    assert float(ds["soil_moisture"].mean()) == pytest.approx(0.31199, abs=1e-4)
    expected = {
        "ESACCI*.nc": "sm looks like soil_moisture",
        "Pakistan*.nc": "holds lsm, swvl1",
        "WxFormer*soil-water*.nc": "holds swvl1",
        "era5-land-daily-mean*.nc": "holds t2m",
        "harmony_SPL4SMAU*.h5": "SPL4SMAU, the analysis update",
        "SC_SPL3SMP*.nc4": "SMAP L3",
        "reanalysis*.csv": "CSV table with latitudes",
        "smap_l4_pixel*.csv": "CSV table, no",
    }
    for pattern, said in expected.items():
        (path,) = FOUND.glob(pattern)
        assert said in refusal(path)
