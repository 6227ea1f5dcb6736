"""What is said of runs and data that cannot be used, and where a run is found that was moved."""

import shutil
from dataclasses import make_dataclass

import numpy as np
import pytest
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, tiny

import utils.settings
from utils.common.cli import UserError
from utils.dataset.prepared import write_prepared
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.moved import find_moved_inputs

QUICK = ["--epochs", 1, "--precision", "32-true"]


@pytest.fixture
def run_dir(tmp_path, smap, script):
    """A run of the CNN, with its data beside it, in a folder that can be moved."""
    house = tmp_path / "house"
    (house / "data").mkdir(parents=True)
    shutil.copy(smap, house / "data" / "own.nc")
    out = house / "runs" / "cnn"
    result = script("SMAPtest/train_cnn.py", "--data", house / "data" / "own.nc", *PERIODS, *QUICK, "--out", out)
    assert result.code == 0, result.err
    return out


def test_a_checkpoint_named_for_its_run_directory_is_said_to_be_a_file(run_dir, smap, script, tmp_path):
    file = run_dir / "checkpoint.pt"
    said = f"{file} is a file; name the run directory instead: {run_dir}"
    assert said in script("SMAPtest/eval.py", file).sentence()
    assert said in script("forecast.py", file, "--data", smap, "--out", tmp_path / "f.nc").sentence()
    arguments = ["--data", smap, *PERIODS, "--init-from", file, "--out", tmp_path / "tuned"]
    assert said in script("finetune-SMAPtest/train_cnn.py", *arguments).sentence()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_everywhere(run_dir, smap, script, tmp_path, bad):
    checkpoint = load_checkpoint(run_dir)
    checkpoint.best = {name: weights.clone() for name, weights in checkpoint.best.items()}
    checkpoint.best["conv.bias"][1] = bad
    save_checkpoint(run_dir, checkpoint)
    for command in (
        ["SMAPtest/eval.py", run_dir],
        ["forecast.py", run_dir, "--data", smap, "--out", tmp_path / "f.nc"],
    ):
        assert "are not finite: conv.bias has NaN or infinite values" in script(*command).sentence()


def test_a_learning_rate_that_spoils_the_fit_is_said(tmp_path, smap, script):
    arguments = ["--data", smap, *PERIODS, *QUICK, "--batch-size", 16, "--lr", 10, "--out", tmp_path / "run"]
    result = script("SMAPtest/train_cnn.py", *arguments)
    assert result.code == 0 and "warning: this is no fit: the validation RMSE is" in result.out
    of_means = float(result.out.split("that of the cells' means is ")[1].split(";")[0])
    with xr.open_dataset(smap) as ds:
        moisture = ds["soil_moisture"]
        error = moisture.sel(time=slice("2015-06-01", "2015-06-30"))
        error = error - moisture.sel(time=slice("2015-03-31", "2015-05-31")).mean("time")
        assert of_means == pytest.approx(float(np.sqrt((error**2).mean())), abs=6e-5)


def test_a_good_fit_gets_no_warning(run_dir, smap, script, tmp_path):
    result = script("SMAPtest/train_compact.py", "--data", smap, *PERIODS, "--epochs", 1, "--out", tmp_path / "compact")
    assert result.code == 0 and "no fit" not in result.out


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            ("1999-01-01", "1999-12-31"),
            "1999-12-31, and no day: it runs from 2015-03-31 to 2015-07-28",
        ),
        (("2015-04-10", "2015-04-20"), "soil_moisture has no valid value in the training period"),
    ],
)
def test_the_right_variable_is_named_and_the_days_of_the_record(tmp_path, script, train, said):
    """A month without a satellite, in a data set whose rain is complete."""
    ds = tiny()
    ds["soil_moisture"][5:25] = np.nan
    write_prepared(ds, tmp_path / "smap.nc")
    periods = ["--train", *train, *PERIODS[3:]]
    arguments = ["--data", tmp_path / "smap.nc", *periods, "--out", tmp_path / "run"]
    sentence = script("SMAPtest/train_cnn.py", *arguments).sentence()
    assert said in sentence


def test_a_data_set_without_soil_moisture_before_the_test_names_soil_moisture(tmp_path, script):
    ds = tiny()
    ds["soil_moisture"][:100] = np.nan
    write_prepared(ds, tmp_path / "smap.nc")
    arguments = ["--data", tmp_path / "smap.nc", *PERIODS, "--out", tmp_path / "run"]
    sentence = script("SMAPtest/train_cnn.py", *arguments).sentence()
    assert "soil_moisture has no valid value in the training period" in sentence


def test_runs_and_data_that_were_moved_together_are_found_by_their_content(run_dir, smap, script, tmp_path):
    house, new = tmp_path / "house", tmp_path / "mailed" / "elsewhere"
    new.parent.mkdir()
    shutil.move(house, new)
    run, data = new / "runs" / "cnn", new / "data" / "own.nc"
    assert script("SMAPtest/eval.py", run).code == 0
    newer = tmp_path / "newer.nc"
    write_prepared(tiny(days=130), newer)
    result = script("forecast.py", run, "--data", newer, "--folds", 2, "--out", tmp_path / "f.nc")
    assert result.code == 0, result.err
    shutil.rmtree(run / "held_out_2")
    data.rename(tmp_path / "renamed.nc")
    arguments = ["--folds", 2, "--out", tmp_path / "f.nc"]
    assert script("forecast.py", run, "--data", tmp_path / "renamed.nc", *arguments).code == 0
    shutil.rmtree(run / "held_out_2")
    assert "is gone or has changed" in script("forecast.py", run, "--data", newer, *arguments).sentence()
    assert "does not exist" in script("SMAPtest/eval.py", run).sentence()


