"""Matching of climates, and gaps in pre-training: by hand and by numpy, and what they must leave alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import weights
from test_windows import split

from utils.data_processing import Windows
from utils.dataset.bias_correction import LEAST, match_statistics
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import read_prepared, write_prepared
from utils.dataset.record import Record, swath_gaps
from utils.dataset.statistics import LEVELS, MOISTURE, NOT_STORED, Statistics, map_quantiles, std_and_quantiles
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import forecast, restore_model

MATCHES = ["mean", "mean_variance", "cdf"]
MANY = 10**9  # days, so that a cell's own estimate counts alone


def fitted(ds, **periods) -> Statistics:
    return Statistics.fit(ds, split(**periods))


def train_windows(record: Record) -> Windows:
    return Windows(record, periods=split().train, lead_days=3, input_days=3, name="train")


def bent(ds: xr.Dataset) -> xr.Dataset:
    """Another product of the same soil, of half its range and more damp."""
    return ds.assign(soil_moisture=0.5 * ds["soil_moisture"] + 0.1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 13))
def test_a_map_is_numpys_between_its_knots_a_straight_line_beyond_and_its_own_inverse(seed, count):
    rng = np.random.default_rng(seed)
    x, y = np.cumsum(rng.uniform(0.01, 0.1, (2, count, 2, 3)), axis=1).astype(np.float32)
    values = rng.uniform(-1, 2, (40, 2, 3)).astype(np.float32)
    values[0, 0, 0] = np.nan
    there = map_quantiles(torch.from_numpy(values), x, y)
    torch.testing.assert_close(map_quantiles(there, y, x), torch.from_numpy(values), atol=1e-4, rtol=0, equal_nan=True)
    for row, column in np.ndindex(2, 3):
        v, a, b = values[:, row, column], x[:, row, column], y[:, row, column]
        inside = (v >= a[0]) & (v <= a[-1])
        np.testing.assert_allclose(there[inside, row, column], np.interp(v[inside], a, b), atol=1e-5)
        above = v > a[-1]
        line = b[-1] + (v[above] - a[-1]) * (b[-1] - b[-2]) / (a[-1] - a[-2])
        np.testing.assert_allclose(there[above, row, column], line, rtol=1e-3, atol=1e-4)


def test_the_climate_of_a_cell_is_numpys_standard_deviation_and_quantiles():
    values = np.random.default_rng(0).random((50, 4))
    values[np.random.default_rng(1).random(values.shape) < 0.5] = np.nan
    values[:, 2] = np.nan
    values[1:, 3] = np.nan
    values[0, 3] = 0.3
    there = np.array([0, 1, 3])
    expected = np.vstack([np.nanstd(values[:, there], axis=0), np.nanquantile(values[:, there], LEVELS, axis=0)])
    found = std_and_quantiles(values.copy())
    np.testing.assert_allclose(found[:, there], expected)
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(std_and_quantiles(np.empty((0, 2)))).all()


@pytest.mark.parametrize("how", ["mean_variance", "cdf"])
def test_another_product_of_the_same_soil_gives_the_same_inputs_and_forecasts_come_back(how):
    source, target = tiny(), bent(tiny())
    there, own = fitted(source), fitted(target)
    many = replace(own.with_scaling_of(there), training_days=np.where(own.training_days, MANY, 0))
    statistics = match_statistics(many, there, True, how)
    one, other = Record(source, there), Record(target, statistics)
    close = 2e-3 if how == "mean_variance" else 8e-3  # where quantiles are nearer to each other than LEAST
    np.testing.assert_allclose(other.features, one.features, atol=close)
    both = [train_windows(record).batch(np.arange(20)) for record in (one, other)]
    torch.testing.assert_close(both[1].target, both[0].target, atol=close, rtol=0)
    np.testing.assert_allclose(
        other.unscale(both[1].target)[both[1].valid], 0.5 * one.unscale(both[0].target)[both[0].valid] + 0.1, atol=1e-4
    )
    np.testing.assert_array_equal(other.observed, Record(target, own).observed)  # scored as it is


def test_a_cells_mean_counts_by_its_days_by_hand():
    """Two cells of two products: differences 0.1 of 60 days and 0.3 of 180, so 0.25 on average."""
    nothing = np.zeros((3, 1, 2), np.float32)
    scaling = {"low": np.zeros(3, "f4"), "high": np.ones(3, "f4")}
    source = Statistics(**scaling, cell_mean=nothing + 0.2, scored=np.ones((1, 2), bool))
    own = replace(source, cell_mean=nothing + np.float32([[[0.3, 0.5]]]), training_days=np.array([[60, 180]]))
    points = match_statistics(own, source, True, "mean").matching
    estimate = [(60 * 0.3 + 60 * (0.2 + 0.25)) / 120, (180 * 0.5 + 60 * (0.2 + 0.25)) / 240]
    shift = points[1] - points[0]
    np.testing.assert_allclose(shift, np.broadcast_to(0.2 - np.array(estimate), shift.shape), atol=1e-6)


def test_a_cell_without_a_training_day_gets_the_sources_and_the_pooled_difference():
    target = bent(tiny())
    target["soil_moisture"][:62, 0, 0] = np.nan
    there, own = fitted(tiny()), fitted(target)
    days = own.training_days
    shift = np.diff(match_statistics(own, there, True, "mean").matching[:, 0], axis=0)[0]
    pooled = np.average((own.cell_mean - there.cell_mean)[MOISTURE][days > 0], weights=days[days > 0])
    assert days[0, 0] == 0 and own.scored[0, 0]
    assert shift[0, 0] == pytest.approx(-pooled, abs=1e-5)


@pytest.mark.parametrize("how", MATCHES)
def test_on_another_grid_the_pooled_climates_are_matched_and_contrasts_stay(how):
    there, own = fitted(tiny(shape=(5, 9), seed=3)), fitted(bent(tiny()))
    points = match_statistics(own, there, False, how).matching[:, :, own.training_days > 0]
    middle = points.mean(axis=1) if how != "cdf" else points[:, 6]
    shift = np.diff(middle, axis=0)[0]
    assert np.ptp(shift) < 1e-2 if how == "cdf" else np.ptp(shift) < 1e-5
    if how == "mean":
        means = [np.nanmean(s.cell_mean[MOISTURE][s.scored]) for s in (own, there)]
        np.testing.assert_allclose(shift, means[1] - means[0], atol=2e-3)


@pytest.mark.parametrize("how", MATCHES)
def test_points_increase_even_where_soil_moisture_never_changes(how):
    still = tiny()
    still["soil_moisture"][:, 0, 0] = 0.02
    there, own = fitted(tiny()), fitted(still)
    for one, other in ((own, there), (there, own)):
        points = match_statistics(one, other, True, how).matching
        assert np.isfinite(points).all() and (np.diff(points, axis=1) > LEAST / 2).all()


@pytest.mark.parametrize("how", MATCHES)
def test_values_after_the_training_period_change_no_point(how):
    target = bent(tiny())
    changed = target.copy(deep=True)
    changed["soil_moisture"][62:] *= 0.5
    there, one, other = fitted(tiny()), fitted(target), fitted(changed)
    points = [match_statistics(own, there, True, how).matching for own in (one, other)]
    np.testing.assert_array_equal(*points)
    changed["soil_moisture"][:62] *= 0.5
    assert not np.array_equal(match_statistics(fitted(changed), there, True, how).matching, points[0])


def test_parts_of_a_map_give_the_statistics_and_the_matching_of_the_whole():
    ds = tiny()
    whole = fitted(ds)
    windows = [(slice(0, 3), slice(None)), (slice(3, 7), slice(0, 5)), (slice(3, 7), slice(5, 8))]
    parts = [(ds.isel(lat=window[0], lon=window[1]), window) for window in windows]
    joined = Statistics.from_blocks(parts, (7, 8), split())
    for name in Statistics.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    statistics = match_statistics(fitted(bent(ds)), whole, True, "cdf")
    window = windows[1]
    part = Record(bent(ds).isel(lat=window[0], lon=window[1]), statistics.part(window))
    np.testing.assert_array_equal(part.features, Record(bent(ds), statistics).features[:, :, *window])
    np.testing.assert_array_equal(part.target, Record(bent(ds), statistics).target[:, *window])


def test_patches_learn_matched_targets(tmp_path):
    write_prepared(bent(tiny()), tmp_path / "data.nc")
    statistics = match_statistics(fitted(bent(tiny())), fitted(tiny()), True, "cdf")
    data, period = DataSet(tmp_path / "data.nc"), {"periods": split().train, "name": "training"}
    windows = Windows(data, statistics, lead_days=3, input_days=3, receptive_radius=0, patch=4, **period)
    (patches,) = windows.shuffled()
    target = windows.batch(np.arange(2)).target
    batch = patches.batch(np.arange(len(patches.tiles) * 2))
    for number, tile in enumerate(patches.tiles * 2):
        inside = batch.target[number][tile.inside]
        torch.testing.assert_close(inside, target[number // len(patches.tiles)][tile.own])


def test_statistics_survive_the_checkpoint_with_and_without_a_map():
    own = fitted(bent(tiny()))
    matched = match_statistics(own, fitted(tiny()), True, "cdf")
    for statistics in (replace(own, std=None, quantiles=None), own, matched):
        back = Statistics.from_tensors(statistics.to_tensors())
        for name in set(Statistics.__dataclass_fields__) - set(NOT_STORED):
            np.testing.assert_array_equal(getattr(back, name), getattr(statistics, name))


def test_statistics_of_an_older_checkpoint_are_read_by_their_old_names():
    statistics = match_statistics(fitted(bent(tiny())), fitted(tiny()), True, "cdf")
    old = {name: tensor for name, tensor in statistics.to_tensors().items() if name in ("low", "high", "cell_mean")}
    old["scored"] = torch.from_numpy(statistics.scored)
    old["climate"] = torch.from_numpy(np.concatenate([statistics.std[None], statistics.quantiles]))
    old["seen"] = torch.from_numpy(np.concatenate([statistics.shrunk_std[None], statistics.mean_season]))
    old["knots"] = torch.from_numpy(statistics.matching)
    back = Statistics.from_tensors(old)
    for name in set(Statistics.__dataclass_fields__) - set(NOT_STORED):
        np.testing.assert_array_equal(getattr(back, name), getattr(statistics, name), err_msg=name)


def test_a_matched_run_is_validated_and_scored_in_its_own_unit_and_bad_maps_are_refused(tmp_path, era5, script):
    target, source, run_dir = tmp_path / "target.nc", tmp_path / "source", tmp_path / "run"
    write_prepared(bent(tiny()), target)
    options = ["--data", era5, *ERA5_PERIODS, "--epochs", 1, "--out", source]
    assert script("ERA5test/train_pixel_lstm.py", *options).code == 0
    command = [
        "finetune-SMAPtest/train_pixel_lstm.py",
        "--data",
        target,
        *PERIODS,
        "--epochs",
        1,
        "--init-from",
        source,
    ]
    result = script(*command, "--match", "cdf", "--out", run_dir)
    assert result.code == 0, result.err
    checkpoint = load_checkpoint(run_dir)
    statistics = checkpoint.restored_statistics()
    validation = Windows(
        Record(read_prepared(target), statistics),
        periods=checkpoint.periods.val,
        lead_days=3,
        input_days=3,
        name="validation",
    )
    predicted = forecast(restore_model(checkpoint, run_dir), validation, 64, torch.device("cpu"))
    error = np.sqrt(np.nanmean((predicted - validation.observed) ** 2))
    assert checkpoint.log[0][3] == pytest.approx(error, rel=1e-3)
    assert script("finetune-SMAPtest/eval.py", run_dir).code == 0
    again = script(*command[:-1], run_dir, "--out", tmp_path / "chain")
    assert "was itself matched to another climate" in again.sentence()

    content = torch.load(source / "checkpoint.pt", weights_only=True)
    old = {**content, "statistics": {k: v for k, v in content["statistics"].items() if k not in ("std", "quantiles")}}
    torch.save(old, source / "checkpoint.pt")  # as older runs are
    sentence = script(*command, "--match", "cdf", "--out", tmp_path / "old").sentence()
    assert "does not say how its soil moisture is distributed" in sentence and "--overwrite" in sentence
    assert script(*command, "--match", "mean", "--out", tmp_path / "old").code == 0

    content = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    points = content["statistics"]["matching"]
    for bad in (points[:1], points[:, :1], points[..., :-1], points.flip(1), torch.full_like(points, torch.nan)):
        torch.save({**content, "statistics": {**content["statistics"], "matching": bad}}, run_dir / "checkpoint.pt")
        assert "nothing in it was executed" in script("finetune-SMAPtest/eval.py", run_dir).sentence()


# ------------------------------------------------------------------------------------------------------------- gaps


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 10**6))
def test_gaps_hide_their_share_in_strips_by_the_seed_alone(share, seed):
    days, lon = np.arange(4000).astype("datetime64[D]"), np.linspace(72, 136, 65)
    hidden = swath_gaps(days, lon, share, seed)
    np.testing.assert_allclose(hidden.mean(axis=0), share, atol=0.05)  # every cell alike
    np.testing.assert_array_equal(hidden[:, 20:30], swath_gaps(days, lon[20:30], share, seed))
    assert not np.array_equal(hidden, swath_gaps(days, lon, share, seed + 1))
    edges = np.abs(np.diff(hidden.astype(int), axis=1)).sum(axis=1)
    assert edges.max() <= 2 * np.ceil(64 * 117 / 8 / 360)  # strips, not single cells


def test_hidden_inputs_are_filled_as_missing_ones_are_and_targets_stay():
    ds = tiny()
    statistics = fitted(ds)
    hidden = np.random.default_rng(0).random((120, 1, 8)) < 0.5
    record = Record(ds, statistics, hidden=hidden)
    gappy = ds.assign(soil_moisture=ds["soil_moisture"].where(~hidden))
    np.testing.assert_array_equal(record.features, Record(gappy, statistics).features)
    np.testing.assert_array_equal(record.target, Record(ds, statistics).target)
    assert not np.array_equal(record.features, Record(ds, statistics).features)


def test_gaps_change_what_is_learned_and_not_how_it_is_validated(tmp_path, era5, script):
    options = ["--data", era5, *ERA5_PERIODS, "--epochs", 2]
    for name, gaps in (("none", 0), ("some", 0.6), ("again", 0.6)):
        result = script("ERA5test/train_pixel_lstm.py", *options, "--gaps", gaps, "--out", tmp_path / name)
        assert result.code == 0, result.err
    none, some, again = (weights(tmp_path / name) for name in ("none", "some", "again"))
    assert all(torch.equal(some[name], again[name]) for name in some)
    assert not all(torch.equal(some[name], none[name]) for name in some)
    checkpoint = load_checkpoint(tmp_path / "some")
    record = Record(read_prepared(era5), checkpoint.restored_statistics())
    validation = Windows(record, periods=checkpoint.periods.val, lead_days=3, input_days=3, name="validation")
    predicted = forecast(restore_model(checkpoint, tmp_path / "some"), validation, 64, torch.device("cpu"))
    error = np.sqrt(np.nanmean((predicted - validation.observed) ** 2))
    assert checkpoint.best_rmse == pytest.approx(error, rel=1e-3)
    sentence = script("ERA5test/train_pixel_lstm.py", *options, "--gaps", 1, "--out", tmp_path / "all").sentence()
    assert "--gaps is 1.0, expected 0 or more, below 1" in sentence
