"""Granules of the SPL4SMGP schema, whole and cut, become the known daily fields; what is missing stays visible."""

import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from smap_granules import LAT, PATHS, day, granule, is_sea, known
from test_prepare_era5 import in_process

from utils.common.cli import UserError
from utils.products.raw_files import RawFile
from utils.products.smap.granules import Granule, version_numbers
from utils.products.smap.prepare import _newest

CUT = {"rows": slice(300, 500), "columns": slice(2900, 3200)}  # about 19 to 39 °N, 91 to 118 °E
BOX = ["--south", "25", "--north", "35", "--west", "95", "--east", "115"]


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    def road(*raw, more=(), box=BOX) -> xr.Dataset:
        out = tmp_path / "out" / "smap.nc"
        arguments = ["--raw", *raw, "--out", out, *box, *more]
        in_process(monkeypatch, *arguments, script="prepare_smap_l4.py")
        with xr.open_dataset(out) as ds:
            return ds.load()

    return road


@pytest.fixture
def refused(prepare):
    def sentence(*raw, **options) -> str:
        with pytest.raises(UserError) as error:
            prepare(*raw, **options)
        return str(error.value)

    return sentence


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return granule(tmp_path_factory.mktemp("whole"), "2015-03-31T01:30")


def assert_known(ds: xr.Dataset, hours=12.0, step=1.0, days=slice(None)) -> None:
    """Every cell that has no sea in it holds the field's mean over the cell, exactly known."""
    edges = np.deg2rad([ds.lat + step / 2, ds.lat - step / 2])
    sine = np.sin(edges).mean(0)[:, None]
    lon = ds.lon.values[None]
    inland = ~is_sea(ds.lat.values[:, None] - 0.6, lon + 0.6)
    for name, tolerance in (("soil_moisture", 1e-4), ("soil_temperature", 0.02), ("precipitation", 2e-3)):
        expected = known(name, hours, sine, lon) * (86400 if name == "precipitation" else 1)
        for field in ds[name].values[days]:
            np.testing.assert_allclose(field[inland], expected[inland], atol=tolerance, err_msg=name)
            assert np.isnan(field[is_sea(ds.lat.values[:, None] + 0.6, lon - 0.6)]).all()


def test_whole_granules_prepare_to_the_known_fields_over_china(prepare, tmp_path, whole):
    for stamp in day("2015-03-31"):
        target = tmp_path / "raw" / whole.name.replace("T013000", f"T{stamp[-5:].replace(':', '')}00")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(whole, target)
    ds = prepare(tmp_path / "raw", box=[])
    assert ds.soil_moisture.shape == (1, 52, 65)
    assert_known(ds, hours=1.5)  # eight copies of the first granule
    assert ds.granules_per_day.values.tolist() == [8]
    assert "python data/prepare_smap_l4.py --raw" in ds.attrs["history"]


@pytest.mark.parametrize("with_xy", [True, False])
def test_cut_granules_prepare_to_the_known_daily_means(prepare, tmp_path, with_xy):
    for stamp in day("2015-03-31") + day("2015-04-01"):
        granule(tmp_path / "raw", stamp, **CUT, with_xy=with_xy)
    ds = prepare(tmp_path / "raw")
    assert_known(ds)  # the mean over the eight granules is the field at 12 UTC
    np.testing.assert_array_equal(ds.time.values, np.array(["2015-03-31", "2015-04-01"], "datetime64[ns]"))


def test_native_resolution_keeps_the_cells_and_their_values(prepare, tmp_path):
    for stamp in day("2015-03-31"):
        granule(tmp_path / "raw", stamp, **CUT)
    ds = prepare(tmp_path / "raw", more=["--resolution", "native"])
    inside = (LAT >= 25) & (LAT <= 35)
    np.testing.assert_allclose(ds.lat, LAT[inside])
    expected = known("soil_temperature", 12.0, np.sin(np.deg2rad(LAT[inside]))[:, None], ds.lon.values[None])
    np.testing.assert_allclose(ds.soil_temperature[0], expected, atol=1e-3)


def test_granules_cut_differently_are_located_by_their_own_coordinates(prepare, tmp_path):
    cuts = [slice(300 + k, 500 - k) for k in range(8)]
    for stamp, rows in zip(day("2015-03-31"), cuts, strict=True):
        granule(tmp_path / "raw", stamp, rows=rows, columns=slice(2900, 3200))
    assert_known(prepare(tmp_path / "raw"))


def test_days_with_missing_granules_are_dropped_or_counted(prepare, tmp_path, capsys):
    for date, missing in (("2015-03-31", 0), ("2015-04-01", 2), ("2015-04-03", 0)):
        for stamp in day(date)[missing:]:
            granule(tmp_path / "raw", stamp, **CUT)
    ds = prepare(tmp_path / "raw")
    assert list(ds.time.dt.day.values) == [31, 3]
    said = capsys.readouterr().out
    assert "left out: 2015-04-01 (6 of 8 granules)" in said and "left out: 2015-04-02 (0 of 8 granules)" in said
    ds = prepare(tmp_path / "raw", more=["--min-granules", "6"])
    assert list(ds.time.dt.day.values) == [31, 1, 3]
    assert ds.granules_per_day.values.tolist() == [8, 6, 8]
    assert_known(ds, hours=15.0, days=slice(1, 2))  # 07:30 to 22:30


