"""Models that are fitted twice: a trial on the training days, and the model that is kept on all days.

The trial knows nothing of the validation days, not even by the cells' means; its RMSE there is the one reported. The
model that is kept has learned from training and validation days in the same way: a short record has no days to spare.
Nothing is chosen by the validation days.
"""

import math
import time
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from utils.common.cli import UserError
from utils.data_processing import Windows
from utils.dataset.statistics import CORRELATED_DAYS
from utils.models import ForecastModel
from utils.settings import FinetuneSettings, RunSettings
from utils.training.checkpoint import Checkpoint
from utils.training.trainer import Run, Trainer, copy_weights, now


@dataclass(frozen=True)
class Fit:
    """A fitted model."""

    model: ForecastModel
    loss: float  # of the networks in their last epoch: mean square, m6 m-6; NaN where they did not learn
    samples: int  # that it learned from
    steps: int = 0  # of the optimiser, where a fit is one sequence of them


class TwoFits(Trainer):
    """A trainer of such a model, in one process. The weights that it starts from are in the model.

    With `source_twice` the model of the source is fitted twice too. Else it is the trial: the source has years of days.
    A subclass says how to fit to the source, how to fit to observations, and how to take the source over as it is.
    """

    source_twice = True

    def __init__(
        self, model: ForecastModel, settings: RunSettings, fabric: Fabric, source: dict[str, Tensor] | None = None
    ):
        super().__init__(model, settings, fabric, source)
        if fabric.world_size > 1:
            raise UserError(f"The {model.trainer} model learns in one process; start it with python, not torchrun.")
        self.pretrained = isinstance(settings, FinetuneSettings)
        self.bar = tqdm(disable=True)  # counts the networks' steps

    def fit_source(self, training: Windows) -> Fit:
        """Fit to the land model."""
        raise NotImplementedError

    def fit_target(self, training: Windows, finished: Checkpoint | None = None) -> Fit:
        """Fit to observations. What a `finished` run has chosen by days held out is taken from it, not chosen again."""
        raise NotImplementedError

    def take_over(self, training: Windows) -> Fit:
        """The source's model as it is, for the cells' means of these windows."""
        raise NotImplementedError

    def rmse(self, model: ForecastModel, validation: Windows) -> float:
        """Root of the mean squared error, m3 m-3."""
        raise NotImplementedError

    def fit(self, run: Run) -> Checkpoint:
        start, start_time = time.perf_counter(), now()
        self.write_start(run, start_time)
        training, validation = self.make_trial_windows(run)
        all_days = run.training.in_periods((*run.training.periods, *run.validation.periods), "training")
        with self.progress_bar(run, unit=" steps") as self.bar:
            if self.settings.epochs == 0:
                trial, final = self.take_over(training), self.take_over(all_days)
            elif is_pretraining(run.checkpoint):
                trial = final = self.fit_source(run.training)
                if self.source_twice:
                    final = self.fit_source(all_days)
            else:
                trial, final = self.fit_target(training), self.fit_target(all_days)
            val_rmse = self.rmse(trial.model, validation)
        checkpoint, epochs = run.checkpoint, self.settings.epochs
        checkpoint.epoch = checkpoint.best_epoch = epochs
        checkpoint.steps = final.steps
        checkpoint.stopped = "planned"
        checkpoint.best_rmse, checkpoint.best = val_rmse, copy_weights(final.model)
        if epochs:
            seconds = time.perf_counter() - start
            rate = final.samples * epochs / seconds
            checkpoint.log.append([epochs, final.loss, val_rmse**2, val_rmse, seconds, rate])
        self.write_end(run, start_time)
        if run.on_epoch:
            run.on_epoch(checkpoint)
        return checkpoint

    def refit(self, training: Windows, finished: Checkpoint) -> ForecastModel:
        if is_pretraining(finished):
            return self.fit_source(training).model
        if self.settings.epochs == 0:
            return self.take_over(training).model
        return self.fit_target(training, finished).model

    def make_trial_windows(self, run: Run) -> tuple[Windows, Windows]:
        """Training and validation windows with the cells' means of the training days alone."""
        windows = self.model.make_windows(
            run.training.data,
            run.training.data.statistics(run.checkpoint.periods).unscaled(),
            lead_days=run.training.lead_days,
            input_days=run.training.input_days,
            predictors=run.training.predictors,
            static=run.training.static,
            weather=run.training.weather,
        )
        training, validation = (windows.in_periods(part.periods, part.name) for part in (run.training, run.validation))
        return training, validation


def is_pretraining(checkpoint: Checkpoint) -> bool:
    """Whether the run learns from the land model."""
    return checkpoint.experiment == "ERA5test"


def count_days(samples: Windows) -> int:
    """Target days of a period, with or without a full window."""
    return len(samples.target_index) + samples.skipped


def mean_error_std(mean_square: float, days: int) -> float:
    """Standard deviation of the error of a cell's mean over so many days, m3 m-3, from the anomalies' mean square.

    It is the anomalies' standard deviation over the root of the number of independent days, days / CORRELATED_DAYS.
    """
    return math.sqrt(mean_square * CORRELATED_DAYS / days)


def keep_finite(loss: float) -> float:
    """The loss itself. Raises UserError where it is not finite."""
    if not math.isfinite(loss):
        raise UserError("The loss is no longer finite; try a smaller --lr.")
    return loss


def random_numbers(seed: int) -> torch.Generator:
    """The random numbers of a fit."""
    return torch.Generator().manual_seed(seed)
