"""A site's series is a data set: one cell, one column and a few cells from the land model to the forecast."""

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, tiny

from utils.dataset.prepared import write_prepared
from utils.models.compact import DYNAMIC
from utils.training.checkpoint import load_checkpoint
from utils.training.compact import deviations


def sample(path, days: int, start: str, rows: int, columns: int, seed: int):
    """A part of the tiny data set; neighbours lie 0.1° apart, so that no cell has another one upwind."""
    ds = tiny(days=days, start=start, shape=(rows + 2, max(columns, 4)), seed=seed)
    ds = ds.isel(lat=slice(rows), lon=slice(columns))
    ds = ds.assign_coords(lat=40 - 0.1 * np.arange(rows), lon=100 + 0.1 * np.arange(columns))
    write_prepared(ds, path)
    return path


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (8, 1)])
def test_from_the_land_model_to_the_forecast(tmp_path, script, rows, columns):
    source = sample(tmp_path / "era5.nc", 150, "2015-01-01", rows, columns, seed=1)
    target = sample(tmp_path / "smap.nc", 120, "2015-03-31", rows, columns, seed=0)
    quick = ["--epochs", 1, "--batch-size", 16]
    pretraining = ["--data", source, *ERA5_PERIODS, *quick, "--pseudo-satellite-years", 3, "--out", tmp_path / "source"]
    result = script("ERA5test/train_compact.py", *pretraining)
    assert result.code == 0, result.err
    tuning = ["--data", target, *PERIODS, *quick, "--init-from", tmp_path / "source", "--out", tmp_path / "run"]
    assert script("finetune-SMAPtest/train_compact.py", *tuning).code == 0
    result = script("finetune-SMAPtest/eval.py", tmp_path / "run")
    assert result.code == 0 and "compact" in result.out
    drawn = {file.name for file in (tmp_path / "run" / "figures").glob("*.png")}
    assert ("series.png" in drawn, "map.png" in drawn) == (rows * columns < 7, rows * columns > 6)
    forecast = ["--data", target, "--folds", 2, "--out", tmp_path / "forecast.nc"]
    result = script("forecast.py", tmp_path / "run", *forecast)
    assert result.code == 0, result.err
    with xr.open_dataset(tmp_path / "forecast.nc") as ds:
        assert ds.sizes["lat"] == rows and ds.sizes["lon"] == columns
        assert np.isfinite(ds["soil_moisture_quantile"]).all()


def test_a_term_that_never_varies_gets_no_weight(tmp_path, script):
    source = sample(tmp_path / "era5.nc", 150, "2015-01-01", 1, 1, seed=1)
    arguments = ["--data", source, *ERA5_PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    assert script("ERA5test/train_compact.py", *arguments).code == 0
    weights = load_checkpoint(tmp_path / "run").best
    upwind = [DYNAMIC.index(name) for name in ("root_rain_upwind", "root_rain_upwind_3")]
    assert (weights["weight"][upwind] == 0).all() and torch.isfinite(weights["weight"]).all()


def test_the_deviation_of_a_constant_is_one_and_of_others_their_own():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(0, 3, 500), np.zeros(500), np.full(500, 7.3)]).astype(np.float32)
    np.testing.assert_allclose(deviations(x), [x[:, 0].std(dtype=np.float64), 1, 1])


@pytest.mark.parametrize("model", ["cnn", "conv3d_lstm"])
def test_a_model_that_needs_more_cells_says_so(tmp_path, script, model):
    target = sample(tmp_path / "smap.nc", 120, "2015-03-31", 2, 3, seed=0)
    sentence = script(f"SMAPtest/train_{model}.py", "--data", target, *PERIODS, "--out", tmp_path / "run").sentence()
    assert f"{model} needs at least 3 × 3 cells, the data has 2 × 3" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["lstm", "convlstm", "pixel_lstm", "conv_mixer", "change_net"])
def test_the_other_networks_learn_on_one_cell(tmp_path, script, model):
    target = sample(tmp_path / "smap.nc", 120, "2015-03-31", 1, 1, seed=0)
    arguments = ["--data", target, *PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    assert script(f"SMAPtest/train_{model}.py", *arguments).code == 0
    assert script("SMAPtest/eval.py", tmp_path / "run").code == 0
