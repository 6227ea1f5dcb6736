"""Intervals against loops, simulated worlds and other libraries; days held out by hand."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import PERIODS, tiny
from scipy.integrate import quad
from scipy.stats import norm, percentileofscore
from scores.continuous import quantile_score

from utils.common.cli import UserError
from utils.common.files import read_json
from utils.common.periods import Split, season_of, spans
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.forecasts.calibration import AGES, FEW, LEVELS, MEDIAN, Calibration, OutOfSample, age_class
from utils.forecasts.climatology import Climatology
from utils.forecasts.cross_validation import (
    Fold,
    InputFaults,
    cross_validate,
    draw_outages,
    make_folds,
    refit_run,
)
from utils.forecasts.quantile_scores import QuantileScores, estimate_share
from utils.forecasts.request import make_request
from utils.scores.baselines import climatology
from utils.scores.fitting import Fitting
from utils.scores.metrics import SEASONS
from utils.training.checkpoint import load_checkpoint
from utils.training.loop import GradientDescent


def days_from(first, count):
    return np.datetime64(first) + np.arange(count)


def world(count=900, shape=(5, 6), seed=0, first="2015-01-01", share=0.7):
    """Forecasts whose errors depend on region, season, cell and the age of the last observation."""
    rng = np.random.default_rng(seed)
    days = days_from(first, count)
    region = np.broadcast_to(np.arange(shape[1]) % 3, shape).astype(np.int8)
    forecast = rng.uniform(0.1, 0.4, (count, *shape)).astype(np.float32)
    age = rng.integers(0, 5, (count, *shape)).astype(np.int16)
    size = 0.01 * (1 + region) * np.linspace(0.5, 1.5, shape[0])[:, None]
    size = size * (1 + 0.5 * (season_of(days) == 2))[:, None, None] * (1 + 0.2 * age)
    error = size * rng.standard_normal(forecast.shape)
    observed = np.where(rng.random(forecast.shape) < share, forecast + error, np.nan).astype(np.float32)
    return OutOfSample(observed, forecast, age, region, days, count > 366)


def test_seasons_are_those_of_xarray():
    days = days_from("2015-01-01", 400)
    expected = xr.DataArray(days.astype("datetime64[ns]"), dims="time").dt.season.values
    assert [SEASONS[i] for i in season_of(days)] == list(expected)


def test_classes_of_age_by_hand():
    ages = np.array([0, 1, 2, 3, 4, 5, 11, 12, 35, 36, 200, -1], np.int16)
    assert list(age_class(ages)) == [0, 1, 2, 3, 3, 4, 5, 6, 8, 9, 9, 9]
    assert len(AGES) == 9


def test_quantiles_by_a_loop():
    held = world(count=400)
    found = Calibration._before_stretch(held)  # before it is stretched
    residual = held.observed - held.forecast
    kind = age_class(held.age)
    region_squares = {r: np.nanmean(residual[:, held.region == r] ** 2) for r in range(3)}
    row, column = 3, 4
    values = residual[:, row, column]
    seen = np.isfinite(values)
    usual = region_squares[held.region[row, column]]
    scale = np.sqrt((np.sum(values[seen] ** 2) + FEW * usual) / (seen.sum() + FEW))
    assert found.scale[row, column] == pytest.approx(scale, rel=1e-5)
    pooled = []
    for i in range(5):
        for j in (1, 4):  # the cells of region 1
            for day in np.flatnonzero(season_of(held.days) == 2):
                scaled = residual[day, i, j] / (found.scale[i, j] * found.by_age[kind[day, i, j]])
                pooled += [scaled] if np.isfinite(scaled) else []
    np.testing.assert_allclose(found.table[1, 2], np.quantile(pooled, LEVELS), rtol=1e-4, atol=1e-5)
    q = found.quantiles(held.forecast, held.age, held.days)
    day = int(np.flatnonzero(season_of(held.days) == 2)[7])
    spread = found.scale[2, 4] * found.by_age[kind[day, 2, 4]]
    by_hand = held.forecast[day, 2, 4] + spread * found.table[1, 2]
    np.testing.assert_allclose(q[:, day, 2, 4], np.clip(by_hand, 0, 1), rtol=1e-5)


def test_intervals_of_a_simulated_world_hold_what_they_promise():
    """Later days of the same world: 90 % in all, in each season and region, at each age."""
    held, later = world(seed=1), world(seed=2, first="2018-01-01")
    scores = QuantileScores.of(later, Calibration.of(held))
    assert scores.coverage == pytest.approx(0.9, abs=0.01)
    assert all(abs(share - 0.9) < 0.025 for share in (scores.by_season | scores.by_region).values())
    np.testing.assert_allclose([share.value for share in scores.below], LEVELS, atol=0.02)
    assert np.mean([share.low <= level <= share.high for share, level in zip(scores.below, LEVELS, strict=True)]) > 0.8


def test_years_that_differ_make_intervals_wider():
    """Each year has a bias of its own, larger than the error of a day."""
    held = world(count=1461, seed=5)
    year = held.days.astype("datetime64[Y]").astype(int) - 45
    bias = np.float32([0.1, -0.1, 0.12, -0.12])[year][:, None, None]
    wetter = np.float32(0.3)  # far from the limits
    biased = replace(held, forecast=held.forecast + wetter, observed=held.observed + wetter + bias)
    plain, stretched = Calibration._before_stretch(biased), Calibration.of(biased)
    ratio = np.ptp(stretched.table, axis=2) / np.ptp(plain.table, axis=2)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    np.testing.assert_allclose(stretched.table[..., MEDIAN], plain.table[..., MEDIAN])
    inside = []
    for number in range(4):  # the same by the definition: judged by the others, with the others' quantiles stretched
        here, rest = biased.select(np.flatnonzero(year == number)), biased.select(np.flatnonzero(year != number))
        judge = Calibration._before_stretch(rest)
        middle = judge.table[..., [MEDIAN]]
        judge = replace(judge, table=middle + ratio[0, 0] * (judge.table - middle))
        low, high = judge.quantiles(here.forecast, here.age, here.days, [0, len(LEVELS) - 1])
        seen = np.isfinite(here.observed)
        inside.append(((low <= here.observed) & (here.observed <= high))[seen])
    assert np.concatenate(inside).mean() == pytest.approx(0.9, abs=0.02)  # blocks are years but for a day
    assert ratio[0, 0] > 1.05


def test_a_season_without_days_borrows_from_the_others():
    held = world(count=31, first="2015-01-01")  # a January
    found = Calibration.of(held)
    np.testing.assert_array_equal(found.table[:, 2], found.table[:, 1])
    few = OutOfSample(held.observed[:8], held.forecast[:8], held.age[:8], held.region, held.days[:8])
    assert np.ptp(Calibration.of(few).table, axis=(0, 1)).max() == 0  # nor enough of a region


def test_without_an_observation_nothing_can_be_told():
    held = world(share=0)
    with pytest.raises(UserError, match="No day held out has an observation"):
        Calibration.of(held)


def test_older_observations_never_make_a_forecast_surer():
    held = world(count=600)
    found = Calibration.of(held)
    assert (np.diff(found.by_age) >= 0).all()
    assert found.by_age[3] / found.by_age[0] == pytest.approx(1.7, abs=0.15)  # 1 + 0.2 x 3 or 4


def test_crps_and_coverage_against_another_library():
    held, test = world(seed=3), world(count=200, seed=4)
    calibration = Calibration.of(held)
    found = QuantileScores.of(test, calibration)
    quantiles = calibration.quantiles(test.forecast, test.age, test.days)
    dims = ("time", "lat", "lon")
    observed = xr.DataArray(test.observed, dims=dims)
    losses = [
        float(quantile_score(xr.DataArray(q, dims=dims), observed, alpha=float(level)))
        for q, level in zip(quantiles, LEVELS, strict=True)
    ]
    assert found.mean_crps == pytest.approx(2 * np.trapezoid(losses, LEVELS), rel=1e-4)
    valid = np.isfinite(test.observed)
    inside = (quantiles[0] <= test.observed) & (test.observed <= quantiles[-1])
    assert found.coverage == pytest.approx(inside[valid].mean())
    covered = found.covered
    assert covered.value == pytest.approx(found.coverage) and covered.low < found.coverage < covered.high
    part, total = ((valid & what).sum(axis=(1, 2)).astype(float) for what in (inside, valid))
    at_the_end = estimate_share(test.days, part=part, total=total, expected=covered.high)
    assert at_the_end.p == pytest.approx(0.05, abs=1e-4)  # by the duality of interval and test
    assert found.width == pytest.approx((quantiles[-1] - quantiles[0])[valid].mean(), rel=1e-5)


@pytest.mark.parametrize("y", [-0.11, -0.02, 0.0, 0.05])
def test_crps_is_the_integral_over_the_levels_that_there_are(y):
    """Of a Gaussian forecast with a deviation of 0.05 and an observation y above it, by scipy's integral."""
    table = np.broadcast_to(0.05 * norm.ppf(LEVELS), (3, 4, len(LEVELS))).astype(np.float32)
    region = np.zeros((1, 1), np.int8)
    calibration = Calibration(np.ones((1, 1), np.float32), np.ones(len(AGES) + 1, np.float32), table, region)
    forecast = np.full((1, 1, 1), 0.4, np.float32)
    test = OutOfSample(
        forecast + np.float32(y), forecast, np.zeros((1, 1, 1), np.int16), region, days_from("2020-01-01", 1)
    )

    def pinball(level):
        error = y - 0.05 * norm.ppf(level)
        return max(level * error, (level - 1) * error)

    expected = 2 * quad(pinball, LEVELS[0], LEVELS[-1], points=[np.clip(norm.cdf(y / 0.05), 0.06, 0.94)])[0]
    assert QuantileScores.of(test, calibration).mean_crps == pytest.approx(expected, rel=0.01)


