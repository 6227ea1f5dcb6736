"""The compact model: what it sees by hand, what it learns against least squares, and that it knows no later day."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, tiny
from test_training import same, weights

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.periods import Split, spans
from utils.common.ridge import solve_ridge
from utils.dataset import blocks
from utils.dataset.antecedent_features import AntecedentFeatures
from utils.dataset.blocks import DataSet
from utils.dataset.past_days import STALE
from utils.dataset.predictors import OLDEST
from utils.dataset.prepared import write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.dataset.upwind_rain import upwind_rain
from utils.models.compact import DYNAMIC, IN_CELLS, STATIC, Compact, MemoryWindows
from utils.training import pseudo_satellite
from utils.training.checkpoint import hash_weights, load_checkpoint
from utils.training.compact import forecast_parts, set_regression, sum_products_of_parts
from utils.training.compact_samples import CellSamples, draw_observations, draw_pseudo_satellite_years

SPLIT = Split(
    spans("train", ("2015-03-31", "2015-05-31")),
    spans("val", ("2015-06-01", "2015-06-30")),
    spans("test", ("2015-07-01", "2015-07-28")),
)


def gappy(share=0.5, **options):
    ds = tiny(**options)
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(1).random(ds["soil_moisture"].shape) > share)
    return ds


def recorded(ds):
    return Record(ds, Statistics.fit(ds, SPLIT).unscaled())


def memory_windows(data, periods, **options):
    return MemoryWindows(data, periods=periods, lead_days=3, input_days=1, name="any", **options)


def feature(record, name):
    return AntecedentFeatures(record, (*DYNAMIC, *IN_CELLS[-2:]))[name]


def test_rain_since_the_last_observation_by_a_loop():
    ds = gappy(0.8)
    found, row, column, total, age = feature(recorded(ds), "root_rain_since"), 2, 3, 0.0, OLDEST
    rain = np.sqrt(ds["precipitation"].values[:, row, column])
    for day, moisture in enumerate(ds["soil_moisture"].values[:, row, column]):
        age = 0 if np.isfinite(moisture) else age + 1
        total = 0.0 if age == 0 or day == 0 else total + rain[day] * (age <= STALE)
        assert found[day, row, column] == pytest.approx(total, abs=1e-4)
    assert feature(recorded(ds), "last_anomaly_age_7").max() == STALE


@pytest.mark.parametrize("eastward", [True, False])
def test_rain_to_the_west_in_cells_is_what_it_was_in_earlier_versions(eastward):
    ds = tiny()
    ds = ds if eastward else ds.isel(lon=slice(None, None, -1))
    found = xr.DataArray(feature(recorded(ds), "root_rain_west"), dims=("time", "lat", "lon"), coords=ds.coords)
    rain = np.sqrt(ds["precipitation"])  # row 2 of 7, column 5 of 8 from the west: rows 1 to 3, columns 2 to 4
    west = rain.sortby("lon").isel(time=9, lat=slice(1, 4), lon=slice(2, 5))
    assert found.sortby("lon")[9, 2, 5] == pytest.approx(float(west.mean()), rel=1e-5)
    assert (found.sortby("lon")[:, :, 0] == 0).all()


@pytest.mark.parametrize("order", [1, -1])
def test_rain_upwind_is_that_of_a_box_in_kilometres_whatever_the_order_of_the_axes(order):
    """By a loop over cells: each scored one counts by the share of it between 100 and 640 km west, 330 km about."""
    ds = tiny().isel(lon=slice(None, None, order), lat=slice(None, None, order))
    found, scored = feature(recorded(ds), "root_rain_upwind"), np.isfinite(ds["soil_moisture"].values).any(axis=0)
    rain, lat, lon = np.sqrt(ds["precipitation"].values[9]), ds.lat.values, ds.lon.values
    height, width = abs(lat[1] - lat[0]), abs(lon[1] - lon[0])
    for row, column in ((3, 5), (0, 0), (6, 4), (5, 2)):
        total = weight = 0.0
        for i, j in zip(*np.nonzero(scored), strict=True):
            north = (lat[i] - lat[row]) * 111.195
            west = (lon[column] - lon[j]) * 111.195 * np.cos(np.deg2rad(lat[row]))
            tall, wide = height * 111.195, width * 111.195 * np.cos(np.deg2rad(lat[row]))
            share = max(0, min(north + tall / 2, 330) - max(north - tall / 2, -330)) / tall
            share *= max(0, min(west + wide / 2, 640) - max(west - wide / 2, 100)) / wide
            total, weight = total + share * rain[i, j], weight + share
        expected = total / weight if weight and scored[row, column] else 0
        assert found[9, row, column] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (found[:, :, np.argmin(lon)] == 0).all()


def test_rain_upwind_is_the_same_on_grids_of_any_resolution():
    """A smooth field on cells of 2°, 1° and 0.2°, whose last are grouped; in cells the last would be a tenth as far."""
    means = []
    for step in (2.0, 1.0, 0.2):
        lat, lon = np.arange(30 + step / 2, 40, step), np.arange(90 + step / 2, 110, step)
        rain = (5 + np.sin(lon / 4) + 0.1 * lat[:, None])[None].astype(np.float32)
        found = upwind_rain(rain, np.ones(rain.shape[1:], bool), Grid(lat, lon))[0]
        field = xr.DataArray(found, dims=("lat", "lon"), coords={"lat": lat, "lon": lon})
        means.append(float(field.interp(lat=35.0, lon=104.0)))
    assert means == pytest.approx([means[0]] * 3, rel=0.02)


def test_the_season_is_less_its_mean_over_the_cells_own_observations():
    ds = gappy()
    found = feature(recorded(ds), "season_cosine_anomaly")
    day = (ds["time"].values.astype("datetime64[D]") - np.datetime64("2000-01-01")).astype(float)
    wave = np.cos(2 * np.pi * day / 365.2425)
    seen = np.isfinite(ds["soil_moisture"].values[:62, 3, 4])
    np.testing.assert_allclose(found[:, 3, 4], wave - wave[:62][seen].mean(), atol=1e-6)


def test_features_know_nothing_of_later_days():
    ds = gappy()
    statistics = Statistics.fit(ds, SPLIT).unscaled()
    changed = ds.copy(deep=True)
    for name in ("soil_moisture", "precipitation", "soil_temperature"):
        changed[name][80:] *= 0.9
    one, other = (memory_windows(Record(x, statistics), SPLIT.val) for x in (ds, changed))
    last = one.target_index - 3
    before, after = np.flatnonzero(last < 80), np.flatnonzero(last >= 80)
    features = [windows.batch(np.arange(len(windows))).features for windows in (one, other)]
    torch.testing.assert_close(features[0][before], features[1][before], rtol=0, atol=0)
    assert not torch.equal(features[0][after], features[1][after])


@pytest.mark.parametrize("earlier", [False, True])
def test_forecasts_by_blocks_are_those_of_the_whole_map(earlier, tmp_path, monkeypatch):
    """Also by weights of an earlier version, whose rain to the west comes with a halo of cells."""
    write_prepared(gappy(shape=(17, 19)), tmp_path / "smap.nc")
    torch.manual_seed(0)
    model = Compact().eval()
    torch.nn.init.normal_(model.outer)
    torch.nn.init.normal_(model.weight)
    state = model.state_dict()
    if earlier:
        del state["upwind_in_km"]
    model.load_state_dict(state)
    whole, memory = None, blocks.MEMORY
    for size in (memory, 0):
        monkeypatch.setattr(blocks, "MEMORY", size)
        monkeypatch.setattr(blocks, "BLOCK", 36 * 12 * 120)
        data = DataSet(tmp_path / "smap.nc")
        statistics = data.statistics(SPLIT).unscaled()
        windows = model.make_windows(data, statistics, lead_days=3, input_days=3, patch=6)
        windows = windows.in_periods(SPLIT.test, "test")
        found = np.zeros((5, 17, 19), np.float32)
        for part in windows:
            with torch.no_grad():
                forecast = model(part.batch(np.arange(5)).features)
            found[:, *part.blocks[0].own] = forecast[:, *part.blocks[0].inside].numpy()
        whole = found if whole is None else whole
    assert len(windows.blocks) == 12 and windows.names == (IN_CELLS if earlier else DYNAMIC)
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_weights_of_an_earlier_version_give_what_they_gave(trained, script, tmp_path):
    """They see the rain to the west in cells: their forecasts are those of a model that is given these features."""
    _, run_dir = trained("run")
    content = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    del content["best"]["upwind_in_km"]
    torch.save(content | {"best_hash": hash_weights(content["best"])}, run_dir / "checkpoint.pt")
    assert script("finetune-SMAPtest/eval.py", run_dir).code == 0
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        found = ds["predicted"].values
    with xr.open_dataset(tmp_path / "smap.nc") as ds:
        record = Record(ds.load(), load_checkpoint(run_dir).restored_statistics())
    windows, model = memory_windows(record, SPLIT.test), Compact()
    windows.names = IN_CELLS
    model.load_state_dict(content["best"])
    with torch.no_grad():
        expected = model(windows.batch(np.arange(len(windows))).features).numpy()
    scored = record.statistics.scored
    np.testing.assert_allclose(found[:, scored], expected[:, scored], atol=1e-6)


def rows(count=4000):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, len(DYNAMIC))).astype("f4")
    y = x @ rng.normal(size=len(DYNAMIC)).astype("f4") + 0.1 * rng.normal(size=count).astype("f4") + 0.3
    return CellSamples(x, rng.normal(size=(count, len(STATIC))).astype("f4"), y, np.sort(rng.integers(0, 90, count)))


def test_the_regression_is_least_squares_without_a_prior_and_the_prior_with_a_heavy_one():
    data, net = rows(), Compact()
    terms = np.ones(len(DYNAMIC) + 1)
    products = sum_products_of_parts(data).sum(axis=0)
    set_regression(net, solve_ridge(products, 0 * terms, terms))
    expected = np.linalg.lstsq(np.column_stack([np.ones(len(data)), data.x]), data.y, rcond=None)[0]
    np.testing.assert_allclose(net.weight.detach().numpy(), expected[1:], atol=1e-4)
    assert net.bias.item() == pytest.approx(expected[0], abs=1e-4)
    set_regression(net, solve_ridge(products, 1e12 * terms, 0.25 * terms))
    np.testing.assert_allclose(net.weight.detach().numpy(), 0.25, atol=1e-4)


def test_the_forecast_is_mean_plus_regression_plus_share_of_the_members_mean():
    torch.manual_seed(1)
    data, net = rows(12), Compact()
    torch.nn.init.normal_(net.outer), torch.nn.init.normal_(net.weight)
    net.share.fill_(0.4)
    features = torch.from_numpy(np.column_stack([data.x, data.static])).view(1, 1, 3, 4, -1).movedim(-1, 2)
    z = (np.column_stack([data.x, data.static, data.x @ net.weight.detach().numpy()])).clip(-6, 6)
    inner, bias, outer = (p.detach().numpy().astype(float) for p in (net.inner, net.inner_bias, net.outer))
    hidden = [z @ inner[m] + bias[m] for m in range(4)]
    member = [0.05 * (h / (1 + np.exp(-h))) @ outer[m][:, 0] for m, h in enumerate(hidden)]
    expected = data.static[:, 1] + data.x @ net.weight.detach().numpy() + 0.4 * np.mean(member, axis=0)
    np.testing.assert_allclose(net(features).detach().numpy().ravel(), expected, rtol=1e-4, atol=1e-4)
    linear, added = forecast_parts(net, data)
    np.testing.assert_allclose(data.static[:, 1] + linear + 0.4 * added, expected, rtol=1e-4, atol=1e-4)


def test_pseudo_satellite_years_have_a_satellites_gaps_and_the_truth_as_target(era5):
    samples = source_samples(era5)
    found = draw_pseudo_satellite_years(samples, 6, np.random.default_rng(0))
    age = found.x[:, DYNAMIC.index("last_anomaly_age_7")]
    assert 0.2 < (age == 0).mean() < 0.7 and age.max() <= STALE
    last = np.datetime64("2015-03-31").astype(int)
    assert found.day.max() <= last and len(found) > 1000
    moisture = samples.data.read()["soil_moisture"].values
    truth = found.y + found.static[:, STATIC.index("mean_soil_moisture")]
    assert np.isin(np.round(truth, 4), np.round(moisture[np.isfinite(moisture)], 4)).all()


def source_samples(era5, start="2015-01-01", end="2015-03-31"):
    """Samples of the land model whose target days are these."""
    data = DataSet(era5)
    split = Split(spans("train", (start, end)), (), spans("test", ("2015-05-01", "2015-05-30")))
    return memory_windows(data, split.train, statistics=data.statistics(split).unscaled(), receptive_radius=3)


def test_pseudo_satellite_years_read_the_days_of_their_period_alone(era5):
    """Held-out days on both sides are held out from the cells' means too."""
    periods = ("2015-01-20", "2015-04-25")
    found = draw_pseudo_satellite_years(source_samples(era5, *periods), 4, np.random.default_rng(0))
    with xr.open_dataset(era5) as ds:
        changed = ds.load()
    for days in (slice("2015-01-01", "2015-01-19"), slice("2015-04-26", None)):
        changed["soil_moisture"].loc[{"time": days}] = 0.45
        changed["precipitation"].loc[{"time": days}] = 99.0
    write_prepared(changed, era5)
    again = draw_pseudo_satellite_years(source_samples(era5, *periods), 4, np.random.default_rng(0))
    for one, other in zip(vars(found).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="no 90 days in a row in the any period"):
        draw_pseudo_satellite_years(source_samples(era5, "2015-01-10", "2015-01-12"), 4, np.random.default_rng(0))
    with pytest.raises(UserError, match="too short to pre-train on"):
        draw_pseudo_satellite_years(source_samples(era5, *periods), 0, np.random.default_rng(0))


