"""A train script's main: from settings to a finished run directory."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from utils.common.cli import UserError, fold, given_on_command_line, one_sentence, parse
from utils.common.files import file_hash
from utils.dataset.bias_correction import matched
from utils.dataset.blocks import DataSet, Samples, View
from utils.dataset.gaps import orbit_gaps
from utils.dataset.prepared import VARIABLES, Grid
from utils.dataset.statistics import Summary
from utils.dataset.weather_forecasts import Future
from utils.models import halo, windows_of
from utils.models.compact import Compact
from utils.settings import (
    FROM_FILE,
    FUTURE,
    PERFECT,
    RUNS,
    SAMPLE_SMAP,
    FinetuneSettings,
    Split,
    TrainSettings,
    complete,
    overlap,
    plain,
    run_folder,
    split_of,
)
from utils.training.compact import days_of_means, fit_compact
from utils.training.inference import load_weights
from utils.training.loop import fit, runs, start_fabric
from utils.training.runs import Checkpoint
from utils.training.transfer import Transfer

Build = Callable[[Any, Grid], nn.Module]


def train(name: str, settings: type[TrainSettings], build: Build) -> None:
    """Parse the command line and train; `name` is <experiment>/<model>, `build` makes the model for a grid."""
    with one_sentence(), ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        arguments = sys.argv[1:]
        chosen = parse(settings, arguments, sys.modules["__main__"].__doc__)
        given = given_on_command_line(list(plain(chosen)), arguments)
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
    future = Future.of(plain(settings))
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
        future_hash=future.hash() if future else "",
    )
    idle = settings.input_days == 1 or getattr(settings, "transfer", "") == "gradual"
    fabric = start_fabric(settings.precision, idle_weights=idle)
    with runs.claimed(run_dir) if fabric.is_global_zero else nullcontext():
        found = runs.found(run_dir, checkpoint, settings.overwrite)
        fabric.barrier()
        if found and found.finished:
            runs.write_log(run_dir, found)
            return run_dir, found, False
        data = data_set(settings.data, split.train[0][0] if getattr(settings, "target_days", None) else None)
        model = new_model(settings, build, data, source)
        if getattr(settings, "patch", None) and halo(model, settings.input_days) is None:
            raise UserError(f"--patch asks for a model free of the grid, {model_name} is bound to it.")
        compact = isinstance(model, Compact)
        transfer = None if compact else Transfer.of(model, settings, source.best if source else None, fabric.device)
        if source:
            source.best.clear()  # the pages of its file would count as this process's memory
        learned = days_of_means(split) if compact and experiment != "ERA5test" else split
        summary = data.summary(learned)
        view, gappy = views(settings, model, data, summary, learned, source, future)
        asked, kind = (settings.lead_days, 1 if compact else settings.input_days), windows_of(model)
        training = Samples(gappy, split.train, *asked, "training", kind)
        validation = Samples(view, split.val, *asked, "validation", kind)
        Samples(view, split.test, *asked, "test")  # refused now rather than after the training
        training.require_targets(summary.observed)
        validation.require_targets(summary.observed)
        if found is None:
            checkpoint.synthetic, checkpoint.skipped = data.synthetic, training.skipped
            checkpoint.grid = {axis: torch.from_numpy(getattr(data.grid, axis)) for axis in ("lat", "lon")}
            checkpoint.statistics = view.statistics.to_tensors()
            if fabric.is_global_zero:
                runs.clear(run_dir)
                runs.write_config(run_dir, checkpoint, origins)
        what = model, training, validation, settings, found or checkpoint, run_dir, fabric, on_epoch
        return run_dir, fit_compact(*what) if compact else fit(*what, transfer), True


def new_model(settings: TrainSettings, build: Build, data: DataSet, source: Checkpoint | None) -> nn.Module:
    """The model before it learns: its first weights are of its seed, or those of the run it starts from."""
    torch.manual_seed(settings.seed)
    model = build(settings, data.grid)
    if source:
        if halo(model, settings.input_days) is None:
            check_grid(source, data.grid, settings.data, settings.init_from)
        load_weights(model, source.best, settings.init_from)
    return model


def views(
    settings: TrainSettings,
    model: nn.Module,
    data: DataSet,
    summary: Summary,
    learned: Split,
    source: Checkpoint | None,
    future: Future | None,
) -> tuple[View, View]:
    """The data as a model validates on them and, with the gaps that the settings ask for, as it learns from them.

    `summary` is that of the days `learned`.
    """
    statistics = summary.statistics(learned)
    if isinstance(model, Compact):
        statistics = statistics.unscaled()
    if source:
        there, here = source.restored_statistics(), source.restored_grid().matches(data.grid)
        statistics = matched(statistics.with_scaling_of(there), summary.days, there, here, settings.match)
    how = data, statistics, settings.predictors, halo(model, settings.input_days), getattr(settings, "patch", None)
    view = View(*how, future=future)
    gaps = getattr(settings, "gaps", 0)
    return view, View(*how, orbit_gaps(data.days, data.grid.lon, gaps, settings.seed), future) if gaps else view


def default_run_dir(experiment: str, model: str, settings: TrainSettings) -> Path:
    return RUNS / run_folder(experiment, model, settings.lead_days, settings.seed)


def data_hash(path: Path) -> str:
    """SHA-256 of a data set; a UserError that names the command which makes it where it is missing."""
    if not path.exists():
        data_set(path)
    try:
        return file_hash(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {fold(error.strerror or error)}.") from error


def data_set(path: Path, start: np.datetime64 | None = None, **beyond: Any) -> DataSet:
    """A prepared data set from day `start` on, which must be in it; `beyond`: see DataSet."""
    resolution = re.fullmatch(r"(?:era5_land|smap_l4)_(.+)deg\.nc", path.name)
    made_by = ""
    if resolution and path.parent == SAMPLE_SMAP.parent:
        made_by = "python data/make_sample.py" + (f" --resolution {resolution[1]}" if resolution[1] != "1" else "")
    data = DataSet(path, start, made_by, **beyond)
    if beyond and not len(data.days):
        raise UserError(f"{path} has no day from {start}, the first that a run may read, to {beyond['end']}.")
    if start is not None and (not len(data.days) or data.first > start):
        raise UserError(f"{path} begins on {data.first}, the last --target-days on {start}; ask for fewer of them.")
    return data


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
    if statistics.knots is not None:
        raise UserError(f"{source_dir} was itself matched to another climate; start from the run it began with.")
    if settings.match in ("mean_variance", "cdf") and statistics.climate is None:
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
