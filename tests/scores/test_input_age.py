"""--max-input-age N: what is scored, for the model and the baselines alike, and which scores are stale."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import PERIODS, REAL, tiny

import utils.evaluation
from utils.common.periods import spans
from utils.dataset.prepared import write_prepared
from utils.evaluation import current_metrics, evaluate
from utils.scores.baseline_runs import evaluate_baselines
from utils.training.checkpoint import load_checkpoint

CONUS = REAL / "conus" / "smap_l3_conus.nc"
OLDEST, LEAD = 2, 3


@pytest.fixture
def gappy(tmp_path) -> xr.Dataset:
    """Soil moisture is missing on two days of three, at random."""
    ds = tiny()
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(3).random(ds["soil_moisture"].shape) > 2 / 3)
    write_prepared(ds, tmp_path / "gappy.nc")
    return ds


@pytest.fixture
def run_dir(gappy, tmp_path, script, monkeypatch):
    monkeypatch.setattr(utils.evaluation, "draw", lambda *_: None)  # the figures are not asked about
    out = tmp_path / "run"
    arguments = ["--data", tmp_path / "gappy.nc", *PERIODS, "--lead-days", LEAD, "--epochs", 1, "--out", out]
    assert script("SMAPtest/train_cnn.py", *arguments).code == 0
    return out


def last_observed(ds: xr.Dataset, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and age in days of each cell's last observation at or before these days, by pandas."""
    moisture = ds["soil_moisture"].to_series().unstack(["lat", "lon"], sort=False)
    number = pd.DataFrame(np.arange(len(moisture))[:, None] + 0 * moisture.to_numpy(), moisture.index, moisture.columns)
    shape = (len(days), *ds["soil_moisture"].shape[1:])
    age = np.arange(len(moisture))[:, None] - number.ffill()
    return moisture.ffill().loc[days].to_numpy().reshape(shape), age.loc[days].to_numpy().reshape(shape)


def test_only_recent_observations_are_scored_and_by_every_forecast(run_dir, gappy, script):
    assert script("SMAPtest/eval.py", run_dir, "--max-input-age", OLDEST).code == 0
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        predictions = ds.load()
    metrics = json.loads((run_dir / "metrics.json").read_text())
    last, age = last_observed(gappy, predictions["init_time"].values)
    observed = gappy["soil_moisture"].sel(time=predictions["time"]).values
    recent = np.isfinite(observed) & (age <= OLDEST)
    assert 0 < recent.sum() < np.isfinite(observed).sum()
    np.testing.assert_array_equal(np.isfinite(predictions["observed"].values), recent)
    np.testing.assert_array_equal(predictions["input_age"].values[recent], age[recent])
    assert predictions["input_age"].dims == predictions["observed"].dims
    rmse = np.sqrt(np.mean((last - observed)[recent].astype(float) ** 2))
    assert metrics["baselines"]["persistence"]["rmse"] == pytest.approx(rmse, abs=1e-7)
    error = (predictions["predicted"].values - observed)[recent].astype(float)
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), abs=1e-7)
    assert {metrics["n"], *(scores["n"] for scores in metrics["baselines"].values())} == {recent.sum()}
    assert metrics["max_input_age"] == predictions.attrs["max_input_age"] == OLDEST


def test_scores_of_another_age_are_stale(run_dir, gappy):
    """And at age 0, the cell was observed on the last input day."""
    checkpoint = load_checkpoint(run_dir)
    every, recent = evaluate(run_dir), evaluate(run_dir, max_input_age=0)
    assert recent["n"] < every["n"] and recent["baselines"]["ridge"]["n"] == recent["n"]
    assert current_metrics(run_dir, checkpoint, 0)["n"] == recent["n"]
    assert current_metrics(run_dir, checkpoint) == current_metrics(run_dir, checkpoint, 1) == {}
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        last, scored = gappy["soil_moisture"].sel(time=ds["init_time"].values).values, ds["observed"].notnull().values
    assert recent["n"] == scored.sum() > 0 and np.isfinite(last[scored]).all()
    assert evaluate(run_dir)["baselines"] == every["baselines"]  # not those kept from the other age


def test_an_age_that_nothing_has_is_refused_and_leaves_the_scores(run_dir, gappy, tmp_path, script):
    gappy["soil_moisture"][80:93] = np.nan  # the test period begins on day 92, and forecasts of it with day 89
    write_prepared(gappy, tmp_path / "late.nc")
    earlier = evaluate(run_dir)
    late = ["--data", tmp_path / "late.nc", "--test", "2015-07-03", "2015-07-04"]
    sentence = script("SMAPtest/eval.py", run_dir, *late, "--max-input-age", 1).sentence()
    assert "has a last observation of at most 1 day" in sentence
    assert json.loads((run_dir / "metrics.json").read_text())["rmse"] == earlier["rmse"]
    assert "expected 0 or more days" in script("SMAPtest/eval.py", run_dir, "--max-input-age", -1).sentence()


@pytest.mark.skipif(not CONUS.exists(), reason="the real data are not part of the project")
@pytest.mark.parametrize(("oldest", "rmse"), [(None, 0.0457), (7, 0.0439)])
def test_persistence_on_real_observations_is_that_of_the_reference(tmp_path, oldest, rmse):
    """SMAP L3 over the United States, January to March 2016, 3 days ahead."""
    days = {"train": spans("train", ("2015-04-01", "2015-12-31")), "test": spans("test", ("2016-01-01", "2016-03-31"))}
    samples = {
        "data": CONUS,
        "lead_days": 3,
        "input_days": 3,
        "start": None,
        "val": (),
        "max_input_age": oldest,
        **days,
    }
    evaluate_baselines(tmp_path, suffix="", attributes={"experiment": "SMAPtest"}, **samples)
    metrics = json.loads((tmp_path / "persistence" / "lead3" / "metrics.json").read_text())
    assert metrics["rmse"] == pytest.approx(rmse, abs=5e-5) and metrics["max_input_age"] == oldest
