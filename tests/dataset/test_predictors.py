"""Predictors by name: further variables, static maps, what is derived, and what models and baselines make of them."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, ROOT, tiny

from utils.common.cli import UserError
from utils.common.grid import Grid, tiles
from utils.common.periods import Split, spans
from utils.data_processing import Windows
from utils.dataset import blocks
from utils.dataset.antecedent_features import AntecedentFeatures, features_of
from utils.dataset.blocks import DataSet
from utils.dataset.predictors import DERIVED, OLDEST, channel_names, variables_of
from utils.dataset.prepared import VARIABLES, read_prepared, write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import OUTSIDE, Statistics
from utils.dataset.weather_forecasts import KnownWeather
from utils.models.change import build_model
from utils.models.compact import Compact
from utils.scores.baseline_runs import FittedBaselines
from utils.settings import complete
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.inference import load_script
from utils.training.transfer import add_inputs

SPLIT = Split(*(spans(name, tuple(PERIODS[i : i + 2])) for name, i in (("train", 1), ("val", 4), ("test", 7))))
DAILY = ("precipitation", "soil_moisture", "soil_temperature", "wind", "season", "observation_age")
VARIABLES_OF_ALL = variables_of(DAILY, ("slope", "clay"))
FLAGS = ("--predictors", *DAILY[:4], "--static", "clay")
TRAIN = slice(0, 62)  # positions of the training days of PERIODS in tiny()
NETWORKS = ("cnn", "lstm", "convlstm", "conv3d_lstm", "pixel_lstm")


def rich(days: int = 120, **options) -> xr.Dataset:
    """tiny() with gaps in soil moisture, a further daily variable and two static maps, without units."""
    ds, rng = tiny(days, **options), np.random.default_rng(5)
    land = ds["soil_moisture"][0].notnull()
    ds["soil_moisture"] = ds["soil_moisture"].where(rng.random(ds["soil_moisture"].shape) > 0.6)
    ds["wind"] = ds["precipitation"].copy(data=rng.gamma(2, 2, ds["precipitation"].shape).astype("f4")).where(land)
    for name in ("clay", "slope"):
        ds[name] = land.copy(data=rng.random(land.shape).astype("f4")).where(land)
    ds["clay"][0, 0] = np.nan
    for name, variable in VARIABLES.items():
        ds[name].attrs["units"] = variable.units
    return ds


@pytest.fixture
def data(tmp_path):
    write_prepared(rich(), tmp_path / "rich.nc")
    return DataSet(tmp_path / "rich.nc", variables=VARIABLES_OF_ALL)


def all_windows(data: DataSet, **options) -> Windows:
    weather = KnownWeather(("precipitation", "wind"), 3)
    named = {"predictors": DAILY, "static": VARIABLES_OF_ALL.static, "weather": weather} | options
    return Windows(data, data.statistics(SPLIT), lead_days=3, input_days=2, receptive_radius=0, **named)


def min_max(values, of):
    return (values - np.nanmin(of)) / (np.nanmax(of) - np.nanmin(of))


def test_every_predictor_has_the_channels_of_its_name_scaled_by_hand(data):
    windows, ds = all_windows(data), rich()
    names = channel_names(DAILY, ("slope", "clay"), ("wind", "precipitation"), lead_days=3)
    assert names[:3] == tuple(VARIABLES) and names[3:9] == (
        *("observation_age", "season_cosine", "season_sine", "wind"),
        *("clay", "slope"),
    )
    features = windows.batch(np.arange(len(windows))).features.numpy()
    assert features.shape[2] == len(names) == 9 + 2 * 3
    maps = dict(zip(names, np.moveaxis(features, 2, 0), strict=True))
    last, land = windows.last_index(np.arange(len(windows))), ds["soil_temperature"][0].notnull().values
    wind, clay = ds["wind"].values, ds["clay"].values
    expected = {
        "wind": min_max(wind, wind[TRAIN])[last],
        "wind_ahead_2": min_max(wind, wind[TRAIN])[last + 2],
        "precipitation_ahead_3": min_max(ds["precipitation"].values, ds["precipitation"].values[TRAIN])[last + 3],
        "clay": np.broadcast_to(min_max(np.where(np.isnan(clay), np.nanmean(clay), clay), clay), (len(last), 7, 8)),
    }
    angle = 2 * np.pi * (windows.init_time - windows.init_time.astype("datetime64[Y]")).astype(int) / 365.2425
    expected["season_sine"] = np.broadcast_to((np.sin(angle)[:, None, None] + 1) / 2, (len(last), 7, 8))
    for name, values in expected.items():
        tolerance = 0.01 if name == "season_sine" else 1e-5  # the day of the year counts from another moment
        np.testing.assert_allclose(maps[name][:, -1][:, land], values[:, land], atol=tolerance, err_msg=name)
        assert (maps[name][..., ~land] == OUTSIDE).all()
    np.testing.assert_array_equal(maps["clay"][:, 0], maps["clay"][:, 1])


def test_the_age_of_an_observation_by_a_loop_knows_only_what_the_inputs_know():
    ds = rich().isel(time=np.r_[0:40, 50:120])  # a gap in time
    ds["soil_moisture"][45:, 2, 3] = np.nan
    statistics = Statistics.fit(ds, SPLIT, VARIABLES_OF_ALL.all)
    hidden = np.random.default_rng(2).random((110, 1, 8)) < 0.3
    record = Record(ds, statistics, DAILY, hidden=hidden)
    found = record.features[:, record.channels.index("observation_age"), 2].numpy()
    for column in range(8):
        age = OLDEST
        for day in range(110):
            seen = np.isfinite(ds["soil_moisture"].values[day, 2, column]) and not hidden[day, 0, column]
            age = 0 if seen else min(OLDEST if day == 40 else age + 1, OLDEST)
            assert found[day, column] == pytest.approx(age / OLDEST)


def test_patches_and_blocks_of_a_large_map_see_the_same(data, monkeypatch):
    windows = all_windows(data)
    count = np.arange(8)
    features = windows.batch(count).features
    cut = windows.patches(patches := tiles(data.grid.shape, 3))
    for number, patch in enumerate(patches):
        assert torch.equal(cut.batch(count * len(patches) + number).features, features[:, :, :, *patch.window])
    monkeypatch.setattr(blocks, "MEMORY", 1)
    monkeypatch.setattr(blocks, "BLOCK", 4 * 9 * 120 * 20)
    monkeypatch.setattr(blocks, "TILE", 4)
    in_blocks = all_windows(data, patch=1)
    assert len(in_blocks.blocks) >= 4
    for part, block in zip(in_blocks, in_blocks.blocks, strict=True):
        torch.testing.assert_close(part.batch(count).features, features[..., *block.window])


def test_a_copy_in_tiles_has_the_further_variables_and_the_static_maps_beside_it(tmp_path, monkeypatch):
    ds = rich(shape=(12, 14))
    write_prepared(ds, tmp_path / "large.zarr")
    monkeypatch.setattr(blocks, "MEMORY", 1)
    monkeypatch.setattr(blocks, "BLOCK", 4 * 4 * 120 * 16)
    monkeypatch.setattr(blocks, "TILE", 6)
    data = DataSet(tmp_path / "large.zarr", variables=VARIABLES_OF_ALL)
    window = (slice(3, 9), slice(4, 10))
    read = data.read(window)
    assert blocks.in_tiles.cache_info().currsize and set(read) == set(VARIABLES_OF_ALL.all)
    for name in VARIABLES_OF_ALL.all:
        np.testing.assert_array_equal(read[name].values, ds[name].isel(lat=window[0], lon=window[1]).values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.drop_vars("wind"), "wind, which --predictors asks for, is missing; found precipitation"),
        (lambda ds: ds.drop_vars("clay"), "clay, which --static asks for, is missing"),
        (lambda ds: ds.assign(wind=ds["clay"]), "wind has the dimensions lat, lon, expected time, lat, lon for --pred"),
        (lambda ds: ds.assign(clay=ds["wind"]), "clay has the dimensions time, lat, lon, expected lat, lon for --stat"),
        (lambda ds: ds.assign(wind=ds["wind"].where(ds["wind"] < 9, np.inf)), r"wind has \d+ infinite values"),
        (lambda ds: ds.assign(clay=ds["clay"].where(ds["clay"] < 0.5, np.inf)), r"clay has \d+ infinite values"),
        (lambda ds: ds.assign(wind=ds["wind"] * np.nan), "wind has no valid value at all"),
        (lambda ds: ds.assign(clay=ds["clay"].astype(str)), "clay has values of type"),
    ],
)
def test_a_file_without_the_predictors_it_is_asked_for_is_refused(tmp_path, change, message):
    change(rich()).to_netcdf(tmp_path / "bad.nc")
    with pytest.raises(UserError, match=message):
        DataSet(tmp_path / "bad.nc", variables=variables_of(DAILY, ("clay",))).statistics(SPLIT)


def test_variables_that_nobody_names_are_not_read(tmp_path):
    ds = rich().assign(age=("time", np.zeros(120), {"units": "days since launch"}))
    ds.to_netcdf(tmp_path / "more.nc")
    assert list(read_prepared(tmp_path / "more.nc")) == list(VARIABLES)
    assert set(read_prepared(tmp_path / "more.nc", variables=VARIABLES_OF_ALL)) == set(VARIABLES_OF_ALL.all)


def test_features_of_a_further_variable_by_a_loop(data):
    statistics = data.statistics(SPLIT).unscaled()
    record = Record(data.read(), statistics, DAILY[:4])
    features = AntecedentFeatures(record, (*features_of(DAILY[:4]), "clay:map"))
    wind = rich()["wind"].values[:, 3, 4].astype(float)
    anomaly = wind - wind[TRAIN].mean()
    weights = np.exp(-np.arange(101)[::-1] / 10)
    latest, recent, clay = features.at(np.array([100]))[0, :, 3, 4]
    assert latest == pytest.approx(anomaly[100], abs=1e-5)
    assert recent == pytest.approx((weights * anomaly[:101]).sum() / weights.sum(), abs=1e-5)
    assert clay == rich()["clay"].values[3, 4]


def telling(tmp_path) -> None:
    """A data set whose wind says today what the change of soil moisture will be in two days."""
    ds = tiny()
    moisture = ds["soil_moisture"].values
    wind = np.zeros_like(moisture)
    wind[:-2] = moisture[2:] - moisture[:-2]
    write_prepared(ds.assign(wind=(ds["soil_moisture"].dims, wind), clay=ds["soil_moisture"][0]), tmp_path / "tell.nc")


def test_ridge_and_ridge_memory_learn_from_a_further_variable(tmp_path):
    telling(tmp_path)
    rmse = {}
    for daily in (DAILY[:3], DAILY[:4]):
        path = tmp_path / "tell.nc"
        baselines = FittedBaselines(
            learn_from=path,
            data=path,
            train=SPLIT.train,
            val=SPLIT.val,
            test=SPLIT.test,
            lead_days=2,
            input_days=2,
            start=None,
            variables=variables_of(daily, ("clay",)),
        )
        forecasts = baselines.forecasts(baselines.test.blocks[0])
        error = {name: maps - baselines.test.observed for name, maps in forecasts.items()}
        rmse[daily] = {name: float(np.sqrt(np.nanmean(values**2))) for name, values in error.items()}
    for name, before in rmse[DAILY[:3]].items():
        after = rmse[DAILY[:4]][name]
        better = {"boosting": 0.8}.get(name, 0.6)
        assert (after < better * before) if name.startswith(("ridge", "boosting")) else (after == before), name


def test_the_compact_model_learns_from_a_further_variable_and_its_baselines_too(tmp_path, script):
    telling(tmp_path)
    train = ("SMAPtest/train_compact.py", "--data", tmp_path / "tell.nc", *PERIODS, "--lead-days", 2, "--epochs", 1)
    done = script(*train, *FLAGS, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert script("SMAPtest/eval.py", tmp_path / "run").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    usual = metrics["baselines"]["damped_persistence"]["rmse"]
    assert metrics["rmse"] < 0.6 * usual and metrics["baselines"]["ridge"]["rmse"] < 0.6 * usual
    assert load_checkpoint(tmp_path / "run").restored_statistics().variables == (*VARIABLES, "wind", "clay")


def networks_with(names, static, model):
    """A network of these predictors, with random weights, and the names of its inputs."""
    script = load_script(ROOT / "SMAPtest" / f"train_{model}.py")
    settings = script.Settings(predictors=names, static=static, input_days=3, lead_days=3, known_ahead=DAILY[:1])
    complete(settings)
    network = build_model(script.build, settings, Grid(np.arange(5.0), np.arange(6.0)))
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return network.eval(), network.input_names(settings)


@pytest.mark.parametrize("model", [*NETWORKS, "compact"])
def test_with_new_predictors_at_zero_a_model_forecasts_what_its_source_does(model):
    torch.manual_seed(0)
    source, there = networks_with(("precipitation", "soil_moisture", "wind"), ("clay",), model)
    tuned, here = networks_with((*DAILY[:4], "air"), ("clay", "slope"), model)
    seen = [name for name in there if model == "compact" or name != "soil_temperature"]
    new = {name for name in here if name not in seen}
    tuned.load_state_dict(add_inputs(tuned, source.state_dict(), there, here, new))
    few = torch.rand(4, 3, len(there) - (model == "compact"), 5, 6)
    if model != "compact":
        few[:, :, there.index("soil_temperature")] = OUTSIDE  # no predictor of the source
    many = torch.rand(4, 3, len(here) - (model == "compact"), 5, 6)
    many[:, :, [here.index(name) for name in seen if name != "regression"]] = few[
        :, :, [there.index(name) for name in seen if name != "regression"]
    ]
    torch.testing.assert_close(tuned(many), source(few))


@pytest.mark.parametrize("model", ["pixel_lstm", "compact"])
def test_fine_tuning_says_what_its_source_lacks_or_starts_it_at_zero(tmp_path, script, model):
    write_prepared(rich(), tmp_path / "smap.nc")
    write_prepared(rich(150, start="2015-01-01", seed=1), tmp_path / "era5.nc")
    few = ("--lead-days", 2, "--epochs", 1)
    train = (f"ERA5test/train_{model}.py", "--data", tmp_path / "era5.nc", *ERA5_PERIODS, *few)
    done = script(*train, *(("--pseudo-satellite-years", 2) if model == "compact" else ()))
    assert done.code == 0, done.err
    tune = (f"finetune-SMAPtest/train_{model}.py", "--data", tmp_path / "smap.nc", *PERIODS, *few, *FLAGS)
    said = script(*tune).sentence()
    assert "was trained without wind clay; make one with: python ERA5test" in said and "--static clay" in said
    done = script(*tune, "--new-predictors", "zero", "--transfer", "head" if model == "compact" else "l2sp")
    assert done.code == 0, done.err
    checkpoint = load_checkpoint(tmp_path / "runs/finetune-SMAPtest" / model / "lead2/seed0")
    assert checkpoint.predictors == DAILY[:4] and 0 < checkpoint.best_rmse < 0.2
    before = load_checkpoint(tmp_path / "runs/ERA5test" / model / "lead2/seed0").restored_statistics()
    after = checkpoint.restored_statistics()
    assert (after.low[:3] == before.low).all() or model == "compact"  # the scaling of the source, and its own of wind
    assert after.high[3] > 1 or model == "compact"


def test_the_compact_model_says_what_it_cannot_do_without(tmp_path, script):
    write_prepared(rich(), tmp_path / "rich.nc")
    train = ("SMAPtest/train_compact.py", "--data", tmp_path / "rich.nc", *PERIODS, "--predictors")
    assert "has season of its own" in script(*train, *VARIABLES, "season").sentence()
    assert "needs precipitation among" in script(*train, "soil_moisture", "wind").sentence()
    assert Compact().input_names(load_script(ROOT / "SMAPtest/train_compact.py").Settings())[-1] == "regression"


def test_the_older_flags_are_other_names_of_known_ahead(tmp_path, smap, script):
    train = ("SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, "--lead-days", 2, "--epochs", 1)
    run_dir = tmp_path / "runs/SMAPtest/pixel_lstm_future_weather/lead2/seed0"
    assert (
        "known_ahead = precipitation soil_temperature"
        in script(*train, "--future-precipitation", "--future-temperature").out
    )
    config = json.loads((run_dir / "config.json").read_text())["settings"]
    assert config["known_ahead"] == {"value": ["precipitation", "soil_temperature"], "from": "command line"}
    checkpoint = load_checkpoint(run_dir)
    del checkpoint.settings["known_ahead"]  # as an earlier version wrote it
    save_checkpoint(run_dir, checkpoint)
    checkpoint.settings |= {"future_precipitation": True, "future_temperature": True}
    save_checkpoint(run_dir, checkpoint)
    assert "nothing to do" in script(*train, "--known-ahead", "soil_temperature", "precipitation").out
    assert "--known-ahead has 'wind', expected some of" in script(*train, "--known-ahead", "wind").sentence()


def test_the_table_of_derived_predictors_hides_no_variable():
    assert not set(DERIVED) & set(VARIABLES)
    assert channel_names(tuple(VARIABLES)) == tuple(VARIABLES)
