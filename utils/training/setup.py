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
from utils.dataset.open import data_hash
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import swath_gaps
from utils.dataset.statistics import MOISTURE
from utils.dataset.weather_forecasts import FROM_FILE, PERFECT, KnownWeather
from utils.models import ForecastModel
from utils.settings import (
    RUNS,
    FinetuneSettings,
    RunSettings,
    architecture_of,
    plain,
    run_folder,
)
from utils.training.checkpoint import Checkpoint, check_weights, load_finished
from utils.training.inference import load_weights
from utils.training.run_directory import git_commit, words
from utils.training.transfer import add_inputs

Build = Callable[[Any, Grid], ForecastModel]


def new_checkpoint(
    *,
    experiment: str,
    script: str,
    model: str,
    settings: RunSettings,
    split: Split,
    source: Checkpoint | None,
) -> Checkpoint:
    """The checkpoint of a run before it begins. That of a fine-tuning holds the architecture of its source."""
    inherited = architecture_of(source.settings) if source else {}
    values = inherited | plain(settings)
    future = KnownWeather.of(values)
    return Checkpoint(
        experiment=experiment,
        script=script,
        model=model,
        settings=values,
        split=split.plain(),
        pretraining=[[str(start), str(end)] for start, end in source.learned_from] if source else [],
        data_hash=data_hash(settings.data),
        source_hash=source.weights_hash if source else "",
        commit=git_commit(),
        future=future.note() if future else "",
        weather_kind=future.kind if future else "none",
        future_hash=future.hash() if future else "",
    )


def inherited_origins(source: Checkpoint | None) -> dict[str, str]:
    """Where the settings of a fine-tuning come from that neither its script nor the command line has."""
    return dict.fromkeys(architecture_of(source.settings), "pre-trained run") if source else {}


def new_model(
    make: Callable[[Grid], ForecastModel], settings: RunSettings, data: DataSet, source: Checkpoint | None
) -> ForecastModel:
    """The model before it learns, made for the grid of the data.

    Its first weights are those of its seed, or those of the run that it starts from.
    """
    torch.manual_seed(settings.seed)
    model = make(data.grid)
    if source:
        check_weights(source, settings.init_from)
        there, here = model.input_names(source), model.input_names(settings)
        new = (set(here) - set(there)) | set(lacking(source, settings))
        if new:
            source.best = add_inputs(model, source.best, there, here, new)
        if model.receptive_radius(settings.input_days) is None:
            check_grid(source, data.grid, settings.data, settings.init_from)
        load_weights(model, source.best, settings.init_from)
    return model


def make_windows_pair(
    settings: RunSettings,
    model: ForecastModel,
    data: DataSet,
    learned: Split,
    source: Checkpoint | None,
    future: KnownWeather | None,
) -> tuple[Windows, Windows]:
    """The windows of all days of the data set twice: first for validation, then for training.

    The second ones lack soil moisture where the setting `gaps` hides it; without `gaps` both are the same object. Their
    statistics are of the training period of `learned`. After pre-training, scaling and matching follow `source`.
    """
    statistics = data.statistics(learned)
    if not model.scaled:
        statistics = statistics.unscaled()
    if source:
        there = source.restored_statistics()
        same_grid = source.restored_grid().matches(data.grid)
        match = getattr(settings, "match", "none")
        statistics = match_statistics(statistics.with_scaling_of(there), there, same_grid, match)
    windows = model.make_windows(
        data,
        statistics,
        lead_days=settings.lead_days,
        input_days=settings.input_days,
        predictors=settings.predictors,
        static=settings.static,
        patch=getattr(settings, "patch", None),
        weather=future,
    )
    gaps = getattr(settings, "gaps", 0)
    if not gaps:
        return windows, windows
    return windows, windows.hiding(swath_gaps(data.days, data.grid.lon, gaps, settings.seed))


def default_run_dir(experiment: str, model: str, settings: RunSettings) -> Path:
    return RUNS / run_folder(experiment, model, settings.lead_days, settings.seed)


def start_of(checkpoint: Checkpoint) -> np.datetime64 | None:
    """The first day that a run may read: with --target-days N, that of its N days."""
    return checkpoint.periods.train[0][0] if checkpoint.settings.get("target_days") else None


