"""The loop: its loss by hand, its seeds, what a kill leaves behind, who may write where."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from calls_of_processes import hold
from conftest import ERA5_PERIODS, PERIODS, ROOT, subprocess_script, tiny

from utils.common.cli import one_sentence
from utils.data_processing import Batch
from utils.dataset.prepared import write_prepared
from utils.training.checkpoint import load_checkpoint
from utils.training.loop import sum_squared_errors

CNN = "SMAPtest/train_cnn.py"


def weights(run_dir):
    return load_checkpoint(run_dir).best


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_is_the_mean_over_valid_land_targets_by_hand():
    forecast = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    target = torch.tensor([[[0.5, 0.0], [1.0, 0.0]]])
    valid = torch.tensor([[[True, False], [True, False]]])
    batch = Batch(torch.zeros(1, 1, 3, 2, 2), target, valid)
    assert sum_squared_errors(forecast, batch).item() == pytest.approx(0.5**2 + 2.0**2)
    target[~valid] = torch.nan
    assert sum_squared_errors(forecast, batch).item() == pytest.approx(0.5**2 + 2.0**2)


def test_validation_loss_and_rmse_in_the_log_are_those_of_the_valid_cells(tmp_path, smap, script):
    """The last row's validation RMSE, recomputed from the forecasts of the validation period with numpy."""
    run_dir = tmp_path / "run"
    script(CNN, "--data", smap, *PERIODS, "--epochs", 1, "--out", run_dir)
    checkpoint = load_checkpoint(run_dir)
    from utils.data_processing import Windows
    from utils.dataset.prepared import read_prepared
    from utils.dataset.record import Record
    from utils.training.inference import restore_model

    record = Record(read_prepared(smap), checkpoint.restored_statistics())
    validation = Windows(record, periods=checkpoint.periods.val, lead_days=3, input_days=3, name="validation")
    batch = validation.batch(np.arange(len(validation)))
    with torch.no_grad():
        scaled = restore_model(checkpoint, run_dir).eval()(batch.features).numpy()
    squares = (scaled - batch.target.numpy())[batch.valid.numpy()] ** 2
    epoch, _, val_loss, val_rmse, seconds, rate = checkpoint.log[0]
    assert epoch == 1 and seconds > 0 and rate > 0
    assert val_loss == pytest.approx(squares.mean(), rel=1e-4)
    span = record.statistics.high[1] - record.statistics.low[1]
    assert val_rmse == pytest.approx(np.sqrt(squares.mean()) * span, rel=1e-4)


