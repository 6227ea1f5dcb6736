"""Each model is, numerically, the published one: forecasts and gradients of a plain reference with the same weights."""

import numpy as np
import pytest
import torch
from published_step import step, windows
from test_models import NAMES, settings_and_build

from utils.common.grid import Grid
from utils.data_processing import Batch
from utils.models import reference
from utils.training.loop import sum_squared_errors


@pytest.mark.parametrize("name", [*NAMES, "convlstm_no_relu"])
@pytest.mark.parametrize(
    ("shape", "input_days", "season"), [((7, 8), 3, False), ((18, 13), 1, False), ((4, 11), 7, True), ((3, 3), 2, True)]
)
def test_forecast_and_gradients_agree_with_the_published_step(tmp_path, name, shape, input_days, season):
    settings, build = settings_and_build(name)
    settings.input_days = input_days
    settings.predictors = (*settings.predictors, "season") if season else settings.predictors
    torch.manual_seed(0)
    model = build(settings, Grid(np.linspace(50, 20, shape[0]), np.linspace(70, 90, shape[1])))
    plain = reference.MODELS[name](shape, input_days, settings.channels)
    plain.load_state_dict(model.state_dict())

    rng = np.random.default_rng(1)
    days = rng.random((input_days + 3 + 8, settings.channels, *shape), dtype=np.float32)
    features, target = windows(days, input_days, lead_days=3)
    mask = rng.random(shape) < 0.7
    np.save(tmp_path / "mask.npy", mask)
    samples = np.arange(len(features))[::-2].copy()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0)  # leaves weights and gradients as they are
    mask_file = tmp_path / "mask.npy"
    loss = step(plain, optimiser, features=features, target=target, samples=samples, mask_file=mask_file)

    valid = torch.from_numpy(np.broadcast_to(mask, target[samples].shape).copy())
    batch = Batch(torch.from_numpy(features[samples]), torch.from_numpy(target[samples]), valid)
    forecast = model(batch.features)
    ours = sum_squared_errors(forecast, batch) / valid.sum()
    ours.backward()
    torch.testing.assert_close(forecast, plain(batch.features), atol=1e-5, rtol=1e-5)
    assert ours.item() == pytest.approx(loss, rel=1e-5)
    for (parameter, weight), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad  # no recurrence on a single day
        torch.testing.assert_close(found, expected.grad, atol=1e-5, rtol=1e-5, msg=lambda m, p=parameter: f"{p}: {m}")


@pytest.mark.parametrize("name", ["lstm", "convlstm", "conv3d_lstm"])
def test_gradients_are_exact_in_64_bit(name):
    settings, build = settings_and_build(name)
    settings.input_days = 3
    torch.manual_seed(0)
    model = build(settings, Grid(np.arange(3.0), np.arange(4.0))).double()
    features = torch.rand(2, 3, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, features)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_mixed_precision_stay_near_those_in_32_bit(name):
    settings, build = settings_and_build(name)
    settings.input_days = 7
    torch.manual_seed(0)
    model = build(settings, Grid(np.linspace(50, 20, 18), np.linspace(70, 90, 13)))
    features, target = torch.rand(16, 7, 3, 18, 13), torch.rand(16, 18, 13)
    found = {}
    for mixed in (True, False):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            forecast = model(features)
        (forecast.float() - target).square().mean().backward()
        found[mixed] = [weight.grad.clone() for weight in model.parameters()]
    for ours, exact in zip(found[True], found[False], strict=True):
        assert (ours - exact).norm() < 0.06 * exact.norm()
