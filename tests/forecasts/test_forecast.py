"""forecast.py as a user runs it: what the file holds, where it comes from, hindcasts, pictures and refusals."""

import re
import runpy
import shutil
import sys
from dataclasses import replace
from unittest.mock import Mock

import netCDF4
import numpy as np
import pytest
import rasterio
import xarray as xr
from compliance_checker.runner import CheckSuite
from conftest import PERIODS, ROOT, tiny
from PIL import Image
from sklearn.metrics import brier_score_loss
from test_compact import gappy

from utils.common.cli import UserError
from utils.common.files import read_json, write_json
from utils.common.grid import Grid
from utils.dataset.blocks import DataSet
from utils.dataset.lags import KnownInputs
from utils.dataset.prepared import write_prepared
from utils.forecasts import calibration, climatology, hindcasts, operational, request
from utils.forecasts.calibration import LEVELS
from utils.forecasts.page.past_scores import _hindcasts
from utils.products.forecast_file import create_forecast_file

LAST = "2015-07-28"  # of the record of `smap`


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs on a record with gaps, evaluated: cnn at 3 days with two seeds, compact at 2 and 3 days."""
    folder = tmp_path_factory.mktemp("forecast")
    write_prepared(gappy(0.4, days=120), folder / "smap.nc")
    common = ["--data", folder / "smap.nc", *PERIODS, "--precision", "32-true"]
    commands = [
        ["SMAPtest/train_cnn.py", *common, "--epochs", 2, "--seed", seed, "--out", folder / f"cnn{seed}"]
        for seed in (0, 1)
    ]
    commands += [
        ["SMAPtest/train_compact.py", *common, "--lead-days", lead, "--out", folder / f"compact{lead}"]
        for lead in (2, 3)
    ]
    commands.append(["SMAPtest/eval.py", *(folder / name for name in ("cnn0", "cnn1", "compact2", "compact3"))])
    for command in commands:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(word) for word in command])
            patch.setitem(sys.modules, "__main__", sys.modules["__main__"])
            runpy.run_path(str(ROOT / command[0]), run_name="__main__")
    return folder


@pytest.fixture
def forecast(script, trained, tmp_path):
    """Run forecast.py on these runs; the result and the file."""

    def run(*arguments, runs=("cnn0", "cnn1"), data="smap.nc", folds=2):
        operational.open_runs.cache_clear()
        out = tmp_path / "forecast.nc"
        where = ["--data", trained / data, "--out", out, "--folds", folds]
        return script("forecast.py", *(trained / name for name in runs), *where, *arguments), out

    return run


def opened(made):
    result, path = made
    assert result.code == 0, result.err
    with xr.open_dataset(path) as ds:
        return ds.load()


def faults(path):
    """What a checker of CF 1.11 finds in a file."""
    suite = CheckSuite()
    suite.load_all_available_checkers()
    found, errors = suite.run_all(suite.load_dataset(str(path)), ["cf:1.11"])["cf:1.11"]
    assert not errors
    return [message for one in found for message in one.msgs or () if one.value[0] < one.value[1]]


def predicted(folder, init, lead):
    with xr.open_dataset(folder / "predictions.nc") as ds:
        return ds.sel(time=np.datetime64(init) + np.timedelta64(lead, "D"))["predicted"].values


def test_the_day_after_the_record_ends(forecast):
    """Dates, units, quantiles, limits, and no value where nothing was ever observed."""
    made = forecast(runs=("compact2", "compact3"))
    ds = opened(made)
    assert str(ds["init_time"].values)[:10] == LAST and list(ds["lead_time"]) == [2, 3]
    assert [str(day)[:10] for day in ds["valid_time"].values] == ["2015-07-30", "2015-07-31"]
    assert ds["soil_moisture"].dims == ("lead_time", "lat", "lon")
    assert ds["soil_moisture"].attrs["units"] == "m3 m-3" and ds["lead_time"].attrs["units"] == "days"
    np.testing.assert_allclose(ds["quantile"], LEVELS)
    quantiles = ds["soil_moisture_quantile"].transpose("quantile", ...).values
    land = np.isfinite(ds["soil_moisture"].values)
    assert (np.isfinite(quantiles) == land).all()
    assert (np.diff(quantiles[:, land], axis=0) >= 0).all()
    assert quantiles[:, land].min() >= 0 and quantiles[:, land].max() <= 1
    assert ds["percentile"].min() >= 0 and ds["percentile"].max() <= 100
    sea = np.isnan(tiny()["soil_moisture"].values).all(axis=0)
    assert (land == ~sea).all() and (ds["input_age"].isnull().values == sea).all()
    assert "SYNTHETIC" in ds.attrs["title"] and ds.attrs["source"].count("SMAPtest/compact") == 2
    assert "initialised on 2015-07-28" in made[0].out and "days ago" in made[0].out
    assert made[1].with_suffix(".png").exists() and made[1].with_suffix(".pdf").exists()


@pytest.mark.parametrize("init", [[], ["--init", "2015-07-27", "2015-07-28"]])
def test_a_checker_of_the_cf_conventions_finds_nothing(forecast, init):
    result, out = forecast(*init, runs=("compact2", "compact3"))
    assert result.code == 0, result.err
    assert faults(out) == []


@pytest.mark.parametrize(("name", "variable"), [("smap.nc", "soil_moisture"), ("cnn0/predictions.nc", "predicted")])
def test_it_finds_nothing_in_data_sets_and_evaluations_which_gdal_places_too(trained, name, variable):
    recommended = "§2.6.2 global attribute history should exist"  # the data of the tests have none
    assert [fault for fault in faults(trained / name) if not fault.startswith(recommended)] == []
    with rasterio.open(f"netcdf:{trained / name}:{variable}") as raster, xr.open_dataset(trained / name) as ds:
        assert raster.crs.to_epsg() == 4326 and raster.count == ds.sizes["time"]
        np.testing.assert_allclose(raster.xy(0, 0), (ds["lon"].min(), ds["lat"].max()))


def test_geotiff_files_show_the_maps_of_the_forecast(forecast):
    result, out = forecast("--geotiff", runs=("compact2", "compact3"))
    ds = opened((result, out))
    files = sorted(out.parent.glob("forecast_lead*.tif"))
    assert f"{len(files)} GeoTIFF files" in result.out and len(files) == 8  # chances need more years
    for lead in (2, 3):
        with rasterio.open(out.with_name(f"forecast_lead{lead}_soil_moisture.tif")) as raster:
            np.testing.assert_array_equal(raster.read(1), ds["soil_moisture"].sel(lead_time=lead))
            assert raster.tags()["valid_time"] == str(ds["valid_time"].sel(lead_time=lead).values)[:10]
            assert raster.tags()["data_sha256"] == ds.attrs["data_sha256"]
    opened(forecast(runs=["compact2"]))
    assert not list(out.parent.glob("*.tif"))  # of the earlier forecast


@pytest.mark.parametrize("run", ["cnn0", "compact3"])
def test_a_forecast_inside_the_record_is_that_of_the_evaluation(forecast, trained, run):
    """Though the data end on the init here, and do not there: nothing of a later day is seen."""
    for init in ("2015-06-28", "2015-07-10", "2015-07-25"):
        ds = opened(forecast("--init", init, runs=[run]))
        np.testing.assert_allclose(ds["soil_moisture"][0], predicted(trained / run, init, 3), atol=1e-6)


def test_a_record_shorter_than_the_memory_of_a_run_is_said(forecast, monkeypatch):
    """The compact model's longest mean has an e-folding time of 60 days: 180 days hold 95 % of its weight."""
    sentence = "compact remembers 180 days, but the record has only {} in a row up to {}; the intervals are {}wider"
    result, out = forecast("--init", "2015-07-10", runs=["cnn0", "compact2"])
    with xr.open_dataset(out) as ds:
        assert ds.attrs["short_record"].startswith(sentence.format(102, "2015-07-10", "no "))
        assert f"note: {ds.attrs['short_record']}" in result.out
    twice = np.full(len(calibration.HISTORIES) + 1, 2, np.float32)
    monkeypatch.setattr(calibration.Calibration, "for_short_records", lambda own, *_: replace(own, by_history=twice))
    with xr.open_dataset(forecast("--init", "2015-07-10", runs=["cnn0", "compact2"])[1]) as ds:
        assert ds.attrs["short_record"].startswith(sentence.format(102, "2015-07-10", ""))
    period = ["--init", "2015-07-10", "2015-07-11", "--jobs", 1]
    ds = opened(forecast(*period, runs=["compact2"]))
    assert "only 102 in a row up to 2015-07-10, and too few for 2 of 2 initial days;" in ds.attrs["short_record"]
    assert "short_record" not in opened(forecast("--init", "2015-07-10", runs=["cnn0"])).attrs