def test_an_error_of_a_pseudo_satellite_year_reaches_the_user(era5, monkeypatch):
    """A year is left out because it holds no target day, and for no other reason."""

    def fail(*arguments, **options):
        raise UserError("The weather forecasts are damaged.")

    monkeypatch.setattr(pseudo_satellite, "Record", fail)
    with pytest.raises(UserError, match="weather forecasts are damaged"):
        draw_pseudo_satellite_years(source_samples(era5), 6, np.random.default_rng(0))


def test_all_rows_are_the_valid_targets(tmp_path):
    ds = gappy()
    write_prepared(ds, tmp_path / "smap.nc")
    data = DataSet(tmp_path / "smap.nc")
    samples = memory_windows(data, SPLIT.train, statistics=data.statistics(SPLIT).unscaled(), receptive_radius=3)
    found = draw_observations(samples, np.random.default_rng(0))
    observed = ds["soil_moisture"].values[samples.target_index]
    assert len(found) == np.isfinite(observed).sum()
    mean = found.static[:, STATIC.index("mean_soil_moisture")]
    np.testing.assert_allclose(np.sort(found.y + mean), np.sort(observed[np.isfinite(observed)]), atol=1e-6)


@pytest.fixture
def trained(tmp_path, script):
    """A source run and a gappy target on another grid; the function fine-tunes."""
    write_prepared(tiny(days=150, start="2015-01-01", shape=(9, 6), seed=1), tmp_path / "era5.nc")
    write_prepared(gappy(), tmp_path / "smap.nc")
    quick = ["--epochs", 1, "--batch-size", 64]
    source = ["--data", tmp_path / "era5.nc", *ERA5_PERIODS, *quick, "--episodes", 3, "--out", tmp_path / "source"]
    result = script("ERA5test/train_compact.py", *source)
    assert result.code == 0, result.err

    def tune(name, *options, data="smap.nc"):
        arguments = ["--data", tmp_path / data, *PERIODS, *quick, *options, "--init-from", tmp_path / "source"]
        return script("finetune-SMAPtest/train_compact.py", *arguments, "--out", tmp_path / name), tmp_path / name

    return tune


