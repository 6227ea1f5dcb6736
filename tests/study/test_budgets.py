"""How long the study's networks train, in steps; and what becomes of a network whose ReLU is closed."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PERIODS, ROOT, tiny
from torch import nn

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.dataset.open import open_data_set
from utils.dataset.prepared import write_prepared
from utils.models.cnn import CNN
from utils.models.convlstm import ConvLSTM
from utils.scores.score_table import AGAINST_MATCHED, table
from utils.scores.significance import Estimate
from utils.settings import SMAPSettings, split_of
from utils.study import budgets, plan
from utils.study.plan import (
    EXPERIMENTS,
    MATCHED,
    Plan,
    Task,
    plan_main,
    plan_matched,
    plan_target_days,
    read_train_script,
)
from utils.study.questions.transfer_gain import prefer_matched
from utils.study.results import Results
from utils.training.checkpoint import Checkpoint
from utils.training.dead_channels import count_dead_channels
from utils.training.loop import GradientDescent

SMAP = {
    "train": ("2015-03-31", "2017-03-29"),
    "val": ("2017-03-30", "2018-03-29"),
    "test": ("2018-03-30", "2019-03-29"),
}
PRETRAINING, SCRATCH, TRANSFERRED = EXPERIMENTS


def settings_of(task: Task, full: bool = False):
    """The settings of a task on 730 SMAP training days and as many of ERA5-Land."""
    data = dict.fromkeys(EXPERIMENTS, plan.ROOT / "none.nc")
    study = Plan(data, dict.fromkeys(EXPERIMENTS, SMAP), full=full, runs=plan.ROOT)
    return study.configure(task).settings


def test_a_budget_counts_steps_and_not_epochs(monkeypatch):
    monkeypatch.setattr(budgets, "CAP_STEPS", 1200)
    monkeypatch.setattr(budgets, "PATIENCE_STEPS", 100)
    task = Task(experiment=SCRATCH, model="cnn", lead_days=3, seed=0)
    whole = settings_of(task)  # 730 days are 6 steps of 128 samples
    assert (whole.epochs, whole.patience) == (200, 17)
    few = settings_of(plan.replace(task, target_days=30))  # 24 training days are one step
    assert (few.epochs, few.patience) == (1200, 100)
    halved = settings_of(plan.replace(task, model="convlstm"))  # 12 steps of 64
    assert (halved.epochs, halved.patience) == (100, 9)


def test_with_published_epochs_the_scripts_own_hold_and_few_days_get_as_many_steps():
    task = Task(experiment=SCRATCH, model="cnn", lead_days=3, seed=0)
    whole, few = settings_of(task, full=True), settings_of(plan.replace(task, target_days=30), full=True)
    assert (whole.epochs, whole.patience, few.epochs) == (100, 0, 600)


def test_a_script_with_a_patience_of_its_own_keeps_it():
    own = settings_of(Task(experiment=SCRATCH, model="pixel_lstm", lead_days=3, seed=0))
    assert (own.epochs, own.patience) == (20, 5)


def test_a_zero_shot_run_is_not_trained():
    assert settings_of(Task(TRANSFERRED, "cnn", 3, 0, variant="_zero_shot", strategy="zero_shot")).epochs == 0


def take_steps(monkeypatch, steps: dict[str, int]) -> None:
    """Have finished runs, by folder, that took so many steps."""
    monkeypatch.setattr(
        plan, "load_finished", lambda folder: SimpleNamespace(steps=steps[folder.relative_to(plan.ROOT).as_posix()])
    )


def test_compute_matched_scratch_has_the_steps_of_pretraining_and_fine_tuning(monkeypatch):
    take_steps(monkeypatch, {"ERA5test/cnn/lead3/seed0": 900, "finetune-SMAPtest/cnn/lead3/seed0": 301})
    (task,) = plan_matched(plan_main(("cnn", "compact"), (3,), (0,)))
    assert task.folder.as_posix() == "SMAPtest/cnn_matched/lead3/seed0"
    assert task.needs == ("finetune-SMAPtest/cnn/lead3/seed0",)
    settings = settings_of(task)
    assert (settings.epochs, settings.patience) == (201, 0)  # 1,201 steps, 6 an epoch


def test_compute_matched_change_net_learns_from_validation_days_too_and_from_few_days(monkeypatch):
    steps = {"ERA5test/change_net/lead3/seed0": 2200, "finetune-SMAPtest/change_net_30days/lead3/seed0": 20}
    take_steps(monkeypatch, steps)
    (task,) = plan_matched(task for task in plan_target_days("change_net", 3, (0,), 1096) if task.target_days == 30)
    assert task.folder.as_posix() == "SMAPtest/change_net_30days_matched/lead3/seed0"
    settings = settings_of(task)
    assert (settings.target_days, settings.epochs) == (30, 1110)  # 2,220 steps: 24 and 6 days are two batches


def test_a_run_that_does_not_say_its_steps_has_no_match(monkeypatch):
    take_steps(monkeypatch, {"ERA5test/change_net/lead3/seed0": 0, "finetune-SMAPtest/change_net/lead3/seed0": 9})
    (task,) = plan_matched(plan_main(("change_net",), (3,), (0,)))
    with pytest.raises(UserError, match="ERA5test/change_net/lead3/seed0 does not say how many steps"):
        settings_of(task)


@pytest.mark.parametrize("model", ["convlstm_conv", "convlstm_no_relu"])
def test_a_model_may_be_a_script_and_one_of_its_heads(model):
    script = read_train_script(SCRATCH, model)
    assert script.name == "convlstm" and script.settings.variant == model.removeprefix("convlstm")


@pytest.mark.parametrize(
    ("patience", "epochs", "best", "done", "expected"),
    [(5, 100, 20, 25, "validation"), (5, 25, 21, 25, "cap"), (0, 25, 3, 25, "planned"), (5, 0, 0, 0, "planned")],
)
def test_a_run_says_why_it_stopped(patience, epochs, best, done, expected):
    trainer = GradientDescent.__new__(GradientDescent)
    trainer.settings = SimpleNamespace(patience=patience, epochs=epochs)
    trainer.transfer = SimpleNamespace(last_unfreezing=0)
    checkpoint = Checkpoint.__new__(Checkpoint)
    checkpoint.best_epoch, checkpoint.epoch = best, done
    assert trainer.tell_why_it_stopped(checkpoint) == expected


# --- closed channels


@pytest.fixture
def training(tmp_path):
    """Windows of a tiny record."""
    write_prepared(tiny(), tmp_path / "smap.nc")

    periods = {"train": tuple(PERIODS[1:3]), "val": tuple(PERIODS[4:6]), "test": tuple(PERIODS[7:9])}
    data = open_data_set(tmp_path / "smap.nc", None)
    split = split_of(SMAPSettings(data=tmp_path / "smap.nc", **periods))
    model = CNN(data.grid, input_days=2)
    windows = model.make_windows(data, data.statistics(split), lead_days=1, input_days=2)
    return windows.in_periods(split.train, "training")


def test_closed_channels_are_those_that_are_zero_for_every_sample(training):
    torch.manual_seed(0)
    model = CNN(training.data.grid, input_days=2, filters=6)
    with torch.no_grad():
        model.conv.bias[[1, 4]] = -100
        model.conv.bias[[0, 2, 3, 5]] = 100
    before, state = [weight.clone() for weight in model.parameters()], torch.get_rng_state()
    assert count_dead_channels(model, training, 16, torch.device("cpu")) == (2, 6)
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))
    assert (state == torch.get_rng_state()).all()


@pytest.mark.parametrize("seed", range(4))
def test_closed_channels_of_a_convlstm_are_those_of_its_hidden_state(training, seed):
    torch.manual_seed(seed)
    model = ConvLSTM(training.data.grid)
    features = training.batch(np.arange(len(training))).features
    days = list(features.permute(1, 0, 3, 4, 2))
    with torch.no_grad():
        for layer in model.layers:
            days = layer(torch.stack(days))
    expected = int((days[-1].amax(dim=(0, 1, 2)) <= 0).sum())
    assert count_dead_channels(model, training, 7, torch.device("cpu")) == (expected, 4)


def test_a_network_without_a_relu_has_no_closed_channels(training):
    model = ConvLSTM(training.data.grid, head="no_relu")
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    assert count_dead_channels(model, training, 16, torch.device("cpu")) is None


def test_without_the_relu_a_negative_hidden_state_still_counts():
    torch.manual_seed(0)
    grid = Grid(np.arange(3.0), np.arange(4.0))
    plain, free = ConvLSTM(grid), ConvLSTM(grid, head="no_relu")
    free.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for model in (plain, free):
            model.layers[-1].ifgo.bias[8:12] = -5  # the candidates g: every hidden channel is negative
    one, other = torch.rand(2, 1, 3, 3, 3, 4)
    assert (plain(one) == plain(other)).all() and (free(one) != free(other)).any()


# --- in the table


def row(**more):
    return {"experiment": SCRATCH, "model": "convlstm", "lead_days": 3, "seed": 0, "synthetic_data": True} | {
        "baselines": {},
        **more,
    }


def test_the_table_says_where_all_channels_are_closed():
    closed, open_ = row(dead_channels=4, relu_channels=4, seed=1), row(dead_channels=3, relu_channels=4)
    notes = table([closed, open_, row(seed=2)])["note"]
    assert "all 4 channels before the dense map are closed" in notes[0] and list(notes[1:]) == ["", ""]


def test_the_page_counts_the_runs_that_ended_at_the_cap():
    results = Results.__new__(Results)
    stopped = ["cap", "validation", "validation", "planned", None, "cap"]
    models = ["cnn", "cnn", "lstm", "compact", "persistence", "cnn_permuted_precipitation"]
    results.__dict__["table"] = pd.DataFrame({"model": models, "stopped": stopped})
    assert results._describe_cut_short().startswith("1 of 3 network runs ended at the cap of their steps")
    results.__dict__["table"] = pd.DataFrame({"model": models[:1], "stopped": ["validation"]})
    assert results._describe_cut_short() == ""


def test_transfer_is_compared_with_compute_matched_scratch_where_that_was_run(monkeypatch):
    results = Results.__new__(Results)
    asked = []

    def estimate(score, experiment, model, lead, rival, paired):
        asked.append((experiment, model, lead, rival))
        return Estimate(value=-0.1, low=-0.2, high=-0.05, p=0.01)

    monkeypatch.setattr(results, "estimate", estimate)
    monkeypatch.setattr("utils.study.results.significance.verdict", lambda change: "better")
    found = results._compare_transfer("cnn", 3, rival="cnn" + MATCHED, columns=AGAINST_MATCHED)
    assert asked == [(TRANSFERRED, "cnn", 3, (SCRATCH, "cnn_matched"))]
    assert found["matched_rmse_change"] == -0.1 and found["vs_matched"] == "better"


def test_what_pretraining_is_worth_is_stated_against_compute_matched_scratch():
    rows = pd.DataFrame(
        {
            "transfer_rmse_change": [-0.2, -0.1],
            "transfer_low": [-0.3, -0.2],
            "transfer_high": [-0.1, 0.1],
            "transfer_p": [0.001, 0.2],
            "vs_scratch": ["better", "not significant"],
            "matched_rmse_change": [0.02, np.nan],
            "matched_low": [-0.05, np.nan],
            "matched_high": [0.06, np.nan],
            "matched_p": [0.4, np.nan],
            "vs_matched": ["not significant", None],
        }
    )
    found = prefer_matched(rows)
    assert list(found["transfer_rmse_change"]) == [0.02, -0.1] and list(found["transfer_low"]) == [-0.05, -0.2]
    assert list(found["vs_scratch"]) == ["not significant", "not significant"]
    assert rows["vs_scratch"][0] == "better"
    without = rows.assign(matched_rmse_change=np.nan)
    pd.testing.assert_frame_equal(prefer_matched(without), without)


def test_the_protocol_names_the_budget():
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert f"after {budgets.PATIENCE_STEPS} steps of the optimiser without a better one" in text
    assert f"after {budgets.CAP_STEPS:,} steps at the latest" in text
