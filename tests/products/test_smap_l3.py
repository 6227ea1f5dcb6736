"""SMAP L3: overpasses, quality, gaps and places on the grid, against smap-io's reader and by hand."""

import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import REAL
from smap_shapes import l3_granule

from utils.common.cli import UserError, parse
from utils.products.smap.ease_grid import NINE_KM, THIRTY_SIX_KM
from utils.products.smap.prepare_l3 import SMAPL3PrepareSettings, prepare_smap_l3

ROWS, COLUMNS = slice(90, 110), slice(720, 750)  # about 27 to 34 °N, 89 to 100 °E at 36 km
BOX = ["--south", "28", "--north", "33", "--west", "90", "--east", "98"]
FILL = -9999.0


def retrievals(seed: int, shape=(20, 30), gaps=0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < gaps, FILL, rng.uniform(0.03, 0.45, shape)).astype("f4")


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    def road(*raw, more=(), box=BOX) -> xr.Dataset:
        out = tmp_path / "out" / "l3.nc"
        monkeypatch.setattr("utils.products.report._draw", lambda *_: None)
        arguments = ["--raw", *raw, "--out", out, "--resolution", "native", *box, *more]
        monkeypatch.setattr(sys, "argv", ["data/prepare_smap_l3.py", *map(str, arguments), "--workers", "1"])
        prepare_smap_l3(parse(SMAPL3PrepareSettings, sys.argv[1:]))
        with xr.open_dataset(out) as ds:
            return ds.load()

    return road


def inside(maps: np.ndarray, ds: xr.Dataset, rows=ROWS, columns=COLUMNS) -> np.ndarray:
    """The cells of a cut map that a data set holds, NaN for fill."""
    cells = THIRTY_SIX_KM.cells().window(rows, columns)
    picked = maps[np.isin(cells.lat.round(6), ds.lat.values.round(6))][
        :, np.isin(cells.lon.round(6), ds.lon.values.round(6))
    ]
    return np.where(picked == FILL, np.nan, picked)


def test_the_grids_are_nested():
    np.testing.assert_allclose(THIRTY_SIX_KM.x, NINE_KM.x.reshape(-1, 4).mean(1))
    np.testing.assert_allclose(THIRTY_SIX_KM.y, NINE_KM.y.reshape(-1, 4).mean(1))
    assert (THIRTY_SIX_KM.shape, NINE_KM.shape) == ((406, 964), (1624, 3856))


