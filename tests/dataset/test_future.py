"""Weather of the days ahead: nothing by default, exactly what is asked for with the flags, and its files."""

import netCDF4
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, ROOT, tiny
from scipy.ndimage import gaussian_filter

from utils.common.grid import Grid, tiles
from utils.common.periods import Split, spans
from utils.data_processing import Windows
from utils.dataset import blocks
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.dataset.weather_forecasts import BOUND, KnownWeather, WeatherForecasts, kind_of_run
from utils.models.pixel_lstm import PixelLSTM
from utils.products.synthetic.forecast_errors import CORRELATION, Errors, Pairs, at_lead
from utils.products.synthetic.forecast_file import ForecastSettings, make_forecasts
from utils.scores.score_table import show, table
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.inference import load_script

RAIN, BOTH = ("precipitation",), ("precipitation", "soil_temperature")
SPLIT = Split(*(spans(name, tuple(PERIODS[i : i + 2])) for name, i in (("train", 1), ("val", 4), ("test", 7))))
WHOLE = (slice(None), slice(None))
MODELS = ("cnn", "lstm", "convlstm", "conv3d_lstm", "pixel_lstm")
SHORT = ["--lead-days", 2, "--epochs", 1, "--precision", "32-true"]


def make(*arguments):
    """What data/make_forecasts.py does."""
    make_forecasts(ForecastSettings(**dict(arguments)))


def windows(ds, variables=(), lead_days=3, input_days=2, statistics=None) -> Windows:
    statistics = statistics or Statistics.fit(ds, SPLIT)
    weather = KnownWeather(variables, lead_days).read(ds, statistics, WHOLE) if variables else None
    record = Record(ds, statistics, weather=weather)
    return Windows(record, periods=SPLIT.train, lead_days=lead_days, input_days=input_days, name="train")


def changed(ds, first, names, last=None):
    """The data set with other values from a day on."""
    other = ds.copy(deep=True)
    for name in names:
        other[name][first:last] = other[name][first:last] * 0.9 + 0.01
    return other


ALL = ("precipitation", "soil_moisture", "soil_temperature")


def test_by_default_nothing_of_a_later_day_than_the_last_input_day_is_seen():
    ds = tiny()
    before = windows(ds)
    sample = np.array([20])
    last = int(before.last_index(sample)[0])
    features = before.batch(sample).features
    assert features.shape[2] == load_script(ROOT / "SMAPtest" / "train_cnn.py").Settings().channels == 3
    after = windows(changed(ds, last + 1, ALL), statistics=before.record.statistics)
    assert torch.equal(after.batch(sample).features, features)
    assert not torch.equal(after.batch(sample).target, before.batch(sample).target)
    earlier = windows(changed(ds, last, ALL), statistics=before.record.statistics)
    assert not torch.equal(earlier.batch(sample).features, features)


@pytest.mark.parametrize("variables", [RAIN, ("soil_temperature",), BOTH])
def test_with_the_flags_only_the_days_up_to_the_target_of_these_variables_are_seen(variables):
    ds = tiny()
    before = windows(ds, variables)
    sample = np.array([20])
    last, features = int(before.last_index(sample)[0]), before.batch(sample).features
    hidden = [name for name in ALL if name not in variables]
    for other in (changed(ds, last + 1, hidden), changed(ds, last + 4, ALL)):
        again = windows(other, variables, statistics=before.record.statistics)
        assert torch.equal(again.batch(sample).features, features)
    for number, name in enumerate(variables):
        for lead in (1, 2, 3):
            other = changed(ds, last + lead, [name], last + lead + 1)
            found = windows(other, variables, statistics=before.record.statistics).batch(sample).features
            different = (found != features).any(dim=-1).any(dim=-1).any(dim=0).any(dim=0)
            assert different.nonzero().ravel().tolist() == [3 + 3 * number + lead - 1]


