"""A run directory: who may write to it, which run it holds, and the files beside the checkpoint."""

import contextlib
import functools
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from utils.common.cli import UserError
from utils.common.files import ROOT, hold_lock, write_json
from utils.settings import neutral_values
from utils.training.checkpoint import Checkpoint, check_whole_file, load_checkpoint

_LIBRARIES = ("torch", "lightning-fabric", "numpy", "xarray", "netCDF4", "scikit-learn")
_NOT_COMPARED = {"out", "overwrite", "data", "init_from", "future_from"}  # places; their content is compared by hash


def clear(run_dir: Path) -> None:
    """Remove a run before another one takes its directory, so that nothing of both is ever mixed."""
    for name in ("checkpoint.pt", "config.json", "log.csv", "run.json", "predictions.nc", "scores.nc", "metrics.json"):
        (run_dir / name).unlink(missing_ok=True)
    for folder in (run_dir / "figures", run_dir / "operational", *run_dir.glob("held_out*")):
        shutil.rmtree(folder, ignore_errors=True)


def epochs_done(run_dir: Path) -> int:
    """How far a run is, whoever trains it; 0 where there is none."""
    with contextlib.suppress(OSError):
        return max((run_dir / "log.csv").read_text(encoding="utf-8").count("\n") - 1, 0)
    return 0


@contextlib.contextmanager
def hold_run_directory(run_dir: Path) -> Iterator[None]:
    """Hold the directory for this process alone; the operating system frees it when the process ends, however.

    Raises UserError when another living process holds it or it cannot be written. A directory made for nothing is
    removed again.
    """
    lock_file = run_dir / ".lock"
    new = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    with hold_lock(lock_file, run_dir):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if not any(file != lock_file for file in run_dir.iterdir()):
                    lock_file.unlink(missing_ok=True)
                    for folder in new:
                        folder.rmdir()


def resumable_run(run_dir: Path, wanted: Checkpoint, overwrite: bool) -> Checkpoint | None:
    """The run that the directory holds, to be continued; None when there is none, or it is to be overwritten.

    With `overwrite`, an unfinished run of the same settings is still continued. Raises UserError when the directory
    holds another run than the one wanted, naming the first difference.
    """
    if not (run_dir / "checkpoint.pt").exists():
        return None
    try:
        there = load_checkpoint(run_dir)
        if difference := _first_difference(there, wanted):
            name, before, now = difference
            raise UserError(
                f"{run_dir} holds a run with other settings: {name} was {before}, now {now}; give another --out, or "
                "--overwrite to start again."
            )
        if not there.finished:
            check_whole_file(run_dir)  # its last weights are about to be used
    except UserError:
        if overwrite:
            return None
        raise
    return None if overwrite and there.finished else there


def _first_difference(there: Checkpoint, wanted: Checkpoint) -> tuple[str, str, str] | None:
    """What differs between two runs, what it was and what it is now, in words; None where nothing does."""
    for name in ("experiment", "model"):
        if getattr(there, name) != getattr(wanted, name):
            return name, getattr(there, name), getattr(wanted, name)
    for name in sorted((there.settings.keys() | wanted.settings.keys()) - _NOT_COMPARED):
        before, now = (run.settings.get(name, neutral_values().get(name)) for run in (there, wanted))
        if before != now:
            return f"--{name.replace('_', '-')}", words(before), words(now)
    hashes = {
        "the content of --data": "data_hash",
        "the content of --future-from": "future_hash",
        "the pre-trained weights": "source_hash",
    }
    for name, field in hashes.items():
        before, now = getattr(there, field), getattr(wanted, field)
        if before != now:
            return name, before[:12] or "none", now[:12] or "none"
    return None


@functools.cache
def git_commit() -> str:
    """The commit of this checkout, with -dirty when files differ from it; "unknown" outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def write_config(run_dir: Path, checkpoint: Checkpoint, origins: Mapping[str, str]) -> None:
    """config.json: every setting in force and where it came from, and the periods it led to."""
    settings = {
        name: {"value": value, "from": origins.get(name, "script")} for name, value in checkpoint.settings.items()
    }
    names = {"experiment": checkpoint.experiment, "model": checkpoint.model}
    write_json(run_dir / "config.json", {**names, "settings": settings, "periods": checkpoint.split})


def write_provenance(
    run_dir: Path, checkpoint: Checkpoint, *, device: str, precision: str, start: str, end: str | None
) -> None:
    """run.json: what made this run, on what, when. `end` is None while it is running.

    `device` and `precision` are those that the training computes with, whatever the settings ask for.
    """
    machine = {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": device,
        "precision": precision,
    }
    content = {
        "commit": checkpoint.commit,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "data": checkpoint.settings["data"],
        "data_sha256": checkpoint.data_hash,
        "synthetic_data": checkpoint.synthetic,
        "future_weather": checkpoint.future or None,
        "future_sha256": checkpoint.future_hash or None,
        "pretrained_weights_sha256": checkpoint.source_hash or None,
        "machine": machine,
        "training": checkpoint.training,
        "start": start,
        "end": end,
    }
    write_json(run_dir / "run.json", content)


def words(value: Any) -> str:
    """A setting as one would type it."""
    return str(value) if isinstance(value, str) or not isinstance(value, Iterable) else " ".join(map(str, value))