def test_runs_of_a_lead_are_weighted_by_their_days_held_out(forecast, trained):
    ds = opened(forecast("--init", "2015-07-10", runs=("cnn0", "cnn1", "compact3", "compact2")))
    names = ("cnn0", "cnn1", "compact3")
    weight = np.array([1 / read_json(trained / name / "held_out_2" / "metrics.json")["rmse"] ** 2 for name in names])
    weight /= weight.sum()  # all of them have the same days
    maps = [predicted(trained / name, "2015-07-10", 3) for name in names]
    mean = sum(w * one for w, one in zip(weight, maps, strict=True))
    np.testing.assert_allclose(ds["soil_moisture"].sel(lead_time=3), mean, atol=1e-6)
    spread = np.sqrt(sum(w * (one - mean) ** 2 for w, one in zip(weight, maps, strict=True)))
    np.testing.assert_allclose(ds["ensemble_spread"].sel(lead_time=3), spread, atol=1e-6)
    assert ds["ensemble_spread"].sel(lead_time=2).isnull().all()  # one run has none


def test_hindcasts_are_the_single_forecasts_and_are_scored_as_the_evaluation_scores(forecast, trained, monkeypatch):
    """In parts of four inits, the last of which have no observation yet. One year is taken as enough for chances."""
    monkeypatch.setattr(climatology, "FEWEST_YEARS", 1)
    monkeypatch.setattr(request, "MAX_INITS", 4)
    single = opened(forecast("--init", "2015-07-10", runs=["cnn0"]))
    result, out = forecast("--init", "2015-06-28", "2015-07-28", "--jobs", 1, runs=["cnn0"])
    ds = opened((result, out))
    assert ds.sizes["init_time"] == 31 and ds["valid_time"].dims == ("init_time", "lead_time")
    names = ("soil_moisture", "anomaly", "percentile", "probability_below_p10", "soil_moisture_quantile", "input_age")
    for name in names:
        np.testing.assert_allclose(ds[name].sel(init_time="2015-07-10"), single[name], atol=1e-4)
    assert not out.with_name(".forecast.nc.parts").exists()
    (row,) = read_json(out.with_suffix(".scores.json"))["leads"]
    expected = read_json(trained / "cnn0" / "metrics.json")
    for name in ("rmse", "r2", "n", "skill_over_persistence"):
        assert row[name] == pytest.approx(expected[name], rel=1e-5)
    assert 0 < row["coverage_90"] <= 1 and "coverage" in result.out
    with xr.open_dataset(trained / "smap.nc") as record:
        observed = record["soil_moisture"].reindex(time=ds["valid_time"].values[:, 0]).values
    chance, limit = (ds[name].values[:, 0] for name in ("probability_below_p10", "climatology_p10"))
    scored = np.isfinite(observed) & np.isfinite(chance)
    brier = brier_score_loss((observed < limit)[scored], chance[scored])
    assert row["dry"]["brier"] == pytest.approx(brier, rel=1e-5)
    assert "chance of unusually dry soil: Brier skill" in result.out


