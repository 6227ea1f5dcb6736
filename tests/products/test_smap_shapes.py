"""SMAP L4 in every form in which people get it becomes the known daily fields, whatever its grid and its groups."""

import h5py
import numpy as np
import pytest
import xarray as xr
from conftest import REAL
from earth_engine import geotiff
from smap_granules import PATHS, X, Y, day, granule, is_sea, known
from smap_shapes import appeears, reshaped
from test_prepare_smap import CUT, assert_known, prepare, refused

__all__ = ["prepare", "refused"]  # fixtures
LAT, LON = np.arange(38.9, 20, -0.2), np.arange(91.1, 120, 0.2)  # coarser than AppEEARS and Earth Engine give
HOURS = np.arange(1.5, 24, 3)
DAYS = np.array(["2015-03-31", "2015-04-01"], "datetime64[D]")
NAMES = {name: path.rsplit("/", 1)[1] for name, (path, _) in PATHS.items()}


def maps(name: str, hours=HOURS, lat=LAT, lon=LON, missing=np.nan) -> np.ndarray:
    """[hours, lat, lon] of the known field, its sea missing."""
    values = known(name, np.asarray(hours)[:, None, None], np.sin(np.deg2rad(lat))[:, None], lon[None])
    return np.where(is_sea(lat[:, None], lon[None]), missing, values)


def granules(folder, dates=("2015-03-31",), **how):
    return [reshaped(granule(folder, stamp, **CUT), **how) for date in dates for stamp in day(date)]


# --- granules by OPeNDAP and Harmony


@pytest.mark.parametrize(("xy", "flat"), [("root", True), ("group", False), ("none", True)])
def test_groups_kept_or_flattened_and_coordinates_anywhere(prepare, tmp_path, xy, flat):
    granules(tmp_path / "raw", xy=xy, flat=flat, fill=False)
    assert_known(prepare(tmp_path / "raw"))


def test_a_box_whose_latitudes_are_mostly_fill_is_located_by_the_few_that_are_left(prepare, refused, tmp_path):
    files = granules(tmp_path / "raw", xy="none", lat_share=2e-4)  # about ten of 60,000
    with h5py.File(files[0]) as file:
        assert (file["cell_lat"][:] == -9999).all(axis=1).sum() > 180  # of 200 rows
    assert_known(prepare(tmp_path / "raw"))
    granules(tmp_path / "raw", xy="none", lat_share=0)
    assert "hold no value at all, so that nothing locates its cells" in refused(tmp_path / "raw")


def test_regridded_granules_have_degrees_for_metres(prepare, tmp_path):
    for stamp in day("2015-03-31"):
        path = granule(tmp_path / "raw", stamp, rows=slice(0, len(LAT)), columns=slice(0, len(LON)))
        hour = float(stamp[-5:-3]) + 0.5
        with h5py.File(path, "a") as file:
            for name, (where, _) in PATHS.items():
                file[where][:] = maps(name, [hour], missing=-9999)[0]
        reshaped(path, degrees=(LAT, LON), lat_share=0)
    assert_known(prepare(tmp_path / "raw"))


def test_a_granule_under_another_name_is_known_by_the_name_it_had(prepare, tmp_path):
    for k, file in enumerate(granules(tmp_path / "raw")):
        with h5py.File(file, "a") as content:
            content.attrs["Filename"] = f"/discover/nobackup/{file.name}".encode()
        file.rename(tmp_path / "raw" / f"{k}.h5")
    assert_known(prepare(tmp_path / "raw"))


# --- AppEEARS


@pytest.mark.parametrize(("fill", "periods"), [(True, None), (False, np.arange(8)), (True, HOURS[::-1])])
def test_appeears_netcdf_of_time_and_day_period(prepare, tmp_path, fill, periods):
    fields = {name: np.stack([maps(name)] * 2) for name in PATHS}
    if periods is not None and periods[0] > periods[-1]:
        fields = {name: values[:, ::-1] for name, values in fields.items()}
    path = appeears(tmp_path / "SPL4SMGP.008_9km_aid0001.nc", DAYS, fields, LAT, LON, periods, fill)
    ds = prepare(path)
    assert_known(ds)
    np.testing.assert_array_equal(ds.time.values.astype("datetime64[D]"), DAYS)
    assert ds.granules_per_day.values.tolist() == [8, 8] and "versions Vv8" in ds.attrs["source"]


def test_variables_and_areas_in_files_of_their_own_are_one_data_set(prepare, refused, tmp_path):
    for name in PATHS:
        for part, rows in (("n", slice(0, 40)), ("s", slice(40, None))):
            fields = {name: np.stack([maps(name)[:, rows]] * 2)}
            appeears(tmp_path / name / f"SPL4SMGP.007_{part}.nc", DAYS, fields, LAT[rows], LON)
    assert_known(prepare(*(tmp_path / name for name in PATHS)))
    assert "none of the 2 files has the field precipitation_total" in refused(tmp_path / "soil_moisture")
    (tmp_path / "precipitation" / "SPL4SMGP.007_s.nc").unlink()
    said = refused(*(tmp_path / name for name in PATHS))
    assert "at no time do the files hold all three fields of the whole region" in said


def test_a_day_without_all_its_periods_is_left_out(prepare, tmp_path, capsys):
    fields = {name: np.stack([maps(name)] * 2) for name in PATHS}
    for values in fields.values():
        values[1, 3] = np.nan  # AppEEARS fills what is not there
    ds = prepare(appeears(tmp_path / "a.nc", DAYS, fields, LAT, LON))
    assert list(ds.time.dt.day.values) == [31] and "left out" not in capsys.readouterr().err


