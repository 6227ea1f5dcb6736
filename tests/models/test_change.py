"""--forecast change: the last input map of soil moisture plus a network's output."""

import pytest
import torch
from conftest import ERA5_PERIODS, PERIODS, tiny
from test_models import NAMES, settings_and_build

from utils.common.cli import UserError
from utils.dataset.prepared import grid_of
from utils.models import ForecastModel
from utils.models.change import ChangeForecast, build_model
from utils.study.plan import SCRATCH, TRANSFERRED, plan_predictors, read_train_script
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import restore_model
from utils.training.transfer import parts_of

OURS = ["convlstm_no_relu", "convlstm_pixel", "conv_mixer"]


def change_model(name, seed=0) -> ChangeForecast:
    settings, build = settings_and_build(name)
    settings.input_days, settings.forecast = 4, "change"
    torch.manual_seed(seed)
    return build_model(build, settings, grid_of(tiny()))


@pytest.mark.parametrize("name", [*NAMES, *OURS])
def test_an_untrained_network_is_persistence_and_can_learn(name):
    model, features = change_model(name), torch.rand(3, 4, 3, 7, 8)
    torch.testing.assert_close(model(features), features[:, 3, 1], rtol=0, atol=0)
    for _ in range(2):  # the first step moves the output layer, the second all weights
        model(features).sub(0.3).square().sum().backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 1e-3 * weight.grad
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize("name", [*NAMES, *OURS])
def test_the_forecast_is_the_last_map_plus_the_output_of_the_network_as_published(name):
    model = change_model(name)
    settings, build = settings_and_build(name)
    settings.input_days = 4
    network, features = build(settings, grid_of(tiny())), torch.rand(2, 4, 3, 7, 8)
    model.network.load_state_dict(network.state_dict())
    torch.testing.assert_close(model(features), features[:, -1, 1] + network(features))
    assert list(parts_of(model)) == list(parts_of(network))
    assert model.receptive_radius(4) == network.receptive_radius(4)


class SmallChange(ForecastModel):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(1, 1)

    def forward(self, features):
        return torch.full_like(features[:, -1, 0], 2**-9, dtype=torch.bfloat16)


def test_in_mixed_precision_the_sum_is_made_in_32_bit():
    features = torch.full((1, 1, 3, 2, 2), 0.5 + 2**-12)
    with torch.autocast("cpu", torch.bfloat16):
        forecast = ChangeForecast(SmallChange())(features)
    assert forecast.dtype == torch.float32
    assert (forecast == 0.5 + 2**-12 + 2**-9).all()  # in bf16 both additions to 0.5 would be lost


@pytest.mark.parametrize("name", ["convlstm_conv_change", "convlstm_change", "conv3d_lstm_change"])
def test_it_is_a_variant_of_its_script_in_the_study(name):
    script = read_train_script(SCRATCH, name)
    assert script.settings.forecast == "change" and script.settings.model_name(script.name) == name
    assert "convlstm" not in name or script.settings.head == ("conv" if "conv_" in name else "linear")


def test_there_is_no_change_of_the_compact_model_and_none_without_soil_moisture():
    with pytest.raises(UserError, match="with such --head and --forecast"):
        read_train_script(TRANSFERRED, "compact_change")
    variants = [[task.variant for task in plan_predictors(name, 3, (0,))] for name in ("convlstm_change", "convlstm")]
    assert set(variants[1]) - set(variants[0]) == {"_without_soil_moisture"}


def test_pre_training_and_fine_tuning_carry_the_setting(tmp_path, era5, smap, script):
    runs = tmp_path / "runs"
    run_dir, source = (runs / folder / "cnn_change/lead2/seed0" for folder in ("finetune-SMAPtest", "ERA5test"))
    train = ("--lead-days", 2, "--epochs", 1, "--filters", 4, "--forecast", "change")
    tune = ("finetune-SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--lead-days", 2, "--epochs", 2)
    said = script(*tune, "--forecast", "change").sentence()
    assert "python ERA5test/train_cnn.py --lead-days 2 --forecast change" in said
    assert script("ERA5test/train_cnn.py", "--data", era5, *ERA5_PERIODS, *train).code == 0
    assert "has the model cnn_change, expected cnn;" in script(*tune, "--init-from", source).sentence()
    assert script(*tune, "--forecast", "change", "--transfer", "head").code == 0
    checkpoint, before = load_checkpoint(run_dir), load_checkpoint(source)
    assert checkpoint.model == "cnn_change" and checkpoint.settings["forecast"] == "change"
    moved = {name for name, weights in checkpoint.best.items() if not torch.equal(weights, before.best[name])}
    assert moved == {"network.dense.weight", "network.dense.bias"}
    assert isinstance(restore_model(checkpoint, run_dir), ChangeForecast)


def test_without_soil_moisture_there_is_nothing_to_count_from(tmp_path, smap, script):
    flags = ("--forecast", "change", "--predictors", "precipitation", "--out", tmp_path / "run")
    said = script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, *flags).sentence()
    assert "--forecast change counts from" in said