def test_the_soil_moisture_of_a_numerical_model_is_a_rival_of_hindcasts(forecast, trained):
    """Its forecasts are the truth with another mean and deviation, on all days but the last three of the inits."""
    truth = tiny()["soil_moisture"]
    inits = truth["time"].values[:114]
    with netCDF4.Dataset(trained / "model.nc", "w") as file:
        grid = Grid(truth["lat"].values, truth["lon"].values)
        days = inits.astype("datetime64[D]")
        create_forecast_file(file, days, leads=3, grid=grid, variables=("soil_moisture",), attributes={})
        file["soil_moisture"][:, 2] = 0.1 + 0.5 * truth.values[3 : 3 + len(inits)]
    options = ["--init", "2015-07-01", "2015-07-25", "--jobs", 1, "--future-from", trained / "model.nc"]
    result, out = forecast(*options, runs=["cnn0", "compact2"])
    two, three = read_json(out.with_suffix(".scores.json"))["leads"]
    rival = three["numerical_model"]
    assert rival["rmse"] < 1e-4 and rival["comparisons"]["persistence"]["verdict"] == "better"
    assert 0.8 * three["n"] < rival["n"] < three["n"]
    assert rival["forecast"]["rmse"] > 0.001 and rival["forecast"]["verdict"] == "worse"
    assert "numerical_model" not in two  # nothing but missing values at that lead
    assert f"numerical model, rescaled: RMSE 0.0000, n {rival['n']}; on the same days and cells the" in result.out
    scores = out.with_suffix(".scores.json").rename(trained / "with_rival.scores.json")
    _, page = forecast("--init", "2015-07-25", "--html", "--scores", scores, runs=["cnn0", "compact2"])
    own, scores = page.with_suffix(".scores.json"), scores.rename(page.with_suffix(".scores.json"))
    refused, _ = forecast("--init", "2015-07-25", "--html", "--scores", own, runs=["cnn0", "compact2"])
    assert "which belongs to the hindcasts in" in refused.sentence() and own.exists()
    (said,) = re.findall(r"3 days ahead, their RMSE is ([^<]*)", page.with_suffix(".html").read_text())
    assert said.endswith("own soil moisture, rescaled, 0.0000 on the same days and cells (worse).")
    single, _ = forecast("--init", "2015-07-10", "--future-from", trained / "model.nc", runs=["cnn0"])
    assert "but none of the runs knows the weather ahead" in single.sentence()