def test_another_file_at_the_place_of_the_data_is_never_taken_for_it(run_dir, tmp_path):
    own = tmp_path / "house" / "data" / "own.nc"
    write_prepared(tiny(seed=7), own)
    checkpoint = load_checkpoint(run_dir)
    find_moved_inputs(checkpoint, run_dir)
    assert checkpoint.settings["data"] == str(own)  # kept, for the caller to refuse


def test_the_run_that_a_fine_tuning_started_from_is_found_too(run_dir, tmp_path, monkeypatch):
    checkpoint = load_checkpoint(run_dir)
    moved = tmp_path / "house" / "old" / "source"
    shutil.copytree(run_dir, moved)
    checkpoint.source_hash = checkpoint.weights_hash
    checkpoint.settings["init_from"] = "/nowhere/old/source"
    find_moved_inputs(checkpoint, run_dir)
    assert checkpoint.settings["init_from"] == str(moved)
    checkpoint.source_hash = "of other weights"
    checkpoint.settings["init_from"] = "/nowhere/old/source"
    find_moved_inputs(checkpoint, run_dir)
    assert checkpoint.settings["init_from"] == "/nowhere/old/source"


def test_more_folds_than_days_are_refused(run_dir, smap, script, tmp_path):
    """So many days, so many folds: for any number of folds that leaves a block without a day."""
    for folds in (50, 1000):
        arguments = ["--data", smap, "--folds", folds, "--out", tmp_path / "f.nc"]
        sentence = script("forecast.py", run_dir, *arguments).sentence()
        assert f"learned from 87 days, too few for {folds} --folds" in sentence


def test_forecast_says_how_far_it_is(run_dir, smap, script, tmp_path):
    result = script("forecast.py", run_dir, "--data", smap, "--folds", 2, "--out", tmp_path / "f.nc")
    lines = [line for line in result.out.splitlines() if "held out" in line]
    assert [line[:6] for line in lines] == ["1 of 2", "2 of 2"] * 2
    names = [line.split("left  ")[1] for line in lines[::2]]
    assert names == ["cnn lead 3, held out", "cnn lead 3, held out with outages"]


def test_an_edited_line_of_the_architecture_is_refused_by_name(tmp_path, era5, smap, script, monkeypatch):
    source = ["--data", era5, *ERA5_PERIODS, *QUICK, "--filters", 7, "--out", tmp_path / "source"]
    assert script("ERA5test/train_cnn.py", *source).code == 0
    tuned = ["--data", smap, *PERIODS, *QUICK, "--init-from", tmp_path / "source", "--out", tmp_path / "tuned"]
    lines = [("filters", int, 9)]
    edited = make_dataclass("Edited", lines, bases=(utils.settings.FinetuningNetworkSettings,), kw_only=True)
    monkeypatch.setattr(utils.settings, "FinetuningNetworkSettings", edited)
    sentence = script("finetune-SMAPtest/train_cnn.py", *tuned).sentence()
    assert "was trained with --filters 7, this run asks for 9" in sentence
    monkeypatch.undo()
    assert "filters" in script("finetune-SMAPtest/train_cnn.py", *tuned, "--filters", 9).sentence()


def test_both_sides_of_a_comparison_with_scratch(run_dir, era5, smap, script, tmp_path):
    """eval.py and the report over a folder: one table, and the test of transfer on the same cell-days."""
    data = tmp_path / "house" / "data" / "own.nc"
    source = ["--data", era5, *ERA5_PERIODS, *QUICK, "--out", tmp_path / "house" / "runs" / "source"]
    assert script("ERA5test/train_cnn.py", *source).code == 0
    tuned = ["--data", data, *PERIODS, *QUICK, "--init-from", tmp_path / "house" / "runs" / "source"]
    assert script("finetune-SMAPtest/train_cnn.py", *tuned, "--out", tmp_path / "house" / "runs" / "tuned").code == 0
    result = script("finetune-SMAPtest/eval.py", tmp_path / "house" / "runs")
    assert result.code == 0, result.err
    line = result.out.strip().splitlines()[-1]
    assert line.startswith("cnn, 3 days ahead, seed 0, against cnn from scratch: ")
    rmse = [xr.open_dataset(tmp_path / "house" / "runs" / name / "predictions.nc") for name in ("tuned", "cnn")]
    ratio = np.sqrt(np.divide(*(float(((ds["predicted"] - ds["observed"]) ** 2).mean()) for ds in rmse)))
    assert f"RMSE {100 * (ratio - 1):+.1f} %".replace("-", "−") in line
    assert "SMAPtest and finetune-SMAPtest, 3 days ahead" in result.out
    written = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("house/runs/*/metrics.json"))]
    again = script("utils/study/report.py", tmp_path / "house" / "runs" / "tuned", tmp_path / "house" / "runs" / "cnn")
    assert again.code == 0 and again.out.strip().splitlines()[-1] == line
    assert written == [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("house/runs/*/metrics.json"))]
    with pytest.raises(UserError, match="holds no run"):
        load_checkpoint(tmp_path)
