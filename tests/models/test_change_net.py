"""change_net as a model: where it begins, how far it looks, and that blocks of a map are the map."""

import numpy as np
import pytest
import torch
from conftest import tiny
from tiny_windows import SPLIT, windows_of

from utils.common.cli import UserError
from utils.dataset import blocks
from utils.dataset.antecedent_features import features_of
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import write_prepared
from utils.models.change_net import AROUND, FEATURES, ChangeNet
from utils.models.compact import STATIC


def random_net(**options) -> ChangeNet:
    """A small network whose output layers are not zero."""
    torch.manual_seed(0)
    net = ChangeNet(members=1, filters=3, kernel=5, hidden=4, **options)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return net


def forecast(model, windows):
    with torch.no_grad():
        return model(windows.batch(np.array([0, 20, 60])).features).numpy()


def test_an_untrained_network_forecasts_the_last_observation(smap):
    windows = windows_of(ChangeNet(), smap)
    scored = windows.statistics.scored
    last = windows.record.last_observed[windows.target_index[[0, 20, 60]] - 3]
    np.testing.assert_allclose(forecast(ChangeNet(), windows)[:, scored], last[:, scored], atol=1e-6)
    assert sum(weight.numel() for weight in ChangeNet(ahead=7).parameters()) <= 200_000


def test_a_network_works_on_cells_with_data_alone_as_its_layers_would_on_maps():
    network = random_net().networks[0]
    z, scored = torch.randn(2, network.cell[0].in_channels - 3, 6, 7), (torch.rand(1, 1, 6, 7) > 0.5).float()
    scored = scored.expand(2, -1, -1, -1)
    with torch.no_grad():
        maps = torch.cat([z, network.filters(torch.cat([z[:, network.around], scored], dim=1))], dim=1)
        expected = (network.cell(maps) + network.linear(maps))[:, 0] * scored[:, 0]
        torch.testing.assert_close(network(z, scored), expected)
        assert not network(z, torch.zeros_like(scored)).any()


def test_it_looks_as_far_as_its_filters_reach_and_no_farther(tmp_path):
    net = random_net()
    changed = tiny(shape=(9, 12))
    write_prepared(changed, tmp_path / "usual.nc")
    changed["precipitation"][:, 4, 2] += 20.0
    write_prepared(changed, tmp_path / "wet.nc")
    usual, wet = (forecast(net, windows_of(net, tmp_path / name)) for name in ("usual.nc", "wet.nc"))
    differs = np.abs(usual - wet).max(axis=0) > 1e-7
    rows, columns = np.nonzero(differs)
    assert net.receptive_radius(3) == 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 0, 4)


def test_blocks_of_a_large_map_give_the_forecast_of_the_whole_map(tmp_path, monkeypatch):
    path, net = tmp_path / "smap.nc", random_net()
    ds = tiny(shape=(12, 16))
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(1).random(ds["soil_moisture"].shape) > 0.5)
    write_prepared(ds, path)
    whole = windows_of(net, path)
    expected = forecast(net, whole)
    monkeypatch.setattr(blocks, "MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK", 16 * 100 * 120)
    parts = windows_of(net, path, patch=4)
    assert len(parts.blocks) > 1
    found = np.full_like(expected, np.nan)
    for part in parts:
        tile, values = part.blocks[0], forecast(net, part)
        rows, columns = (slice(own.start, own.stop) for own in tile.own)
        own = tile.mask()
        found[:, rows, columns] = values[:, own].reshape(len(values), rows.stop - rows.start, -1)
    scored = whole.statistics.scored
    np.testing.assert_allclose(found[:, scored], expected[:, scored], atol=1e-6)


def test_a_new_input_weighs_nothing_wherever_it_enters():
    """Each weight that `input_weights` names, and no other, has one position for each input."""
    net = random_net(further=("wind",), maps=("clay",))
    count, number = len(net.centre), net.features.index(features_of(("wind",))[0])
    assert count == len(FEATURES) + 2 + len(STATIC) + 1
    weights = net.state_dict()
    for name, (axis, positions) in net.input_weights([number], count).items():
        weights[name].index_fill_(axis, torch.tensor(positions), 0.0)
    features = torch.rand(2, 1, count, 6, 7)
    changed = features.clone()
    changed[:, :, number] += 5.0
    torch.testing.assert_close(net(features), net(changed))
    assert set(AROUND) < set(FEATURES)


def test_predictors_that_it_makes_itself_or_needs_are_told(smap):
    data = DataSet(smap)
    arguments = (data, data.statistics(SPLIT).unscaled())
    with pytest.raises(UserError, match="change_net has season of its own"):
        ChangeNet().make_windows(*arguments, lead_days=3, input_days=3, predictors=("soil_moisture", "season"))
    with pytest.raises(UserError, match="change_net needs precipitation"):
        ChangeNet().make_windows(*arguments, lead_days=3, input_days=3, predictors=("soil_moisture",))
