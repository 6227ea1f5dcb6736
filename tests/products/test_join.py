"""data/join.py: names, units, days of hours, cells, the common period, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import REAL

from utils.common.cli import UserError
from utils.dataset.prepared import read_prepared
from utils.products.join.days import Days, day_of
from utils.products.join.periods import propose_periods
from utils.products.join.words import read_predictors
from utils.products.units import find_conversion

FOUND = REAL / "found"
DAYS = pd.date_range("2016-01-01", periods=60)


def field(name: str, value, units: str, lat, lon, time=DAYS) -> xr.Dataset:
    """A field that is `value` everywhere, or that array [time, lat, lon]."""
    values = np.broadcast_to(np.asarray(value, "f4"), (len(time), len(lat), len(lon)))
    axes = {"time": time, "lat": lat, "lon": lon}
    return xr.Dataset({name: (tuple(axes), values, {"units": units})}, axes)


def world(rng: np.random.Generator, lat, lon) -> dict[str, np.ndarray]:
    shape = (len(DAYS), len(lat), len(lon))
    return {
        "rain": rng.gamma(0.5, 8, shape).astype("f4"),
        "moisture": rng.uniform(0.05, 0.4, shape).astype("f4"),
        "temperature": rng.normal(285, 5, shape).astype("f4"),
    }


@pytest.fixture
def files(tmp_path):
    """A target on 4 × 4 cells of 0.25°, predictors on 2 × 2 cells of 0.5°: constant within cells of the target."""
    fine, coarse = np.arange(30.375, 29.5, -0.25), np.array([30.25, 29.75])
    fine_lon, coarse_lon = np.arange(100.125, 101, 0.25), np.array([100.25, 100.75])
    truth = world(np.random.default_rng(0), coarse, coarse_lon)
    truth["fine"] = world(np.random.default_rng(1), fine, fine_lon)["moisture"]
    field("sm", truth["fine"], "m3 m-3", fine, fine_lon).assign_attrs(title="My CCI").to_netcdf(tmp_path / "cci.nc")
    other = {"time": "valid_time", "lat": "latitude", "lon": "longitude"}
    rain = field("tp", truth["rain"] / 1000, "m", coarse, coarse_lon)
    temperature = field("stl1", truth["temperature"] - 273.15, "degC", coarse, coarse_lon)
    for ds, name in ((rain, "tp.nc"), (temperature, "stl1.nc")):
        ds.rename(other).to_netcdf(tmp_path / name)
    return tmp_path, truth


def finer(values: np.ndarray) -> np.ndarray:
    return values.repeat(2, axis=1).repeat(2, axis=2)


def join(script, folder: Path, *arguments, expect: int = 0):
    result = script("data/join.py", *arguments, "--out", folder / "mine.nc")
    assert result.code == expect, result.err
    return result


def test_two_products_become_one_data_set_on_the_cells_of_the_target(files, script):
    folder, truth = files
    result = join(script, folder, "--target", folder / "cci.nc", "--predictors", folder / "tp.nc", folder / "stl1.nc")
    ds = read_prepared(folder / "mine.nc")
    np.testing.assert_array_equal(ds["soil_moisture"], truth["fine"])
    np.testing.assert_allclose(ds["precipitation"], finer(truth["rain"]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ds["soil_temperature"], finer(truth["temperature"]), rtol=1e-6)
    assert ds.attrs["product"] == "My CCI" and "tp of tp.nc (m, 1 a day)" in ds.attrs["source"]
    assert "--rain-stamp same-day" in ds.attrs["rain_stamp"] and "tp stamped 00 UTC is of its own day" in result.out
    command = re.search(r"train with: python (\S+) (.+)", result.out)
    assert command[1] == "SMAPtest/train_compact.py" and "--test 2016-02-18 2016-02-29" in command[2]


def test_rain_of_the_next_stamp_and_the_common_period(files, script):
    """Rain stamped 00 UTC of the day after is of the day before: the first day of the files has none."""
    folder, truth = files
    cut = xr.open_dataset(folder / "stl1.nc").isel(valid_time=slice(5, 40))
    cut.to_netcdf(folder / "short.nc")
    words = ["--predictors", f"{folder / 'tp.nc'}:tp=precipitation", folder / "short.nc", "--rain-stamp", "next-day"]
    join(script, folder, "--target", f"{folder / 'cci.nc'}:sm", *words, "--product", "CCI")
    ds = read_prepared(folder / "mine.nc")
    np.testing.assert_array_equal(ds["time"].values[[0, -1]], DAYS.values[[5, 39]])
    assert ds.attrs["product"] == "CCI"
    np.testing.assert_allclose(ds["precipitation"], finer(truth["rain"])[6:41], rtol=1e-5, atol=1e-5)


def test_the_newest_soil_moisture_stays_where_rain_is_known_to_come_later(files, script):
    """Rain of ERA5-Land comes three days after SMAP L3: what it lacks beyond that is cut off."""
    folder, _ = files
    for name, product, days in (("cci", "SMAP L3", None), ("tp", "ERA5-Land", -2), ("stl1", "ERA5-Land", -4)):
        with xr.open_dataset(folder / f"{name}.nc") as ds:
            cut = ds.isel({next(d for d in ds.dims if "time" in d): slice(None, days)}).load()
        cut.assign_attrs(product=product).to_netcdf(folder / f"{name}_cut.nc")
    predictors = folder / "tp_cut.nc", folder / "stl1_cut.nc"
    result = join(script, folder, "--target", folder / "cci_cut.nc", "--predictors", *predictors)
    with xr.open_dataset(folder / "mine.nc") as ds:
        valid = {name: np.isfinite(ds[name]).any(("lat", "lon")).values for name in ("soil_moisture", "precipitation")}
        assert ds["time"].values[-1] == DAYS.values[-2] and valid["soil_moisture"].all()
        np.testing.assert_array_equal(valid["precipitation"][-2:], [True, False])
    assert "soil_temperature is missing everywhere on 3 days" in result.out


def test_implausible_rain_is_said_in_the_report(files, script):
    folder, _ = files
    words = ["--target", folder / "cci.nc", "--predictors", folder / "tp.nc", folder / "stl1.nc"]
    assert "CHECK THIS" not in join(script, folder, *words).out
    changed("tp.nc", lambda ds: ds.assign(tp=(ds["tp"] * 20).assign_attrs(units="m")))(folder)
    assert join(script, folder, *words).out.count("CHECK THIS: the median cell has") == 1


def test_hours_become_days_wherever_files_are_cut(tmp_path, script):
    """Hourly fields in files that are cut inside a day and a month; a day without an hour is missing."""
    hours = pd.date_range("2016-01-25", periods=24 * 12, freq="h")
    lat, lon, rng = np.array([30.0, 29.0]), np.array([358.0, 359.0]), np.random.default_rng(0)
    shape = (len(hours), 2, 2)
    rain, moisture, temperature = rng.gamma(0.1, 1, shape), rng.uniform(0.1, 0.4, shape), rng.normal(280, 5, shape)
    whole = xr.merge(
        [
            field("rr", rain, "kg m-2", lat, lon, hours),
            field("theta", 100 * moisture, "%", lat, lon, hours),
            field("ts", temperature, "K", lat, lon, hours),
        ]
    )
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, part in enumerate((slice(None, 100), slice(100, 205), slice(206, None))):
        whole.isel(time=part).to_netcdf(raw / f"{number}.nc")
    words = ["--predictors", f"{raw}/*.nc:rr=precipitation", "ts=soil_temperature", "--east", 361]
    join(script, tmp_path, "--target", f"{raw}:theta", *words)
    ds = read_prepared(tmp_path / "mine.nc")
    daily = {name: values.reshape(12, 24, 2, 2) for name, values in (("r", rain), ("m", moisture), ("t", temperature))}
    gap = 205 // 24
    kept = [day for day in range(12) if day != gap]
    np.testing.assert_allclose(ds["precipitation"], daily["r"].sum(1)[kept], rtol=1e-5)
    np.testing.assert_allclose(ds["soil_moisture"], daily["m"].mean(1)[kept], rtol=1e-5)
    np.testing.assert_allclose(ds["soil_temperature"], daily["t"].mean(1)[kept], rtol=1e-6)
    assert str(DAYS[0])[:10] not in ds.attrs["left_out"] and "2016-02-02" in ds.attrs["left_out"]


def test_longitudes_of_both_conventions_meet_and_a_box_cuts(tmp_path, script):
    """A target from −1° to 1°; predictors in 0…360 around the globe, different in each column."""
    globe = np.arange(0.25, 360, 0.5)
    lat, rain = np.array([30.25, 29.75]), np.broadcast_to(globe, (60, 2, 720))
    field("tp", rain, "mm", lat, globe).to_netcdf(tmp_path / "tp.nc")
    field("stl1", 280, "K", lat, globe).to_netcdf(tmp_path / "stl1.nc")
    field("sm", 0.2, "m3 m-3", lat, [-0.75, -0.25, 0.25, 0.75]).to_netcdf(tmp_path / "cci.nc")
    words = ["--predictors", tmp_path / "tp.nc", tmp_path / "stl1.nc", "--south", 30, "--west", 359.5, "--east", 360.5]
    join(script, tmp_path, "--target", tmp_path / "cci.nc", *words)
    ds = read_prepared(tmp_path / "mine.nc")
    assert ds["lat"].values.tolist() == [30.25] and ds["lon"].values.tolist() == [-0.25, 0.25]
    np.testing.assert_allclose(ds["precipitation"].values[:, 0], np.broadcast_to([359.75, 0.25], (60, 2)), rtol=1e-6)


def test_a_source_can_be_put_on_the_cells_of_another_data_set(files, script):
    """For the pre-training of a network that is bound to its grid."""
    folder, _ = files
    predictors = ["--predictors", folder / "tp.nc", folder / "stl1.nc"]
    join(script, folder, "--target", folder / "cci.nc", *predictors)
    (folder / "mine.nc").rename(folder / "target.nc")
    coarse = xr.open_dataset(folder / "stl1.nc").rename(stl1="swvl1")
    moisture = coarse["swvl1"] * 0 + np.arange(4, dtype="f4").reshape(2, 2) / 10
    coarse.assign(swvl1=moisture.assign_attrs(units="m3 m-3")).to_netcdf(folder / "swvl1.nc")
    join(script, folder, "--target", folder / "swvl1.nc", *predictors, "--grid", folder / "target.nc")
    ds, target = read_prepared(folder / "mine.nc"), read_prepared(folder / "target.nc")
    np.testing.assert_array_equal(ds["lat"], target["lat"])
    expected = finer(np.broadcast_to(np.arange(4, dtype="f4").reshape(2, 2) / 10, (60, 2, 2)))
    np.testing.assert_allclose(ds["soil_moisture"], expected, atol=1e-7)


def test_the_csv_of_a_site_takes_the_predictors_of_the_cell_around_it(files, script):
    folder, truth = files
    table = pd.DataFrame({"day": DAYS.strftime("%Y-%m-%d"), "theta [%]": np.linspace(10, 40, 60), "note": "x"})
    table.loc[7, "theta [%]"] = -9999
    table.to_csv(folder / "site.csv", index=False)
    words = ["--predictors", folder / "tp.nc", folder / "stl1.nc", "--site", 29.9, 100.6]
    join(script, folder, "--target", f"{folder / 'site.csv'}:theta", *words)
    ds = read_prepared(folder / "mine.nc")
    assert ds.sizes == {"time": 60, "lat": 1, "lon": 1} and float(ds["lat"][0]) == 29.9
    np.testing.assert_allclose(ds["precipitation"].values[:, 0, 0], truth["rain"][:, 1, 1], rtol=1e-5, atol=1e-5)
    expected = np.where(np.arange(60) == 7, np.nan, np.linspace(0.1, 0.4, 60))
    np.testing.assert_allclose(ds["soil_moisture"].values[:, 0, 0], expected, rtol=1e-5)


def point_tables(moisture: np.ndarray) -> dict[str, tuple[pd.DataFrame, list]]:
    """Tables of a point as services give them, by name, with what else join must be told."""
    stamps = DAYS + pd.Timedelta("90min")
    appeears = {"Category": "a", "ID": "p1", "Latitude": 29.9, "Longitude": 100.6, "Date": DAYS.strftime("%Y-%m-%d")}
    appeears |= {"MODIS_Tile": "h25v06", "SPL4SMGP_008_Geophysical_Data_sm_surface": moisture}
    region = {"id": stamps.strftime("%Y%m%d_%H%M"), "longitude": 100.6, "latitude": 29.9}
    region |= {"time": stamps.as_unit("ms").asi8, "sm_surface": moisture}
    point = '{"geodesic":false,"type":"Point","coordinates":[100.6,29.9]}'
    feature = {"system:index": DAYS.strftime("%Y%m%d"), "sm_surface": moisture, ".geo": point}
    empty = feature | {".geo": '{"type":"MultiPoint","coordinates":[]}'}
    numbers = {"date": DAYS.strftime("%Y%m%d").astype(int), "sm_surface": moisture}
    site = ["--site", 29.9, 100.6]
    return {
        "AppEEARS": (pd.DataFrame(appeears), []),
        "getRegion": (pd.DataFrame(region), []),
        "getRegion without its id": (pd.DataFrame(region).drop(columns="id"), []),
        "features": (pd.DataFrame(feature), []),
        "features without a place": (pd.DataFrame(empty), site),
        "dates as numbers": (pd.DataFrame(numbers), site),
    }


@pytest.mark.parametrize("name", point_tables(np.zeros(60)))
def test_tables_of_a_point_as_appeears_and_earth_engine_give_them(files, script, name):
    folder, _ = files
    moisture = np.linspace(0.1, 0.4, 60).round(4)
    table, more = point_tables(moisture)[name]
    table.to_csv(folder / "point.csv", index=False)
    words = ["--predictors", folder / "tp.nc", folder / "stl1.nc", "--units", "sm_surface=m3 m-3", *more]
    join(script, folder, "--target", folder / "point.csv", *words)
    ds = read_prepared(folder / "mine.nc")
    assert ds.sizes == {"time": 60, "lat": 1, "lon": 1} and (float(ds.lat[0]), float(ds.lon[0])) == (29.9, 100.6)
    np.testing.assert_array_equal(ds["time"], DAYS.to_numpy())
    np.testing.assert_allclose(ds["soil_moisture"].values[:, 0, 0], moisture, rtol=1e-6)


def test_a_table_of_appeears_with_one_time_of_the_day_or_many_points_is_refused(files, script):
    folder, _ = files
    table, _ = point_tables(np.full(60, 0.2))["AppEEARS"]
    name = "SPL4SMGP_008_Geophysical_Data_sm_surface"
    cases = {
        "is of one time of the day alone; ask AppEEARS for an area": table.rename(columns={name: f"{name}_0"}),
        "table of many places": pd.concat([table, table.assign(ID="p2", Latitude=30.1)]),
    }
    for said, bad in cases.items():
        bad.to_csv(folder / "point.csv", index=False)
        words = ["--target", folder / "point.csv", "--predictors", folder / "tp.nc", folder / "stl1.nc"]
        assert said in script("data/join.py", *words, "--out", folder / "mine.nc").sentence()


@pytest.mark.parametrize(
    ("variable", "units", "value", "expected", "per_step"),
    [
        ("precipitation", "m", 0.002, 2.0, True),
        ("precipitation", "m of water equivalent", 0.002, 2.0, True),
        ("precipitation", "mm", 3.0, 3.0, True),
        ("precipitation", "kg m**-2", 3.0, 3.0, True),
        ("precipitation", "kg m-2 s-1", 1 / 86400, 1.0, False),
        ("precipitation", "mm/hr", 0.5, 12.0, False),
        ("precipitation", "m s-1", 1e-8, 0.864, False),
        ("soil_moisture", "%", 25.0, 0.25, False),
        ("soil_moisture", "m**3 m**-3", 0.25, 0.25, False),
        ("soil_moisture", "1", 0.25, 0.25, False),
        ("soil_moisture", "kg m-2", 25.0, 0.25, False),
        ("soil_moisture", "mm", 25.0, 0.25, False),
        ("soil_temperature", "degC", 10.0, 283.15, False),
        ("soil_temperature", "degrees_C", -10.0, 263.15, False),
        ("soil_temperature", "Celcius", 0.0, 273.15, False),
        ("soil_temperature", "degF", 50.0, 283.15, False),
        ("soil_temperature", "kelvin", 280.0, 280.0, False),
    ],
)
def test_units_by_hand(variable, units, value, expected, per_step):
    conversion = find_conversion(variable, units, "x", layer_depth=0.1)
    assert conversion(np.array([value]))[0] == pytest.approx(expected, rel=1e-9)
    assert conversion.per_step == per_step


@pytest.mark.parametrize(
    ("variable", "units", "said"),
    [
        ("precipitation", "K", "expected precipitation in a unit such as mm day-1"),
        ("soil_temperature", "mm", "expected soil_temperature"),
        ("soil_moisture", "kg m-2", "--layer-depth 0.1"),
        ("soil_moisture", "kg/kg", "mass of water per mass of soil"),
        ("soil_moisture", "buckets of water", "no known unit"),
        ("precipitation", "0.1 mm", "no known unit"),
    ],
)
def test_units_of_something_else_are_refused(variable, units, said):
    with pytest.raises(UserError, match=re.escape(said)):
        find_conversion(variable, units, "x", layer_depth=None)


def test_a_cell_needs_all_hours_of_a_day_and_any_overpass():
    values = np.array([[[1.0]], [[np.nan]], [[3.0]], [[5.0]]])
    day = np.full(4, np.datetime64("2016-01-01"))
    for steps, expected in ((4, np.nan), (2, 2.0)):
        days = Days(steps, total=False, regrid=None)
        days.add(day[:steps] if steps == 4 else day[:2], values[:4] if steps == 4 else values[[1, 0]] * 2)
        days.finish()
        np.testing.assert_equal(days.finished[day[0]][0, 0], np.float32(expected))


def test_a_stamp_at_midnight_is_of_the_day_before_or_after():
    stamps = np.array(["2016-01-02T00", "2016-01-02T01"], "datetime64[ns]")
    assert day_of(stamps, next_day=True).astype(str).tolist() == ["2016-01-01", "2016-01-02"]
    assert day_of(stamps, next_day=False).astype(str).tolist() == ["2016-01-02", "2016-01-02"]


@pytest.mark.parametrize(("length", "test"), [(1500, 365), (1000, 200), (100, 20)])
def test_proposed_periods_follow_each_other_and_fill_the_record(length, test):
    days = np.datetime64("2016-01-01") + np.arange(length)
    periods = propose_periods(days)
    assert periods["train"][0] == days[0] and periods["test"][1] == days[-1]
    assert periods["val"][0] == periods["train"][1] + 1 and periods["test"][0] == periods["val"][1] + 1
    assert int((periods["test"][1] - periods["test"][0]).astype(int)) + 1 == test
    assert not propose_periods(days[:30])


def test_words_of_the_command_line(tmp_path):
    for name in ("a.nc", "b.nc"):
        (tmp_path / name).touch()
    (one,) = read_predictors([f"{tmp_path}/a.nc:tp=precipitation,stl1=soil_temperature"])
    assert one.variables == {"precipitation": "tp", "soil_temperature": "stl1"}
    (two, three) = read_predictors([f"{tmp_path}/a.nc:tp=precipitation", "t=soil_temperature", f"{tmp_path}/b.nc"])
    assert two.variables == {"precipitation": "tp", "soil_temperature": "t"} and three.variables == {}
    (pattern,) = read_predictors([f"{tmp_path}/*.nc"])
    assert [file.name for file in pattern.files] == ["a.nc", "b.nc"]
    for words, said in ((["none.nc"], "no file"), ([f"{tmp_path}/a.nc:tp=rain"], "expected NAME=precipitation or")):
        with pytest.raises(UserError, match=said):
            read_predictors(words)


def running_sums(folder: Path) -> None:
    hours = pd.date_range("2016-01-01", periods=240, freq="h")
    rain = np.random.default_rng(0).gamma(0.3, 1e-3, (10, 24, 2, 2)).cumsum(axis=1).reshape(240, 2, 2)
    field("tp", rain, "m", [30.25, 29.75], [100.25, 100.75], hours + pd.Timedelta("1h")).to_netcdf(folder / "tp.nc")


def changed(name: str, change):
    def spoil(folder: Path) -> None:
        ds = xr.open_dataset(folder / name).load()
        ds.close()
        change(ds).to_netcdf(folder / name)

    return spoil


def shifted(ds: xr.Dataset) -> xr.Dataset:
    ds["valid_time"].attrs["time_shift"] = "0 days 08:00:00"
    return ds


def of_saturation(ds: xr.Dataset) -> xr.Dataset:
    ds["sm"].attrs |= {"units": "percent", "long_name": "Degree of saturation"}
    return ds


REFUSED = {
    "running sums": (running_sums, "sums since midnight.*data/prepare_era5_land.py"),
    "no temperature": (changed("stl1.nc", lambda ds: ds.rename(stl1="t2m")), "t2m is of the air.*t2m=soil_temperature"),
    "no moisture": (
        changed("cci.nc", lambda ds: ds.rename(sm="a")),
        "--target: nothing in .* looks like soil_moisture",
    ),
    "two moistures": (changed("cci.nc", lambda ds: ds.assign(swvl1=ds["sm"])), None),
    "no unit": (changed("cci.nc", lambda ds: ds.assign(sm=ds["sm"].drop_attrs())), "--units sm=UNIT"),
    "local days": (changed("stl1.nc", shifted), r"days of local time \(time_shift 0 days 08:00:00\)"),
    "a day twice": (changed("tp.nc", lambda ds: ds.isel(valid_time=[0, 1, 1, 2])), "2016-01-02T00:00 twice"),
    "monthly": (changed("tp.nc", lambda ds: ds.isel(valid_time=slice(None, None, 20))), "steps of 20 days"),
    "elsewhere": (changed("tp.nc", lambda ds: ds.assign_coords(latitude=[10.0, 9.5])), "no cell of the target lies"),
    "another time": (
        changed("cci.nc", lambda ds: ds.assign_coords(time=ds["time"] + np.timedelta64(900, "D"))),
        "have no day in common: precipitation 2016-01-01 to 2016-02-29",
    ),
    "saturation": (changed("cci.nc", of_saturation), "degree of saturation"),
    "too wet": (
        changed("cci.nc", lambda ds: ds.assign(sm=(ds["sm"] * 10).assign_attrs(units="1"))),
        "outside physical",
    ),
    "levels": (changed("cci.nc", lambda ds: ds.expand_dims(depth=[5, 10])), "the further dimension depth"),
    "no grid": (changed("cci.nc", lambda ds: ds.rename(lat="row").drop_vars("row")), "has no lat"),
    "no dates": (changed("cci.nc", lambda ds: ds.assign_coords(time=np.arange(60))), "time of type int64"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_joined_gets_one_sentence(files, script, case):
    folder, _ = files
    spoil, said = REFUSED[case]
    spoil(folder)
    words = ["--predictors", folder / "tp.nc", folder / "stl1.nc", "--out", folder / "mine.nc"]
    result = script("data/join.py", "--target", folder / "cci.nc", *words)
    if said is None:  # our own name, or the first that is known, is taken
        assert result.code == 0
        return
    assert re.search(said, result.sentence())
    assert not (folder / "mine.nc").exists()


@pytest.mark.skipif(not FOUND.exists(), reason="the real files are not here")
def test_real_files_are_read_to_known_values(tmp_path, script):
    """A day of ESA CCI, a pixel of SMAP L4 as CSV, and the time series of a cell that another program has prepared."""
    box = (np.arange(49.5, 30, -1.0), np.arange(0.5, 30, 1.0))
    for name, units, value in (("tp", "m", 0.003), ("stl1", "degC", 10)):
        for year in (2016, 2024):
            time = pd.date_range(f"{year}-01-01", f"{year}-12-31")
            where = box if year == 2016 else ([40.5, 41.0], [14.5, 15.0])
            time = time[-1:] if year == 2016 else time
            field(name, value, units, *where, time).to_netcdf(tmp_path / f"{name}{year}.nc")
    (cci,) = FOUND.glob("ESACCI*.nc")
    join(script, tmp_path, "--target", cci, "--predictors", tmp_path / "tp2016.nc", tmp_path / "stl12016.nc")
    ds = read_prepared(tmp_path / "mine.nc")
    with xr.open_dataset(cci) as raw:
        np.testing.assert_array_equal(ds["soil_moisture"], raw["sm"].sel(lat=slice(50, 30), lon=slice(0, 30)))
    assert ds.sizes == {"time": 1, "lat": 80, "lon": 120}
    (site,) = FOUND.glob("smap_l4_pixel*.csv")
    words = ["--site", 40.7, 14.72, "--units", "smap_l4_sm_surface=m3 m-3", "--predictors"]
    words += [tmp_path / "tp2024.nc", tmp_path / "stl12024.nc"]
    join(script, tmp_path, "--target", f"{site}:smap_l4_sm_surface", *words)
    ds = read_prepared(tmp_path / "mine.nc")
    assert ds["soil_moisture"].values[:2, 0, 0].tolist() == [np.float32(0.3142), np.float32(0.3028)]
    series = {kind: next(FOUND.glob(f"WxFormer*{kind}*")) for kind in ("soil-water", "precipitation", "2m-temp")}
    words = ["--predictors", series["precipitation"], f"{series['2m-temp']}:t2m=soil_temperature"]
    join(script, tmp_path, "--target", series["soil-water"], *words, "--rain-stamp", "next-day")
    ours, theirs = (
        read_prepared(path) for path in (tmp_path / "mine.nc", FOUND / "era5_land_one_cell_10y_prepared.nc")
    )
    theirs = theirs.sel(time=ours["time"])
    for name in ours:
        np.testing.assert_allclose(ours[name].values, theirs[name].values, atol=1e-5)


@pytest.mark.skipif(not FOUND.exists(), reason="the real files are not here")
@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("WxFormer*soil-water*", "looks like precipitation and soil_temperature, found swvl1"),
        ("Pakistan*", "looks like precipitation and soil_temperature, found swvl1, lsm"),
        ("era5-land-daily-mean*", "looks like soil_moisture, found t2m"),
        ("harmony_SPL4SMAU*", "SMAP L4 .SPL4SMAU, the analysis update"),
        ("SC_SPL3SMP*", "raw file of SMAP L3"),
        ("reanalysis*.csv", "table of many places"),
    ],
)
def test_real_files_of_something_else_are_refused(tmp_path, script, pattern, said):
    (path,) = FOUND.glob(pattern)
    words = ["--target", path, "--predictors", path, "--out", tmp_path / "mine.nc"]
    assert re.search(said, script("data/join.py", *words).sentence())
