"""Forecasts from a model and windows, and a model back from its run directory."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from utils.common.cli import UserError, fold
from utils.common.files import ROOT
from utils.common.grid import Grid
from utils.data_processing import Batch, Windows, index_batches
from utils.dataset.blocks import DataSet
from utils.dataset.statistics import Statistics
from utils.dataset.weather_forecasts import KnownWeather
from utils.models import ForecastModel
from utils.models.change import build_model
from utils.training.checkpoint import Checkpoint, check_weights

BATCH = 64  # samples of a forecast's batch
CELLS = 2**16  # of all maps of a batch, at most


def forecast_batches(
    model: nn.Module, windows: Windows, size: int, device: torch.device, first: int = 0, step: int = 1
) -> Iterator[tuple[Batch, Float[Tensor, "batch lat lon"]]]:
    """The batches of samples in order, on `device`, each with the model's scaled forecast, always in 32 bit.

    Batches of large maps are smaller than `size`. From batch number `first` on, every `step`-th batch is made.
    """
    model.eval()
    size = max(1, min(size, CELLS // windows.record.statistics.scored.size))
    for samples in itertools.islice(index_batches(len(windows), size), first, None, step):
        batch = to_device(windows.batch(samples), device)
        with torch.no_grad():  # around the model alone: the caller's code between two batches keeps its own mode
            scaled = model(batch.features).float()
        yield batch, scaled


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch in the memory of a device. The copy to a GPU waits for nothing: it comes from pinned memory."""
    if device.type != "cuda":
        return Batch(*(part.to(device) for part in batch))
    return Batch(*(part.pin_memory().to(device, non_blocking=True) for part in batch))


def forecast(
    model: nn.Module, windows: Windows, size: int, device: torch.device
) -> Float[np.ndarray, "sample lat lon"]:
    """The soil moisture that the model forecasts for every sample, m3 m-3; NaN in cells that are not scored."""
    record = windows.record
    maps = [record.unscale(scaled).cpu().numpy() for _, scaled in forecast_batches(model, windows, size, device)]
    return np.where(record.statistics.scored, np.concatenate(maps), np.float32(np.nan))


def restore_model(checkpoint: Checkpoint, run_dir: Path) -> ForecastModel:
    """The model of a run with its best weights, built by the run's own train script.

    Raises UserError where the script is gone, or builds another model today.
    """
    make = model_maker(checkpoint, run_dir)
    check_weights(checkpoint, run_dir)
    try:
        model = make(checkpoint.restored_grid())
    except (RuntimeError, TypeError, ValueError) as error:
        name = f"train_{checkpoint.script}.py"
        raise UserError(f"{run_dir} has settings that {name} cannot build: {fold(error)[:200]}.") from error
    load_weights(model, checkpoint.best, run_dir)
    return model


def script_of(checkpoint: Checkpoint, run_dir: Path):
    """The train script of a run, as a module. Raises UserError where it is gone."""
    return _script(checkpoint.experiment, checkpoint.script, run_dir)


def model_maker(checkpoint: Checkpoint, run_dir: Path) -> Callable[[Grid], ForecastModel]:
    """What makes the model of a run for a grid: `build` of its train script, with the settings of its checkpoint.

    The script of a fine-tuning has no `build`: its model is that of the pre-training's script.
    """
    module = script_of(checkpoint, run_dir)
    if not hasattr(module, "build"):
        module = _script("ERA5test", checkpoint.script, run_dir)
    return partial(build_model, module.build, checkpoint.restored_settings(module.Settings))


def _script(experiment: str, name: str, run_dir: Path):
    script = ROOT / experiment / f"train_{name}.py"
    if not script.is_file():
        raise UserError(f"{run_dir} was trained by {script.relative_to(ROOT)}, which does not exist.")
    return load_script(script)


def restore_windows(
    checkpoint: Checkpoint, model: ForecastModel, data: DataSet, weather: KnownWeather | None
) -> Windows:
    """All windows of a data set as a run sees them: with its statistics and predictors, and the weather it knows."""
    return model.make_windows(
        data,
        checkpoint.restored_statistics(),
        lead_days=checkpoint.lead_days,
        input_days=checkpoint.input_days,
        predictors=checkpoint.predictors,
        static=checkpoint.static,
        weather=weather,
    )


def training_statistics(checkpoint: Checkpoint, model: ForecastModel, data: DataSet) -> Statistics:
    """The statistics of a run's training days alone. Those in its checkpoint may be of validation days too."""
    if model.days_of_means(checkpoint.periods, checkpoint.experiment) == checkpoint.periods:
        return checkpoint.restored_statistics()
    return data.statistics(checkpoint.periods)


def load_weights(model: nn.Module, weights: dict[str, Tensor], run_dir: Path) -> None:
    """Put the weights of a run into a model; a UserError where they do not fit it."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), fold(error))
        raise UserError(
            f"The weights of {run_dir} do not fit this model and its settings: {first.rstrip('.')}."
        ) from error


def load_script(script: Path):
    """A train script as a module, without running its experiment."""
    name = f"_script_{script.parent.name}_{script.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, script)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
