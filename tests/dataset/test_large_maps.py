"""Maps larger than memory, models free of the grid, several processes: each against the plain way."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, ROOT, tiny
from test_training import weights

from utils.common.cli import UserError
from utils.common.grid import Grid, tiles
from utils.common.parallel import prefetch
from utils.common.periods import Split, spans
from utils.data_processing import Windows
from utils.dataset import blocks
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import write_prepared
from utils.dataset.record import Record
from utils.dataset.statistics import Statistics
from utils.models.convlstm import ConvLSTM
from utils.models.pixel_lstm import PixelLSTM
from utils.training.loop import sum_squared_errors

SPLIT = Split(
    spans("train", ("2015-03-31", "2015-05-31")),
    spans("val", ("2015-06-01", "2015-06-30")),
    spans("test", ("2015-07-01", "2015-07-28")),
)
FREE = {"pixel_lstm": ("train_pixel_lstm.py",), "convlstm_pixel": ("train_convlstm.py", "--head", "pixel")}


@pytest.fixture
def in_blocks(monkeypatch):
    """The tiny data set is larger than memory: blocks of 3 × 3 cells."""
    monkeypatch.setattr(blocks, "MEMORY", 0)
    monkeypatch.setattr(blocks, "BLOCK", 9 * 12 * 120)


def free_model(name: str, shape=(7, 8), kernel=3):
    torch.manual_seed(0)
    if name == "pixel_lstm":
        return PixelLSTM(hidden=5)
    return ConvLSTM(Grid(np.arange(float(shape[0])), np.arange(float(shape[1]))), (4, 3), kernel, "pixel")


@pytest.mark.parametrize(("shape", "size", "halo"), [((7, 8), 3, 2), ((7, 8), 7, 1), ((5, 21), 4, 3), ((4, 4), 9, 5)])
def test_every_cell_is_the_own_of_one_tile_and_has_its_neighbours(shape, size, halo):
    found, count = tiles(shape, size, halo), np.zeros(shape, int)
    for tile in found:
        count[tile.own] += 1
        assert {w.stop - w.start for w in tile.window} == {w.stop - w.start for w in found[0].window}
        np.testing.assert_array_equal(np.ones(shape)[tile.window][tile.inside].shape, np.ones(shape)[tile.own].shape)
        for read, own, length in zip(tile.window, tile.own, shape, strict=True):
            assert read.start <= max(own.start - halo, 0) and read.stop >= min(own.stop + halo, length)
    assert (count == 1).all()


@pytest.mark.parametrize(("kernel", "days"), [(3, 1), (3, 3), (5, 2), (3, 7)])
def test_forecasts_by_tiles_are_those_of_the_whole_map(kernel, days):
    shape = (23, 19)
    model = free_model("convlstm_pixel", shape, kernel).double()
    features = torch.rand(2, days, 3, *shape, dtype=torch.float64)
    look = model.receptive_radius(days)
    with torch.no_grad():
        whole = model(features)
        for tile in tiles(shape, 4, look):
            part = model(features[..., tile.rows, tile.columns])[..., *tile.inside]
            torch.testing.assert_close(part, whole[..., *tile.own], atol=1e-5, rtol=1e-5)
        narrow = [
            (model(features[..., t.rows, t.columns])[..., *t.inside] - whole[..., *t.own]).abs().max()
            for t in tiles(shape, 4, look - 1)
        ]
    assert max(narrow) > 1e-11  # a halo one cell narrower would not do


def test_patches_count_every_cell_of_every_window_once():
    ds = tiny()
    record = Record(ds, Statistics.fit(ds, SPLIT))
    windows = Windows(record, periods=SPLIT.train, lead_days=3, input_days=3, name="training")
    model = free_model("convlstm_pixel")
    patches = windows.patches(tiles((7, 8), 3, model.receptive_radius(3)))
    with torch.no_grad():
        every = [[one.batch(n) for n in np.arange(len(one))[:, None]] for one in (windows, patches)]
        sums = [sum(float(sum_squared_errors(model(batch.features), batch)) for batch in one) for one in every]
    valid = [sum(int(batch.valid.sum()) for batch in one) for one in every]
    assert valid[0] == valid[1] and sums[1] == pytest.approx(sums[0], rel=1e-5)


def test_what_is_known_of_a_map_in_blocks_is_what_is_known_of_the_whole(smap, in_blocks):
    split, ds = SPLIT, tiny()
    data = DataSet(smap)
    assert len(data.blocks()) == 9
    statistics, expected = data.statistics(split), Statistics.fit(ds, split)
    for name, values in statistics.to_tensors().items():
        torch.testing.assert_close(values, expected.to_tensors()[name], rtol=1e-6, atol=0, equal_nan=True)
    np.testing.assert_array_equal(statistics.training_days, expected.training_days)
    np.testing.assert_array_equal(statistics.observed_cells, np.isfinite(ds["soil_moisture"]).sum(("lat", "lon")))


@pytest.mark.parametrize("name", FREE)
def test_a_run_on_blocks_is_evaluated_as_on_the_whole_map(tmp_path, smap, script, name, in_blocks, monkeypatch):
    run_dir, (file, *options) = tmp_path / "run", FREE[name]
    options += ["--data", smap, *PERIODS, "--epochs", 2, "--patch", 3, "--out", run_dir]
    result = script(f"SMAPtest/{file}", *options)
    assert result.code == 0, result.err
    assert script("SMAPtest/eval.py", run_dir).code == 0
    by_block = json.loads((run_dir / "metrics.json").read_text())
    (run_dir / "predictions.nc").rename(tmp_path / "blocks.nc")
    monkeypatch.setattr(blocks, "MEMORY", 2**29)
    assert script("SMAPtest/eval.py", run_dir).code == 0
    whole = json.loads((run_dir / "metrics.json").read_text())
    with xr.open_dataset(tmp_path / "blocks.nc") as one, xr.open_dataset(run_dir / "predictions.nc") as other:
        assert one.equals(one.load()) and set(one) == set(other)
        for variable in other:
            np.testing.assert_allclose(one[variable], other[variable], atol=1e-5, err_msg=str(variable))
    for score in ("rmse", "r2", "skill_over_persistence", "rmse_low", "slope", "n"):
        assert by_block[score] == pytest.approx(whole[score], rel=1e-4), score
    for baseline, scores in whole["baselines"].items():
        assert by_block["baselines"][baseline]["rmse"] == pytest.approx(scores["rmse"], rel=1e-4), baseline


def test_an_epoch_on_blocks_visits_the_patches_of_an_epoch_in_memory(smap, in_blocks, monkeypatch):
    def seen():
        data = DataSet(smap)
        samples = Windows(
            data,
            data.statistics(SPLIT),
            lead_days=3,
            input_days=3,
            periods=SPLIT.train,
            name="training",
            receptive_radius=4,
            patch=3,
        )
        targets = [batch.target[batch.valid] for w in samples.shuffled() for batch in [w.batch(np.arange(len(w)))]]
        return samples.epoch_size, torch.cat(targets).sort().values

    (count, in_parts), _ = seen(), monkeypatch.setattr(blocks, "MEMORY", 2**29)
    assert count == 57 * 9 - 57  # but for the patch of sea
    in_memory, whole = seen()
    assert in_memory == count
    torch.testing.assert_close(in_parts, whole)


def test_weights_serve_another_grid_where_the_model_is_free_of_it(tmp_path, smap, script):
    write_prepared(tiny(days=150, start="2015-01-01", shape=(9, 5), seed=1), tmp_path / "wide.nc")
    for file, *head in (*FREE.values(), ("train_cnn.py",)):
        source, options = tmp_path / f"{file}{len(head)}", [*head, "--epochs", 1]
        trained = script(f"ERA5test/{file}", "--data", tmp_path / "wide.nc", *ERA5_PERIODS, *options, "--out", source)
        assert trained.code == 0, trained.err
        options += ["--data", smap, *PERIODS, "--init-from", source, "--out", tmp_path / f"tuned_{file}{len(head)}"]
        result = script(f"finetune-SMAPtest/{file}", *options)
        if "cnn" in file:
            assert "was trained on 9 × 5 cells" in result.sentence()
        else:
            assert result.code == 0, result.err
    zero = ["--epochs", 0, "--data", smap, *PERIODS, "--init-from", tmp_path / "train_pixel_lstm.py0"]
    assert script("finetune-SMAPtest/train_pixel_lstm.py", *zero, "--out", tmp_path / "zero").code == 0
    for name, value in weights(tmp_path / "zero").items():
        assert torch.equal(value, weights(tmp_path / "train_pixel_lstm.py0")[name])


def test_patches_are_refused_for_a_model_bound_to_its_grid(tmp_path, smap, script):
    result = script("SMAPtest/train_convlstm.py", "--data", smap, *PERIODS, "--patch", 4, "--out", tmp_path / "run")
    assert result.sentence() == "error: --patch asks for a model free of the grid, convlstm is bound to it."


@pytest.mark.parametrize("model", ["convlstm", "pixel_lstm"])
def test_two_processes_give_the_weights_of_one(tmp_path, smap, script, model):
    """61 − 5 samples in batches of 11: the last batch has one, so that a process has none of its own."""
    options = ["--data", smap, *PERIODS, "--epochs", 2, "--batch-size", 11, "--precision", "32-true", "--input-days", 3]
    assert script(f"SMAPtest/train_{model}.py", *options, "--out", tmp_path / "one").code == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, ROOT / f"SMAPtest/train_{model}.py", *options, "--out", tmp_path / "two"]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best validation RMSE") == 1
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, atol=1e-5, rtol=0)
    logs = [np.loadtxt(tmp_path / run / "log.csv", delimiter=",", skiprows=1)[:, :4] for run in ("one", "two")]
    np.testing.assert_allclose(*logs, rtol=1e-4)


def test_reading_ahead_keeps_order_and_errors():
    def three():
        yield from (1, 2)
        raise UserError("the disk is gone")

    found = []
    with pytest.raises(UserError, match="the disk is gone"):
        found.extend(prefetch(three()))
    assert found == [1, 2]
