"""What all ways to fit a model have in common: what they are given, and the files that they write."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from utils.data_processing import Windows
from utils.models import ForecastModel
from utils.settings import RunSettings
from utils.training.checkpoint import Checkpoint, save_checkpoint
from utils.training.run_directory import write_provenance


@dataclass
class Run:
    """A training run: what it learns from, how far it is, and where that is written."""

    training: Windows
    validation: Windows
    checkpoint: Checkpoint  # of a run that is continued, that of its last finished epoch
    run_dir: Path
    on_epoch: Callable[[Checkpoint], None] | None = None  # sees the checkpoint after each epoch; None: a progress bar


class Trainer:
    """A way to fit a model. utils/training/trainers.py has the table of them.

    `source` are the pre-trained weights by name, for trainers that need them beside those in the model. To make a
    trainer raises UserError for settings that mean nothing to it; nothing has been written then.
    """

    def __init__(
        self, model: ForecastModel, settings: RunSettings, fabric: Fabric, source: dict[str, Tensor] | None = None
    ):
        self.model, self.settings, self.fabric = model, settings, fabric

    @property
    def machine(self) -> dict[str, str]:
        """The device and the precision that it computes with, as run.json has them."""
        return {"device": str(self.fabric.device), "precision": self.fabric._precision.precision}

    def fit(self, run: Run) -> Checkpoint:
        """Train to the end, from where the run's checkpoint stands; write checkpoint.pt, log.csv and run.json.

        Raises UserError for a loss that is no longer finite.
        """
        raise NotImplementedError

    def refit(self, training: Windows, finished: Checkpoint) -> ForecastModel:
        """Train the model on other samples as the finished run was trained, without validation and without a file."""
        raise NotImplementedError

    def write_start(self, run: Run, start: str) -> None:
        """Write run.json with the time when the run began."""
        if self.fabric.is_global_zero:
            write_provenance(run.run_dir, run.checkpoint, **self.machine, start=start, end=None)

    def write_end(self, run: Run, start: str) -> None:
        """Write all files of a run that is trained to its end."""
        run.checkpoint.finished = True
        self.fabric.barrier()  # until all processes have read the last checkpoint
        if self.fabric.is_global_zero:
            save_checkpoint(run.run_dir, run.checkpoint)
            write_provenance(run.run_dir, run.checkpoint, **self.machine, start=start, end=now())

    def progress_bar(self, run: Run, unit: str, total: int | None = None, initial: int = 0) -> tqdm:
        """A bar of the first process; none where somebody follows the epochs, or where there is no terminal."""
        title = f"{run.checkpoint.experiment}/{run.checkpoint.model} lead {self.settings.lead_days}"
        hidden = True if run.on_epoch or not self.fabric.is_global_zero else None  # None: tqdm looks for a terminal
        return tqdm(desc=title, unit=unit, total=total, initial=initial, disable=hidden)


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights by name, apart from the model and on the processor."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def now() -> str:
    """The time as run.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
