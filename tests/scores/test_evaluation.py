"""Scores, baselines and predictions.nc, each against something worked out in another way."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, tiny
from scipy.stats import linregress
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_windows import split

from utils.data_processing import Windows
from utils.dataset.prepared import read_prepared, write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.scores.baselines import BASELINES, PENALTY, climatology, persistence, ridge
from utils.scores.fitting import Fitting
from utils.scores.prediction_file import score_with_intervals
from utils.scores.score_table import table
from utils.scores.sums import Sums, region_of
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import restore_model


def train_and_test(ds, lead_days=3, input_days=3, **periods):
    chosen = split(**periods)
    record = Record(ds, Statistics.fit(ds, chosen))
    return (
        Windows(record, periods=chosen.train, lead_days=lead_days, input_days=input_days, name="training"),
        Windows(record, periods=chosen.test, lead_days=lead_days, input_days=input_days, name="test"),
        chosen,
    )


def alone(test) -> Fitting:
    """For a baseline that learns nothing."""
    return Fitting(training=test, test=test, days=())


def gappy(share=0.58, days=120):
    ds = tiny(days)
    keep = np.random.default_rng(3).random(ds["soil_moisture"].shape) > share
    ds["soil_moisture"] = ds["soil_moisture"].where(keep)
    return ds


def test_persistence_is_the_last_observation_at_or_before_the_last_input_day():
    ds = gappy()
    _, test, _ = train_and_test(ds, lead_days=5, input_days=2)
    found, moisture = persistence(alone(test)), ds["soil_moisture"].values
    for sample in (0, 10, 27):
        last = list(test.record.days).index(test.init_time[sample])
        for row, column in ((0, 0), (3, 4)):
            values = moisture[: last + 1, row, column]
            assert found[sample, row, column] == values[np.isfinite(values)][-1]


def test_a_forecast_that_copies_the_last_observation_has_no_skill_over_persistence():
    _, test, _ = train_and_test(gappy())
    copied = test.observed.copy()  # the last observation, found in another way
    values = pd.DataFrame(test.record.observed.reshape(len(test.record.days), -1)).ffill().to_numpy()
    copied = values.reshape(test.record.observed.shape)[test.target_index - test.lead_days].astype(np.float32)
    last = persistence(alone(test))
    copied = np.where(np.isfinite(copied), copied, last)
    fields = {"observed": test.observed, "persistence": last, "climatology": last}
    region = region_of(test.record.statistics.cell_mean[0])
    frame = xr.Dataset(
        {"cell_area": (("lat", "lon"), np.ones(region.shape))}, {"time": test.valid_time.astype("M8[ns]")}
    )
    forecasts = {"predicted": copied, "persistence": last}
    sums = {name: Sums.of(fields | {"predicted": values}, region) for name, values in forecasts.items()}
    found = score_with_intervals("predicted", sums, frame)
    assert found["skill_over_persistence"] == pytest.approx(0, abs=1e-9)
    assert found["comparisons"]["persistence"]["verdict"] == "not significant"
    assert found["comparisons"]["persistence"]["mse_difference"] == 0


def test_climatology_of_less_than_a_full_year_is_the_training_mean_and_says_so():
    ds = tiny()
    training, test, chosen = train_and_test(ds)
    fitting = Fitting(training, test, chosen.train)
    found = climatology(fitting)
    expected = ds["soil_moisture"].values[:62].mean(axis=0)
    np.testing.assert_allclose(found[7][test.record.statistics.scored], expected[np.isfinite(expected)], rtol=1e-5)
    assert "training mean" in BASELINES["climatology"].note(fitting)


def test_climatology_is_the_harmonic_fit_of_each_cell():
    ds = gappy(0.3, days=1000)
    cycle = 0.1 * np.cos(2 * np.pi * np.arange(1000) / 365.2425 - 1)[:, None, None]
    ds["soil_moisture"] = (ds["soil_moisture"] * 0.3 + 0.2 + cycle).clip(0, 1).astype("f4")
    periods = {
        "train": ("2015-04-01", "2016-12-31"),
        "val": ("2017-01-01", "2017-03-31"),
        "test": ("2017-04-01", "2017-10-31"),
    }
    training, test, chosen = train_and_test(ds, **periods)
    fitting = Fitting(training, test, chosen.train)
    found = climatology(fitting)
    assert BASELINES["climatology"].note(fitting) == ""
    days = np.arange(1000) + 89 + 15 * 365.0  # any phase will do
    waves = [w(2 * np.pi * k * days / 365.2425) for k in (1, 2) for w in (np.cos, np.sin)]
    basis = np.column_stack([np.ones(1000), *waves])
    values, inside = ds["soil_moisture"].values[:, 2, 3], slice(1, 642)
    valid = np.isfinite(values[inside])
    weights = np.linalg.lstsq(basis[inside][valid], values[inside][valid], rcond=None)[0]
    expected = basis[np.isin(test.record.days, test.valid_time)] @ weights
    np.testing.assert_allclose(found[:, 2, 3], expected, atol=2e-3)


def test_ridge_agrees_with_scikit_learn():
    ds = gappy(0.4)
    training, test, chosen = train_and_test(ds, lead_days=4, input_days=2)
    statistics, found = training.record.statistics, ridge(Fitting(training, test, chosen.train))

    def rows(windows):
        batch = windows.batch(np.arange(len(windows)))
        n, (h, w) = len(windows), statistics.scored.shape
        inputs = batch.features.reshape(n, 6, h, w)
        scaled = (statistics.cell_mean - statistics.low[:, None, None]) / statistics.span[:, None, None]
        means = np.broadcast_to(np.nan_to_num(scaled), (n, 3, h, w))
        return np.concatenate([inputs, means], axis=1).transpose(0, 2, 3, 1), batch

    x, batch = rows(training)
    valid = batch.valid.numpy()
    model = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY)).fit(x[valid], batch.target.numpy()[valid])
    x, _ = rows(test)
    expected = model.predict(x[:, 2, 3]) * statistics.span[1] + statistics.low[1]
    np.testing.assert_allclose(found[:, 2, 3], expected, atol=1e-5)


def test_baselines_know_nothing_of_the_test_period():
    ds = gappy(days=120)
    training, test, chosen = train_and_test(ds)
    fitting = Fitting(training, test, chosen.train)
    before = [ridge(fitting)[0], climatology(fitting)[0]]
    changed = ds.copy(deep=True)
    changed["soil_moisture"][95:] *= 0.5  # after the first forecast was made
    training, test, chosen = train_and_test(changed)
    fitting = Fitting(training, test, chosen.train)
    after = [ridge(fitting)[0], climatology(fitting)[0]]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def evaluated(tmp_path, script):
    """A run on gappy data, evaluated: its directory, its data and what eval printed."""
    path, run_dir = tmp_path / "smap.nc", tmp_path / "run"
    write_prepared(gappy(), path)
    script("SMAPtest/train_cnn.py", "--data", path, *PERIODS, "--epochs", 2, "--lead-days", 5, "--out", run_dir)
    result = script("SMAPtest/eval.py", run_dir)
    assert result.code == 0, result.err
    return run_dir, path, result


def test_n_windows_in_n_forecasts_out_each_with_its_own_date(evaluated):
    run_dir, path, _ = evaluated
    with xr.open_dataset(run_dir / "predictions.nc") as predictions, xr.open_dataset(path) as data:
        assert predictions.sizes == {"time": 28, "lat": 7, "lon": 8}
        days = np.arange(np.datetime64("2015-07-01"), np.datetime64("2015-07-29"))
        np.testing.assert_array_equal(predictions["time"], days.astype("datetime64[ns]"))
        assert (predictions["time"] - predictions["init_time"] == np.timedelta64(5, "D")).all()
        np.testing.assert_array_equal(predictions["observed"], data["soil_moisture"].sel(time=predictions["time"]))
        assert np.ptp(predictions["predicted"].values[:, 0, 0]) > 1e-3
        for name in ("predicted", "observed"):
            assert predictions[name].attrs["units"] == "m3 m-3" and predictions[name].dtype == np.float32
        for name in ("model", "experiment", "lead_days", "input_days", "seed", "data", "commit"):
            assert name in predictions.attrs
        assert predictions.attrs["lead_days"] == 5 and "SYNTHETIC" in predictions.attrs["title"]


def test_predicted_is_finite_wherever_observed_is_and_missing_outside_the_scored_cells(evaluated):
    with xr.open_dataset(evaluated[0] / "predictions.nc") as predictions:
        observed, predicted = predictions["observed"].values, predictions["predicted"].values
    assert np.isfinite(predicted[np.isfinite(observed)]).all() and np.isfinite(observed).any()
    assert np.isnan(predicted[:, -1, 0]).all() and np.isnan(observed[:, -1, 0]).all()


@pytest.mark.usefixtures("real_pictures")
def test_metrics_json_agrees_with_a_recomputation_from_predictions(evaluated):
    run_dir, _, result = evaluated
    metrics = json.loads((run_dir / "metrics.json").read_text())
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        error = (ds["predicted"] - ds["observed"]).astype(float)
        assert metrics["mse"] == pytest.approx(float((error**2).mean()), abs=1e-9)
        assert metrics["rmse"] == pytest.approx(float((error**2).mean() ** 0.5), abs=1e-9)
        variance = float(((ds["observed"].astype(float) - ds["observed"].astype(float).mean()) ** 2).mean())
        assert metrics["r2"] == pytest.approx(1 - float((error**2).mean()) / variance, abs=1e-6)
        assert metrics["n"] == int(ds["observed"].count())
        valid = np.isfinite(ds["observed"].values)
        observed = ds["observed"].values[valid]
        for name in ("persistence", "climatology"):
            baseline = metrics["baselines"][name]
            assert baseline["mse"] == pytest.approx(mean_squared_error(observed, ds[name].values[valid]), abs=1e-8)
            assert baseline["r2"] == pytest.approx(r2_score(observed, ds[name].values[valid]), abs=1e-6)
        assert metrics["skill_over_persistence"] == pytest.approx(
            1 - metrics["mse"] / metrics["baselines"]["persistence"]["mse"], abs=1e-6
        )
        for name, part in metrics["by_region"].items():
            region = ds["region"] == ds["region"].attrs["flag_meanings"].split().index(name)
            assert part["n"] == int(ds["observed"].where(region).count())
        assert metrics["rmse_low"] < metrics["rmse"] < metrics["rmse_high"]
    assert set(metrics["baselines"]) == set(BASELINES)
    assert all(found["n"] == metrics["n"] for found in metrics["baselines"].values())
    assert "training mean" in metrics["baselines"]["climatology"]["note"] and "training mean" in result.out
    assert metrics["synthetic_data"] and "SYNTHETIC" in result.out
    for name in ("map", "scatter"):
        assert (run_dir / "figures" / f"{name}.png").stat().st_size > 10_000


def test_forecasts_are_the_output_of_the_model_and_nothing_is_zeroed(evaluated):
    run_dir, path, _ = evaluated
    checkpoint = load_checkpoint(run_dir)
    network = restore_model(checkpoint, run_dir)
    record = Record(read_prepared(path), checkpoint.restored_statistics())
    windows = Windows(record, periods=checkpoint.periods.test, lead_days=5, input_days=5, name="test")
    with torch.no_grad():
        scaled = network(windows.batch(np.arange(len(windows))).features).numpy()
    low, high = (checkpoint.statistics[name][1].item() for name in ("low", "high"))
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        predicted = ds["predicted"].values
    scored = np.isfinite(predicted)
    np.testing.assert_allclose(predicted[scored], (low + scaled * (high - low))[scored], atol=1e-6)
    assert predicted[scored].min() < 0.2


def test_evaluating_twice_gives_the_same_forecasts(evaluated, script):
    run_dir, _, _ = evaluated
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        first = ds["predicted"].values
    script("SMAPtest/eval.py", run_dir)
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        np.testing.assert_array_equal(ds["predicted"].values, first)


def test_eval_takes_another_test_period_or_data_but_never_days_learned_from(evaluated, script, tmp_path):
    run_dir, path, _ = evaluated
    assert script("SMAPtest/eval.py", run_dir, "--test", "2015-07-05", "2015-07-10").code == 0
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        assert ds.sizes["time"] == 6
    sentence = script("SMAPtest/eval.py", run_dir, "--test", "2015-06-30", "2015-07-10").sentence()
    assert "2015-06-30" in sentence and "test period" in sentence
    first_order = script("SMAPtest/eval.py", "--test", "2015-07-05", "2015-07-10", run_dir)
    assert first_order.code == 0, first_order.err
    recent = tmp_path / "recent.nc"  # new data alone: the baselines know the training period from the run's own
    write_prepared(gappy().sel(time=slice("2015-06-20", None)), recent)
    assert script("SMAPtest/eval.py", run_dir, "--data", recent).code == 0
    moved = path.rename(tmp_path / "moved.nc")
    assert "does not exist" in script("SMAPtest/eval.py", run_dir).sentence()
    assert script("SMAPtest/eval.py", run_dir, "--data", moved).code == 0
    other = tmp_path / "other.nc"
    write_prepared(tiny(shape=(5, 8)), other)
    assert "was trained on 7 × 8 cells" in script("SMAPtest/eval.py", run_dir, "--data", other).sentence()
    write_prepared(tiny(seed=9), path)
    assert "has changed since" in script("SMAPtest/eval.py", run_dir).sentence()


def test_eval_without_runs_or_with_a_wrong_folder_gets_one_sentence(tmp_path, script):
    assert "make one with: python ERA5test/train_cnn.py" in script("ERA5test/eval.py").sentence()
    assert "holds no run" in script("ERA5test/eval.py", tmp_path).sentence()
    assert "holds no run" in script("ERA5test/eval.py", tmp_path / "no" / "such").sentence()
    assert not (tmp_path / "no").exists()


def test_a_record_with_mostly_empty_days_is_evaluated_and_drawn(tmp_path, script):
    ds = tiny()
    ds["soil_moisture"][np.arange(120) % 3 > 0] = np.nan
    write_prepared(ds, tmp_path / "swath.nc")
    run_dir = tmp_path / "run"
    script("SMAPtest/train_cnn.py", "--data", tmp_path / "swath.nc", *PERIODS, "--epochs", 1, "--out", run_dir)
    assert script("SMAPtest/eval.py", run_dir).code == 0
    assert (run_dir / "figures" / "map.png").exists()


def test_eval_of_all_runs_of_its_folder(tmp_path, smap, era5, script):
    script("ERA5test/train_cnn.py", "--data", era5, *ERA5_PERIODS, "--epochs", 1)
    for seed in (0, 1):
        script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1, "--seed", seed)
    assert script("SMAPtest/eval.py").code == 0
    found = sorted(str(p.parent.relative_to(tmp_path / "runs")) for p in tmp_path.glob("runs/**/metrics.json"))
    assert found == ["SMAPtest/cnn/lead3/seed0", "SMAPtest/cnn/lead3/seed1"]


def test_the_table_has_a_baseline_once_for_each_set_of_samples(evaluated):
    metrics = json.loads((evaluated[0] / "metrics.json").read_text())
    long = table([metrics, {**metrics, "seed": 1, "rmse": 0.5}])
    assert list(long["model"]) == ["cnn", *BASELINES, "cnn"]
    assert isinstance(long, pd.DataFrame) and set(long["data"]) == {"SYNTHETIC sample"}


def test_linear_fit_of_persistence_is_closer_to_the_diagonal_than_noise():
    """A check on the test data itself: soil moisture persists, so that skill over persistence means something."""
    _, test, _ = train_and_test(tiny())
    valid = np.isfinite(test.observed)
    assert linregress(test.observed[valid], persistence(alone(test))[valid]).slope > 0.5