def test_missing_targets_do_not_reach_the_weights(tmp_path, script):
    """Soil moisture missing in time changes the loss only by what is missing: nothing becomes NaN."""
    ds = tiny()
    ds["soil_moisture"] = ds["soil_moisture"].where(np.random.default_rng(1).random(ds["soil_moisture"].shape) > 0.58)
    write_prepared(ds, tmp_path / "gappy.nc")
    result = script(CNN, "--data", tmp_path / "gappy.nc", *PERIODS, "--epochs", 2, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert all(torch.isfinite(w).all() for w in weights(tmp_path / "run").values())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path, smap, script):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        script(CNN, "--data", smap, *PERIODS, "--epochs", 2, "--seed", seed, "--out", tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize(
    "change",
    [
        *("--lr 0.01", "--batch-size 16", "--input-days 2", "--lead-days 4", "--filters 7", "--kernel 2", "--stride 2"),
        *("--target-days 40", "--epochs 1", "--precision bf16-mixed", "--train 2015-03-31 2015-05-20"),
    ],
)
def test_every_setting_changes_something(tmp_path, smap, script, change):
    base = ["--data", smap, *PERIODS, "--precision", "32-true", "--epochs", 3]
    script(CNN, *base, "--out", tmp_path / "a")
    result = script(CNN, *base, *change.split(), "--out", tmp_path / "b")
    assert result.code == 0, result.err
    one, other = load_checkpoint(tmp_path / "a"), load_checkpoint(tmp_path / "b")
    assert [row[:4] for row in one.log] != [row[:4] for row in other.log]  # losses, not seconds
    # and each override is echoed
    name = change.split()[0][2:].replace("-", "_")
    assert f"{name} = " in result.out


def test_patience_stops_early(tmp_path, smap, script):
    script(CNN, "--data", smap, *PERIODS, "--epochs", 40, "--patience", 2, "--lr", 0.03, "--out", tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.finished and checkpoint.epoch == checkpoint.best_epoch + 2 < 40
    assert checkpoint.best_rmse == min(row[3] for row in checkpoint.log)


def killed_run(arguments, moment):
    """Run a script, stop it dead (SIGKILL) at a moment inside its third epoch or inside its second checkpoint."""
    code = f"""
import runpy, sys
sys.argv = {[str(a) for a in arguments]!r}
import torch
from utils.training.checkpoint import load_checkpoint
from utils.training.run_directory import hold_run_directory
from utils.training import loop
torch.set_num_threads(1)
epochs = 0
train_epoch, save = loop.train_epoch, torch.save
def stop():
    print("now", flush=True)
    sys.stdin.read()
def epoch(**given):
    global epochs
    epochs += 1
    loss = train_epoch(**given)
    if epochs == 3 and {moment!r} == "in an epoch":
        stop()
    return loss
def saving(content, file):
    save(content, file)
    if epochs == 2 and {moment!r} == "in a checkpoint":
        file.truncate(1000)
        stop()
loop.train_epoch, torch.save, loop.SAVING = epoch, saving, 1e9  # a checkpoint after each epoch
runpy.run_path({str(ROOT / arguments[0])!r}, run_name="__main__")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line == "now\n":
            break
    else:
        raise AssertionError("the run ended before it could be killed")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("moment", ["in an epoch", "in a checkpoint"])
def test_a_killed_and_continued_run_ends_with_the_same_weights_bit_for_bit(tmp_path, smap, script, moment):
    arguments = ["--data", smap, *PERIODS, "--epochs", 4, "--batch-size", 16]
    script(CNN, *arguments, "--out", tmp_path / "whole")
    killed_run([CNN, *arguments, "--out", tmp_path / "killed"], moment)
    before = load_checkpoint(tmp_path / "killed")
    assert not before.finished and before.epoch == {"in an epoch": 2, "in a checkpoint": 1}[moment]
    result = script(CNN, *arguments, "--out", tmp_path / "killed")
    assert result.code == 0, result.err
    whole, continued = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "killed")
    assert same(whole.best, continued.best) and whole.best_epoch == continued.best_epoch
    assert [row[:4] for row in whole.log] == [row[:4] for row in continued.log]
    assert continued.finished and not continued.last
    assert {p.name for p in (tmp_path / "killed").iterdir()} - {".lock"} == {
        "checkpoint.pt",
        "config.json",
        "log.csv",
        "run.json",
    }


def test_a_finished_run_says_so_and_stops(tmp_path, smap, script):
    arguments = ["--data", smap, *PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    script(CNN, *arguments)
    changed = (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns
    again = script(CNN, *arguments)
    assert again.code == 0 and "is finished" in again.out
    assert (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns == changed


def test_other_settings_or_data_in_the_same_directory_get_a_sentence_and_overwrite(tmp_path, smap, script):
    arguments = ["--data", smap, *PERIODS, "--out", tmp_path / "run"]
    script(CNN, *arguments, "--epochs", 1)
    sentence = script(CNN, *arguments, "--epochs", 2).sentence()
    assert "--epochs was 1, now 2" in sentence and "--overwrite" in sentence
    assert "model was cnn, now lstm" in script("SMAPtest/train_lstm.py", *arguments, "--epochs", 1).sentence()
    write_prepared(tiny(seed=5), smap)
    assert "content of --data" in script(CNN, *arguments, "--epochs", 1).sentence()
    script("SMAPtest/eval.py", tmp_path / "run", "--data", smap)
    assert (tmp_path / "run" / "metrics.json").exists()
    result = script(CNN, *arguments, "--epochs", 2, "--overwrite")
    assert result.code == 0 and load_checkpoint(tmp_path / "run").epoch == 2
    assert not (tmp_path / "run" / "metrics.json").exists()  # nothing of the old run is left beside the new one


def test_the_same_data_under_another_name_is_the_same_run(tmp_path, smap, script, monkeypatch):
    arguments = [*PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    script(CNN, "--data", smap, *arguments)
    monkeypatch.chdir(smap.parent)
    assert "is finished" in script(CNN, "--data", smap.name, *arguments).out
    moved = smap.rename(tmp_path / "moved.nc")
    assert "is finished" in script(CNN, "--data", moved, *arguments).out


@pytest.mark.parametrize(("start", "end", "period"), [(62, 92, "validation"), (0, 62, "training")])
def test_a_period_without_a_valid_target_is_refused_before_anything_is_written(tmp_path, script, start, end, period):
    ds = tiny()
    ds["soil_moisture"][start + 5 if start == 0 else start : end] = np.nan
    write_prepared(ds, tmp_path / "data.nc")
    result = script(CNN, "--data", tmp_path / "data.nc", *PERIODS, "--out", tmp_path / "new" / "run")
    assert f"The {period} period has no valid soil moisture" in result.sentence()
    assert not (tmp_path / "new").exists()


def test_a_folder_of_the_user_is_not_removed_by_a_refusal(tmp_path, script):
    (tmp_path / "mine").mkdir()
    script(CNN, "--data", tmp_path / "none.nc", *PERIODS, "--out", tmp_path / "mine").sentence()
    assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())


def test_an_output_in_another_encoding_does_not_end_a_training(tmp_path, smap):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = subprocess_script(CNN, "--data", smap, *PERIODS, "--epochs", 1, "--out", tmp_path / "r", env=environment)
    assert result.code == 0, result.err
    refusal = subprocess_script(CNN, "--nope", 3, env=environment)
    assert refusal.sentence().startswith("error: Unrecognized options: --nope, 3 (--help")


def test_a_directory_in_use_by_a_living_process_is_refused_and_a_dead_one_leaves_no_lock(tmp_path, smap, script):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "run", ready, done))
    holder.start()
    assert ready.wait(60)
    arguments = [CNN, "--data", smap, *PERIODS, "--epochs", 1, "--out", tmp_path / "run"]
    assert "in use by another process" in script(*arguments).sentence()
    holder.kill()
    holder.join()
    assert script(*arguments).code == 0


def test_a_run_directory_holds_what_the_contract_says(tmp_path, smap, script):
    script(CNN, "--data", smap, *PERIODS, "--epochs", 2, "--out", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["epochs"] == {"value": 2, "from": "command line"}
    assert config["settings"]["lr"] == {"value": 1e-3, "from": "script"}
    assert config["settings"]["input_days"]["value"] == 3
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[0] == "epoch,train_loss,val_loss,val_rmse,seconds,samples_per_second" and len(log) == 3
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(run["data_sha256"]) == 64 and run["versions"]["torch"] == torch.__version__
    assert run["start"] <= run["end"] and run["machine"]["threads"] and run["commit"]
    content = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert content["finished"] and not content["last"] and content["synthetic"]


@pytest.mark.parametrize("change", [{"best_hash": ""}, {"finished": False}])
def test_damage_in_large_weights_is_found_before_they_are_used(tmp_path, smap, script, monkeypatch, change):
    """In runs of an earlier version, which have no hash of their weights, and in those to be continued."""
    monkeypatch.setattr("utils.training.checkpoint.SMALL", 0)  # as if all parts were large
    run, command = tmp_path / "run", ["SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1]
    assert script(*command, "--out", run).code == 0
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({**content, **change}, run / "checkpoint.pt")
    good = (run / "checkpoint.pt").read_bytes()
    middle = len(good) // 2
    flipped = bytes(255 - byte for byte in good[middle : middle + 300])
    (run / "checkpoint.pt").write_bytes(good[:middle] + flipped + good[middle + 300 :])
    used = ["SMAPtest/eval.py", run] if "best_hash" in change else [*command, "--out", run]
    assert "is damaged" in script(*used).sentence()


def test_the_default_run_directory_is_that_of_the_contract(tmp_path, smap, script):
    script("SMAPtest/train_convlstm.py", "--data", smap, *PERIODS, "--epochs", 1, "--head", "conv", "--seed", 4)
    assert (tmp_path / "runs" / "SMAPtest" / "convlstm_conv" / "lead3" / "seed4" / "checkpoint.pt").is_file()


def test_checkpoints_that_are_corrupt_foreign_or_malicious_are_refused_and_never_executed(tmp_path, era5, smap, script):
    source, marker = tmp_path / "source", tmp_path / "executed"
    script("ERA5test/train_cnn.py", "--data", era5, *ERA5_PERIODS, "--epochs", 1, "--out", source)
    good = (source / "checkpoint.pt").read_bytes()

    class Malicious:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    arguments = ["--data", smap, *PERIODS, "--epochs", 1, "--init-from", source, "--out", tmp_path / "run"]
    damaged = bytearray(good)
    damaged[100:400] = bytes(300)
    flipped = bytearray(good)  # in the weights themselves, where only a checksum can tell
    flipped[len(good) // 2 : len(good) // 2 + 300] = bytes(255 - byte for byte in good[len(good) // 2 :][:300])
    content = torch.load(source / "checkpoint.pt", weights_only=True)
    torch.save({**content, "experiment": "../../evil"}, tmp_path / "foreign.pt")
    statistics = {**content["statistics"], "scored": torch.ones(2, 2, dtype=torch.bool)}
    torch.save({**content, "statistics": statistics}, tmp_path / "shapes.pt")
    torch.save({**content, "settings": {**content["settings"], "lead_days": -3}}, tmp_path / "days.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save({**content, "best": Malicious()}, tmp_path / "malicious.pt")
    for bad in (
        b"",
        b"no checkpoint",
        good[: len(good) // 2],
        bytes(damaged),
        bytes(flipped),
        pickle.dumps(Malicious()),
        *((tmp_path / f"{name}.pt").read_bytes() for name in ("foreign", "other", "malicious", "shapes", "days")),
    ):
        (source / "checkpoint.pt").write_bytes(bad)
        for command in (["finetune-SMAPtest/train_cnn.py", *arguments], ["ERA5test/eval.py", source]):
            sentence = script(*command).sentence()
            assert "nothing in it was executed" in sentence
            assert not (tmp_path / "run").exists() and not (source / "predictions.nc").exists()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lead-days", 0], "--lead-days is 0, expected 1 or more"),
        (["--input-days", 0], "--input-days is 0"),
        (["--epochs", 0], "--epochs is 0"),
        (["--batch-size", 0], "--batch-size is 0"),
        (["--lr", -1], "--lr is -1.0, expected a positive number"),
        (["--seed", -1], "--seed is -1"),
        (["--lead-day", 3], "Unrecognized options: --lead-day"),
        (["--epochs", "many"], "--epochs"),
        (["--precision", "16"], "invalid choice '16'"),
        (["--val", "2015-06-01"], "--val"),
        (["--target-days", 1000], "begins on 2015-03-31, the last --target-days on 2012-10-04"),
        (["--target-days", 10**21], "--target-days is 1000000000000000000000, expected 2 or more"),
        (["--lead-days", 10**20], "--lead-days is 100000000000000000000"),
        (["--lead-days", 200], "no full window"),
        (["--test", "2019-01-01", "2019-12-31"], "The test period 2019-01-01 to 2019-12-31 has 0 days"),
        (["--kernel", 0], "--kernel is 0, expected 1 or more"),
        (["--stride", 0], "--stride is 0"),
        (["--filters", -3], "--filters is -3"),
        (["--lead-days", 50], "no full window"),
        (["--train", "2015-03-31", "2015-06-15"], "--train ends on 2015-06-15, expected before --val starts"),
        (["--train", "1999-01-01", "1999-12-31"], "no valid value in the training period"),
        (["--val", "2015-06-01", "2015-05-01"], "empty period"),
    ],
)
def test_settings_that_mean_nothing_get_one_sentence(tmp_path, smap, script, arguments, message):
    sentence = script(CNN, "--data", smap, *PERIODS, "--out", tmp_path / "run", *arguments).sentence()
    assert message in sentence
    assert not (tmp_path / "run").exists()


def test_a_directory_that_cannot_be_written_gets_one_sentence(tmp_path, smap, script):
    (tmp_path / "file").write_text("")
    arguments = ["--data", smap, *PERIODS, "--epochs", 1]
    assert "cannot be written" in script(CNN, *arguments, "--out", tmp_path / "file" / "run").sentence()
    assert "cannot be written" in script(CNN, *arguments, "--out", "/proc/run").sentence()


def test_a_full_disk_gets_one_sentence_and_leaves_nothing_half_written(tmp_path, smap):
    """A limit on the size of files stands in for a full disk: the checkpoint does not fit."""
    limited = f"ulimit -f 20; exec {sys.executable} {ROOT / CNN} " + " ".join(
        map(str, ["--data", smap, *PERIODS, "--epochs", 2, "--out", tmp_path / "run"])
    )
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "disk or quota is full" in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert not list((tmp_path / "run").glob("*.partial")) + list((tmp_path / "run").glob(".*.partial"))


def test_a_loss_that_is_no_longer_finite_gets_one_sentence(tmp_path, smap, script):
    result = script(CNN, "--data", smap, *PERIODS, "--epochs", 5, "--lr", 1e30, "--out", tmp_path / "run")
    assert "no longer finite" in result.sentence()


def test_ctrl_c_gets_one_sentence_and_the_run_continues(tmp_path, smap, script):
    arguments = [CNN, "--data", str(smap), *PERIODS, "--epochs", "2000", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / CNN), *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "log.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.strip().startswith("interrupted"), errors
    assert "Traceback" not in errors


def test_ctrl_c_while_a_library_writes_is_still_an_interruption(capsys):
    with pytest.raises(SystemExit) as stop, one_sentence():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904 - as torch's writer does
    assert stop.value.code == 130 and capsys.readouterr().err.strip().startswith("interrupted")


def test_a_script_runs_from_any_folder(tmp_path, smap):
    result = subprocess_script(CNN, "--data", smap, *PERIODS, "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert result.code == 0 and (tmp_path / "run" / "checkpoint.pt").is_file(), result.err
