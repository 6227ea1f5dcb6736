"""conv_mixer as a model: its equations cell by cell, how far it looks, and its place among the scripts."""

import numpy as np
import torch
from scipy.signal import correlate2d
from scipy.special import erf

from utils.common.grid import tiles
from utils.models.conv_mixer import ConvMixer, MixerBlock
from utils.study.plan import PRETRAINING, SCRATCH, TRANSFERRED, read_train_script


def test_a_block_agrees_with_filters_one_by_one():
    torch.manual_seed(0)
    block, maps = MixerBlock(width=3, kernel=5), torch.rand(1, 3, 6, 7)
    kernels, biases = (weights.detach().numpy() for weights in block.around.parameters())
    matrix, levels = (weights.detach().numpy() for weights in block.across.parameters())

    def gelu(x):
        return x * (1 + erf(x / 2**0.5)) / 2

    mixed = [
        one + gelu(correlate2d(one, kernel[0], mode="same") + bias)
        for one, kernel, bias in zip(maps[0].numpy(), kernels, biases, strict=True)
    ]
    expected = gelu(np.tensordot(matrix[:, :, 0, 0], np.stack(mixed), 1) + levels[:, None, None])
    np.testing.assert_allclose(block(maps)[0].detach().numpy(), expected, atol=1e-5)


def test_forecasts_by_tiles_are_those_of_the_whole_map():
    torch.manual_seed(0)
    model = ConvMixer(input_days=2, width=4, depth=2, kernel=5).double()
    features, radius = torch.rand(2, 2, 3, 17, 14, dtype=torch.float64), model.receptive_radius(2)
    error = {}
    with torch.no_grad():
        whole = model(features)
        for halo in (radius, radius - 1):
            parts = [(model(features[..., *tile.window])[..., *tile.inside], tile) for tile in tiles((17, 14), 4, halo)]
            error[halo] = max(float((part - whole[..., *tile.own]).abs().max()) for part, tile in parts)
    assert radius == 4 and error[radius] < 1e-12 and error[radius - 1] > 1e-9


def test_every_day_variable_and_weight_counts():
    torch.manual_seed(0)
    model = ConvMixer(input_days=3)
    features = torch.rand(1, 3, 3, 5, 6, requires_grad=True)
    model(features).square().sum().backward()
    assert (features.grad.abs().amax(dim=(0, 3, 4)) > 0).all()
    assert all((weight.grad != 0).any() for weight in model.parameters())


def test_it_forecasts_the_change_unless_it_is_told_otherwise():
    for experiment in (PRETRAINING, SCRATCH, TRANSFERRED):
        for name, forecast in (("conv_mixer", "change"), ("conv_mixer_value", "value")):
            assert read_train_script(experiment, name).settings.forecast == forecast
    weights = sum(weight.numel() for weight in ConvMixer(input_days=7).parameters())
    assert weights < 100_000
