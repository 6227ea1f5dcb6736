"""Forecasts against stations: the archive, the maps at the stations, the tables, and refusals."""

import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import tiny
from figure_checks import assert_tidy
from ismn_archive import hourly, write_sensor, zip_archive
from scipy.stats import pearsonr

from utils.common.grid import Grid
from utils.common.places import cell_at
from utils.dataset.prepared import write_prepared
from utils.stations import figures
from utils.stations.archive import combine, read_archive
from utils.stations.gridded import open_maps, read_tables

GRID = Grid(np.array([42.0, 40.0, 38.0]), np.array([78.0, 80.0, 82.0]))
START = "2015-04-01"
PERIOD = (np.datetime64("2015-04-01"), np.datetime64("2015-12-31"))
DAYS = np.arange(60)


def only_station(archive):
    (station,) = archive.stations
    return station


# --- the archive


@pytest.mark.parametrize("ceop", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_days_are_means_of_twelve_good_hours(tmp_path, ceop, packed):
    """Three days: all hours good; eleven good hours; twelve good hours among bad ones of other values."""
    values = hourly(np.array([0.2, 0.2, 0.2]), START)
    values.iloc[:24] = np.linspace(0.1, 0.33, 24)
    flags = np.array(["G"] * 24 + ["G"] * 11 + ["C01,D02"] * 13 + ["G"] * 12 + ["D03"] * 12)
    values[flags != "G"] = 0.9
    folder = tmp_path / "archive"
    write_sensor(folder, values, flags=flags, ceop=ceop)
    archive = read_archive(zip_archive(folder) if packed else folder, GRID, PERIOD)
    station = only_station(archive)
    assert station.moisture.to_dict() == {
        pd.Timestamp("2015-04-01"): pytest.approx(0.215),
        pd.Timestamp("2015-04-03"): pytest.approx(0.2),
    }
    assert (station.network, station.name, station.climate) == ("NET", "Meadow", "BSk")
    assert (station.lat, station.lon, station.elevation, station.cell) == (40, 80, 1200, (1, 1))
    assert archive.outside == archive.unreadable == [] and archive.no_values == 0


def test_sensors_of_the_surface_alone(tmp_path):
    """Within 5 cm where there is one; else within 10 cm; deeper ones, other variables and other places never."""
    day = hourly(np.array([0.2]), START)
    write_sensor(tmp_path, day, depth=(0.0, 0.05))
    write_sensor(tmp_path, day + 0.1, depth=(0.05, 0.05), sensor="Probe-B")
    write_sensor(tmp_path, day + 0.5, depth=(0.1, 0.1))
    write_sensor(tmp_path, day + 20, variable="ts")
    write_sensor(tmp_path, day + 0.1, station="Wood", depth=(0.08, 0.1), place=(40.9, 439.0 - 360))
    write_sensor(tmp_path, day, station="Deep", depth=(0.2, 0.2))
    write_sensor(tmp_path, day, station="Far", place=(43.1, 80))
    archive = read_archive(tmp_path, GRID, PERIOD)
    found = {s.name: (s.sensors, s.depth, round(float(s.moisture.iloc[0]), 6)) for s in archive.stations}
    assert found == {"Meadow": (2, (0.0, 0.05), 0.25), "Wood": (1, (0.08, 0.1), 0.3)}
    assert archive.outside == [(43.1, 80.0)]


def test_a_deeper_sensor_serves_where_the_shallow_one_measured_in_other_years_or_cannot_be_read(tmp_path):
    early, late = hourly(np.full(3, 0.2), "2010-06-01"), hourly(np.full(3, 0.3), START)
    write_sensor(tmp_path, early, depth=(0.05, 0.05))
    write_sensor(tmp_path, late, depth=(0.1, 0.1))
    damaged = write_sensor(tmp_path, late, station="Wood", depth=(0.05, 0.05))
    write_sensor(tmp_path, late, station="Wood", depth=(0.1, 0.1))
    damaged.write_text("no values")
    stations = read_archive(tmp_path, GRID, PERIOD).stations
    assert {s.name: (s.sensors, s.depth, float(s.moisture.iloc[0])) for s in stations} == {
        name: (1, (0.1, 0.1), pytest.approx(0.3)) for name in ("Meadow", "Wood")
    }


def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path):
    write_sensor(tmp_path, hourly(np.array([0.2]), START))
    write_sensor(tmp_path, hourly(np.array([0.2]), START), station="Wood").write_text("not a table\n")
    early = write_sensor(tmp_path, hourly(np.array([0.2]), "2014-04-01"), station="Early")
    before = sorted(tmp_path.rglob("*"))
    archive = read_archive(tmp_path, GRID, PERIOD)
    assert only_station(archive).name == "Meadow" and "Wood" in archive.unreadable[0]
    assert archive.no_values == 1 and early.exists()
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written into the user's folder