def test_a_weather_file_that_cannot_serve_is_refused_before_the_work_is_done(forecast, trained):
    """Its grid, its lag; one that begins after the hindcasts has no rival for them, and the rest is scored."""
    truth = tiny()["soil_moisture"]
    lat, lon = truth["lat"].values, truth["lon"].values

    def hindcasts(first, lat, **attributes):
        days = np.datetime64(first) + np.arange(5)
        with netCDF4.Dataset(trained / "model.nc", "w") as file:
            names = ("soil_moisture",)
            create_forecast_file(file, days, leads=3, grid=Grid(lat, lon), variables=names, attributes=attributes)
            file["soil_moisture"][:] = 0.2
        options = ["--jobs", 1, "--future-from", trained / "model.nc"]
        return forecast("--init", "2015-07-01", "2015-07-20", *options, runs=["cnn0"])[0]

    later = hindcasts("2020-01-01", lat)
    assert later.code == 0 and "numerical model" not in later.out and "RMSE" in later.out
    assert "expected those of the data set" in hindcasts("2015-07-01", lat + 1).sentence()
    late = hindcasts("2015-07-01", lat, lag="3").sentence()
    assert "prepared with --lag 3, but soil moisture is there after 0 days" in late and "with --lag 1" in late


def test_hindcasts_that_were_interrupted_go_on(forecast, monkeypatch):
    monkeypatch.setattr(request, "MAX_INITS", 8)
    whole = opened(forecast("--init", "2015-07-01", "2015-07-28", "--jobs", 1, runs=["cnn0"]))
    calls, real = [], hindcasts.forecast_maps

    def failing(asked, days):
        calls.append(len(days))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(asked, days)

    monkeypatch.setattr(hindcasts, "forecast_maps", failing)
    result, _ = forecast("--init", "2015-07-01", "2015-07-28", "--jobs", 1, runs=["cnn0"])
    assert result.code == 130
    again = opened(forecast("--init", "2015-07-01", "2015-07-28", "--jobs", 1, runs=["cnn0"]))
    assert sum(calls) == 28 + 8  # the part that was interrupted, once more
    xr.testing.assert_equal(again, whole)


