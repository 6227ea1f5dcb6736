"""The checkpoint of a run: what it holds, and how it is written, read and checked."""

import hashlib
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.common.cli import UserError, fold
from utils.common.files import whole_file
from utils.common.grid import Grid
from utils.common.periods import Span, Split
from utils.dataset.predictors import variables_of
from utils.dataset.prepared import VARIABLES, VariableNames
from utils.dataset.statistics import Statistics
from utils.settings import EXPERIMENTS, RunSettings, from_plain, modernise

LOG_COLUMNS = ("epoch", "train_loss", "val_loss", "val_rmse", "seconds", "samples_per_second")
STOPPED = {  # why a run ended
    "validation": "the validation RMSE had not become better for `patience` epochs",
    "cap": "all epochs were done before that",
    "planned": "all epochs were done, and nothing else was to stop it",
}
SMALL = 2**20  # bytes: parts of a checkpoint whose checksum is looked at when it is loaded


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
    steps: int = 0  # of the optimiser, in these epochs
    stopped: str = ""  # how a finished run ended: one of STOPPED
    dead_channels: dict[str, int] = field(default_factory=dict)  # at the start, at the end, and of how many
    log: list[list[int | float]] = field(default_factory=list)  # rows of LOG_COLUMNS
    best_epoch: int = 0
    best_rmse: float = float("inf")  # m3 m-3, validation
    best: dict[str, Tensor] = field(default_factory=dict)  # weights
    best_hash: str = ""  # of these weights, once the run is finished
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
    def predictors(self) -> tuple[str, ...]:
        return tuple(self.settings.get("predictors", VARIABLES))

    @property
    def static(self) -> tuple[str, ...]:
        return tuple(self.settings.get("static", ()))

    @property
    def variables(self) -> VariableNames:
        """The variables that a data set must hold for this run."""
        return variables_of(self.predictors, self.static)

    @property
    def known_ahead(self) -> tuple[str, ...]:
        return tuple(self.settings.get("known_ahead", ()))

    @property
    def periods(self) -> Split:
        return Split.from_plain(self.split)

    @property
    def pretraining_periods(self) -> tuple[Span, ...]:
        """Training and validation days of the run that this one started from."""
        return Split.from_plain({"train": self.pretraining, "val": [], "test": []}).train

    @property
    def learned_from(self) -> tuple[Span, ...]:
        """All target days that shaped the weights: training, validation and those of the pre-training."""
        return (*self.periods.train, *self.periods.val, *self.pretraining_periods)

    @property
    def training(self) -> dict[str, Any]:
        """How far the training went and how it ended, as metrics.json and run.json have it; None: not known."""
        return {
            "epochs": self.epoch,
            "best_epoch": self.best_epoch,
            "steps": self.steps or None,
            "training_seconds": round(sum(row[LOG_COLUMNS.index("seconds")] for row in self.log), 1),
            "stopped": self.stopped or None,
            "dead_channels_start": self.dead_channels.get("start"),
            "dead_channels": self.dead_channels.get("end"),
            "relu_channels": self.dead_channels.get("all"),
        }

    @property
    def weights_hash(self) -> str:
        """The fingerprint of the best weights."""
        return self.best_hash or hash_weights(self.best)

    def restored_settings(self, kind: type[RunSettings]) -> RunSettings:
        return from_plain(kind, self.settings)

    def restored_grid(self) -> Grid:
        return Grid(self.grid["lat"].numpy(), self.grid["lon"].numpy())

    def restored_statistics(self) -> Statistics:
        return Statistics.from_tensors(self.statistics, self.variables.all)


def checkpoint_file(run_dir: Path) -> Path:
    """Where a run's checkpoint is; a UserError where there is none."""
    path = run_dir / "checkpoint.pt"
    if run_dir.is_file():
        raise UserError(f"{run_dir} is a file; name the run directory instead: {run_dir.parent}.")
    if not path.is_file():
        raise UserError(f"{run_dir} holds no run: there is no checkpoint.pt.")
    return path


def load_checkpoint(run_dir: Path) -> Checkpoint:
    """The checkpoint of a run. A file that is damaged, foreign or holds code is a UserError; code in it never runs.

    Weights stay in the file until they are used; `check_weights` looks at them.
    """
    path = checkpoint_file(run_dir)
    try:
        _check_small_parts(path)
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        checkpoint.settings = modernise(checkpoint.settings)
        names = (checkpoint.script, checkpoint.model)
        if checkpoint.experiment not in EXPERIMENTS or not all(re.fullmatch(r"\w+", name) for name in names):
            raise ValueError("it names no experiment or model")
        _check_content(checkpoint)
    except Exception as error:
        raise _damaged(run_dir, fold(error).split(". ")[0][:150]) from error
    return checkpoint


def load_finished(run_dir: Path) -> Checkpoint:
    """The checkpoint of a run that is trained to its end; a UserError for any other."""
    checkpoint = load_checkpoint(run_dir)
    if not checkpoint.finished:
        raise UserError(f"{run_dir} is not trained to its end; continue it with the command that began it.")
    return checkpoint


def check_weights(checkpoint: Checkpoint, run_dir: Path) -> None:
    """A UserError where the best weights are not finite, or not those that the finished run wrote.

    An unfinished run, and one of an earlier version, has no hash of them: then the whole file is read.
    """
    if not checkpoint.best_hash:
        check_whole_file(run_dir)
    elif hash_weights(checkpoint.best) != checkpoint.best_hash:
        raise _damaged(run_dir, "its weights have changed since they were written")
    for name, weights in checkpoint.best.items():
        if not torch.isfinite(weights).all():
            raise UserError(f"The weights of {run_dir} are not finite: {name} has NaN or infinite values; train again.")


def check_whole_file(run_dir: Path) -> None:
    """A UserError where a checksum of the checkpoint is wrong, which torch never looks at; reads all of it."""
    with zipfile.ZipFile(run_dir / "checkpoint.pt") as archive:
        if damaged := archive.testzip():
            raise _damaged(run_dir, f"the checksum of {damaged} is wrong")


def _damaged(run_dir: Path, reason: str) -> UserError:
    path = run_dir / "checkpoint.pt"
    return UserError(f"{path} is no checkpoint of this project, or is damaged; nothing in it was executed ({reason}).")


def _check_small_parts(path: Path) -> None:
    """Read all but large weights: an error where a checksum is wrong, which torch never looks at."""
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.file_size < SMALL:
                archive.read(part)


def _check_content(checkpoint: Checkpoint) -> None:
    """What readers rely on is there and of its kind; any exception will do, the caller words it."""
    checkpoint.restored_statistics().check(checkpoint.restored_grid().shape)
    if not all(isinstance(weights, Tensor) for weights in checkpoint.best.values()):
        raise TypeError("its weights are no tensors")
    if not checkpoint.learned_from or min(checkpoint.seed + 1, checkpoint.lead_days, checkpoint.input_days) < 1:
        raise ValueError("its periods or days make no sense")
    _ = Path(checkpoint.settings["data"]), [float(value) for row in checkpoint.log for value in row]


def save_checkpoint(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Write checkpoint.pt, then log.csv from it, so that the two always agree in the end."""
    if checkpoint.finished:
        checkpoint.best_hash = hash_weights(checkpoint.best)
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


def hash_weights(weights: dict[str, Tensor]) -> str:
    """A fingerprint of weights that does not depend on how a checkpoint stores them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