def test_a_series_does_not_jump_where_a_sensor_begins():
    days = pd.date_range(START, periods=6)
    wet = pd.Series(0.3, index=days)
    dry = pd.Series([0.1, 0.12, 0.08], index=days[3:])
    together = combine([wet, dry])
    np.testing.assert_allclose(together, [0.2, 0.2, 0.2, 0.2, 0.21, 0.19])


# --- maps at stations


@pytest.mark.parametrize(
    ("lat", "lon", "place", "cell"),
    [
        ([42, 40, 38], [78, 80, 82], (40.99, 80.99), (1, 1)),
        ([38, 40, 42], [78, 80, 82], (41.0, 78.9), (2, 0)),
        ([38, 40], [350, 355, 0, 5], (38, -9), (0, 0)),
        ([38, 40], [350, 355, 0, 5], (38, 4), (0, 3)),
        ([38, 40], [-100, -98], (40.9, 260.5), (1, 0)),
        ([38, 40], [-100, -98], (41.1, 260.5), None),
        ([38, 40], [-100, -98], (39, -96.9), None),
        ([40], [-100, -98], (40.9, -97.1), (0, 1)),
        ([40], [80], (40.4, 79.6), (0, 0)),
    ],
)
def test_a_place_lies_in_the_cell_whose_centre_is_nearest(lat, lon, place, cell):
    assert cell_at(Grid(np.array(lat, float), np.array(lon, float)), *place) == cell


def hindcasts(data: xr.Dataset) -> xr.Dataset:
    """Forecasts of 1 and 3 days from each day: the data set's own later value with an error, known in each cell."""
    inits = data["time"].values[5:-3]
    lead = np.array([1, 3], np.int32)
    moisture = np.stack([data["soil_moisture"].values[5 + n : len(data["time"]) - 3 + n] for n in lead], axis=1)
    error = 0.01 * np.sin(np.arange(len(inits)))[:, None, None, None] * lead[:, None, None]
    age = np.zeros((len(inits), data.sizes["lat"], data.sizes["lon"]), np.float32)
    age[::7] = 2
    return xr.Dataset(
        {
            "soil_moisture": (("init_time", "lead_time", "lat", "lon"), moisture + error, {"units": "m3 m-3"}),
            "input_age": (("init_time", "lat", "lon"), age, {"units": "day"}),
        },
        {
            "init_time": inits,
            "lead_time": ("lead_time", lead, {"units": "days"}),
            "lat": data["lat"],
            "lon": data["lon"],
        },
        {"request": "0", "synthetic": "true"},
    )


@pytest.fixture
def world(tmp_path):
    """A data set, hindcasts of it, and an archive: two stations of NET in a cell, one of ALPS in another."""
    data = tiny(days=120, shape=(8, 9))
    write_prepared(data, tmp_path / "data.nc")
    hindcasts(data).to_netcdf(tmp_path / "forecast.nc")
    rng = np.random.default_rng(0)
    for network, name, row, climate in (("NET", "A", 2, "BSk"), ("NET", "B", 2, "BSk"), ("ALPS", "C", 4, "ET")):
        cell = data["soil_moisture"][:, row, 5]
        values = cell.values + 0.05 + 0.01 * rng.normal(size=len(cell))
        series = hourly(values, str(data["time"].values[0])[:10])
        place = float(cell["lat"]) + 0.2, float(cell["lon"]) - 0.3
        write_sensor(tmp_path / "ismn", series, network=network, station=name, place=place, climate=climate)
    return tmp_path


