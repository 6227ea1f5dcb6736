"""A train script's main: from settings to a finished run directory."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from utils.common.cli import UserError, given_on_command_line, one_sentence, parse
from utils.common.periods import Split
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.dataset.open import open_data_set
from utils.dataset.weather_forecasts import KnownWeather
from utils.models.change import build_model
from utils.settings import FLAGS, FinetuneSettings, RunSettings, complete, groups_of, plain, split_of
from utils.training.checkpoint import Checkpoint, write_log
from utils.training.inference import model_maker
from utils.training.run_directory import clear, hold_run_directory, resumable_run, words, write_config
from utils.training.setup import (
    Build,
    default_run_dir,
    inherited_origins,
    load_pretraining,
    make_windows_pair,
    new_checkpoint,
    new_model,
    source_name,
    warn_of_misfit,
)


@dataclass(frozen=True)
class RunResult:
    """What came of a call of `run`."""

    dir: Path  # the run directory
    checkpoint: Checkpoint
    trained: bool  # False: the run was finished already
    warning: str = ""  # a sentence where the model forecasts worse than the cells' means


def train(name: str, settings: type[RunSettings], build: Build | None = None) -> None:
    """Parse the command line and train; `name` is <experiment>/<model>, `build` makes the model for a grid.

    Without `build`, the model is that of the pre-trained run.
    """
    with one_sentence(), ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":  # of torchrun's processes, only the first prints
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
        arguments = sys.argv[1:]
        chosen = parse(settings, arguments, sys.modules["__main__"].__doc__, groups_of(settings))
        given = given_on_command_line([*plain(chosen), *FLAGS], arguments)
        given = {FLAGS.get(name, name) for name in given}
        _echo(chosen, settings(), sorted(given))
        result = run(name, chosen, build, dict.fromkeys(given, "command line"), on_doubt=_warn)
        checkpoint = result.checkpoint
        score = f"best validation RMSE {checkpoint.best_rmse:.4f} m³ m⁻³ at epoch {checkpoint.best_epoch}"
        if result.trained:
            skipped = f"{checkpoint.skipped} training days without full window"
            print(f"{result.dir}: {score} of {checkpoint.epoch}; {skipped}")
            if result.warning:
                _warn(result.warning)
        else:
            print(f"{result.dir} is finished ({score}); nothing to do.")
        print(f"evaluate it with: python {checkpoint.experiment}/eval.py {shlex.quote(str(result.dir))}")


def _echo(chosen: RunSettings, defaults: RunSettings, given: list[str]) -> None:
    """Print the settings of the command line that differ from the script's own."""
    for name in given:
        value, own = getattr(chosen, name), getattr(defaults, name)
        if value != own:
            print(f"{name} = {words(value)}" + ("" if own is None else f"  (script: {words(own)})"))
    if getattr(chosen, "target_days", None) is not None:
        print("target_days stands in for train and val")


def _warn(doubt: str) -> None:
    print(f"warning: {doubt}", flush=True)


def run(
    name: str,
    settings: RunSettings,
    build: Build | None = None,
    origins: Mapping[str, str] = MappingProxyType({}),
    on_epoch: Callable[[Checkpoint], None] | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> RunResult:
    """Train a run as the settings say. An interrupted run is continued, a finished one is returned as it is.

    `name` and `build` are those of `train`. `origins` has, for each setting that is not the script's own, where it came
    from. `on_epoch` is called with the checkpoint after each epoch, `on_doubt` with each sentence on what may be wrong
    with the data. Raises UserError for what the user can mend.
    """
    # An evaluation loads train scripts, and these this module, but it needs nothing that trains.
    from utils.training.trainers import TRAINERS, Run, start_fabric

    experiment, script = name.split("/")
    complete(settings)
    model_name, split = settings.model_name(script), split_of(settings)
    run_dir = settings.out or default_run_dir(experiment, model_name, settings)
    source = _load_source(settings, script, model_name, split)
    checkpoint = new_checkpoint(
        experiment=experiment, script=script, model=model_name, settings=settings, split=split, source=source
    )
    make = partial(build_model, build, settings) if build else model_maker(checkpoint, settings.init_from)
    future = KnownWeather.of(checkpoint.settings)
    # on a single day a recurrence gets no gradient, and in gradual unfreezing a part that waits for its turn
    find_unused_parameters = settings.input_days == 1 or getattr(settings, "transfer", "") == "gradual"
    fabric = start_fabric(settings.precision, find_unused_parameters)
    with hold_run_directory(run_dir) if fabric.is_global_zero else nullcontext():
        begun = resumable_run(run_dir, checkpoint, settings.overwrite)
        fabric.barrier()
        if begun and begun.finished:
            write_log(run_dir, begun)
            return RunResult(run_dir, begun, trained=False)
        start = split.train[0][0] if getattr(settings, "target_days", None) else None
        data = open_data_set(settings.data, start, variables=settings.variables)
        model = new_model(make, settings, data, source)
        if getattr(settings, "patch", None) and model.receptive_radius(settings.input_days) is None:
            raise UserError(f"--patch asks for a model free of the grid, {model_name} is bound to it.")
        trainer = TRAINERS[model.trainer](model, settings, fabric, source.best if source else None)
        if source:
            source.best.clear()  # the pages of its file would count as this process's memory
        learned = model.days_of_means(split, experiment)
        windows, gappy = make_windows_pair(settings, model, data, learned, source, future)
        input_window = model.input_window(settings.input_days)
        training = gappy.in_periods(split.train, "training", input_window)
        validation = windows.in_periods(split.val, "validation", input_window)
        windows.in_periods(split.test, "test")  # refused now rather than after the training
        training.require_targets()
        validation.require_targets()
        if begun is None:
            _fill_in(checkpoint, data, training)
            if fabric.is_global_zero:
                clear(run_dir)
                write_config(run_dir, checkpoint, inherited_origins(source) | dict(origins))
                _tell_doubts(data, training, on_doubt)
        checkpoint = trainer.fit(Run(training, validation, begun or checkpoint, run_dir, on_epoch))
        return RunResult(run_dir, checkpoint, trained=True, warning=warn_of_misfit(checkpoint.best_rmse, validation))


def _load_source(settings: RunSettings, script: str, model_name: str, split: Split) -> Checkpoint | None:
    """The pre-trained run that a fine-tuning starts from, which its settings then name; None for any other run."""
    if not isinstance(settings, FinetuneSettings):
        return None
    settings.init_from = settings.init_from or default_run_dir("ERA5test", source_name(model_name), settings)
    return load_pretraining(settings, script, model_name, split)


def _tell_doubts(data: DataSet, training: Windows, on_doubt: Callable[[str], None] | None) -> None:
    """What may be wrong with the rain of the data, to a listener if there is one."""
    if on_doubt is not None:
        for doubt in data.list_doubts_of_rain(training.statistics.scored):
            on_doubt(doubt)


def _fill_in(checkpoint: Checkpoint, data: DataSet, training: Windows) -> None:
    """What a new checkpoint keeps of its data: grid, statistics, and how many training days had no full window."""
    checkpoint.synthetic, checkpoint.skipped = data.synthetic, training.skipped
    checkpoint.grid = {axis: torch.from_numpy(getattr(data.grid, axis)) for axis in ("lat", "lon")}
    checkpoint.statistics = training.statistics.to_tensors()