def test_from_pretraining_to_evaluation_on_another_grid(trained, script, tmp_path):
    result, run_dir = trained("tuned")
    assert result.code == 0, result.err
    checkpoint = load_checkpoint(run_dir)
    assert sum(value.numel() for value in checkpoint.best.values()) < 2000
    assert script("finetune-SMAPtest/eval.py", run_dir).code == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        error = (ds["predicted"] - ds["observed"]).values
        assert np.isfinite(ds["predicted"].values[np.isfinite(ds["observed"].values)]).all()
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=1e-5)
    options = ["--data", tmp_path / "smap.nc", *PERIODS, "--epochs", 1, "--out", tmp_path / "scratch"]
    assert script("SMAPtest/train_compact.py", *options).code == 0
    assert script("SMAPtest/train_cnn.py", *options[:-1], tmp_path / "cnn").code == 0
    assert script("SMAPtest/eval.py", tmp_path / "scratch", tmp_path / "cnn").code == 0
    scores = [json.loads((tmp_path / run / "metrics.json").read_text())["baselines"] for run in ("scratch", "cnn")]
    for name, found in scores[0].items():  # the same baselines beside every model
        assert found["rmse"] == pytest.approx(scores[1][name]["rmse"], rel=1e-6), name


def test_the_test_period_teaches_nothing_and_validation_days_do(trained, tmp_path):
    _, first = trained("first")
    for name, days in (("later", slice(95, None)), ("validation", slice(70, 75))):
        changed = gappy()
        changed["soil_moisture"][days] *= 0.8
        write_prepared(changed, tmp_path / f"{name}.nc")
        result, _ = trained(name, data=f"{name}.nc")
        assert result.code == 0, result.err
    _, again = trained("again")
    assert same(weights(first), weights(again))
    assert same(weights(first), weights(tmp_path / "later"))
    assert not same(weights(first), weights(tmp_path / "validation"))


