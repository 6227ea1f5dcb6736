"""What a run needs before it trains: its model, its data as the model sees them, and the run it starts from."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.periods import Split, overlap
from utils.data_processing import Windows
from utils.dataset.bias_correction import match_statistics
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import swath_gaps
from utils.dataset.weather_forecasts import FROM_FILE, FUTURE, PERFECT, KnownWeather
from utils.models import ForecastModel
from utils.settings import (
    RUNS,
    FinetuneSettings,
    TrainSettings,
    run_folder,
)
from utils.training import runs
from utils.training.inference import load_weights
from utils.training.runs import Checkpoint

Build = Callable[[Any, Grid], ForecastModel]


def new_model(settings: TrainSettings, build: Build, data: DataSet, source: Checkpoint | None) -> ForecastModel:
    """The model before it learns: its first weights are of its seed, or those of the run it starts from."""
    torch.manual_seed(settings.seed)
    model = build(settings, data.grid)
    if source:
        if model.receptive_radius(settings.input_days) is None:
            check_grid(source, data.grid, settings.data, settings.init_from)
        load_weights(model, source.best, settings.init_from)
    return model


def views(
    settings: TrainSettings,
    model: ForecastModel,
    data: DataSet,
    learned: Split,
    source: Checkpoint | None,
    future: KnownWeather | None,
) -> tuple[Windows, Windows]:
    """All windows of the data set as a model is validated on them and as it learns from them.

    They differ by the gaps that the settings ask for. Their statistics are those of the days `learned`.
    """
    statistics = data.statistics(learned)
    if not model.scaled:
        statistics = statistics.unscaled()
    if source:
        there = source.restored_statistics()
        same_grid = source.restored_grid().matches(data.grid)
        statistics = match_statistics(statistics.with_scaling_of(there), there, same_grid, settings.match)
    windows = model.make_windows(
        data,
        statistics,
        lead_days=settings.lead_days,
        input_days=settings.input_days,
        predictors=settings.predictors,
        patch=getattr(settings, "patch", None),
        weather=future,
    )
    gaps = getattr(settings, "gaps", 0)
    if not gaps:
        return windows, windows
    return windows, windows.hiding(swath_gaps(data.days, data.grid.lon, gaps, settings.seed))


def default_run_dir(experiment: str, model: str, settings: TrainSettings) -> Path:
    return RUNS / run_folder(experiment, model, settings.lead_days, settings.seed)


def start_of(checkpoint: Checkpoint) -> np.datetime64 | None:
    """The first day that a run may read: with --target-days N, that of its N days."""
    return checkpoint.periods.train[0][0] if checkpoint.settings.get("target_days") else None


def pretrained(settings: FinetuneSettings, script: str, model: str, split: Split) -> Checkpoint:
    """The run to start from, checked: same model, lead and input days, finished, and blind to the test period."""
    source_dir = settings.init_from
    command = f"python ERA5test/train_{script}.py --lead-days {settings.lead_days}"
    command += f" --input-days {settings.input_days}" if settings.input_days != settings.lead_days else ""
    command += f" --head {settings.head}" if settings.variant else ""
    command += f" --seed {settings.seed}" if settings.seed else ""
    if settings.predictors != tuple(VARIABLES):
        command += f" --predictors {runs.words(settings.predictors)}"
    command += "".join(f" --{FUTURE[name].replace('_', '-')}" for name in settings.future)
    if source_dir != default_run_dir("ERA5test", _source_name(model), settings):
        command += f" --out {shlex.quote(str(source_dir))}"
    if not (source_dir / "checkpoint.pt").exists():
        raise UserError(f"{source_dir} holds no pre-trained weights; make them with: {command}")
    source = runs.load_checkpoint(source_dir)
    if not source.finished:
        raise UserError(f"{source_dir} is not trained to its end; continue it with the command that began it.")
    for name, theirs, ours in (
        ("model", _source_name(source.model), _source_name(model)),
        ("predictors", runs.words(source.settings.get("predictors", list(VARIABLES))), runs.words(settings.predictors)),
        ("lead in days", source.lead_days, settings.lead_days),
        ("number of input days", source.input_days, settings.input_days),
    ):
        if theirs != ours:
            raise UserError(f"{source_dir} has the {name} {theirs}, expected {ours}; make one with: {command}")
    statistics = source.restored_statistics()
    if statistics.matching is not None:
        raise UserError(f"{source_dir} was itself matched to another climate; start from the run it began with.")
    if settings.match in ("mean_variance", "cdf") and statistics.quantiles is None:
        raise UserError(
            f"{source_dir} does not say how its soil moisture is distributed, which --match {settings.match} needs; "
            f"make one that does with: {command} --overwrite"
        )
    if (day := overlap(source.learned_from, split.test)) is not None:
        raise UserError(
            f"{source_dir} was trained or validated on {day}, which lies in the test period of this run "
            f"({split.test[0][0]} to {split.test[0][1]})."
        )
    return source


def _source_name(model: str) -> str:
    """The model to start from: past days have perfect forecasts, whatever the fine-tuning will have to do with."""
    return model.replace(FROM_FILE, PERFECT)


def check_grid(checkpoint: Checkpoint, grid: Grid, data: Path, run_dir: Path) -> None:
    if not checkpoint.restored_grid().matches(grid):
        raise UserError(f"{data} has {grid}, but {run_dir} was trained on {checkpoint.restored_grid()}.")
