"""A run directory (contract 4): who may write to it, what it holds, and its checkpoint."""

import contextlib
import functools
import hashlib
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from torch import Tensor

from utils.common.cli import UserError, fold
from utils.common.files import ROOT, whole_file, write_json
from utils.common.grid import Grid
from utils.common.periods import Span, Split
from utils.dataset.prepared import VARIABLES
from utils.dataset.statistics import Statistics
from utils.settings import EXPERIMENTS, RENAMED, TrainSettings, before_it_existed, from_plain

LOG_COLUMNS = ("epoch", "train_loss", "val_loss", "val_rmse", "seconds", "samples_per_second")
_LIBRARIES = ("torch", "lightning-fabric", "numpy", "xarray", "netCDF4", "scikit-learn")
_NOT_COMPARED = {"out", "overwrite", "data", "init_from", "future_from"}  # places; their content is compared by hash


@dataclass
class Checkpoint:
    """Everything needed to continue, evaluate or fine-tune a run. Loads with weights_only=True."""

    experiment: str  # folder of the script
    script: str  # train_<script>.py
    model: str  # name in run folders and tables
    settings: dict[str, Any]
    split: dict[str, list[list[str]]]  # the spans of target days in force
    pretraining: list[list[str]]  # training and validation spans of the run this one started from
    data_hash: str
    source_hash: str  # weights this run started from; empty without pre-training
    commit: str
    future: str = ""  # what is known of the weather ahead, in words; empty: nothing
    weather_kind: str = "none"  # none, perfect or degraded: what is known of the weather ahead
    future_hash: str = ""  # the file of forecasts; empty: the data set itself, or nothing
    synthetic: bool = False
    grid: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    skipped: int = 0  # training days without a full window
    finished: bool = False
    epoch: int = 0  # epochs completed
    log: list[list[int | float]] = field(default_factory=list)  # rows of LOG_COLUMNS
    best_epoch: int = 0
    best_rmse: float = float("inf")  # m3 m-3, validation
    best: dict[str, Tensor] = field(default_factory=dict)  # weights
    last: dict[str, Any] = field(default_factory=dict)  # weights, optimiser, random state; empty once finished

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def lead_days(self) -> int:
        return self.settings["lead_days"]

    @property
    def input_days(self) -> int:
        return self.settings["input_days"]

    @property
    def periods(self) -> Split:
        return Split.from_plain(self.split)

    @property
    def learned_from(self) -> tuple[Span, ...]:
        """All target days that shaped the weights: training, validation and those of the pre-training."""
        pretraining = Split.from_plain({"train": self.pretraining, "val": [], "test": []}).train
        return (*self.periods.train, *self.periods.val, *pretraining)

    def restored_settings(self, kind: type[TrainSettings]) -> TrainSettings:
        return from_plain(kind, self.settings)

    def restored_grid(self) -> Grid:
        return Grid(self.grid["lat"].numpy(), self.grid["lon"].numpy())

    def restored_statistics(self) -> Statistics:
        return Statistics.from_tensors(self.statistics)

    @property
    def predictors(self) -> tuple[str, ...]:
        return tuple(self.settings.get("predictors", VARIABLES))


def checkpoint_file(run_dir: Path) -> Path:
    """Where a run's checkpoint is; a UserError where there is none."""
    path = run_dir / "checkpoint.pt"
    if not path.is_file():
        raise UserError(f"{run_dir} holds no run: there is no checkpoint.pt.")
    return path


def load_checkpoint(run_dir: Path) -> Checkpoint:
    """The checkpoint of a run. A file that is damaged, foreign or holds code is a UserError; code in it never runs."""
    path = checkpoint_file(run_dir)
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself never looks at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        checkpoint.settings = {RENAMED.get(name, name): value for name, value in checkpoint.settings.items()}
        names = (checkpoint.script, checkpoint.model)
        if checkpoint.experiment not in EXPERIMENTS or not all(re.fullmatch(r"\w+", name) for name in names):
            raise ValueError("it names no experiment or model")
        _check_content(checkpoint)
    except Exception as error:
        reason = fold(error).split(". ")[0][:150]
        raise UserError(
            f"{path} is no checkpoint of this project, or is damaged; nothing in it was executed ({reason})."
        ) from error
    return checkpoint


def _check_content(checkpoint: Checkpoint) -> None:
    """What readers rely on is there and of its kind; any exception will do, the caller words it."""
    checkpoint.restored_statistics().check(checkpoint.restored_grid().shape)
    if not all(isinstance(weights, Tensor) for weights in checkpoint.best.values()):
        raise TypeError("its weights are no tensors")
    if not checkpoint.learned_from or min(checkpoint.seed + 1, checkpoint.lead_days, checkpoint.input_days) < 1:
        raise ValueError("its periods or days make no sense")
    _ = Path(checkpoint.settings["data"]), [float(value) for row in checkpoint.log for value in row]