def test_zero_shot_is_the_land_models_regression_alone(trained, tmp_path):
    result, run_dir = trained("zero", "--epochs", 0)
    assert result.code == 0, result.err
    source, found = weights(tmp_path / "source"), weights(run_dir)
    assert found["share"].item() == 0
    assert same({k: v for k, v in source.items() if k != "share"}, found)


def test_head_leaves_the_networks_as_they_were(trained, tmp_path):
    _, run_dir = trained("head", "--transfer", "head")
    source, found = weights(tmp_path / "source"), weights(run_dir)
    assert all(torch.equal(source[name], found[name]) for name in ("inner", "inner_bias", "outer", "outer_bias"))
    assert not torch.equal(source["weight"], found["weight"]) and 0 <= found["share"].item() <= 1


def test_a_heavier_prior_stays_closer_to_the_land_model(trained, tmp_path):
    source, far = weights(tmp_path / "source")["weight"], []
    for days in (1, 100, 100_000):
        _, run_dir = trained(f"prior{days}", "--prior-days", days)
        far.append((weights(run_dir)["weight"] - source).norm().item())
    assert far[0] > far[1] > far[2]


def test_rain_ahead_changes_the_forecast_and_its_name(trained, script, tmp_path):
    result, run_dir = trained("rain", "--future-precipitation")
    assert "compact_future_rain" in result.sentence()  # the source knows none
    options = ["--data", tmp_path / "era5.nc", *ERA5_PERIODS, "--epochs", 1, "--episodes", 3, "--future-precipitation"]
    assert script("ERA5test/train_compact.py", *options, "--out", tmp_path / "source", "--overwrite").code == 0
    result, run_dir = trained("rain", "--future-precipitation")
    assert result.code == 0, result.err
    assert weights(run_dir)["weight"].shape == (len(DYNAMIC) + 3,)
    assert load_checkpoint(run_dir).model == "compact_future_rain"
    assert script("finetune-SMAPtest/eval.py", run_dir).code == 0