def load_pretraining(settings: FinetuneSettings, script: str, model: str, split: Split) -> Checkpoint:
    """The run to start from, checked: same model, lead and input days, finished, and blind to the test period."""
    source_dir = settings.init_from
    command = _pretraining_command(settings, script, model)
    if not source_dir.is_file() and not (source_dir / "checkpoint.pt").exists():
        raise UserError(f"{source_dir} holds no pre-trained weights; make them with: {command}")
    source = load_finished(source_dir)
    new = lacking(source, settings)
    if new and settings.new_predictors == "refuse":
        raise UserError(
            f"{source_dir} was trained without {words(new)}; make one with: {command}, "
            "or start the weights of what is new at zero with --new-predictors zero."
        )
    for name, theirs, ours in (
        ("model", source_name(source.model), source_name(model)),
        ("predictors", words(source.predictors), words(name for name in settings.predictors if name not in new)),
        (
            "static maps",
            words(source.static) or "none",
            words(name for name in settings.static if name not in new) or "none",
        ),
        ("lead in days", source.lead_days, settings.lead_days),
        ("number of input days", source.input_days, settings.input_days),
    ):
        if theirs != ours:
            raise UserError(f"{source_dir} has the {name} {theirs}, expected {ours}; make one with: {command}")
    _refuse_other_architecture(source, settings)
    statistics = source.restored_statistics()
    if statistics.matching is not None:
        raise UserError(f"{source_dir} was itself matched to another climate; start from the run it began with.")
    match = getattr(settings, "match", "none")
    if match in ("mean_variance", "cdf") and statistics.quantiles is None:
        raise UserError(
            f"{source_dir} does not say how its soil moisture is distributed, which --match {match} needs; "
            f"make one that does with: {command} --overwrite"
        )
    if (day := overlap(source.learned_from, split.test)) is not None:
        raise UserError(
            f"{source_dir} was trained or validated on {day}, which lies in the test period of this run "
            f"({split.test[0][0]} to {split.test[0][1]})."
        )
    return source


def lacking(source: Checkpoint, settings: RunSettings) -> tuple[str, ...]:
    """The predictors and static maps that a pre-trained run has not seen."""
    seen = {*source.predictors, *source.static}
    return tuple(name for name in (*settings.predictors, *settings.static) if name not in seen)


def _refuse_other_architecture(source: Checkpoint, settings: FinetuneSettings) -> None:
    """Raises UserError where a flag or a line of the script asks for another architecture than the source's."""
    for name, ours in architecture_of(plain(settings)).items():
        theirs = source.settings.get(name, ours)
        if theirs != ours:
            raise UserError(
                f"{settings.init_from} was trained with --{name.replace('_', '-')} {words(theirs)}, this run asks for "
                f"{words(ours)}; a fine-tuning has the architecture of its pre-trained run."
            )


def _pretraining_command(settings: FinetuneSettings, script: str, model: str) -> str:
    """The command that makes the run to start from."""
    command = f"python ERA5test/train_{script}.py --lead-days {settings.lead_days}"
    if settings.input_days != settings.lead_days:
        command += f" --input-days {settings.input_days}"
    if settings.variant:
        command += f" --head {settings.head}"
    if settings.forecast_variant:
        command += f" --forecast {settings.forecast}"
    if settings.seed:
        command += f" --seed {settings.seed}"
    if settings.predictors != tuple(VARIABLES):
        command += f" --predictors {words(settings.predictors)}"
    command += f" --static {words(settings.static)}" if settings.static else ""
    command += f" --known-ahead {words(settings.known_ahead)}" if settings.known_ahead else ""
    if settings.init_from != default_run_dir("ERA5test", source_name(model), settings):
        command += f" --out {shlex.quote(str(settings.init_from))}"
    return command


def source_name(model: str) -> str:
    """The model to start from: past days have perfect forecasts, whatever the fine-tuning will have to do with."""
    return model.replace(FROM_FILE, PERFECT)


def warn_of_misfit(rmse: float, validation: Windows) -> str:
    """A sentence where a validation RMSE, m3 m-3, is above that of the cells' means; else empty."""
    squares = count = 0.0
    for part in validation:
        error = part.observed - part.record.statistics.cell_mean[MOISTURE]
        squares, count = squares + np.nansum(np.square(error, dtype=np.float64)), count + np.isfinite(error).sum()
    of_means = np.sqrt(squares / count)
    if rmse <= of_means:
        return ""
    return (
        f"this is no fit: the validation RMSE is {rmse:.4f} m³ m⁻³, that of the cells' means is {of_means:.4f}; try "
        "another --lr, more --epochs or more days."
    )


def check_grid(checkpoint: Checkpoint, grid: Grid, data: Path, run_dir: Path) -> None:
    if not checkpoint.restored_grid().matches(grid):
        raise UserError(f"{data} has {grid}, but {run_dir} was trained on {checkpoint.restored_grid()}.")


def check_weather(weather: KnownWeather | None, checkpoint: Checkpoint, run_dir: Path) -> None:
    """A UserError where the weather ahead is no longer that on which a run was trained."""
    if weather and weather.hash() != checkpoint.future_hash:
        raise UserError(f"{checkpoint.settings['future_from']} has changed since {run_dir} was trained on it.")