def test_hindcasts_in_two_processes(forecast, monkeypatch):
    monkeypatch.setattr(request, "MAX_INITS", 10)
    one = opened(forecast("--init", "2015-07-01", "2015-07-28", "--jobs", 1))
    xr.testing.assert_equal(opened(forecast("--init", "2015-07-01", "2015-07-28", "--jobs", 2)), one)


def test_the_age_of_what_it_started_from(forecast, trained):
    """The last day lacks soil moisture as a whole: not initialised there, unless it is asked for, and then marked."""
    ds = gappy(0.4, days=120)
    ds["soil_moisture"][-1] = np.nan
    write_prepared(ds, trained / "late.nc")
    first = opened(forecast(runs=["cnn0"], data="late.nc"))
    assert str(first["init_time"].values)[:10] == "2015-07-27"
    later = opened(forecast("--init", LAST, runs=["cnn0"], data="late.nc"))
    np.testing.assert_array_equal(later["input_age"], first["input_age"] + 1)
    seen = np.isfinite(ds["soil_moisture"].values)
    land = seen.any(axis=0)
    since = np.argmax(seen[::-1], axis=0)
    np.testing.assert_array_equal(later["input_age"].values[land], since[land])


def day_of(variable):
    return str(variable.values)[:10]


def test_data_that_ended_three_weeks_ago_give_a_forecast_marked_with_its_age(forecast):
    lags = ["--lag", "soil_moisture=3", "precipitation=5"]
    result, out = forecast("--issue", "2015-08-21", *lags, runs=["cnn0", "compact2"])
    ds = opened((result, out))
    assert [day_of(ds[name]) for name in ("init_time", "issue_time")] == ["2015-08-18", "2015-08-21"]
    assert [day_of(ds[f"newest_{name}"]) for name in ("soil_moisture", "precipitation")] == [LAST, LAST]
    assert list(ds["days_after_issue"]) == [-1, 0] and list(ds["lead_time"]) == [2, 3]
    assert float(ds["input_age"].min()) == 21 and np.isfinite(ds["soil_moisture"]).any()
    for said in (ds.attrs["old_inputs"], result.out):
        assert "precipitation ends 21 days before the initial day, not 7" in said
    assert "issued on 2015-08-21" in result.out and "soil moisture of 24 days ago" in result.out


def test_soil_moisture_that_stops_five_weeks_before_the_rain(forecast, trained):
    """The forecast starts from the last soil moisture, and says which day of issue would use the later rain."""
    ds = gappy(0.4, days=120)
    ds["soil_moisture"][-35:] = np.nan
    write_prepared(ds, trained / "stopped.nc")
    result, out = forecast(runs=["cnn0"], data="stopped.nc")
    assert day_of(opened((result, out))["init_time"]) == "2015-06-23"
    assert "go on for 35 days after the last soil moisture (2015-06-23); --issue 2015-07-28 starts" in result.out
    later = opened(forecast("--issue", LAST, runs=["cnn0"], data="stopped.nc"))
    assert float(later["input_age"].min()) == 35 and day_of(later["newest_precipitation"]) == LAST
    assert "old_inputs" in later.attrs  # some cells were last observed even earlier


def test_hindcasts_under_lags_know_what_a_file_of_that_day_has(forecast, trained):
    lags = ["--lag", "soil_moisture=3", "precipitation=5", "soil_temperature=4"]
    ds = gappy(0.4, days=120).sel(time=slice(None, "2015-07-10"))
    ds["precipitation"][-2:], ds["soil_temperature"][-1:] = np.nan, np.nan
    write_prepared(ds, trained / "of_that_day.nc")
    runs = ["cnn0", "compact2"]
    single = opened(forecast(*lags, runs=runs, data="of_that_day.nc"))
    hindcasts = opened(forecast("--init", "2015-07-08", "2015-07-11", *lags, "--jobs", 1, runs=runs))
    plain = opened(forecast("--init", "2015-07-10", runs=runs))
    found = hindcasts.sel(init_time="2015-07-10")
    for name in ("soil_moisture", "soil_moisture_quantile"):
        np.testing.assert_allclose(found[name], single[name], atol=1e-6)
    for name in ("newest_precipitation", "issue_time", "days_after_issue"):
        np.testing.assert_array_equal(found[name], single[name])
    assert [day_of(found[name]) for name in ("newest_precipitation", "issue_time")] == ["2015-07-08", "2015-07-13"]
    assert float(abs(found["soil_moisture"] - plain["soil_moisture"]).max()) > 1e-4
    assert found.attrs["lags"] == "precipitation 5 days, soil_moisture 3 days, soil_temperature 4 days"


