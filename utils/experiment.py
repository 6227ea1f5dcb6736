"""A train script's main: from settings to a finished run directory."""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, redirect_stdout
from pathlib import Path
from types import MappingProxyType

import torch

from utils.common.cli import UserError, given_on_command_line, one_sentence, parse
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.weather_forecasts import KnownWeather
from utils.settings import (
    RENAMED,
    FinetuneSettings,
    TrainSettings,
    complete,
    plain,
    split_of,
)
from utils.training import TRAINERS, Run, runs
from utils.training.loop import start_fabric
from utils.training.runs import Checkpoint
from utils.training.setup import Build, _source_name, default_run_dir, new_model, pretrained, views


def train(name: str, settings: type[TrainSettings], build: Build) -> None:
    """Parse the command line and train; `name` is <experiment>/<model>, `build` makes the model for a grid."""
    with one_sentence(), ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        arguments = sys.argv[1:]
        chosen = parse(settings, arguments, sys.modules["__main__"].__doc__)
        given = given_on_command_line([*plain(chosen), *RENAMED], arguments)
        given = {RENAMED.get(name, name) for name in given}
        defaults = settings()
        for key in sorted(given):
            print(f"{key} = {runs.words(getattr(chosen, key))}  (script: {runs.words(getattr(defaults, key))})")
        if getattr(chosen, "target_days", None) is not None:
            print("target_days stands in for train and val")
        run_dir, checkpoint, trained = run(name, chosen, build, dict.fromkeys(given, "command line"))
        result = f"best validation RMSE {checkpoint.best_rmse:.4f} m³ m⁻³ at epoch {checkpoint.best_epoch}"
        if trained:
            print(f"{run_dir}: {result} of {checkpoint.epoch}; {checkpoint.skipped} training days without full window")
        else:
            print(f"{run_dir} is finished ({result}); nothing to do.")
        print(f"evaluate it with: python {checkpoint.experiment}/eval.py {shlex.quote(str(run_dir))}")


def run(
    name: str,
    settings: TrainSettings,
    build: Build,
    origins: Mapping[str, str] = MappingProxyType({}),
    on_epoch: Callable[[Checkpoint], None] | None = None,
) -> tuple[Path, Checkpoint, bool]:
    """Train as the settings say, or continue, or find that it is done: run directory, checkpoint, whether it trained.

    `origins` says where settings came from that are not the script's own. Raises UserError for what
    the user can mend.
    """
    experiment, script = name.split("/")
    model_name = script + settings.variant + settings.future_variant
    complete(settings)
    split = split_of(settings)
    run_dir = settings.out or default_run_dir(experiment, model_name, settings)
    source = None
    if isinstance(settings, FinetuneSettings):
        settings.init_from = settings.init_from or default_run_dir("ERA5test", _source_name(model_name), settings)
        source = pretrained(settings, script, model_name, split)
    future = KnownWeather.of(plain(settings))
    checkpoint = Checkpoint(
        experiment=experiment,
        script=script,
        model=model_name,
        settings=plain(settings),
        split=split.plain(),
        pretraining=[[str(start), str(end)] for start, end in source.learned_from] if source else [],
        data_hash=data_hash(settings.data),
        source_hash=runs.weights_hash(source.best) if source else "",
        commit=runs.git_commit(),
        future=future.note() if future else "",
        weather_kind=future.kind if future else "none",
        future_hash=future.hash() if future else "",
    )
    # on a single day a recurrence gets no gradient, and in gradual unfreezing a part that waits for its turn
    find_unused_parameters = settings.input_days == 1 or getattr(settings, "transfer", "") == "gradual"
    fabric = start_fabric(settings.precision, find_unused_parameters)
    with runs.claimed(run_dir) if fabric.is_global_zero else nullcontext():
        found = runs.found(run_dir, checkpoint, settings.overwrite)
        fabric.barrier()
        if found and found.finished:
            runs.write_log(run_dir, found)
            return run_dir, found, False
        data = open_data_set(settings.data, split.train[0][0] if getattr(settings, "target_days", None) else None)
        model = new_model(settings, build, data, source)
        if getattr(settings, "patch", None) and model.receptive_radius(settings.input_days) is None:
            raise UserError(f"--patch asks for a model free of the grid, {model_name} is bound to it.")
        trainer = TRAINERS[model.trainer](model, settings, fabric, source.best if source else None)
        if source:
            source.best.clear()  # the pages of its file would count as this process's memory
        learned = model.days_of_means(split, experiment)
        windows, gappy = views(settings, model, data, learned, source, future)
        input_window = model.input_window(settings.input_days)
        training = gappy.in_periods(split.train, "training", input_window)
        validation = windows.in_periods(split.val, "validation", input_window)
        windows.in_periods(split.test, "test")  # refused now rather than after the training
        training.require_targets()
        validation.require_targets()
        if found is None:
            checkpoint.synthetic, checkpoint.skipped = data.synthetic, training.skipped
            checkpoint.grid = {axis: torch.from_numpy(getattr(data.grid, axis)) for axis in ("lat", "lon")}
            checkpoint.statistics = windows.statistics.to_tensors()
            if fabric.is_global_zero:
                runs.clear(run_dir)
                runs.write_config(run_dir, checkpoint, origins)
        checkpoint = trainer.fit(Run(training, validation, found or checkpoint, run_dir, on_epoch))
        return run_dir, checkpoint, True