@pytest.mark.parametrize("options", [("--freeze", "inner"), ("--match", "mean"), ("--patience", "3")])
def test_settings_of_other_models_are_refused(trained, options, tmp_path):
    result, _ = trained("refused", *options)
    assert result.sentence() == f"error: Unrecognized options: {', '.join(options)} (--help lists every setting)."
    assert not (tmp_path / "refused").exists()


def test_a_test_period_that_eval_would_refuse_is_refused_before_the_training(tmp_path, script):
    """The model sees one day, but its scores stand beside baselines that need all input days: 3 and a lead of 3."""
    ds = tiny()
    gaps = np.isin(np.arange(ds.sizes["time"]), np.arange(92, 120, 6))  # five days in a row are left
    write_prepared(ds.isel(time=~gaps), tmp_path / "gaps.nc")
    command = ["SMAPtest/train_compact.py", "--data", tmp_path / "gaps.nc", *PERIODS, "--epochs", 1]
    sentence = script(*command, "--out", tmp_path / "run").sentence()
    assert "The test period 2015-07-01 to 2015-07-28" in sentence and "no full window: 3 input days" in sentence
    assert not (tmp_path / "run").exists()
    assert script(*command, "--input-days", 1, "--out", tmp_path / "run").code == 0
    assert script("SMAPtest/eval.py", tmp_path / "run").code == 0


