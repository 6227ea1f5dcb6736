"""A model names its trainer, and nobody who trains, scores or refits it asks for more."""

import ast

import numpy as np
import pytest
import torch
from conftest import PERIODS, ROOT, tiny
from torch import nn

from utils import experiment
from utils.common.grid import Grid
from utils.models import ForecastModel
from utils.settings import SMAPSettings
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import load_script
from utils.training.trainer import copy_weights
from utils.training.trainers import TRAINERS, Trainer


class OneNumber(ForecastModel):
    """The same soil moisture everywhere, in m3 m-3."""

    trainer = "mean"
    scaled = False

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, features):
        return self.value.expand(len(features), *features.shape[3:])


class MeanTrainer(Trainer):
    """Takes the mean of all valid targets."""

    def fit(self, run):
        self.write_start(run, "2020-01-01")
        (windows,) = run.training
        batch = windows.batch(np.arange(len(windows)))
        self.model.value.data.fill_(batch.target[batch.valid].mean())
        run.checkpoint.best = copy_weights(self.model)
        self.write_end(run, "2020-01-01")
        return run.checkpoint


def test_a_new_way_to_fit_is_a_row_of_the_table(tmp_path, smap, monkeypatch):
    monkeypatch.setitem(TRAINERS, "mean", MeanTrainer)
    train, val, test = PERIODS[1:3], PERIODS[4:6], PERIODS[7:9]
    settings = SMAPSettings(
        data=smap, train=tuple(train), val=tuple(val), test=tuple(test), epochs=1, out=tmp_path / "run"
    )
    experiment.run("SMAPtest/mean", settings, lambda settings, grid: OneNumber())
    checkpoint = load_checkpoint(tmp_path / "run")
    moisture = tiny()["soil_moisture"].values[5:62]  # lead 3 and 3 input days: the first target day is the sixth
    assert checkpoint.finished
    assert checkpoint.best["value"].item() == pytest.approx(np.nanmean(moisture), rel=1e-5)


@pytest.mark.parametrize("script", sorted((ROOT / "SMAPtest").glob("train_*.py")), ids=lambda path: path.stem)
def test_the_model_of_every_script_names_a_trainer_and_its_receptive_field(script):
    module = load_script(script)
    model = module.build(module.Settings(input_days=3), Grid(np.linspace(50, 40, 9), np.linspace(70, 80, 10)))
    assert isinstance(model, ForecastModel) and model.trainer in TRAINERS
    radius = model.receptive_radius(3)
    assert radius is None or radius >= 0
    assert 1 <= model.input_window(3) <= 3


def test_nobody_decides_by_the_class_of_a_model():
    """isinstance(..., Compact) and the like; a trainer, of course, knows its model."""
    names = {"Compact", "CNN", "LSTM", "ConvLSTM", "Conv3dLSTM", "PixelLSTM"}
    for path in (ROOT / "utils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                asked = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                assert not asked & names, f"{path}:{node.lineno}"