def test_percentiles_against_scipy():
    held = world(count=1461, share=1.0)
    usual = Climatology.of(held)
    days = days_from("2020-07-01", 3)
    anomaly = np.random.default_rng(0).normal(0, 0.03, (3, *held.region.shape)).astype(np.float32)
    found = usual.percentile(anomaly, days)
    summer = season_of(held.days) == 2
    left = held.observed - usual.expected(held.days)
    for day, row, column in ((0, 1, 2), (2, 4, 5)):
        expected = percentileofscore(left[summer, row, column], anomaly[day, row, column])
        assert found[day, row, column] == pytest.approx(expected, abs=1.5)
    assert np.isnan(usual.percentile(np.full_like(anomaly, np.nan), days)).all()
    assert (usual.percentile(anomaly + 1, days) == 100).all() and (usual.percentile(anomaly - 1, days) == 0).all()


def test_what_is_usual_is_the_climatology_that_baselines_have():
    ds = tiny(days=800, start="2014-01-01")
    split = Split(spans("train", ("2014-01-01", "2015-12-31")), (), spans("test", ("2016-01-05", "2016-02-20")))
    record = Record(ds, Statistics.fit(ds, split))
    training, test = (
        Windows(record, periods=periods, lead_days=3, input_days=1, name="any") for periods in (split.train, split.test)
    )
    fitting = Fitting(training, test, split.train)
    expected = climatology(fitting)
    inside = record.days <= np.datetime64("2015-12-31")
    shape = record.observed[inside].shape
    held = OutOfSample(
        record.observed[inside],
        np.zeros(shape, np.float32),
        np.zeros(shape, np.int16),
        np.zeros(shape[1:], np.int8),
        record.days[inside],
        True,
    )
    assert fitting.all_year
    np.testing.assert_allclose(Climatology.of(held).expected(test.valid_time), expected, atol=1e-5)