def test_tables_of_stations_and_of_networks(script, world):
    """Each score is that of the days that forecast, persistence, data set and station have in common."""
    result = script(
        "validate_stations.py", world / "forecast.nc", "--ismn", world / "ismn", "--data", world / "data.nc"
    )
    assert result.code == 0, result.err
    table = pd.read_csv(world / "forecast.stations.csv")
    assert set(table["label"]) == {"SYNTHETIC sample"}
    assert table.groupby("level").size().to_dict() == {"station": 3 * 2 * 3, "cell": 2 * 2 * 3}
    rows = table[(table["level"] == "station") & (table["station"] == "A")].set_index(["lead_days", "series"])
    station = read_archive(world / "ismn", Grid(*table_axes(world)), PERIOD_OF_ALL).stations
    (meadow,) = [s.moisture for s in station if s.name == "A"]
    data, made = xr.open_dataset(world / "data.nc"), xr.open_dataset(world / "forecast.nc", decode_timedelta=False)
    cell = data["soil_moisture"][:, 2, 5].to_series()
    for number, lead in enumerate((1, 3)):
        valid = pd.DatetimeIndex(made["init_time"].values) + pd.Timedelta(days=lead)
        age = pd.to_timedelta(made["input_age"].values[:, 2, 5], unit="D")
        forecast = pd.Series(made["soil_moisture"].values[:, number, 2, 5], index=valid)
        persistence = pd.Series(cell[made["init_time"].values - age].to_numpy(), index=valid)
        for name, series in (("forecast", forecast), ("persistence", persistence), ("data set", cell[valid])):
            row, difference = rows.loc[(lead, name)], series - meadow[valid]
            assert row["days"] == len(valid) == 112
            assert row["bias"] == pytest.approx(difference.mean(), rel=1e-4)
            assert row["ubrmsd"] == pytest.approx(difference.std(ddof=0), rel=1e-4)
            assert row["r"] == pytest.approx(pearsonr(series, meadow[valid])[0], rel=1e-4)
            assert row["r_low"] < row["r"] < row["r_high"] and row["ubrmsd_low"] < row["ubrmsd"] < row["ubrmsd_high"]
    groups = pd.read_csv(world / "forecast.stations.groups.csv")
    kinds = groups.groupby("group")["name"].agg(lambda names: sorted(set(names.fillna("")))).to_dict()
    assert kinds == {"network": ["ALPS", "NET"], "climate": ["arid", "polar"], "all stations": [""], "all cells": [""]}
    net = groups[(groups["name"] == "NET") & (groups["lead_days"] == 3)].set_index("series")
    own = table[(table["network"] == "NET") & (table["level"] == "station") & (table["lead_days"] == 3)]
    means = own.groupby("series")[["bias", "ubrmsd"]].mean()
    np.testing.assert_allclose(net.loc[means.index, ["bias", "ubrmsd"]], means, rtol=1e-4)
    change = net.loc["forecast", "ubrmsd"] - net.loc["persistence", "ubrmsd"]
    assert net.loc["forecast", "ubrmsd_change"] == pytest.approx(change, abs=1e-5)
    assert "NET, 3 days ahead: 2 sites" in result.out and "(SYNTHETIC sample)" in result.out


PERIOD_OF_ALL = (np.datetime64("2015-01-01"), np.datetime64("2016-01-01"))


def table_axes(world):
    with xr.open_dataset(world / "data.nc") as ds:
        return ds["lat"].values.astype(float), ds["lon"].values.astype(float)


def test_a_data_set_and_a_third_one(script, world):
    noisy = tiny(days=120, shape=(8, 9))
    noisy["soil_moisture"] += np.random.default_rng(1).normal(0, 0.01, noisy["soil_moisture"].shape).astype("f4")
    noisy["soil_moisture"] = noisy["soil_moisture"].clip(0, 1)
    write_prepared(noisy, world / "third.nc")
    result = script("validate_stations.py", world / "data.nc", "--ismn", world / "ismn", "--third", world / "third.nc")
    assert result.code == 0, result.err
    table = pd.read_csv(world / "data.stations.csv")
    assert set(table["series"]) == {"data set"} and set(table["lead_days"]) == {0}
    assert {"snr", "snr_low", "snr_station", "snr_third", "error_series", "error_station", "error_third"} <= set(table)
    assert (world / "data.stations.png").exists() and (world / "data.stations.pdf").exists()


def test_predictions_of_a_run_bring_persistence_and_the_observations(world):
    data = xr.open_dataset(world / "data.nc")["soil_moisture"][3:]
    names = {"predicted": 0.1, "persistence": 0.2, "observed": 0.3, "climatology": 0.4}
    ds = xr.Dataset({name: data * 0 + value for name, value in names.items()}, attrs={"lead_days": 3})
    ds.to_netcdf(world / "predictions.nc")
    with open_maps(world / "predictions.nc") as ds:
        tables = read_tables(ds, world / "predictions.nc", [(54.0, 88.0), (0.0, 0.0)])
    assert list(tables) == [3]
    for name, value in (("forecast", 0.1), ("persistence", 0.2), ("data set", 0.3)):
        np.testing.assert_allclose(tables[3][name][0], value, rtol=1e-6)
        assert tables[3][name][1].isna().all()  # outside


def test_the_map_is_tidy(world):
    rng = np.random.default_rng(0)
    stations = {
        "lat": rng.uniform(35, 45, 20),
        "lon": rng.uniform(-110, -90, 20),
        "ubrmsd": rng.uniform(0.02, 0.08, 20),
    }
    stations |= {"r": rng.uniform(0, 0.9, 20), "anomaly_r": rng.uniform(-0.2, 0.8, 20), "lead_days": [3, 5, 7, 9] * 5}
    figure = figures._stations_figure(pd.DataFrame(stations), "forecast against stations of ISMN")
    texts = [text for text, *_ in assert_tidy(figure)]
    assert [text.split("\n")[0] for text in texts if "ahead" in text] == [f"{lead} days ahead" for lead in (3, 7, 9)]
    assert {"(b) anomaly r", "correlation (–)", "ubRMSD (m³ m⁻³)"} <= set(texts)


