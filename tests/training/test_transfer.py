"""What of pre-trained weights learns: frozen parts stay, rates and pulls are what they say, a kill changes nothing."""

import os
import subprocess
import sys
from dataclasses import make_dataclass

import numpy as np
import pytest
import torch
from conftest import ERA5_PERIODS, PERIODS, ROOT, tiny
from test_training import killed_run, same, weights
from torch import nn

from utils import experiment
from utils.common.grid import Grid
from utils.dataset.prepared import write_prepared
from utils.models.cnn import CNN
from utils.models.fast_layers import BlockedMatmul
from utils.training import loop
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import load_script
from utils.training.loop import GradientDescent
from utils.training.transfer import Transfer

PARTS = {  # of each script, from the input to the head
    "cnn": ["conv", "dense"],
    "lstm": ["lstm", "dense"],
    "conv3d_lstm": ["conv", "lstm", "dense"],
    "pixel_lstm": ["lstm", "dense"],
    "conv_mixer --forecast value": ["embed", "blocks", "head"],
    "convlstm": ["layers", "dense"],
    "convlstm --head conv": ["layers", "reduce", "dense"],
    "convlstm --head pixel": ["layers", "reduce"],
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder for source runs, each trained once, and their data."""
    folder = tmp_path_factory.mktemp("sources")
    write_prepared(tiny(days=150, start="2015-01-01", seed=1), folder / "era5.nc")
    return folder


@pytest.fixture
def tuned(tmp_path, sources, smap, script):
    """Pre-train a model: the command that fine-tunes it with some flags, the source run and the new one."""

    def run(model: str, *flags: object, name: str = "tuned", epochs: int = 1):
        file, *head = model.split()
        source = sources / "_".join([file, *head[1:]])
        if not source.exists():
            options = ["--data", sources / "era5.nc", *ERA5_PERIODS, "--epochs", 1, "--out", source, *head]
            assert script(f"ERA5test/train_{file}.py", *options).code == 0
        command = [f"finetune-SMAPtest/train_{file}.py", "--data", smap, *PERIODS, *head, "--init-from", source]
        command += ["--epochs", epochs, "--precision", "32-true", "--out", tmp_path / name, *flags]
        return command, source, tmp_path / name

    return run


def moved(source, run_dir) -> dict[str, float]:
    """The largest change of a weight in each part."""
    before, after, found = weights(source), weights(run_dir), {}
    for name in before:
        part = name.removeprefix("network.").partition(".")[0]  # of a network that forecasts changes
        found[part] = max(found.get(part, 0.0), float((after[name] - before[name]).abs().max()))
    return found


def each_epoch(command, monkeypatch, **changed) -> list[tuple[dict, int]]:
    """Run a command in this process, with defaults of the script changed.

    After each epoch its weights, and the number of weights Adam keeps a state of.
    """
    seen, fit = [], GradientDescent.fit

    def watch(trainer, run):
        run.on_epoch = lambda checkpoint: seen.append(
            (
                {name: value.clone() for name, value in checkpoint.last["weights"].items()},
                sum(state["exp_avg"].numel() for state in checkpoint.last["optimiser"]["state"].values()),
            )
        )
        return fit(trainer, run)

    monkeypatch.setattr(GradientDescent, "fit", watch)
    monkeypatch.setattr(loop, "SAVING", np.inf)  # every epoch, however short
    script = load_script(ROOT / command[0])
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    defaults = [(name, int, value) for name, value in changed.items()]
    settings = make_dataclass("Settings", defaults, bases=(script.Settings,), kw_only=True)
    experiment.train(command[0].replace("train_", "").removesuffix(".py"), settings)
    return seen


@pytest.mark.parametrize("model", PARTS)
def test_with_head_only_the_last_part_learns_and_the_others_stay_bit_for_bit(tuned, script, model):
    command, source, run_dir = tuned(model, "--transfer", "head")
    assert script(*command).code == 0
    found = moved(source, run_dir)
    assert list(found) == PARTS[model]
    assert found.pop(PARTS[model][-1]) > 0 and not any(found.values())


def test_frozen_parts_stay_and_the_others_learn(tuned, script):
    command, source, run_dir = tuned("conv3d_lstm", "--freeze", "lstm", "dense")
    assert script(*command).code == 0
    found = moved(source, run_dir)
    assert found["conv"] > 0 and found["lstm"] == found["dense"] == 0


def test_rates_of_parts_are_those_of_adams_first_step(tuned, script):
    """In its first step Adam moves every weight by the learning rate, whatever the gradient."""
    one_step = ["--batch-size", 1000, "--lr", 1e-3]
    for name, flags, expected in (
        ("full", ["--transfer", "full"], {"conv": 1e-3, "lstm": 1e-3, "dense": 1e-3}),
        ("steps", ["--transfer", "discriminative"], {"conv": 1e-3 / 2.6**2, "lstm": 1e-3 / 2.6, "dense": 1e-3}),
    ):
        command, source, run_dir = tuned("conv3d_lstm", *one_step, *flags, name=name)
        assert script(*command).code == 0
        assert moved(source, run_dir) == pytest.approx(expected, rel=1e-2), name


def test_gradual_lets_one_more_part_learn_from_the_head_down(tuned, monkeypatch):
    command, source, _ = tuned("conv3d_lstm", "--transfer", "gradual", epochs=5)
    before, sizes = weights(source), {}
    for name, weight in before.items():
        sizes[name.partition(".")[0]] = sizes.get(name.partition(".")[0], 0) + weight.numel()
    expected = [{"dense"}, {"dense"}, {"dense", "lstm"}, {"dense", "lstm"}, {"dense", "lstm", "conv"}]
    for learned, (after, state) in zip(expected, each_epoch(command, monkeypatch, unfreeze_every=2), strict=True):
        changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed == learned
        assert state == sum(sizes[part] for part in learned)  # none for what has never learned
        before = before | {name: after[name] for name in after if name.partition(".")[0] not in learned}


def test_patience_waits_until_all_parts_learn(tuned, monkeypatch):
    flags = ["--transfer", "gradual", "--patience", 1, "--lr", 0.2]  # worse in every epoch
    command, _, run_dir = tuned("conv3d_lstm", *flags, epochs=20)
    each_epoch(command, monkeypatch, unfreeze_every=3)
    checkpoint = load_checkpoint(run_dir)
    assert checkpoint.epoch == max(2 * 3, checkpoint.best_epoch) + 1


def test_the_pull_is_the_gradient_of_the_penalty():
    torch.manual_seed(0)
    model = CNN(Grid(np.arange(6.0), np.arange(7.0)), 2, filters=4)
    source = {name: weight + torch.randn_like(weight) for name, weight in model.state_dict().items()}
    chosen = load_script(ROOT / "finetune-SMAPtest" / "train_cnn.py").Settings(transfer="l2sp", l2sp=0.3)
    features, distance = torch.rand(3, 2, 3, 6, 7), 0.0
    transfer = Transfer.of(model, chosen, source)
    model(features).square().sum().backward()
    transfer.pull()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    for name, weight in model.named_parameters():
        distance = distance + (weight - source[name]).square().sum()
    (model(features).square().sum() + 0.3 / 2 * distance).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad)


def test_a_strong_pull_holds_the_weights_and_stays_out_of_the_log(tuned, script):
    logs, distances = [], []
    for strength in ("1e-9", "1e6"):
        command, source, run_dir = tuned("cnn", "--transfer", "l2sp", "--l2sp", strength, name=strength, epochs=8)
        assert script(*command).code == 0
        logs.append(np.array([row[1:3] for row in load_checkpoint(run_dir).log]))
        distances.append(sum(moved(source, run_dir).values()))
    assert distances[1] < distances[0] / 2
    np.testing.assert_allclose(logs[0][0, 0], logs[1][0, 0], rtol=0.5)  # the first epoch begins from the same weights
    assert logs[1].max() < 1  # the penalty alone would be far above


def test_without_a_strategy_all_weights_learn_in_one_group_in_their_own_order():
    model = CNN(Grid(np.arange(6.0), np.arange(7.0)), 2, filters=4)
    chosen = load_script(ROOT / "finetune-SMAPtest" / "train_cnn.py").Settings(lr=0.1)
    (group,) = Transfer.of(model, chosen).groups()
    assert group["lr"] == 0.1
    assert [id(weight) for weight in group["params"]] == [id(weight) for weight in model.parameters()]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--freeze", "conv1"], "--freeze has 'conv1', expected some of this model's parts: conv, lstm, dense."),
        (["--freeze", "conv", "lstm", "dense"], "leaves no part of the model that learns"),
        (["--freeze", "dense", "--transfer", "head"], "leaves no part of the model that learns"),
        (["--unfreeze-every", 2], "Unrecognized options: --unfreeze-every"),
        (["--filters", 4], "Unrecognized options: --filters"),
        (["--l2sp", 0], "--l2sp is 0.0, expected a positive number"),
        (["--transfer", "some"], "invalid choice 'some'"),
    ],
)
def test_what_means_nothing_gets_one_sentence_and_writes_nothing(tuned, script, flags, message):
    command, _, run_dir = tuned("conv3d_lstm", *flags)
    assert message in script(*command).sentence()
    assert not run_dir.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--transfer", "gradual"],
        ["--transfer", "l2sp", "--l2sp", "0.1", "--match", "cdf"],
    ],
)
def test_a_killed_and_continued_run_ends_with_the_same_weights_bit_for_bit(tuned, script, flags):
    whole, _, whole_dir = tuned("conv3d_lstm", *flags, name="whole", epochs=4)
    killed, _, killed_dir = tuned("conv3d_lstm", *flags, name="killed", epochs=4)
    assert script(*whole).code == 0
    killed_run(killed, "in an epoch")
    assert load_checkpoint(killed_dir).epoch == 2
    assert script(*killed).code == 0
    one, other = load_checkpoint(whole_dir), load_checkpoint(killed_dir)
    assert [row[:4] for row in one.log] == [row[:4] for row in other.log]
    assert one.best_epoch == other.best_epoch and same(one.best, other.best)


@pytest.mark.parametrize("strategy", ["head", "gradual", "l2sp"])
def test_two_processes_give_the_weights_of_one(tuned, script, strategy):
    model = "convlstm --head conv"
    flags = ["--transfer", strategy, "--batch-size", 11, "--input-days", 3]
    one, _, one_dir = tuned(model, *flags, name="one", epochs=3)
    two, source, two_dir = tuned(model, *flags, name="two", epochs=3)
    assert script(*one).code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [str(word) for word in (*torchrun, ROOT / two[0], *two[1:])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    for name, value in weights(one_dir).items():
        torch.testing.assert_close(weights(two_dir)[name], value, atol=1e-5, rtol=0)
    if strategy == "head":
        found = moved(source, two_dir)
        assert found["dense"] > 0 and found["layers"] == found["reduce"] == 0


def test_a_run_made_before_there_were_strategies_is_the_same_run(tuned, script):
    command, _, run_dir = tuned("cnn")
    script(*command)
    path = run_dir / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for name in ("transfer", "freeze", "match", "unfreeze_every", "l2sp"):
        del content["settings"][name]
    torch.save(content, path)
    assert "is finished" in script(*command).out
    content["settings"] |= {"part_lr": [], "lr_decay": 2.6}  # settings of an earlier version
    torch.save(content, path)
    assert "is finished" in script(*command).out
    assert "--transfer was full, now head" in script(*command, "--transfer", "head").sentence()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_dense_layer_passes_the_gradient_on(frozen):
    layer, x = nn.Linear(5, 4, bias=False), torch.rand(3, 5, requires_grad=True)
    layer.weight.requires_grad_(not frozen)
    slope = torch.rand(3, 4)
    BlockedMatmul.apply(x, layer.weight).backward(slope)
    torch.testing.assert_close(x.grad, slope @ layer.weight.detach())
    assert (layer.weight.grad is None) == frozen