def test_netcdf_with_the_hour_in_its_time(prepare, tmp_path):
    stamps = (DAYS[0] + np.arange(0, 24, 3) * np.timedelta64(1, "h")).astype("datetime64[ns]") + np.timedelta64(90, "m")
    dims = ("time", "lat", "lon")
    fields = {NAMES[name]: (dims, maps(name).astype("f4"), {"units": unit}) for name, (_, unit) in PATHS.items()}
    xr.Dataset(fields, {"time": stamps, "lat": LAT, "lon": LON}).sortby("lat").to_netcdf(tmp_path / "a.nc")
    assert_known(prepare(tmp_path / "a.nc"))


# --- Earth Engine


@pytest.mark.parametrize(
    ("shape", "masked"),
    [
        *(("a band a day", masked) for masked in (np.nan, 0.0, -9999.0)),
        ("a file a day", np.nan),
        ("three-hourly", 0.0),
        ("a file a variable, EASE-Grid", np.nan),
    ],
)
def test_earth_engine_geotiff(prepare, tmp_path, capsys, masked, shape):
    mean = {name: maps(name, missing=masked).mean(0) for name in PATHS}
    ymd = [str(d).replace("-", "") for d in DAYS]
    if shape == "a band a day":
        bands, names = zip(*[(mean[n], f"{d}_{NAMES[n]}") for d in ymd for n in PATHS], strict=True)
        geotiff(tmp_path / "smap.tif", bands, names, LAT, LON)
    elif shape == "a file a day":
        for d in DAYS:
            bands = [*mean.values(), np.full_like(mean["soil_moisture"], 0.5)]
            geotiff(tmp_path / f"smap_{d}.tif", bands, [*NAMES.values(), "sm_surface_wetness"], LAT, LON)
    elif shape == "three-hourly":
        stamps = [f"{d}_{int(h - 1.5):02d}00" for d in ymd for h in HOURS]  # Earth Engine's are the start
        for name in PATHS:
            bands = np.concatenate([maps(name, missing=masked)] * 2)
            geotiff(tmp_path / f"{NAMES[name]}.tif", bands, stamps, LAT, LON)
    else:
        rows, columns = slice(300, 500), slice(2900, 3200)
        from smap_granules import LAT as ROWS
        from smap_granules import LON as COLUMNS

        for name in PATHS:
            bands = [maps(name, lat=ROWS[rows], lon=COLUMNS[columns], missing=masked).mean(0)] * 2
            file = tmp_path / f"{NAMES[name]}_2015.tif"
            geotiff(file, bands, list(map(str, DAYS)), Y[rows], X[columns], crs="EPSG:6933")
    ds = prepare(tmp_path / "*.tif")
    assert_known(ds)
    known_granules = shape == "three-hourly"
    assert ds.granules_per_day.values.tolist() == ([8, 8] if known_granules else [0, 0])
    assert ("of how many granules is not known" in capsys.readouterr().out) != known_granules


def test_appeears_geotiff_of_one_time_a_file(prepare, tmp_path):
    for name in PATHS:
        for k, hour in enumerate(HOURS):
            stamp = f"doy2015090{int(hour):02d}3000"
            file = tmp_path / f"SPL4SMGP.008_{PATHS[name][0].replace('/', '_')}_{stamp}_aid0001.tif"
            geotiff(file, [maps(name, missing=-9999)[k]], [None], LAT, LON, nodata=-9999)
    assert_known(prepare(tmp_path / "*.tif"))


# --- refused


def test_grids_and_days_that_do_not_go_together_are_refused(refused, tmp_path):
    fields = {name: np.stack([maps(name)] * 2) for name in PATHS}
    file = appeears(tmp_path / "a.nc", DAYS, fields, LAT, LON)
    cut = granules(tmp_path / "raw")[0]
    assert "mixed grids: " in (said := refused(file, cut)) and "200 × 300 cells in the 9 km grid" in said
    other = appeears(tmp_path / "b.nc", DAYS + 9, fields, LAT + 0.03, LON)
    assert "mixed grids: " in refused(file, other)
    bands, names = zip(*[(maps(n).mean(0), f"20150331_{NAMES[n]}") for n in PATHS], strict=True)
    mean = geotiff(tmp_path / "c.tif", bands, names, LAT, LON)
    assert "another file the mean of that day" in refused(file, mean)


def test_other_products_of_smap_are_named(refused, tmp_path):
    path = granule(tmp_path, day("2015-03-31")[0], **CUT)
    for group, said in (
        ("Analysis_Data", "is of SPL4SMAU, the analysis update of SMAP L4; expected SPL4SMGP"),
        ("Soil_Moisture_Retrieval_Data_AM", "is of SMAP L3, which data/prepare_smap_l3.py reads"),
    ):
        with h5py.File(path, "w") as file:
            file[f"{group}/sm_surface_analysis"] = np.zeros((4, 4))
        assert said in refused(path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not here")
def test_real_files_of_other_products_are_named(refused):
    said = refused(REAL / "found" / "harmony_SPL4SMAU_regridded.h5")
    assert "is of SPL4SMAU, the analysis update of SMAP L4; expected SPL4SMGP" in said
    said = refused(REAL / "found" / "SC_SPL3SMP_009_prefetch.nc4")
    assert "is of SMAP L3, which data/prepare_smap_l3.py reads" in said
    assert "is a text file such as a CSV table" in refused(REAL / "found" / "smap_l4_pixel_14.72E_40.70N_daily.csv")
