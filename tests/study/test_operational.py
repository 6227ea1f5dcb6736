"""What late inputs cost: the question's sentences and figure, and the jobs of a study that asks it."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import PERIODS
from figure_checks import assert_tidy

from utils.common.cli import UserError
from utils.forecasts.cross_validation import cross_validate
from utils.settings import EXPERIMENTS
from utils.study.jobs import Study
from utils.study.operational import LATE, ON_TIME, find_test, make_operational, with_outages
from utils.study.plan import Plan, Task
from utils.study.questions.operational import _cost, _coverage, _operational_figure, _points, _read, _score


def tables():
    late = {"change": 20.0, "change_low": 12.0, "change_high": 28.0, "p": 0.001}
    scores = [
        {"model": "compact", "inputs": kind, "lead_days": lead, "rmse": error, "low": error - 0.001}
        | {"high": error + 0.001, "coverage": 90.0, "n": 300000}
        | (late if kind == "late" else {})
        for lead in (3, 5)
        for kind, error in (("on time", 0.025), ("late", 0.03))
    ]
    covered = [
        {"model": "compact", "inputs": kind, "lead_days": lead, "age": age, "coverage": 89.0, "coverage_low": 86.0}
        | {"coverage_high": 92.0, "n": 3000}
        for lead in (3, 5)
        for kind in ("on time", "late")
        for age in ("0", "26–35")
    ]
    return pd.DataFrame(scores), pd.DataFrame(covered)


def test_the_sentences():
    scores, covered = tables()
    assert _cost(scores).startswith("Inputs that come late raise the RMSE significantly in 2 of 2 cases; the largest")
    assert "+20.0 %" in _cost(scores)
    assert _points(scores)[0].startswith("compact, 3 days ahead: 0.0250; 0.0300, ")
    lines = _coverage(covered)
    assert len(lines) == 4
    assert lines[-1].endswith("26–35 days old: 89.0 % (86.0 to 92.0 %; 3 days), 89.0 % (86.0 to 92.0 %; 5 days)")


def test_the_figure_is_tidy_and_draws_every_case():
    scores, covered = tables()
    figure = _operational_figure(scores, covered, "A title")
    assert_tidy(figure)
    error, coverage = figure.axes
    assert len(error.containers) == 2 and len(coverage.containers) == 2
    assert coverage.get_xticklabels()[-1].get_text() == "26–35"
    with pytest.raises(UserError, match="no RMSE"):
        _operational_figure(scores.assign(rmse=np.nan), covered, "A title")


def test_forecasts_under_lags_are_the_hindcasts_under_lags_and_are_scored_by_the_files_of_their_kind(
    smap, script, tmp_path
):
    task = Task("SMAPtest", "compact", 3, 0)
    run = tmp_path / task.folder
    assert script("SMAPtest/train_compact.py", "--data", smap, *PERIODS, "--epochs", 2, "--out", run).code == 0
    assert script("SMAPtest/eval.py", run).code == 0
    cross_validate(run, quiet=True)
    make_operational(Plan(dict.fromkeys(EXPERIMENTS, smap), {}, False, tmp_path), task)
    lags = ["--lag", "soil_moisture=3", "precipitation=5", "soil_temperature=5", "--jobs", 1]
    dates = ["--init", "2015-07-02", "2015-07-25"]
    made = script("forecast.py", run, "--data", smap, *dates, *lags, "--out", tmp_path / "forecast.nc")
    assert made.code == 0, made.err
    folder = "precipitation_2_days_late_soil_temperature_2_days_late"
    with xr.open_dataset(tmp_path / "forecast.nc") as hindcasts, xr.open_dataset(run / "predictions.nc") as plain:
        late = xr.open_dataset(run / "operational" / folder / "predictions.nc")
        ours = hindcasts["soil_moisture"].isel(lead_time=0).swap_dims(init_time="valid_time")
        there = ours.rename(valid_time="time").sel(time=late["time"].values[5:20])
        np.testing.assert_allclose(there, late["predicted"].isel(time=slice(5, 20)), atol=1e-5)
        assert float(abs(late["predicted"] - plain["predicted"]).max()) > 1e-4
        errors = {"on time": plain["predicted"] - plain["observed"], "late": late["predicted"] - late["observed"]}
    reference, _, _ = _read([run], ON_TIME)
    for kind, faults in (("on time", ON_TIME), ("late", LATE)):
        test, calibration, failing = _read([run], faults)
        row = _score(test, reference if kind == "late" else test, calibration)
        assert row["rmse"] == pytest.approx(float((errors[kind] ** 2).mean()) ** 0.5, rel=1e-5)
        assert row["n"] == int(np.isfinite(errors[kind]).sum())
        low, high = calibration.quantiles(test.forecast, test.age, test.days, [0, 18])
        inside = (low <= test.observed) & (test.observed <= high)
        assert row["coverage"] == pytest.approx(100 * inside.sum() / row["n"])
        assert failing.age.max() > test.age.max()
    on_time = float((errors["on time"] ** 2).mean()) ** 0.5
    assert row["change"] == pytest.approx(100 * (row["rmse"] / on_time - 1), rel=1e-4)


def test_late_inputs_are_two_days_behind_and_their_files_have_folders_of_their_own(tmp_path):
    assert LATE.behind == {"precipitation": 2, "soil_temperature": 2} and ON_TIME.folder == ""
    assert find_test(tmp_path, ON_TIME) == tmp_path / "predictions.nc"
    folders = [find_test(tmp_path, faults).parent.name for faults in (LATE, with_outages(ON_TIME), with_outages(LATE))]
    late = "precipitation_2_days_late_soil_temperature_2_days_late"
    assert folders == [late, "outages", f"{late}_outages"]


def test_forecasts_under_lags_follow_those_of_held_out_days_where_they_are_asked_for(tmp_path):
    periods = {"train": ("2015-03-31", "2017-03-30"), "val": ("2017-03-31", "2018-03-30")}
    periods["test"] = ("2018-03-31", "2019-03-30")
    plan = Plan(dict.fromkeys(EXPERIMENTS, tmp_path), dict.fromkeys(EXPERIMENTS, periods), False, tmp_path / "runs")
    asked = plan, ("convlstm", "compact"), (3, 5), (0,), False
    plain, lagged = (
        {job.name: job for job in study.jobs()} for study in (Study(*asked), Study(*asked, operational=True))
    )
    more = set(lagged) - set(plain)
    runs = {f"finetune-SMAPtest/{model}/lead{lead}/seed0" for model in ("convlstm", "compact") for lead in (3, 5)}
    assert more == {f"{run}/{part}" for run in runs for part in ("held_out", "operational")}
    assert all(lagged[f"{run}/operational"].needs == (f"{run}/held_out",) for run in runs)