def test_the_maps_of_the_days_ahead_are_scaled_like_the_variable_and_stand_on_each_input_day():
    ds = tiny()
    ds["precipitation"][40, 1, 1] = np.nan
    ds["soil_temperature"][41, 2, 2] = np.nan
    sample = windows(ds, BOTH)
    statistics, record = sample.record.statistics, sample.record
    samples = np.array([7, 38])  # the days ahead of the second one are those with a missing value
    assert sample.target_index[38] == 42
    features, last = sample.batch(samples).features.numpy(), sample.last_index(samples)
    assert features.shape == (2, 2, 9, 7, 8)
    assert (features[:, 0, 3:] == features[:, 1, 3:]).all()
    for number, (name, channel) in enumerate((("precipitation", 0), ("soil_temperature", 2))):
        values = ds[name].values.copy()
        values[np.isnan(values)] = np.broadcast_to(statistics.cell_mean[channel], values.shape)[np.isnan(values)]
        truth = values[last[:, None] + [1, 2, 3]]
        wanted = (truth - statistics.low[channel]) / (statistics.high[channel] - statistics.low[channel])
        wanted = np.where(statistics.scored, wanted, 0)
        np.testing.assert_allclose(features[:, 0, 3 + 3 * number : 6 + 3 * number], wanted, atol=1e-6)
        found = record.weather.maps(name, last).numpy()
        np.testing.assert_allclose(found, np.where(statistics.scored, truth, 0), rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="no soil_moisture of the days ahead"):
        record.weather.maps("soil_moisture", last)


def test_a_day_without_all_days_ahead_has_no_maps():
    ds = tiny().isel(time=[*range(30), *range(40, 120)])
    weather = KnownWeather(RAIN, 3).read(ds, Statistics.fit(ds, SPLIT), WHOLE)
    none = np.flatnonzero((weather.rows < 0).all(axis=1))
    assert none.tolist() == [27, 28, 29, 107, 108, 109]
    with pytest.raises(IndexError):
        weather.channels(np.array([28]))


def test_patches_blocks_and_permuted_windows_have_the_same_future(tmp_path, monkeypatch):
    write_prepared(tiny(), tmp_path / "ds.nc")
    make(("data", tmp_path / "ds.nc"), ("out", tmp_path / "fc.nc"), ("lead_days", 4))
    data = DataSet(tmp_path / "ds.nc")
    statistics = data.statistics(SPLIT)
    for known in (KnownWeather(BOTH, 3), WeatherForecasts(BOTH, 3, tmp_path / "fc.nc")):
        how = {"lead_days": 3, "input_days": 2, "periods": SPLIT.train, "name": "training", "weather": known}
        (windows,) = Windows(data, statistics, receptive_radius=0, **how)
        count = np.arange(len(windows))
        features = windows.batch(count).features
        cut = windows.patches(patches := tiles(data.grid.shape, 3))
        for number, patch in enumerate(patches):
            found = cut.batch(count * len(patches) + number)
            assert torch.equal(found.features, features[:, :, :, *patch.window])
        shuffled = windows.permuted(0).batch(count).features
        assert torch.equal(shuffled[:, :, 1:], features[:, :, 1:])
        assert not torch.equal(shuffled[:, :, 0], features[:, :, 0])
        with monkeypatch.context() as small:
            small.setattr(blocks, "MEMORY", 1)
            small.setattr(blocks, "BLOCK", 4 * (3 + known.maps) * 120 * 9)
            samples = Windows(data, statistics, receptive_radius=0, patch=1, **how)
            assert len(samples.blocks) > 4
            for part, block in zip(samples, samples.blocks, strict=True):
                assert part.record.weather.scaled["precipitation"].shape[1:] == features[..., *block.window].shape[-2:]
                assert torch.equal(part.batch(count).features, features[..., *block.window])


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_the_weather_ahead_and_eval_says_so(tmp_path, smap, script, model):
    arguments = [f"SMAPtest/train_{model}.py", "--data", smap, *PERIODS, *SHORT]
    done = script(*arguments, "--future-precipitation", "--future-temperature")
    assert done.code == 0, done.err
    run_dir = tmp_path / "runs" / "SMAPtest" / f"{model}_future_weather" / "lead2" / "seed0"
    assert (run_dir / "checkpoint.pt").exists()
    done = script("SMAPtest/eval.py", run_dir)
    assert done.code == 0, done.err
    note = f"knows the rain and temperature of the days ahead: {BOUND}"
    assert f"{model}_future_weather: {note}" in done.out
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        assert kind_of_run(ds.attrs) == ds.attrs["weather_kind"] == "perfect"
        assert ds.attrs["future"] == note and ds.attrs["model"] == f"{model}_future_weather"
        assert np.isfinite(ds["predicted"].values[np.isfinite(ds["observed"].values)]).all()