def test_runs_of_earlier_versions_hold_pseudo_satellite_years_as_episodes(tmp_path, era5, script):
    command = ["ERA5test/train_compact.py", "--data", era5, *ERA5_PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    result = script(*command, "--episodes", 2)  # as the flag was called
    assert result.code == 0, result.err
    assert "pseudo_satellite_years = 2" in result.out
    content = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    content["settings"]["episodes"] = content["settings"].pop("pseudo_satellite_years")
    torch.save(content, tmp_path / "run" / "checkpoint.pt")
    assert "is finished" in script(*command, "--pseudo-satellite-years", 2).out
    sentence = script(*command, "--pseudo-satellite-years", 3).sentence()
    assert "--pseudo-satellite-years was 2, now 3" in sentence
    assert script("ERA5test/eval.py", tmp_path / "run").code == 0


def test_seeds_differ(trained):
    one, other = (trained(f"seed{seed}", "--seed", seed)[1] for seed in (0, 1))
    assert not same(weights(one), weights(other))


def test_blocks_of_a_large_map_give_a_model_as_good(trained, monkeypatch, tmp_path):
    """Rows come in another order, so the networks differ; the regression on all rows does not."""
    from utils.dataset import blocks

    _, whole = trained("whole")
    monkeypatch.setattr(blocks, "MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK", 16 * 12 * 120)
    result, blocks = trained("blocks")
    assert result.code == 0, result.err
    torch.testing.assert_close(weights(blocks)["weight"], weights(whole)["weight"], atol=1e-4, rtol=1e-3)


def test_the_validation_rmse_is_of_a_fit_that_knows_nothing_of_validation_days(trained, tmp_path, monkeypatch):
    """Drier validation days change neither the weights behind the number nor the cells' means."""
    from utils.training.compact import CompactTrainer, draw_observations

    def trial(name, factor, *options):
        scored = []
        monkeypatch.setattr(CompactTrainer, "rmse", lambda _, *tried: scored.append(tried) or 0.01)
        changed = gappy()
        changed["soil_moisture"][62:92] *= factor
        write_prepared(changed, tmp_path / f"{name}.nc")
        result, _ = trained(name, *options, data=f"{name}.nc")
        assert result.code == 0, result.err
        net, validation = scored[0]
        return net, draw_observations(validation, np.random.default_rng(0))

    (one, usual), (other, drier) = trial("usual", 1), trial("drier", np.float32(0.8))
    assert same(one.state_dict(), other.state_dict())
    np.testing.assert_array_equal(usual.static, drier.static)
    mean = STATIC.index("mean_soil_moisture")
    expected = gappy()["soil_moisture"][:62].mean("time").values
    assert np.isin(np.round(usual.static[:, mean], 5), np.round(expected, 5)).all()
    _, usual = trial("usual_zero", 1, "--epochs", 0)
    _, drier = trial("drier_zero", np.float32(0.8), "--epochs", 0)
    np.testing.assert_array_equal(usual.static, drier.static)