def test_blocks_of_days_by_hand():
    day = np.datetime64
    periods = ((day("2015-01-01"), day("2015-01-20")), (day("2015-02-01"), day("2015-02-20")))
    days = np.concatenate([days_from("2015-01-01", 20), days_from("2015-02-01", 20)])
    first, second, third, fourth = make_folds(days, periods, 4, 2)
    assert first == Fold(
        training=((day("2015-01-13"), day("2015-01-20")), periods[1]),
        validation=((day("2015-01-01"), day("2015-01-10")),),
    )
    assert third.validation == ((day("2015-02-01"), day("2015-02-10")),)
    assert third.training == (periods[0], (day("2015-02-13"), day("2015-02-20")))
    assert second.training[0] == (day("2015-01-01"), day("2015-01-08"))
    assert fourth.training == (periods[0], (day("2015-02-01"), day("2015-02-08")))


def test_days_held_out_are_forecast_by_the_run_that_its_script_makes_of_the_others(tmp_path, smap, script):
    """The last block, so that a script accepts the periods; one epoch, so that the best is the last."""
    options = ["--data", smap, "--epochs", 1, "--precision", "32-true", "--batch-size", 16]
    assert script("SMAPtest/train_cnn.py", *options, *PERIODS, "--out", tmp_path / "run").code == 0
    checkpoint = load_checkpoint(tmp_path / "run")
    rest = spans("train", ("2015-03-31", "2015-05-31"))
    model, _ = refit_run(tmp_path / "run", checkpoint, DataSet(smap), rest, None)
    periods = "--train 2015-03-31 2015-05-31 --val 2015-06-10 2015-06-12 --test 2015-07-01 2015-07-28".split()
    assert script("SMAPtest/train_cnn.py", *options, *periods, "--out", tmp_path / "rest").code == 0
    expected = load_checkpoint(tmp_path / "rest").best
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(weights, expected[name])