def test_the_newest_version_of_a_granule_counts(prepare, tmp_path, capsys):
    for stamp in day("2015-03-31"):
        granule(tmp_path / "raw", stamp, **CUT)
        granule(tmp_path / "raw", stamp, **CUT, version="Vv6030_001", change=lambda _, v: v * 0.9)
    assert_known(prepare(tmp_path / "raw"))
    assert "8 granules of older versions were replaced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("Vv7032_001", "Vv8010_001"),
        ("Vv8010_001", "Vv10010_001"),
        ("Vv8010_002", "Vv8010_010"),
        ("R9240_9", "R19240_1"),
    ],
)
def test_versions_are_compared_as_numbers(older, newer):
    assert version_numbers(older) < version_numbers(newer)
    time = np.datetime64("2015-03-31T01:30", "m")
    granules = [Granule(RawFile(Path(v), v, "hdf5"), time, v, 0, 0, (1, 1)) for v in (newer, older, newer, older)]
    kept, notes = _newest(granules)
    assert [granule.version for granule in kept] == [newer, newer] and "2 granules of older versions" in notes[0]


def test_copies_that_differ_are_refused(refused, tmp_path):
    for stamp in day("2015-03-31"):
        granule(tmp_path / "a", stamp, **CUT)
    granule(tmp_path / "b", day("2015-03-31")[3], **CUT, change=lambda _, v: np.where(v == -9999, v, v * 0.9))
    assert "contradict each other" in refused(tmp_path / "a", tmp_path / "b")


def test_packing_noise_becomes_zero_in_every_granule(prepare, tmp_path):
    def dry(name, values):
        return np.full_like(values, -0.004) if name == "soil_moisture" else values

    for k, stamp in enumerate(day("2015-03-31")):
        granule(
            tmp_path / "raw", stamp, **CUT, change=dry if k % 2 else lambda n, v: v * 0 + 0.2 if "moist" in n else v
        )
    np.testing.assert_allclose(prepare(tmp_path / "raw").soil_moisture, 0.1, atol=1e-6)


# --- refused


def test_damaged_wrong_and_foreign_granules_are_named(refused, tmp_path):
    files = [granule(tmp_path / "raw", stamp, **CUT) for stamp in day("2015-03-31")]
    good = files[3].read_bytes()
    files[3].write_bytes(good[: len(good) // 2])
    said = refused(tmp_path / "raw")
    assert f"1 of 8 files cannot be read: {files[3]}" in said and "other 7 are in order" in said

    files[3].write_bytes(good)
    with h5py.File(files[3], "a") as file:
        del file[PATHS["soil_temperature"][0]]
    assert "soil_temp_layer1 (soil_temperature) is missing" in refused(tmp_path / "raw")

    files[3].write_bytes(good)
    with h5py.File(files[3], "a") as file:
        file[PATHS["precipitation"][0]].attrs["units"] = "mm day-1"
    assert "has the unit 'mm day-1', expected 'kg m-2 s-1'" in refused(tmp_path / "raw")

    files[3].write_bytes(good)
    with h5py.File(files[3], "a") as file:
        file["x"][:] = file["x"][:] * 4
    assert "is on another grid" in refused(tmp_path / "raw")

    files[3].write_bytes(good)
    files[3].rename(tmp_path / "raw" / "SMAP_20150331.h5")
    assert "is not named like a granule" in refused(tmp_path / "raw")


def test_a_region_outside_the_cut_is_refused(refused, tmp_path):
    for stamp in day("2015-03-31"):
        granule(tmp_path / "raw", stamp, **CUT)
    assert "the region lies outside the data" in refused(tmp_path / "raw", box=[])


# --- speed


def test_reading_china_costs_little_more_than_the_chunks_it_touches(whole):
    from utils.products.raw_files import RawFile
    from utils.products.regrid import region_cells
    from utils.products.smap.granules import SHAPE, read, scan, window_cells

    found = scan(RawFile(whole, whole.name, "hdf5"))
    rows, columns = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1])).overlapping(region_cells(3, 54, 72, 136, 1))
    touched = [(s.stop - 1) // c - s.start // c + 1 for s, c in ((rows, 406), (columns, 482))]
    share = touched[0] * touched[1] / (4 * 8)
    assert share < 0.25

    def all_of_it():
        with h5py.File(whole) as file:
            for path, _ in PATHS.values():
                file[path][:]

    def seconds(work) -> float:
        start = time.process_time()  # unpacking is what takes the time; other programs' share does not count
        work()
        return time.process_time() - start

    pairs = [(seconds(lambda: read(found, rows, columns)), seconds(all_of_it)) for _ in range(12)]
    ratio = min(p[0] for p in pairs) / min(p[1] for p in pairs)  # the least disturbed of either
    assert ratio <= 1.3 * share, f"{ratio:.3f} of the whole, for {share:.3f} of its chunks"