def clear(run_dir: Path) -> None:
    """Remove a run before another one takes its directory, so that nothing of both is ever mixed."""
    for name in ("checkpoint.pt", "config.json", "log.csv", "run.json", "predictions.nc", "scores.nc", "metrics.json"):
        (run_dir / name).unlink(missing_ok=True)
    for folder in (run_dir / "figures", *run_dir.glob("held_out*")):
        shutil.rmtree(folder, ignore_errors=True)


def save_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Write checkpoint.pt, then log.csv from it, so that the two always agree in the end."""
    with whole_file(run_dir / "checkpoint.pt") as partial, partial.open("wb") as file:
        torch.save({name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}, file)
    write_log(run_dir, checkpoint)


def best_weights(run_dir: Path) -> dict[str, Tensor]:
    """The best weights in the checkpoint just written, read from the file when they are needed."""
    return torch.load(run_dir / "checkpoint.pt", map_location="cpu", weights_only=True, mmap=True)["best"]


def write_log(run_dir: Path, checkpoint: Checkpoint) -> None:
    lines = [",".join(LOG_COLUMNS), *(",".join(f"{value:.8g}" for value in row) for row in checkpoint.log)]
    with whole_file(run_dir / "log.csv") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def epochs_done(run_dir: Path) -> int:
    """How far a run is, whoever trains it; 0 where there is none."""
    with contextlib.suppress(OSError):
        return max((run_dir / "log.csv").read_text(encoding="utf-8").count("\n") - 1, 0)
    return 0


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Hold the directory for this process alone; the operating system frees it when the process ends, however.

    Raises UserError when another living process holds it or it cannot be written. A directory made for nothing is
    removed again.
    """
    lock_file = run_dir / ".lock"
    new = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{run_dir} is in use by another process; wait for it or give another --out.") from None
    except (OSError, NotImplementedError) as error:
        reason = fold(getattr(error, "strerror", None) or error)
        raise UserError(f"{run_dir} cannot be written: {reason}; give another --out.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if not any(file != lock_file for file in run_dir.iterdir()):
                lock_file.unlink(missing_ok=True)
                for folder in new:
                    folder.rmdir()
        lock.release()


def found(run_dir: Path, wanted: Checkpoint, overwrite: bool) -> Checkpoint | None:
    """The run that the directory holds, to be continued; None when there is none, or it is to be overwritten.

    With `overwrite`, an unfinished run of the same settings is still continued. Raises UserError when the directory
    holds another run than the one wanted, naming the first difference.
    """
    if not (run_dir / "checkpoint.pt").exists():
        return None
    try:
        there = _found(run_dir, wanted)
    except UserError:
        if overwrite:
            return None
        raise
    return None if overwrite and there.finished else there


def _found(run_dir: Path, wanted: Checkpoint) -> Checkpoint:
    there = load_checkpoint(run_dir)
    changed = [
        (name, getattr(there, name), getattr(wanted, name))
        for name in ("experiment", "model")
        if getattr(there, name) != getattr(wanted, name)
    ]
    for name in sorted((there.settings.keys() | wanted.settings.keys()) - _NOT_COMPARED):
        before, now = (run.settings.get(name, before_it_existed().get(name)) for run in (there, wanted))
        if before != now:
            changed.append((f"--{name.replace('_', '-')}", *(words(value) for value in (before, now))))
    if there.data_hash != wanted.data_hash:
        changed.append(("the content of --data", there.data_hash[:12], wanted.data_hash[:12]))
    if there.future_hash != wanted.future_hash:
        before, now = (run.future_hash[:12] or "none" for run in (there, wanted))
        changed.append(("the content of --future-from", before, now))
    if there.source_hash != wanted.source_hash:
        changed.append(("the pre-trained weights", there.source_hash[:12], wanted.source_hash[:12]))
    if changed:
        name, before, now = changed[0]
        raise UserError(
            f"{run_dir} holds a run with other settings: {name} was {before}, now {now}; give another --out, or "
            "--overwrite to start again."
        )
    return there


def weights_hash(weights: dict[str, Tensor]) -> str:
    """A fingerprint of weights that does not depend on how a checkpoint stores them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def write_provenance(run_dir: Path, checkpoint: Checkpoint, fabric: Fabric, start: str, end: str | None) -> None:
    """run.json: what made this run, on what, when. `end` is None while it is running."""
    machine = {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(fabric.device),
        "precision": fabric._precision.precision,
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
        "start": start,
        "end": end,
    }
    write_json(run_dir / "run.json", content)


def words(value: Any) -> str:
    """A setting as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