def test_fits_that_were_done_before_a_call_was_killed_are_not_done_again(tmp_path, smap, script, monkeypatch):
    out, calls, real = tmp_path / "run", [], GradientDescent.refit
    assert script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1, "--out", out).code == 0
    whole = cross_validate(out, 3, quiet=True)
    with xr.open_dataset(whole) as ds:
        expected = ds.load()
    shutil.rmtree(whole.parent)

    def failing(*arguments):
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(GradientDescent, "refit", failing)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(out, 3, quiet=True)
    assert not whole.exists()
    with xr.open_dataset(cross_validate(out, 3, quiet=True)) as ds:
        xr.testing.assert_equal(ds.load(), expected)
    assert len(calls) == 4 and len(list(whole.parent.glob("fit_*.pt"))) == 3
    with xr.open_dataset(cross_validate(out, 3, quiet=True, faults=InputFaults(outages=True))) as ds:
        hidden = draw_outages(ds["init_time"].values.astype("datetime64[D]"))
        age = ds["input_age"].values[:, 0, 3:]
        assert hidden.any() and not (age[hidden] == 0).any() and not age[~hidden].any()
        np.testing.assert_array_equal(ds["observed"], expected["observed"])
        assert not np.allclose(ds["predicted"][hidden], expected["predicted"][hidden], equal_nan=True)
    assert len(calls) == 4  # poorer inputs need no further training


@pytest.mark.parametrize("model", ["cnn", "compact"])
def test_forecasts_of_held_out_days_cover_all_days_learned_from(tmp_path, smap, script, model):
    out = tmp_path / "run"
    epochs = ["--epochs", 2] if model == "cnn" else []
    assert script(f"SMAPtest/train_{model}.py", "--data", smap, *PERIODS, *epochs, "--out", out).code == 0
    made = cross_validate(out, 3, quiet=True)
    with xr.open_dataset(made) as ds:
        first, last = ds["time"].values[[0, -1]].astype("datetime64[D]")
        assert str(last) == "2015-06-30" and str(first) == "2015-04-05"  # the first with three input days and lead 3
        assert np.isfinite(ds["predicted"].values[:, 0]).all()
        mean = float(np.sqrt(((ds["predicted"] - ds["observed"]) ** 2).mean()))
        assert not ds["seen_in_pretraining"].any()  # there was no pre-training
    assert read_json(made.parent / "metrics.json")["rmse"] == pytest.approx(mean, rel=1e-4)
    before = made.stat().st_mtime_ns
    few = cross_validate(out, 0, quiet=True)
    assert cross_validate(out, 3, quiet=True).stat().st_mtime_ns == before and few != made
    with xr.open_dataset(few) as ds:
        assert str(ds["time"].values[0])[:10] == "2015-06-01"
    shutil.rmtree(made.parent)
    write_prepared(tiny(seed=5), smap)
    with pytest.raises(UserError, match="is gone or has changed"):
        cross_validate(out, 3, quiet=True)


def test_days_that_the_pretraining_has_learned_from_are_not_called_unseen(tmp_path, smap, script):
    """The same calendar days of another product count as seen: here those up to 20 June."""
    write_prepared(tiny(days=150, start="2015-02-01", seed=1), tmp_path / "era5.nc")
    source = "--train 2015-02-05 2015-05-31 --val 2015-06-01 2015-06-20 --test 2015-06-25 2015-06-29".split()
    common = ["--epochs", 1, "--precision", "32-true"]
    into, out = tmp_path / "source", tmp_path / "tuned"
    assert script("ERA5test/train_cnn.py", "--data", tmp_path / "era5.nc", *source, *common, "--out", into).code == 0
    options = ["--data", smap, *PERIODS, *common, "--init-from", into, "--out", out]
    assert script("finetune-SMAPtest/train_cnn.py", *options).code == 0
    made = cross_validate(out, 0, quiet=True)
    with xr.open_dataset(made) as ds:
        days = ds["time"].values.astype("datetime64[D]")
        seen = ds["seen_in_pretraining"].values == 1
    np.testing.assert_array_equal(seen, days <= np.datetime64("2015-06-20"))
    assert read_json(made.parent / "metrics.json")["days_seen_in_pretraining"] == 20
    assert OutOfSample.read([made], (1.0,)).seen_share == pytest.approx(20 / 30)
    request = make_request([out], smap, end=None, future_from=None, folds=0)
    assert "the pre-training had learned from 67 % of these calendar days" in request.attributes["calibration"]


def test_regions_of_the_compact_model_are_by_the_rain_of_training_days_alone(tmp_path, script):
    """Cells of 100 mm a year, with validation days as wet as the tropics."""
    ds, out = tiny(), tmp_path / "run"
    ds["precipitation"] *= np.float32(0.08)
    ds["precipitation"][62:92] *= 100
    write_prepared(ds, tmp_path / "smap.nc")
    options = ["--data", tmp_path / "smap.nc", *PERIODS, "--epochs", 1, "--batch-size", 64, "--out", out]
    assert script("SMAPtest/train_compact.py", *options).code == 0
    assert script("SMAPtest/eval.py", out).code == 0
    for path in (out / "predictions.nc", cross_validate(out, 0, quiet=True)):
        with xr.open_dataset(path) as made:
            assert set(np.unique(made["region"])) == {-1, 0}, path  # sea, and arid