def test_what_came_early_is_used_and_a_past_day_knows_what_its_lag_lets_it_know(forecast, trained):
    """Rain of a product that comes three days after soil moisture, in a record that has both to its end."""
    ds = gappy(0.4, days=120)
    for name, product in {"soil_moisture": "SMAP L3", "precipitation": "ERA5-Land"}.items():
        ds[name].attrs["product"] = product
    write_prepared(ds, trained / "mixed.nc")
    live = opened(forecast(runs=["cnn0"], data="mixed.nc"))
    asked = opened(forecast("--issue", "2015-07-30", "--lag", "precipitation=5", runs=["cnn0"], data="mixed.nc"))
    past = opened(forecast("--init", "2015-07-27", runs=["cnn0"], data="mixed.nc"))
    for made, init, rain in ((live, LAST, LAST), (asked, LAST, "2015-07-25"), (past, "2015-07-27", "2015-07-24")):
        assert [day_of(made[name]) for name in ("init_time", "newest_precipitation")] == [init, rain]
    assert day_of(live["issue_time"]) == day_of(asked["issue_time"]) == "2015-07-30"


def test_a_cell_without_an_observation_in_the_new_data_has_no_forecast(forecast, trained):
    ds = gappy(0.4, days=60, start="2015-07-01")
    ds["soil_moisture"][:, 1, 2] = np.nan
    write_prepared(ds, trained / "new.nc")
    made = opened(forecast(runs=["cnn0", "compact2"], data="new.nc"))
    missing = np.isnan(made["soil_moisture"].values)
    assert missing[:, 1, 2].all() and not missing[:, 0, 0].any()
    assert np.isnan(made["percentile"].values[:, 1, 2]).all()
    assert np.isnan(made["soil_moisture_quantile"].values[:, :, 1, 2]).all()


def without(name):
    return lambda ds: ds.drop_vars(name)


