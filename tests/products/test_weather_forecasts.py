"""Weather forecasts of ECMWF, GFS and GEFS: from a local server or a folder to the file that --future-from reads."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import tiny
from local_servers import dropped, serving, status, truncated
from weather_gribs import (
    GFS,
    LAT,
    LON,
    RAIN_KG,
    RAIN_M,
    OpenData,
    as_netcdf,
    message,
    moisture_at,
    rain_of_day,
    since_start,
    soil,
    soil_of_gfs,
    write_run,
)

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.dataset.prepared import write_prepared
from utils.dataset.weather_forecasts import WeatherForecasts
from utils.products.download import Patience
from utils.products.weather.days import find_amounts
from utils.products.weather.download import WeatherDownloadSettings, download_weather_forecast
from utils.products.weather.prepare import WeatherPrepareSettings, choose_runs, prepare_weather_forecast
from utils.products.weather.stored import Kind

QUICK = Patience(tries=3, first=0.01, longest=0.02)
CELLS = (
    np.arange(41.0, 36.5, -1),
    np.arange(100.0, 106.5, 1),
)  # of the data set, 1°; those of the files are half as wide


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    lat, lon = CELLS
    path = tmp_path_factory.mktemp("like") / "like.nc"
    write_prepared(tiny(days=2, shape=(len(lat), len(lon))).assign_coords(lat=lat, lon=lon), path)
    return path


@pytest.fixture
def like(data_set, tmp_path) -> Path:
    """A data set whose cells lie inside the files."""
    return Path(shutil.copy(data_set, tmp_path))


def prepare(raw: Path | tuple, like: Path, **more) -> xr.Dataset:
    """The file that comes of it, opened and loaded."""
    out = like.with_name("forecasts.nc")
    raws = raw if isinstance(raw, tuple) else (raw,)
    prepare_weather_forecast(WeatherPrepareSettings(raw=raws, like=like, out=out, **{"lead_days": 2, **more}))
    return xr.load_dataset(out, decode_timedelta=False)


def download(server, out: Path, *dates: str, **more) -> None:
    settings = {"out": out, "source": server.url, "date": dates, "lead_days": 2, **more}
    download_weather_forecast(WeatherDownloadSettings(**settings), QUICK)


def on_cells(values: np.ndarray) -> np.ndarray:
    """A field of the files as means over cells of 1°, done by hand: the rows and columns at their edges count half."""
    lat, lon = CELLS
    means = np.empty((len(lat), len(lon)))
    for i, j in np.ndindex(means.shape):
        rows, columns = np.abs(LAT - lat[i]), np.abs(LON - lon[j])
        weight = np.outer(_area(LAT, rows), np.where(columns < 0.4, 1, np.where(columns < 0.6, 0.5, 0)))
        weight = np.where(np.isfinite(values), weight, 0)
        means[i, j] = (weight * np.nan_to_num(values)).sum() / weight.sum()
    return means


def _area(lat: np.ndarray, away: np.ndarray) -> np.ndarray:
    """The area of rows of 0.5° inside a cell of 1°, by the sine of its edges."""
    inside = np.zeros(len(lat))
    centre = lat[np.argmin(away)]
    for k, row in enumerate(lat):
        low, high = max(row - 0.25, centre - 0.5), min(row + 0.25, centre + 0.5)
        inside[k] = max(0.0, np.sin(np.deg2rad(high)) - np.sin(np.deg2rad(low))) if high > low else 0.0
    return inside


# --- days of amounts


def test_a_day_is_made_of_the_fewest_amounts():
    since = {(0, 24), (0, 48), (0, 72)}
    assert find_amounts(since, 0, 24) == [((0, 24), 1)]
    assert find_amounts(since, 24, 48) == [((0, 24), -1), ((0, 48), 1)]
    pieces = {(hour, hour + 6) for hour in range(0, 48, 6)}
    assert find_amounts(pieces, 24, 48) == [((hour, hour + 6), 1) for hour in (24, 30, 36, 42)]
    buckets = pieces | {(hour, hour + 3) for hour in range(0, 48, 6)}  # GEFS: 0-3, 0-6, 6-9, 6-12, …
    assert find_amounts(buckets, 24, 48) == find_amounts(pieces, 24, 48)
    assert find_amounts(pieces | {(0, 24), (0, 48)}, 24, 48) == [((0, 24), -1), ((0, 48), 1)]  # GFS has both
    assert find_amounts(pieces - {(30, 36)}, 24, 48) is None


def test_a_run_of_00_utc_follows_the_last_input_day_and_newer_runs_serve_the_days_before_the_issue():
    runs = np.arange("2026-11-01", "2026-11-05", dtype="datetime64[D]")
    (known, parts), *_ = choose_runs(runs, Kind("", lead_days=3, lag=1)).items()
    assert str(known) == "2026-10-31"
    assert parts == [(runs[0], 1), (runs[0], 2), (runs[0], 3)]
    late = choose_runs(runs, Kind("", lead_days=5, lag=3))
    assert late[known] == [(runs[0], 1), (runs[1], 1), (runs[2], 1), (runs[2], 2), (runs[2], 3)]
    newest = np.datetime64("2026-11-03")
    assert late[newest] == [(runs[3], day) for day in (1, 2, 3, 4, 5)]  # newer runs are not there yet
    gap = choose_runs([runs[0], runs[2]], Kind("", lead_days=3, lag=2))
    assert gap[known] == [(runs[0], 1), (runs[0], 2), (runs[0], 3)]


# --- from a server to the file


def test_a_month_goes_from_the_server_to_the_file_with_one_command_each(like, tmp_path, capsys):
    with serving(OpenData(lambda day: day.month == 11)) as server:
        download(server, tmp_path / "raw", "2026-11-01", "2026-11-30", lead_days=1)
    said = capsys.readouterr().out
    assert "ifs, runs of 2026-11-01 to 2026-11-30, 00 UTC: 60 of 60 files" in said
    assert "about " in said.splitlines()[1] and said.index("about ") < said.index("is complete")
    ds = prepare(tmp_path / "raw", like, lead_days=1)
    assert (
        "forecasts from 30 last input days, 2026-10-31 to 2026-11-29, leads of 1 to 1 day;" in capsys.readouterr().out
    )
    assert ds["precipitation"].shape == (30, 1, *map(len, CELLS))
    for day in (0, 17, 29):
        rain = on_cells(rain_of_day(np.datetime64("2026-11-01") + day, 1))
        np.testing.assert_allclose(ds["precipitation"][day, 0], rain, atol=2e-3)
    forecasts = WeatherForecasts(("precipitation",), 1, like.with_name("forecasts.nc"))
    forecasts.require(ds["init_time"].values.astype("datetime64[D]"), Grid(*CELLS), "test")
    assert forecasts.kind == "degraded" and "numerical model, ecmf od" in forecasts.note()


def test_each_day_of_a_run_has_its_own_rain_and_the_mean_of_its_soil_moisture_without_the_sea(like, tmp_path):
    run = "2026-11-02"
    write_run(tmp_path / "raw", run, days=3)
    ds = prepare(tmp_path / "raw", like, lead_days=3)
    assert list(ds["lead_time"]) == [1, 2, 3] and str(ds["init_time"].values[0])[:10] == "2026-11-01"
    for lead in (1, 2, 3):
        np.testing.assert_allclose(ds["precipitation"][0, lead - 1], on_cells(rain_of_day(run, lead)), atol=2e-3)
        ends = [moisture_at(run, hour) for hour in (24 * lead - 24, 24 * lead)]
        mean = np.where(ends[0] > 0, np.mean(ends, axis=0), np.nan)
        np.testing.assert_allclose(ds["soil_moisture"][0, lead - 1], on_cells(mean), atol=1e-5)


def test_the_newest_run_is_found_and_a_second_call_asks_for_nothing(tmp_path, capsys):
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    with serving(OpenData(lambda day: day <= yesterday)) as server:
        download(server, tmp_path / "raw")
        assert f"run of {yesterday}" in capsys.readouterr().out
        assert len(list((tmp_path / "raw").glob(f"ifs_{yesterday}_00z_*.grib2"))) == 3
        server.asked.clear()
        download(server, tmp_path / "raw", str(yesterday))
        assert not server.asked
        assert "0 of 3 files" in capsys.readouterr().out
        (tmp_path / "raw" / f"ifs_{yesterday}_00z_024h.grib2").write_bytes(b"cut")
        download(server, tmp_path / "raw", str(yesterday))
        assert {path.partition("-24h")[1] for path in server.asked} == {"-24h"}


def test_passing_failures_are_tried_again_and_only_whole_fields_are_kept(tmp_path):
    site = OpenData(lambda day: True)
    whole = tmp_path / "whole"
    with serving(site) as server:
        download(server, whole, "2026-11-01")
        faults = [status(503, "busy"), dropped, site]  # the index, at the third time
        faults += [status(200, "no GRIB"), truncated(bytes(1000)), site, status(429, "slow")]  # rain; soil moisture
        server.faults["/20261101/00z/ifs/0p25/oper/20261101000000-24h"] = faults
        download(server, tmp_path / "again", "2026-11-01")
        site.ranges = False  # a server that sends whole files alone
        download(server, tmp_path / "no_ranges", "2026-11-01")
        for folder in ("again", "no_ranges"):
            for file in whole.glob("*.grib2"):
                assert (tmp_path / folder / file.name).read_bytes() == file.read_bytes()
        server.faults["/20261102/00z/ifs/0p25/oper/20261102000000-48h-oper-fc.grib2"] = [truncated(bytes(400))] * 9
        with pytest.raises(
            UserError, match=r"1 of 3 requests failed: ifs_2026-11-02_00z_048h.* 3 tries.*tries them again"
        ):
            download(server, tmp_path / "raw", "2026-11-02")
        assert sorted(path.name[-10:] for path in (tmp_path / "raw").glob("*.grib2")) == ["000h.grib2", "024h.grib2"]


def test_a_run_that_is_no_longer_served_is_named_and_the_others_are_fetched(tmp_path):
    with serving(OpenData(lambda day: day >= date(2026, 11, 3))) as server:
        with pytest.raises(
            UserError, match=r"does not have the run of 2 days, the first 2026-11-01 .*keeps the last days"
        ):
            download(server, tmp_path / "raw", "2026-11-01", "2026-11-03")
        assert len(list((tmp_path / "raw").glob("ifs_2026-11-03_*.grib2"))) == 3
        assert sum(count for path, count in server.asked.items() if "/20261101" in path) == 1


def test_a_model_without_soil_moisture_gives_rain_alone(like, tmp_path, capsys):
    with serving(OpenData(lambda day: True, moisture=False)) as server:
        download(server, tmp_path / "raw", "2026-11-01", model="aifs-single")
        download(server, tmp_path / "raw", "2026-11-01", model="aifs-single")
    assert "0 of 3 files" in capsys.readouterr().out
    ds = prepare(tmp_path / "raw", like)
    assert "1 of 1 model runs lack soil moisture" in capsys.readouterr().out
    assert np.isfinite(ds["precipitation"]).all() and np.isnan(ds["soil_moisture"]).all()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"lead_days": 16}, "--lead-days is 16, expected 1 to 15"),
        ({"date": ("2026-11-02", "2026-11-01")}, "--date ends on 2026-11-01, before it starts on 2026-11-02"),
        ({"date": ("11/02/2026",)}, "--date is 11/02/2026, expected ISO dates"),
        ({"source": "nasa"}, "--source is 'nasa', expected ecmwf, aws, google, azure or an http address"),
    ],
)
def test_impossible_downloads_are_one_sentence(tmp_path, more, sentence):
    with pytest.raises(UserError, match=sentence):
        download_weather_forecast(WeatherDownloadSettings(**{"out": tmp_path, "date": ("2026-11-01",), **more}), QUICK)


def test_a_server_without_any_run_is_one_sentence(tmp_path):
    sentence = r"has no run of 00 UTC of today or yesterday with 48 hours; give --date"
    with serving(OpenData(lambda day: False)) as server, pytest.raises(UserError, match=sentence):
        download(server, tmp_path / "raw")


# --- the file grows


def test_newer_runs_join_the_file_and_earlier_ones_stay_without_their_raw_files(like, tmp_path, capsys):
    write_run(tmp_path / "first", "2026-11-02", days=2)
    write_run(tmp_path / "second", "2026-11-03", days=2)
    write_run(tmp_path / "second", "2026-11-01", days=2)
    one = prepare(tmp_path / "first", like)
    three = prepare(tmp_path / "second", like)
    assert "2 of them are new" in capsys.readouterr().out
    assert list(three["init_time"].dt.day) == [31, 1, 2]
    xr.testing.assert_equal(
        three[["precipitation", "soil_moisture"]].isel(init_time=[1]), one[["precipitation", "soil_moisture"]]
    )
    at = like.with_name("forecasts.nc").stat().st_mtime_ns
    prepare(tmp_path / "second", like)
    assert "0 of them are new" in capsys.readouterr().out
    assert like.with_name("forecasts.nc").stat().st_mtime_ns == at
    with pytest.raises(UserError, match="holds forecasts with lead_days 2, now 1; give another --out, or remove it"):
        prepare(tmp_path / "second", like, lead_days=1)


def test_a_late_data_set_takes_the_first_days_of_newer_runs(like, tmp_path):
    for day in (1, 2, 3):
        write_run(tmp_path / "raw", f"2026-11-0{day}", days=3)
    ds = prepare(tmp_path / "raw", like, lead_days=3, lag=2)
    wanted = [rain_of_day("2026-11-01", 1), rain_of_day("2026-11-02", 1), rain_of_day("2026-11-02", 2)]
    np.testing.assert_allclose(ds["precipitation"][0], [on_cells(rain) for rain in wanted], atol=2e-3)


# --- files that people have


def test_gfs_and_netcdf_give_the_rain_of_the_same_fields_by_ecmwf(like, tmp_path):
    run = "2026-11-01"
    write_run(tmp_path / "ecmwf", run, days=2)
    truth = prepare(tmp_path / "ecmwf", like)["precipitation"]
    pieces = []
    for first in range(0, 48, 6):  # a quarter of the day in each
        share = rain_of_day(run, first // 24 + 1) / 4
        pieces.append(message(share, run, (first, first + 6), **GFS, **RAIN_KG))
    (tmp_path / "gfs.grb2").write_bytes(b"".join(pieces))
    like.with_name("forecasts.nc").unlink()
    np.testing.assert_allclose(prepare(tmp_path / "gfs.grb2", like)["precipitation"], truth, atol=4e-3)
    like.with_name("forecasts.nc").unlink()
    found = prepare(as_netcdf(tmp_path / "tp.nc", [run, "2026-11-02"], days=2), like)["precipitation"]
    np.testing.assert_allclose(found[:1], truth, atol=2e-3)
    np.testing.assert_allclose(found[1, 1], on_cells(rain_of_day("2026-11-02", 2)), atol=2e-3)


def missing_step(folder: Path) -> None:
    write_run(folder, "2026-11-01", days=2)
    (folder / "ifs_2026-11-01_00z_048h.grib2").unlink()


def another_field(folder: Path) -> None:
    folder.mkdir()
    (folder / "t.grib2").write_bytes(message(np.full((13, 17), 280.0), "2026-11-01", (24, 24), paramId=167))


def cut(folder: Path) -> None:
    write_run(folder, "2026-11-01", days=2)
    file = folder / "ifs_2026-11-01_00z_024h.grib2"
    file.write_bytes(file.read_bytes()[:-100])


def web_page(folder: Path) -> None:
    write_run(folder, "2026-11-01", days=2)
    (folder / "ifs_2026-11-01_00z_024h.grib2").write_text("<!DOCTYPE html><html>Please log in</html>")


def noon(folder: Path) -> None:
    folder.mkdir()
    (folder / "noon.grib2").write_bytes(message(since_start("2026-11-01", 1), "2026-11-01T12", (0, 24), **RAIN_M))


def members(folder: Path) -> None:
    folder.mkdir()
    rain = since_start("2026-11-01", 1)
    ensemble = {"productDefinitionTemplateNumber": 11, **GFS, **RAIN_KG}
    parts = [message(rain, "2026-11-01", (0, 24), **ensemble, perturbationNumber=number) for number in (0, 1)]
    (folder / "gefs.grib2").write_bytes(b"".join(parts))


def pieces_in_netcdf(folder: Path) -> None:
    """More rain up to noon than up to midnight, and the midnights in order."""
    folder.mkdir()
    with xr.open_dataset(as_netcdf(folder / "tp.nc", ["2026-11-01"], days=2), decode_timedelta=True) as ds:
        ds = ds.load()
    noon = (2 * ds.isel(step=[0])).assign_coords(step=ds["step"][:1] / 2)
    ds = xr.concat([noon, ds], "step")
    ds["tp"].attrs["units"] = "m"
    ds.to_netcdf(folder / "tp.nc")


def rate(folder: Path) -> None:
    folder.mkdir()
    ds = xr.load_dataset(as_netcdf(folder / "tp.nc", ["2026-11-01"], days=2), decode_timedelta=True)
    ds["tp"].attrs["units"] = "kg m-2 s-1"
    ds.to_netcdf(folder / "tp.nc")


def no_step(folder: Path) -> None:
    folder.mkdir()
    ds = xr.load_dataset(as_netcdf(folder / "tp.nc", ["2026-11-01"], days=2)).isel(step=0, drop=True)
    ds.to_netcdf(folder / "tp.nc")


def elsewhere(folder: Path) -> None:
    folder.mkdir()
    away = message(since_start("2026-11-01", 1), "2026-11-01", (0, 24), lat=LAT - 50, **RAIN_M)
    two = message(since_start("2026-11-01", 2), "2026-11-01", (0, 48), lat=LAT - 50, **RAIN_M)
    (folder / "away.grib2").write_bytes(away + two)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            missing_step,
            r"The run of 2026-11-01 has no rain of its day 2, hours 24 to 48: its amounts end at the hours 24;",
        ),
        (another_field, r"No field of --raw is total precipitation, tp of ECMWF or APCP of GFS; found 2t\."),
        (cut, r"1 of 3 files cannot be read: .*024h\.grib2 \(.*damaged or truncated.*\); the other 2 are in order"),
        (web_page, r"1 of 3 files cannot be read: .*024h\.grib2 \(is a web page, .*\); the other 2 are in order"),
        (noon, r"The model runs of --raw start at 12 UTC; expected those of 00 UTC"),
        (members, r"several models or members, kwbc member 0 and kwbc member 1 among them; give those of one"),
        (
            pieces_in_netcdf,
            r"The run of 2026-11-01 loses rain up to hour 24 in \d+ cells, by up to .* mm: its values are no sums",
        ),
        (rate, r"tp is in 'kg m-2 s-1', a rate; expected amounts of rain"),
        (no_step, r"tp has no step, found .*time.*; expected the start of the model run, the step"),
        (elsewhere, r"away\.grib2 covers latitude -14 to -8 and longitude 99 to 107; no cell of --like lies there"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(like, tmp_path, make, sentence):
    make(tmp_path / "raw")
    with pytest.raises(UserError, match=sentence) as error:
        prepare(tmp_path / "raw", like)
    assert "\n" not in str(error.value)
    assert not like.with_name("forecasts.nc").exists()


def test_a_file_of_something_else_is_not_replaced(like, tmp_path):
    write_run(tmp_path / "raw", "2026-11-01", days=2)
    like.with_name("forecasts.nc").write_text("notes")
    with pytest.raises(UserError, match="is no earlier output of this script; it was left as it is"):
        prepare(tmp_path / "raw", like)
    assert like.with_name("forecasts.nc").read_text() == "notes"


def test_only_the_uppermost_layer_is_read(like, tmp_path):
    write_run(tmp_path / "ecmwf", "2026-11-01", days=2)
    deeper = soil(np.full((13, 17), 0.9), "2026-11-01", 24, level=2)
    (tmp_path / "ecmwf" / "deeper.grib2").write_bytes(deeper)
    ecmwf = prepare(tmp_path / "ecmwf", like)["soil_moisture"]
    assert float(ecmwf.max()) < 0.2
    (tmp_path / "gfs").mkdir()
    for hour in (0, 24, 48):
        parts = [soil_of_gfs(moisture_at("2026-11-01", hour), "2026-11-01", hour)]
        parts.append(soil_of_gfs(np.full((13, 17), 0.9), "2026-11-01", hour, depth_cm=(10, 40)))
        if hour:
            parts.append(
                message(since_start("2026-11-01", hour // 24) * 1000, "2026-11-01", (0, hour), **GFS, **RAIN_KG)
            )
        (tmp_path / "gfs" / f"{hour}.grb2").write_bytes(b"".join(parts))
    like.with_name("forecasts.nc").unlink()
    xr.testing.assert_allclose(prepare(tmp_path / "gfs", like)["soil_moisture"], ecmwf)