def test_a_run_without_the_flags_says_nothing_and_goes_on_from_one_made_before_them(tmp_path, smap, script):
    arguments = ["SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, *SHORT, "--out", tmp_path / "run"]
    assert script(*arguments).code == 0
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.model == "pixel_lstm" and not checkpoint.future and not checkpoint.future_hash
    for name in ("known_ahead", "static", "future_from"):
        del checkpoint.settings[name]
    checkpoint.settings["future_precipitation"] = False
    save_checkpoint(tmp_path / "run", checkpoint)
    assert "nothing to do" in script(*arguments).out
    assert script("SMAPtest/eval.py", tmp_path / "run").code == 0
    with xr.open_dataset(tmp_path / "run" / "predictions.nc") as ds:
        assert "future" not in ds.attrs and kind_of_run(ds.attrs) == "none"
    other = script(*arguments, "--future-precipitation").sentence()
    assert "model was pixel_lstm, now pixel_lstm_future_rain" in other


def test_a_file_of_perfect_forecasts_gives_the_weights_of_the_data_set_itself(tmp_path, smap, script):
    make(("data", smap), ("out", tmp_path / "fc.nc"), ("error", "perfect"))
    arguments = ["SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, *SHORT, "--future-precipitation"]
    assert script(*arguments).code == 0
    assert script(*arguments, "--future-from", tmp_path / "fc.nc").code == 0
    folder = tmp_path / "runs" / "SMAPtest"
    one, other = (
        load_checkpoint(folder / f"pixel_lstm_{kind}_rain" / "lead2" / "seed0") for kind in ("future", "forecast")
    )
    assert all(torch.equal(one.best[name], other.best[name]) for name in one.best)
    assert BOUND in one.future and BOUND in other.future and other.future_hash and not one.future_hash
    assert one.weather_kind == other.weather_kind == "perfect"


def test_a_changed_file_of_forecasts_is_refused(tmp_path, smap, script):
    file, run_dir = tmp_path / "fc.nc", tmp_path / "run"
    make(("data", smap), ("out", file), ("lead_days", 2))
    arguments = ["SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, *SHORT, "--out", run_dir]
    arguments += ["--future-precipitation", "--future-from", file]
    assert script(*arguments).code == 0
    assert script("SMAPtest/eval.py", run_dir).code == 0
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        assert ds.attrs["future"] == (
            "knows the rain of the days ahead: forecasts of fc.nc (SYNTHETIC error, degraded, seed 0)"
        )
        assert ds.attrs["weather_kind"] == "degraded"
    make(("data", smap), ("out", file), ("lead_days", 2), ("seed", 1))
    assert "fc.nc has changed since" in script("SMAPtest/eval.py", run_dir).sentence()
    assert "the content of --future-from was" in script(*arguments).sentence()
    file.unlink()
    assert "make one with: python data/prepare_weather_forecast.py" in script("SMAPtest/eval.py", run_dir).sentence()


def edited(change):
    """A change of an open file's content."""
    return lambda path: _edit(path, change)


def _edit(path, change):
    with netCDF4.Dataset(path, "a") as file:
        change(file)


def rewritten(change):
    """A change of the data set that the file holds."""

    def run(path):
        with xr.open_dataset(path, decode_timedelta=False) as ds:
            changed = change(ds.load())
        changed.to_netcdf(path)

    return run


def nan_on_land(file):
    file["precipitation"][95, 1, 0, 4] = np.nan


DEFECTS = {
    "has no forecast from 2015-07-02, nor from 0 other": rewritten(
        lambda ds: ds.sel(init_time=ds["init_time"] != np.datetime64("2015-07-02"))
    ),
    "has no lead_time of 2 days, only 1, 3": rewritten(lambda ds: ds.sel(lead_time=[1, 3])),
    "expected those of the data set": rewritten(lambda ds: ds.assign_coords(lat=ds["lat"] + 0.5)),
    "neither ascends nor descends": rewritten(lambda ds: ds.assign_coords(lon=ds["lon"].values[[1, 0, *range(2, 8)]])),
    "precipitation is in 'm', expected mm day-1": edited(lambda f: f["precipitation"].setncattr("units", "m")),
    "precipitation has no units": edited(lambda f: f["precipitation"].delncattr("units")),
    "lead_time is in 'hours', expected days": edited(lambda f: f["lead_time"].setncattr("units", "hours")),
    "lead_time has a value twice": edited(lambda f: f["lead_time"].__setitem__(slice(None), [1, 2, 2])),
    "init_time is not sorted or has a day twice": edited(lambda f: f["init_time"].__setitem__(1, f["init_time"][0])),
    "has no init_time with dates": edited(lambda f: f["init_time"].delncattr("units")),
    "2 days ahead, is missing in 1 cells": edited(nan_on_land),
    "values that are infinite": edited(lambda f: f["precipitation"].__setitem__((95, 0, 0, 4), np.inf)),
    "outside physical limits": edited(lambda f: f["precipitation"].__setitem__((95, 0, 0, 4), -1)),
    "the variable precipitation is missing": edited(lambda f: f.renameVariable("precipitation", "rain")),
    "expected init_time, lead_time, lat, lon": rewritten(lambda ds: ds.isel(lead_time=0)),
    "cannot be read as NetCDF": lambda path: path.write_bytes(b"no file of this kind"),
    "is no file; make one with": lambda path: path.unlink(),
}


@pytest.mark.parametrize("message", DEFECTS)
def test_a_file_of_forecasts_with_a_defect_is_refused_in_one_sentence(tmp_path, smap, script, message):
    file = tmp_path / "fc.nc"
    make(("data", smap), ("out", file), ("lead_days", 3))
    DEFECTS[message](file)
    arguments = ["SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, *SHORT, "--out", tmp_path / "run"]
    sentence = script(*arguments, "--future-precipitation", "--future-from", file).sentence()
    assert message in sentence and "fc.nc" in sentence
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_file_of_forecasts_without_a_flag_is_refused(tmp_path, smap, script):
    done = script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--future-from", tmp_path / "fc.nc")
    assert "--known-ahead does not say of what" in done.sentence()


def test_fine_tuning_with_forecasts_starts_from_perfect_ones_and_never_from_none(tmp_path, smap, era5, script):
    make(("data", smap), ("out", tmp_path / "fc.nc"))
    source = ["ERA5test/train_pixel_lstm.py", "--data", era5, *ERA5_PERIODS, *SHORT]
    tuning = ["finetune-SMAPtest/train_pixel_lstm.py", "--data", smap, *PERIODS, *SHORT, "--future-precipitation"]
    tuning += ["--future-from", tmp_path / "fc.nc"]
    sentence = script(*tuning).sentence()
    assert "ERA5test/pixel_lstm_future_rain" in sentence and "--known-ahead precipitation" in sentence
    assert script(*source).code == 0
    blind = tmp_path / "runs" / "ERA5test" / "pixel_lstm" / "lead2" / "seed0"
    assert "has the model pixel_lstm, expected" in script(*tuning, "--init-from", blind).sentence()
    assert script(*source, "--future-precipitation").code == 0
    done = script(*tuning)
    assert done.code == 0, done.err
    assert (tmp_path / "runs/finetune-SMAPtest/pixel_lstm_forecast_rain/lead2/seed0/checkpoint.pt").exists()


def test_degraded_forecasts_correlate_as_they_say_and_less_with_lead(tmp_path, capsys):
    ds = tiny(200, shape=(9, 12))
    systems = gaussian_filter(np.random.default_rng(5).normal(size=ds["precipitation"].shape), (0, 2, 2), mode="wrap")
    ds["precipitation"] = ds["precipitation"] * 0 + 8 * np.maximum(systems / systems.std(), 0).astype("f4") ** 2
    write_prepared(ds, tmp_path / "ds.nc")
    make(("data", tmp_path / "ds.nc"), ("out", tmp_path / "fc.nc"))
    with xr.open_dataset(tmp_path / "fc.nc", decode_timedelta=False) as found:
        found = found.load()
    assert found["precipitation"].dims == ("init_time", "lead_time", "lat", "lon")
    assert found.attrs["forecast_error"].startswith("SYNTHETIC error") and found.attrs["synthetic_error"] == "true"
    truth, achieved = ds["precipitation"], []
    for lead in range(1, 8):
        forecast = found["precipitation"].sel(lead_time=lead)
        forecast = forecast.assign_coords(init_time=forecast["init_time"] + np.timedelta64(lead, "D"))
        one, other = xr.align(forecast.rename(init_time="time"), truth)
        valid = np.isfinite(one.values) & np.isfinite(other.values)
        assert (np.isfinite(one.values) == np.isfinite(other.values)).all()
        achieved.append(np.corrcoef(one.values[valid], other.values[valid])[0, 1])
    np.testing.assert_allclose(found["precipitation"].attrs["correlation_by_lead"], achieved, atol=1e-4)
    assert np.abs(np.array(achieved) - at_lead(CORRELATION, 7)).max() < 0.08 and achieved[0] > achieved[3] > achieved[6]
    assert "precipitation: correlation with the truth" in capsys.readouterr().out
    rmse = found["soil_temperature"].attrs["rmse_by_lead"]
    assert 0.6 < rmse[0] < 1.4 and 1.8 < rmse[6] < 3.2
    assert float(found["precipitation"].min()) >= 0
    last = found["precipitation"].isel(init_time=-1)
    assert np.isfinite(last.sel(lead_time=1)).any() and not np.isfinite(last.sel(lead_time=2)).any()


def test_forecasts_are_those_of_their_seed(tmp_path, smap):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make(("data", smap), ("out", tmp_path / name), ("seed", seed), ("lead_days", 2))
    one, same, other = (xr.load_dataset(tmp_path / name, decode_timedelta=False) for name in "abc")
    assert one.identical(same) and not one["precipitation"].equals(other["precipitation"])


def test_perfect_forecasts_are_what_came_true_and_called_an_upper_bound(tmp_path):
    ds = tiny().isel(time=[*range(50), *range(60, 120)])
    ds["precipitation"][20, 1, 1] = np.nan
    write_prepared(ds, tmp_path / "ds.nc")
    make(("data", tmp_path / "ds.nc"), ("out", tmp_path / "fc.nc"), ("error", "perfect"), ("lead_days", 3))
    found = xr.load_dataset(tmp_path / "fc.nc", decode_timedelta=False)
    assert found.attrs["forecast_error"] == BOUND and found.attrs["synthetic_error"] == "false"
    assert len(found["init_time"]) == 110 - 2  # not the last day before the gap, nor that of the record
    np.testing.assert_array_equal(found["precipitation"][5, 1], ds["precipitation"][7])
    assert found["precipitation"][17, 2, 1, 1] == pytest.approx(float(ds["precipitation"][:, 1, 1].mean()), rel=1e-5)
    np.testing.assert_allclose(found["precipitation"].attrs["correlation_by_lead"], 1, atol=1e-6)
    assert found["precipitation"].attrs["grid_mapping"] == "crs" and "crs" in found


def test_a_displaced_map_is_moved_by_its_distance():
    """2° north and, at 60° N, 2° east: 111 km are 2° of longitude there."""
    grid = Grid(np.arange(64.0, 56, -1), np.arange(10.0, 20))
    values = np.zeros(grid.shape)
    values[4, 3] = 1  # 60° N, 13° E
    moved = Errors(grid, 1).displace(values, 2 * 111.2, 0)
    assert moved[2, 3] == 1 and moved.sum() == 1
    moved = Errors(grid, 1).displace(values, 0, 111.2)
    assert moved[4, 5] == 1 and moved.sum() == 1


def test_random_fields_are_smooth_have_variance_one_and_remember_the_lead_before():
    errors = Errors(Grid(np.arange(40.0), np.arange(50.0)), 3)
    found = np.stack([errors.fields(np.random.default_rng(seed)) for seed in range(60)])
    assert found.var() == pytest.approx(1, abs=0.1)
    assert np.mean(found[:, 0] * found[:, 1]) == pytest.approx(0.5, abs=0.1)
    assert np.mean(found[..., 1:] * found[..., :-1]) > 0.9


def test_correlation_and_rmse_from_sums_are_those_of_all_values():
    random = np.random.default_rng(0)
    forecast, truth = random.random((20, 2, 4, 5)), random.random((20, 2, 4, 5))
    truth[random.random(truth.shape) < 0.2] = np.nan
    pairs = Pairs(2)
    for one, other in zip(forecast, truth, strict=True):
        pairs.add(one, other)
    for lead in range(2):
        valid = np.isfinite(truth[:, lead])
        x, y = forecast[:, lead][valid], truth[:, lead][valid]
        assert pairs.correlation()[lead] == pytest.approx(np.corrcoef(x, y)[0, 1])
        assert pairs.rmse()[lead] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    np.testing.assert_allclose(at_lead(CORRELATION, 8), [0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.35])


def test_tables_say_what_is_known_of_the_weather():
    common = {"experiment": "SMAPtest", "lead_days": 3, "synthetic_data": True, "baselines": {}, "rmse": 0.02}
    known = {**common, "model": "lstm_future_rain", "future": f"knows the rain of the days ahead: {BOUND}"}
    long = table([{**common, "model": "lstm"}, {**known, "note": "mean of 3 seeds"}])
    assert long["note"].tolist() == ["", f"knows the rain of the days ahead: {BOUND}; mean of 3 seeds"]
    assert f"lstm_future_rain: knows the rain of the days ahead: {BOUND}" in show(pd.DataFrame(long))


@pytest.mark.parametrize(
    ("note", "kind"),
    [("", "none"), (f"knows the rain of the days ahead: {BOUND}", "perfect"), ("knows the rain: fc.nc", "degraded")],
)
def test_a_predictions_file_of_an_earlier_version_says_its_kind_of_weather_in_its_note(note, kind):
    assert kind_of_run({"future": note} if note else {}) == kind


def test_the_weather_ahead_of_a_learned_model_matters():
    """More rain on the days ahead alone changes the forecast of a model that sees it, and of no other."""
    ds, sample = tiny(), np.array([20])
    for variables in ((), RAIN):
        before = windows(ds, variables)
        torch.manual_seed(0)
        model = PixelLSTM(8, before.batch(sample).features.shape[2])
        last = int(before.last_index(sample)[0])
        after = windows(changed(ds, last + 1, RAIN, last + 4), variables, statistics=before.record.statistics)
        same = torch.equal(model(before.batch(sample).features), model(after.batch(sample).features))
        assert same == (not variables)