REFUSED = {
    "the variable precipitation is missing": without("precipitation"),
    "was trained on 7 × 8 cells": lambda ds: ds.isel(lat=slice(1, None)),
    "soil_moisture is in '%', expected m3 m-3": lambda ds: ds.assign(
        soil_moisture=ds["soil_moisture"].assign_attrs(units="%")
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_data_that_do_not_fit_are_refused(forecast, trained, sentence):
    write_prepared(tiny(), trained / "good.nc")
    with xr.open_dataset(trained / "good.nc") as ds:
        REFUSED[sentence](ds.load()).to_netcdf(trained / "bad.nc")
    result, out = forecast(runs=["cnn0"], data="bad.nc")
    assert sentence in result.sentence() and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--init", "2015-08-20"], "has the days 2015-03-31 to 2015-07-28, --init asks for 2015-08-20"),
        (["--init", "2015-04-01"], "cnn0 needs 3 days in a row up to the last input day"),
        (["--init", "2015-07-20", "2015-07-01"], "it ends before it starts"),
        (["--init", "yesterday"], "'yesterday', expected an ISO date"),
        (["--init", "2015-07-01", "--issue", "2015-07-04"], "--issue and --init both name a day to start from"),
        (["--issue", "2015-03-20"], "starts from 2015-03-20, 0 days earlier, which"),
        (["--issue", "soon"], "--issue has 'soon', expected an ISO date"),
        (["--lag", "snow=3"], "--lag has snow, which the runs do not read"),
        (["--init", "2015-07-01", "2015-07-02", "2015-07-03"], "--init has 3 dates, expected a date, or START END"),
        (["--folds", "1"], "--folds is 1, expected 0, or 2 or more"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--out", "maps.png"], "--out is maps.png, expected the name of a new file, or of an earlier forecast"),
        (["--out", "."], "--out is ., expected the name of a new file"),
        (["--out", ROOT / "README.md"], "README.md, expected the name of a new file"),
        (["--gif", "--init", "2015-07-01", "2015-07-02"], "--gif shows the leads of one forecast; give"),
        (["--geotiff", "--init", "2015-07-01", "2015-07-02"], "give --init a single date"),
        (["--html", "--init", "2015-07-01", "2015-07-02"], "--html and --point show one forecast"),
        (["--point", "60", "80"], "--point 60 80 lies outside the grid: latitude 38.8333 to 55.1667"),
        (["--scores", "no.scores.json"], "give --html as well"),
        (["--html", "--scores", ROOT / "README.md"], "README.md is no file of hindcast scores"),
        (["--future-from", "no.nc"], "no.nc is no file; give one of weather forecasts"),
        (["--future-from", ROOT / "README.md"], "but none of the runs knows the weather ahead"),
        (["--issue", "2062-07-04"], "--issue 2062-07-04 has not come yet"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(forecast, arguments, sentence):
    result, out = forecast(*arguments, runs=["cnn0"])
    assert sentence in result.sentence() and not out.exists()


def test_runs_that_do_not_belong_together_are_refused(forecast, trained, script, smap):
    assert (
        script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1, "--out", trained / "other").code == 0
    )
    result, _ = forecast(runs=["cnn0", "other"])
    assert "were trained on different data" in result.sentence()
    result, _ = forecast(runs=[])
    assert "run" in result.sentence()
    shutil.rmtree(trained / "other")


def test_a_run_that_knows_the_weather_ahead_asks_for_forecasts_of_it(forecast, trained, script):
    out = trained / "rain"
    options = ["--data", trained / "smap.nc", *PERIODS, "--epochs", 1, "--future-precipitation", "--out", out]
    assert script("SMAPtest/train_cnn.py", *options).code == 0
    result, _ = forecast(runs=["rain"])
    assert "give forecasts with --future-from" in result.sentence()
    make = ["--data", trained / "smap.nc", "--out", trained / "rain.nc", "--lead-days", 3, "--error", "perfect"]
    assert script("data/make_forecasts.py", *make).code == 0
    assert script("SMAPtest/eval.py", out).code == 0
    ds = opened(forecast("--init", "2015-07-10", "--future-from", trained / "rain.nc", runs=["rain"]))
    np.testing.assert_allclose(ds["soil_moisture"][0], predicted(out, "2015-07-10", 3), atol=1e-6)
    result, _ = forecast("--init", "2015-07-27", "--future-from", trained / "rain.nc", runs=["rain"])
    assert "rain.nc" in result.sentence()


def test_both_reasons_for_narrow_intervals_are_said_and_the_climatology_keeps_its_days(forecast, trained, script):
    """Without cross-validation, and with runs that learned from perfect forecasts of the rain."""
    out = trained / "perfect_rain"
    options = ["--data", trained / "smap.nc", *PERIODS, "--epochs", 1, "--future-precipitation", "--out", out]
    assert script("SMAPtest/train_cnn.py", *options).code == 0
    make = ["--data", trained / "smap.nc", "--out", trained / "rain3.nc", "--lead-days", 3, "--error", "perfect"]
    assert script("data/make_forecasts.py", *make).code == 0
    arguments = ["--init", "2015-07-10", "--future-from", trained / "rain3.nc"]
    result, path = forecast(*arguments, runs=["perfect_rain"], folds=0)
    ds = opened((result, path))
    for text in (ds.attrs["calibration"], ds["soil_moisture_quantile"].attrs["comment"], result.out):
        assert "validation days" in text and "perfect forecasts" in text
    assert "of the validation days" in ds["anomaly"].attrs["long_name"]
    ds = opened(forecast(*arguments, runs=["perfect_rain"], folds=2))
    assert "perfect forecasts" in ds.attrs["calibration"] and "validation" not in ds.attrs["calibration"]
    assert "of the days that the runs learned from" in ds["anomaly"].attrs["long_name"]


def test_a_single_init_reads_no_later_day(trained):
    """Neither the values after it, nor do they come back as the days that are forecast."""
    end = np.datetime64("2015-07-25")
    data = DataSet(trained / "smap.nc", end=end, beyond=3)
    assert str(data.days[-1]) == LAST
    assert np.isnan(data.read()["precipitation"].values[-3:]).all()


@pytest.mark.parametrize("what", ["data", "held_out"])
def test_damaged_files_get_a_sentence(forecast, trained, tmp_path, what):
    run, data = tmp_path / "run", tmp_path / "smap.nc"
    shutil.copytree(trained / "cnn0", run)
    shutil.copy(trained / "smap.nc", data)
    good, _ = forecast(runs=[run], data=data)
    assert good.code == 0, good.err
    damaged = run / "held_out_2" / "predictions.nc" if what == "held_out" else data
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    result, _ = forecast(runs=[run], data=data)
    assert "damaged" in result.sentence()


def test_the_page_of_a_forecast_tells_how_good_such_forecasts_have_been(forecast, trained, tmp_path):
    """By hindcasts of the test period, or by the evaluation of the same days: the numbers are the same."""
    result, out = forecast("--init", "2015-06-28", "2015-07-25", "--jobs", 1, runs=["compact3"])
    assert result.code == 0, result.err
    scores = out.with_suffix(".scores.json").rename(tmp_path / "year.scores.json")
    (row,) = read_json(scores)["leads"]
    shown = [f"<td>{row['rmse']:.4f} (", f"<td>{row['skill_over_persistence']:.2f} (".replace("-", "−")]
    shown.append(f"<td>{100 * row['coverage_90']:.1f} %</td>")
    result, out = forecast("--html", "--scores", scores, "--point", 50, 79, runs=["compact3"])
    assert result.code == 0 and "cell 49.3333° N 78.8571° E:\n  2015-07-31 (3 days ahead): 0." in result.out
    text = out.with_suffix(".html").read_text(encoding="utf-8")
    assert all(cell in text for cell in shown) and "year.scores.json" in text and "have learned from" not in text
    result, out = forecast("--html", runs=["compact3"])
    text = out.with_suffix(".html").read_text(encoding="utf-8")
    assert all(cell in text for cell in shown) and "test period of the runs" in text
    late, out = forecast("--html", "--lag", "soil_moisture=3", "precipitation=5", runs=["compact3"])
    text = out.with_suffix(".html").read_text(encoding="utf-8")
    assert late.code == 0 and shown[0] in text and shown[-1] not in text and "inputs were on time" in text


def test_hindcasts_of_other_runs_and_of_days_of_training_are_told(trained, tmp_path):
    content = {"leads": [read_json(trained / "compact3" / "metrics.json") | {"coverage_90": 0.9}]}
    write_json(tmp_path / "old.scores.json", content)
    period = {"first_init": "2015-06-20", "last_init": "2015-07-20", "source": "others", "data": "smap.nc"}
    write_json(tmp_path / "june.scores.json", content | period)
    lead = Mock(days=3)
    asked = Mock(spec=request.ForecastRequest, leads=[lead], run_dirs=[trained / "compact3"])
    asked.attributes, asked.end, asked.known = {"source": "these"}, np.datetime64("2015-07-28"), KnownInputs()
    assert "does not say from which days" in _hindcasts(asked, tmp_path / "old.scores.json").origin[0]
    told = _hindcasts(asked, file := tmp_path / "june.scores.json").origin
    assert "2015-06-20 to 2015-07-20" in told[0] and "other runs" in told[1] and "have learned from days" in told[2]
    asked.known = KnownInputs({"soil_moisture": 3, "precipitation": 5})
    assert "the inputs other than soil moisture were older, or newer" in _hindcasts(asked, file).origin[2]
    lead.days = 5
    with pytest.raises(UserError, match=r"has scores of \[3\] days ahead; the forecast is of \[5\]"):
        _hindcasts(asked, tmp_path / "june.scores.json")


@pytest.mark.usefixtures("real_pictures")
def test_a_moving_picture_shows_each_lead(forecast):
    result, out = forecast("--gif", runs=["compact2", "compact3"])
    assert result.code == 0, result.err
    with Image.open(out.with_suffix(".gif")) as picture:
        assert picture.n_frames == 2