def test_morning_evening_or_both(prepare, tmp_path):
    morning, evening = retrievals(0), retrievals(1)
    l3_granule(tmp_path / "raw", "2015-04-01", {"AM": morning, "PM": evening}, rows=ROWS, columns=COLUMNS)
    got = {name: prepare(tmp_path / "raw", more=["--overpass", name]) for name in ("morning", "evening", "both")}
    assert set(got["morning"].data_vars) == {"soil_moisture", "crs"} and got["morning"].soil_moisture.units == "m3 m-3"
    am, pm = inside(morning, got["morning"]), inside(evening, got["evening"])
    np.testing.assert_allclose(got["morning"].soil_moisture[0], am)
    np.testing.assert_allclose(got["evening"].soil_moisture[0], pm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(got["both"].soil_moisture[0], np.nanmean([am, pm], axis=0), rtol=1e-6)


def test_the_bit_of_recommended_quality_is_a_setting(prepare, tmp_path):
    values = retrievals(2, gaps=0.3)
    flag = np.random.default_rng(3).integers(0, 8, values.shape)  # bit 0 set where the value is odd
    l3_granule(tmp_path / "raw", "2015-04-01", {"AM": values}, rows=ROWS, columns=COLUMNS, quality={"AM": flag})
    every = prepare(tmp_path / "raw", more=["--no-recommended"])
    np.testing.assert_allclose(every.soil_moisture[0], inside(values, every))
    good = prepare(tmp_path / "raw")
    np.testing.assert_allclose(good.soil_moisture[0], inside(np.where(flag % 2, FILL, values), good))
    assert "recommended quality alone" in good.attrs["source"] and "any quality" in every.attrs["source"]


def test_days_without_a_file_or_a_swath_are_there_and_missing(prepare, tmp_path, capsys):
    for day, gaps in (("2015-03-30", 0.3), ("2015-04-01", 1.0), ("2015-04-02", 0.3)):
        l3_granule(tmp_path / "raw", day, {"AM": retrievals(4, gaps=gaps)}, rows=ROWS, columns=COLUMNS)
    ds = prepare(tmp_path / "raw")
    assert list(ds.time.dt.day.values) == [30, 31, 1, 2]
    np.testing.assert_array_equal(np.isnan(ds.soil_moisture).all(("lat", "lon")), [False, True, True, False])
    said = capsys.readouterr().out
    assert "1 of 4 days have no file and are missing throughout (2015-03-31)" in said and "data/join.py" in said


def test_values_outside_the_valid_range_of_the_file_are_missing(prepare, tmp_path):
    values = np.full((20, 30), 0.3, "f4")
    values[10] = 0.51  # the file's own limits are 0.02 and 0.5
    ds = prepare(l3_granule(tmp_path, "2015-04-01", {"AM": values}, rows=ROWS, columns=COLUMNS))
    np.testing.assert_allclose(ds.soil_moisture[0], inside(np.where(values == 0.3, values, FILL), ds), rtol=1e-6)


@pytest.mark.parametrize("enhanced", [False, True])
def test_whole_files_and_cut_ones_of_both_products_are_placed(prepare, tmp_path, enhanced):
    grid = NINE_KM if enhanced else THIRTY_SIX_KM
    lat, lon = grid.cells().lat, grid.cells().lon
    field = (0.2 + 0.001 * lat[:, None] + 0.0005 * lon[None]).astype("f4")
    step = 4 if enhanced else 1
    rows, columns = (slice(s.start * step, s.stop * step) for s in (ROWS, COLUMNS))
    whole = {} if not enhanced else {"rows": slice(300, 500), "columns": slice(2800, 3100)}  # the globe takes seconds
    own = field[whole.get("rows", slice(None)), whole.get("columns", slice(None))]
    l3_granule(tmp_path / "raw", "2015-04-01", {"AM": own}, enhanced, **whole)
    l3_granule(tmp_path / "raw", "2015-04-02", {"AM": field[rows, columns]}, enhanced, rows, columns, share=0.01)
    ds = prepare(tmp_path / "raw")
    expected = 0.2 + 0.001 * ds.lat.values[:, None] + 0.0005 * ds.lon.values[None]
    for day in range(2):
        np.testing.assert_allclose(ds.soil_moisture[day], expected, atol=1e-6)


def test_regridding_and_versions(prepare, tmp_path):
    fields = [np.full((20, 30), value, "f4") for value in (0.1, 0.3)]
    fields[1][:, ::2] = FILL
    for version, values in zip(("R18290_002", "R19240_001"), fields, strict=True):
        l3_granule(tmp_path / "raw", "2015-04-01", {"AM": values}, rows=ROWS, columns=COLUMNS, version=version)
    one = ["--resolution", "1", "--south", "28", "--north", "33", "--west", "91", "--east", "97"]
    ds = prepare(tmp_path / "raw", box=[], more=[*one, "--min-valid-fraction", "0.2"])
    np.testing.assert_allclose(ds.soil_moisture, np.full((1, 6, 7), 0.3), rtol=1e-6)


def test_it_reads_what_smap_io_reads(prepare, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from smap_io.interface import SPL3SMP_Img
    whole = {name: retrievals(k, (406, 964)) for k, name in enumerate(("AM", "PM"))}
    flags = {name: np.random.default_rng(9).integers(0, 4, (406, 964)) for name in whole}
    path = l3_granule(tmp_path, "2015-04-01", whole, quality=flags)
    for ours, theirs in (("morning", "AM"), ("evening", "PM")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = ["soil_moisture", "retrieval_qual_flag"]
            reader = SPL3SMP_Img(str(path), parameter=fields, overpass=theirs, var_overpass_str=False, time_key=None)
            image = reader.read()
        for recommended in (True, False):
            more = ["--overpass", ours, "--recommended" if recommended else "--no-recommended"]
            ds = prepare(path, more=more, box=["--south", "-40", "--north", "60", "--west", "-30", "--east", "60"])
            expected = np.where(image.data["soil_moisture"] == FILL, np.nan, image.data["soil_moisture"])
            if recommended:
                expected = np.where(image.data["retrieval_qual_flag"] & 1, np.nan, expected)
            rows, columns = (
                np.abs(axis[:, None] - own[None]).argmin(0) for axis, own in
                ((image.lat[:, 0], ds.lat.values), (image.lon[0], ds.lon.values))
            )  # fmt: skip
            np.testing.assert_allclose(image.lat[rows, 0], ds.lat, atol=1e-3)
            np.testing.assert_array_equal(ds.soil_moisture[0], expected[np.ix_(rows, columns)].astype("f4"))


def test_what_is_no_l3_is_refused(prepare, tmp_path):
    from smap_granules import day, granule

    cut = {"rows": slice(300, 500), "columns": slice(2900, 3200)}
    morning = l3_granule(tmp_path, "2015-04-01", {"AM": retrievals(0)}, rows=ROWS, columns=COLUMNS)
    fine = l3_granule(tmp_path, "2015-04-02", {"AM": retrievals(0)}, True, ROWS, COLUMNS)
    odd = morning.with_name("april.h5")
    odd.write_bytes(morning.read_bytes())
    for files, more, said in (
        ([morning], ["--overpass", "evening"], "has no soil_moisture of the evening overpass"),
        ([morning, fine], [], "are of 36 and of 9 km; prepare them apart"),
        ([odd], [], "is not named like a file of SPL3SMP"),
        ([granule(tmp_path, day("2015-03-31")[0], **cut)], [], "is no file of SMAP L3: the group"),
    ):
        with pytest.raises(UserError, match=said):
            prepare(*files, more=more)


def test_other_forms_of_l3_say_which_form_to_fetch(prepare, tmp_path):
    import h5py

    (tmp_path / "SPL3SMP_E.006_soil_moisture_am_doy2015091.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(UserError, match=r"is a GeoTIFF, perhaps of AppEEARS.*expected NASA's own files of SMAP"):
        prepare(tmp_path / "*.tif")
    with h5py.File(tmp_path / "SPL3SMP_E.006_9km_aid0001.nc", "w") as file:
        file["Soil_Moisture_Retrieval_Data_AM_soil_moisture"] = np.zeros((3, 4, 5), "f4")
    with pytest.raises(UserError, match=r"holds a series of maps, perhaps by AppEEARS; expected NASA's own files"):
        prepare(tmp_path / "*.nc")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_a_real_file_of_coordinates_alone_says_what_is_missing(prepare):
    with pytest.raises(UserError, match="holds no soil_moisture, found: dim1, dim2"):
        prepare(REAL / "found" / "SC_SPL3SMP_009_prefetch.nc4")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_the_grid_is_that_of_real_coordinates():
    import h5py

    with h5py.File(REAL / "found" / "SC_SPL3SMP_009_prefetch.nc4") as file:
        group = file["Soil_Moisture_Retrieval_Data_AM"]
        lat, lon = group["latitude"][:], group["longitude"][:]
    y, x = THIRTY_SIX_KM.centres_of("real", lat, lon)
    assert THIRTY_SIX_KM.locate("real", y, x) == (0, 0)
    there = lat != FILL
    rows, columns = np.nonzero(there)
    cells = THIRTY_SIX_KM.cells()
    np.testing.assert_allclose(lat[there], cells.lat[rows], atol=2e-3)
    np.testing.assert_allclose(lon[there], cells.lon[columns], atol=2e-3)