# --- refusals


def refused(script, world, maps="forecast.nc", ismn="ismn", *more):
    return script("validate_stations.py", world / maps, "--ismn", world / ismn, *more).sentence()


def test_what_is_no_archive_gets_one_sentence(script, world):
    (world / "empty").mkdir()
    assert "holds no file of ISMN" in refused(script, world, ismn="empty")
    (world / "empty" / "thesis.txt").write_text("years of work")
    assert "holds no file of ISMN" in refused(script, world, ismn="empty")
    assert "does not exist" in refused(script, world, ismn="nowhere")
    write_sensor(world / "others", hourly(np.array([290.0]), START), variable="ts")
    assert "none of soil moisture within 0.1 m" in refused(script, world, ismn="others")
    write_sensor(world / "percent", hourly(np.full(60, 31.0), START), place=(46, 82))
    assert "good values from 31 to 31, expected soil moisture in m3 m-3" in refused(script, world, ismn="percent")


def test_a_damaged_or_malicious_zip_gets_one_sentence(script, world):
    packed = zip_archive(world / "ismn")
    (world / "broken.zip").write_bytes(packed.read_bytes()[:-200])
    assert "no ZIP archive, or a damaged one" in refused(script, world, ismn="broken.zip")
    shutil.copy(packed, world / "evil.zip")
    with zipfile.ZipFile(world / "evil.zip", "a") as archive:
        archive.writestr("../../NET_NET_X_sm_0.050000_0.050000_P_20150101_20150102.stm", "evil")
    assert "would be written outside its folder" in refused(script, world, ismn="evil.zip")
    assert not list(world.parent.parent.glob("*.stm"))


def test_stations_elsewhere_or_of_other_days_get_one_sentence(script, world):
    write_sensor(world / "far", hourly(np.full(60, 0.3), START), place=(-30, 140))
    assert "its 1 stations lie at latitude -30 to -30, longitude 140 to 140" in refused(script, world, ismn="far")
    write_sensor(world / "old", hourly(np.full(60, 0.3), "2010-04-01"), place=(46, 82))
    assert "but no good value from 2015-04-06" in refused(script, world, ismn="old")
    write_sensor(world / "short", hourly(np.full(20, 0.3), "2015-05-01"), place=(46, 82))
    assert "fewer than 30 days in common" in refused(script, world, ismn="short")
    with xr.open_dataset(world / "forecast.nc", decode_timedelta=False) as ds:
        ds.isel(init_time=0).to_netcdf(world / "single.nc")
    assert "hindcasts of a longer period have more" in refused(script, world, "single.nc")


def test_maps_of_another_unit_or_kind_get_one_sentence(script, world):
    with xr.open_dataset(world / "data.nc") as ds:
        ds["soil_moisture"].attrs["units"] = "%"
        ds.to_netcdf(world / "percent.nc")
        ds.drop_vars("soil_moisture").to_netcdf(world / "rain.nc")
    assert "soil_moisture is in '%', expected m3 m-3" in refused(script, world, "percent.nc")
    assert "the variable soil_moisture is missing" in refused(script, world, "rain.nc")
    with xr.open_dataset(world / "forecast.nc", decode_timedelta=False) as ds:
        ds.drop_vars("input_age").to_netcdf(world / "weather.nc")
        ds["soil_moisture"].isel(lead_time=0, drop=True).to_dataset(name="predicted").to_netcdf(world / "half.nc")
    assert "it is no file of forecast.py" in refused(script, world, "weather.nc", "ismn", "--data", world / "data.nc")
    assert "it is no predictions.nc of a run" in refused(script, world, "half.nc")
    (world / "page.nc").write_text("<html>")
    assert "cannot be read as NetCDF" in refused(script, world, "page.nc")
    assert "does not exist" in refused(script, world, "nothing.nc")
    assert "--data goes with a file of forecast.py" in refused(
        script, world, "data.nc", "ismn", "--data", world / "data.nc"
    )
    assert "holds forecasts" in refused(script, world, "data.nc", "ismn", "--third", world / "forecast.nc")
    late = tiny(days=60, start="2015-07-01", shape=(8, 9))
    write_prepared(late, world / "late.nc")
    said = refused(script, world, "data.nc", "ismn", "--third", world / "late.nc")
    assert "late.nc gives no triple collocation: at no station has it 100 days in common" in said
    assert "ending in .csv" in refused(script, world, "data.nc", "ismn", "--out", world / "table.xlsx")
