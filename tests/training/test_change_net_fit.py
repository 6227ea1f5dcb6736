"""How change_net is fitted: by hand, against cases whose answer is known, and once through the scripts."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import ERA5_PERIODS, PERIODS, tiny
from tiny_windows import SPLIT, windows_of

from utils.dataset.prepared import write_prepared
from utils.models.change_net import COMPLETE, SATELLITE, ChangeNet
from utils.models.compact import UNIT
from utils.settings import FinetuneSettings, SMAPSettings
from utils.training.change_net import ChangeNetTrainer, Lesson, mean_square, observations, step_between
from utils.training.checkpoint import load_checkpoint
from utils.training.loop import start_fabric
from utils.training.two_fits import Fit, count_days, mean_error_std

TINY = {"members": 1, "filters": 2, "kernel": 3, "hidden": 4}


def trainer_of(net, kind=FinetuneSettings, **options):
    return ChangeNetTrainer(net, kind(epochs=1, batch_size=16, **options), start_fabric("32-true"))


def training_of(path, net):
    return windows_of(net, path).in_periods(SPLIT.train, "training")


def gappy():
    ds = tiny()
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(1).random(ds["soil_moisture"].shape) > 0.5)
    return ds


def test_the_error_of_the_means_is_that_of_independent_blocks_of_60_days(smap):
    net = ChangeNet(**TINY)
    training = training_of(smap, net)
    anomaly = (tiny()["soil_moisture"] - tiny()["soil_moisture"][:62].mean("time"))[:62].values[5:]
    expected = math.sqrt(np.nanmean(anomaly.astype(float) ** 2) * 60 / 62)
    assert mean_error_std(mean_square(training), count_days(training)) == pytest.approx(expected, rel=1e-3)


def test_an_error_of_the_mean_moves_input_and_target_alike_so_that_persistence_is_as_good(smap):
    """Of an untrained network the squared error is that of persistence, whatever the cells' means are thought to be."""
    net = ChangeNet(**TINY)
    (part,) = observations(training_of(smap, net))
    batch = part.batch(np.arange(10))
    with torch.no_grad():
        right, wrong = (Lesson(trainer_of(net), net, error).sum_squares(*batch)[0] for error in (0.0, 0.05))
    torch.testing.assert_close(right, wrong)
    target, last = part.windows.target_index[:10], part.windows.target_index[:10] - 3
    error = part.windows.record.last_observed[last] - part.truth[target]
    assert float(right) == pytest.approx(np.nansum(error.astype(float) ** 2), rel=1e-4)


def test_the_learning_rate_rises_and_then_falls_like_a_cosine():
    net = ChangeNet(**TINY)
    lesson, rates = Lesson(trainer_of(net, lr=0.01), net, 0.0), []
    for progress in (0.05, 0.1, 0.55, 1.0):
        lesson.set_rate(progress)
        rates.append(lesson.optimiser.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [0.005, 0.01, 0.005, 0.0], atol=1e-9)


@pytest.mark.parametrize(("days_fill_a_year", "expected"), [(True, 0.75), (False, 0.5)])
def test_the_weights_go_as_far_as_held_out_days_allow(tmp_path, monkeypatch, days_fill_a_year, expected):
    """Learning on would add 0.02 m3 m-3 to each forecast; the truth is persistence and three quarters of that."""
    ds, net = tiny(), ChangeNet(**TINY)
    moisture = ds["soil_moisture"].isel(time=slice(0, 1)).values + 0.005 * np.arange(120)[:, None, None]
    ds["soil_moisture"] = ds["soil_moisture"].copy(data=np.clip(moisture, 0, 1).astype("f4"))  # 3 days: 0.015
    write_prepared(ds, tmp_path / "smap.nc")
    trainer = trainer_of(net)

    def learn(start, training, mean_error, days=None):
        tuned = copy.deepcopy(start)
        with torch.no_grad():
            tuned.networks[0].linear.bias += 0.02 / UNIT
        return Fit(tuned, loss=0.0, samples=1)

    monkeypatch.setattr(trainer, "learn_on", learn)
    monkeypatch.setattr("utils.training.change_net.fills_a_year", lambda days: days_fill_a_year)
    assert trainer.find_step(net, training_of(tmp_path / "smap.nc", net), mean_error=0.01) == expected


def test_weights_between_two_networks_lie_between_theirs():
    start, end = ChangeNet(**TINY), ChangeNet(**TINY)
    between = step_between(start, end, 0.25)
    for a, b, found in zip(start.parameters(), end.parameters(), between.parameters(), strict=True):
        torch.testing.assert_close(found, 0.75 * a + 0.25 * b)


@pytest.mark.parametrize(("ds", "view"), [(tiny(), COMPLETE), (gappy(), SATELLITE)])
def test_gaps_choose_the_view(tmp_path, ds, view):
    write_prepared(ds, tmp_path / "smap.nc")
    net = ChangeNet(**TINY)
    assert int(trainer_of(net).take_over(training_of(tmp_path / "smap.nc", net)).model.view) == view


def test_inputs_are_standardised_over_the_scored_cells_alone(smap):
    net = ChangeNet(**TINY)
    training = training_of(smap, net)
    net = trainer_of(net, SMAPSettings).take_over(training).model
    z, scored = net.standardise(training.batch(np.arange(len(training))).features[:, 0])
    cells = z[:, :, scored[0, 0] > 0]
    varies = net.scale > 0.01
    torch.testing.assert_close(cells.mean(dim=(0, 2))[varies], torch.zeros(int(varies.sum())), atol=0.06, rtol=0)
    assert (z[:, :, scored[0, 0] == 0] == 0).all() and (scored[0, 0] == 0).any()


def test_from_pretraining_to_evaluation_on_another_grid(script, tmp_path):
    write_prepared(tiny(days=150, start="2015-01-01", shape=(9, 6), seed=1), tmp_path / "era5.nc")
    write_prepared(gappy(), tmp_path / "smap.nc")
    small = ["--members", 1, "--kernel", 3]
    source = ["--data", tmp_path / "era5.nc", *ERA5_PERIODS, *small, "--pseudo-satellite-years", 2]
    result = script("ERA5test/train_change_net.py", *source, "--out", tmp_path / "source")
    assert result.code == 0, result.err
    target = ["--data", tmp_path / "smap.nc", *PERIODS, "--init-from", tmp_path / "source"]
    for name, options in (("zero", ("--epochs", 0)), ("tuned", ("--epochs", 1)), ("again", ("--epochs", 1))):
        result = script("finetune-SMAPtest/train_change_net.py", *target, *options, "--out", tmp_path / name)
        assert result.code == 0, result.err
    assert script("finetune-SMAPtest/eval.py", tmp_path / "tuned").code == 0
    source, zero, tuned, again = (
        load_checkpoint(tmp_path / name).best for name in ("source", "zero", "tuned", "again")
    )
    changes = {"view", "centre", "scale"}
    assert all(torch.equal(source[name], zero[name]) for name in source if name not in changes)
    assert all(torch.equal(tuned[name], again[name]) for name in tuned)
    assert int(tuned["view"]) == SATELLITE and 0 <= float(tuned["moved"]) <= 0.5
    unused = [name for name in source if name.startswith("views.0.")]
    assert unused and all(torch.equal(source[name], tuned[name]) for name in unused)
