"""The published models: their size, their recurrence over days and their independence of the batch."""

import importlib

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny
from scipy.signal import correlate2d

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.dataset.prepared import grid_of
from utils.models.convlstm import ConvLSTMLayer
from utils.models.lstm import LSTM
from utils.training.inference import load_script

CHINA = Grid(np.arange(54.0, 2, -1), np.arange(72.0, 137))
NAMES = ["cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm"]
EXPERIMENTS = ["ERA5test", "SMAPtest", "finetune-SMAPtest"]


def settings_and_build(name, folder="SMAPtest"):
    script, _, head = name.partition("_") if name.startswith("convlstm") else (name, "", "")
    module = load_script(ROOT / folder / f"train_{script}.py")
    return module.Settings(**({"head": head} if head else {})), getattr(module, "build", None)


def model(name, grid=None, input_days=4, seed=0):
    settings, build = settings_and_build(name)
    settings.input_days = input_days
    torch.manual_seed(seed)
    return build(settings, grid or grid_of(tiny())).eval()


@pytest.mark.parametrize(
    ("name", "published"),
    # PAPER's table, worked out by hand from the layers' sizes
    [
        ("cnn", (9 * 9 * 48 + 48) + (48 * 17 * 21 * 3380 + 3380)),
        ("lstm", 4 * 3380 * (10140 + 3380 + 2) + 3380 * 3381),
        ("convlstm", 4944 + 4 * 3380 * 3380 + 3380),
        ("convlstm_conv", 4944 + 5 + 3380 * 3381),
        ("conv3d_lstm", (27 * 10 + 10) + 4 * 3380 * (10 * 17 * 21 + 3380 + 2) + 3380 * 3381),
    ],
)
def test_parameter_counts_agree_with_the_paper(name, published):
    with torch.device("meta"):
        found = sum(p.numel() for p in model(name, CHINA, input_days=3).parameters())
    assert found == published
    millions = {"cnn": 57.9, "lstm": 194.2, "convlstm": 45.7, "convlstm_conv": 11.4, "conv3d_lstm": 105.4}
    assert found / 1e6 == pytest.approx(millions[name], abs=0.06)


@pytest.mark.parametrize("folder", EXPERIMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_published_defaults_stand_in_the_scripts(folder, name):
    settings, _ = settings_and_build(name, folder)
    epochs = {
        "cnn": (30, 100, 30),
        "lstm": (30, 45, 30),
        "convlstm": (50, 30, 50),
        "convlstm_conv": (50, 20, 50),
        "conv3d_lstm": (20, 30, 40),
    }
    assert (settings.epochs or settings.published_epochs) == epochs[name][EXPERIMENTS.index(folder)]
    assert settings.batch_size == (64 if name.startswith("convlstm") and folder != "ERA5test" else 128)
    assert settings.lr == 1e-3 and settings.patience == 0


@pytest.mark.parametrize("name", NAMES)
def test_changing_any_one_input_day_changes_the_forecast(name):
    network, features = model(name), torch.rand(2, 4, 3, 7, 8)
    forecast = network(features)
    assert forecast.shape == (2, 7, 8)
    for day in range(4):
        for channel in range(3):
            changed = features.clone()
            changed[0, day, channel] += 0.5
            assert not torch.allclose(network(changed)[0], forecast[0], atol=1e-7), (day, channel)


@pytest.mark.parametrize("name", NAMES)
def test_another_sample_of_the_batch_changes_nothing(name):
    network, features = model(name), torch.rand(3, 4, 3, 7, 8)
    forecast = network(features)
    changed = features.clone()
    changed[1:] = torch.rand(2, 4, 3, 7, 8)
    torch.testing.assert_close(network(changed)[0], forecast[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(network(features[:1])[0], forecast[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(network(features.flip(0)).flip(0), forecast, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_days_matters(name):
    network, features = model(name), torch.rand(1, 4, 3, 7, 8)
    assert not torch.allclose(network(features), network(features.flip(1)), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_vary_with_the_input_and_not_between_calls(name):
    network, features = model(name).train(), torch.rand(4, 4, 3, 7, 8)
    forecast = network(features)
    torch.testing.assert_close(network(features), forecast, rtol=0, atol=0)
    assert (forecast.std(dim=0) > 1e-6).any(dim=1).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("input_days", [1, 7])
@pytest.mark.parametrize("shape", [(3, 3), (18, 38), (11, 4)])
def test_any_grid_and_any_number_of_input_days(name, input_days, shape):
    grid = Grid(np.linspace(50, 20, shape[0]), np.linspace(-120, -70, shape[1]))
    features = torch.rand(2, input_days, 3, *shape)
    forecast = model(name, grid, input_days)(features)
    assert forecast.shape == (2, *shape) and torch.isfinite(forecast).all()


@pytest.mark.parametrize("name", ["cnn", "conv3d_lstm"])
def test_a_grid_smaller_than_the_kernel_is_refused(name):
    with pytest.raises(UserError, match="at least 3 × 3 cells"):
        model(name, Grid(np.array([1.0, 2.0]), np.arange(9.0)))


def test_convlstm_layer_agrees_with_a_loop_over_cells_and_gates():
    torch.manual_seed(1)
    layer, maps = ConvLSTMLayer(2, 3, 3), torch.rand(1, 4, 2, 5, 6)
    weight = layer.ifgo.weight.detach().numpy().astype(float)
    bias = layer.ifgo.bias.detach().numpy().astype(float)
    h = c = np.zeros((3, 5, 6))

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for day in range(4):
        stacked = np.concatenate([maps[0, day].numpy(), h])
        gates = np.stack([sum(correlate2d(m, k, mode="same") for m, k in zip(stacked, w, strict=True)) for w in weight])
        i, f, g, o = np.split(gates + bias[:, None, None], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    h_last = layer(maps.permute(1, 0, 3, 4, 2))
    np.testing.assert_allclose(h_last[-1][0].permute(2, 0, 1).detach().numpy(), h, atol=1e-5)


def test_lstm_agrees_with_the_equations_day_by_day():
    torch.manual_seed(2)
    network = LSTM(grid_of(tiny(shape=(3, 4))), hidden=5)
    features = torch.rand(2, 3, 3, 3, 4)
    w, r, b = network.lstm.weight_ih_l0, network.lstm.weight_hh_l0, network.lstm.bias_ih_l0 + network.lstm.bias_hh_l0
    h = c = torch.zeros(2, 5)
    for day in range(3):
        i, f, g, o = (features[:, day].flatten(1) @ w.T + h @ r.T + b).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    expected = network.dense(h).unflatten(1, (3, 4))
    torch.testing.assert_close(network(features), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("module", ["cnn", "lstm", "convlstm", "conv3d_lstm"])
def test_model_files_stay_short(module):
    source = importlib.import_module(f"utils.models.{module}").__file__
    with open(source) as file:
        assert len(file.readlines()) < 100
