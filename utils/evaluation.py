"""The evaluation of a run: predictions.nc, metrics.json and figures in its directory.

RMSE, MSE and R² are pooled and unweighted over all valid cell-days, as in the paper; the rest is in `metrics`. Every
baseline is scored on exactly the same cell-days, and every score comes with its 95 % interval (`significance`).
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
import xarray as xr
from tqdm import tqdm
from tyro.conf import Positional

from utils import Drawmap
from utils.common.cli import UserError, fold, one_sentence, parse
from utils.common.files import read_json
from utils.common.periods import Period, Span, overlap, spans
from utils.common.text import format_days
from utils.data_processing import Windows
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.prepared import VARIABLES, in_brackets, label_of
from utils.dataset.statistics import Statistics
from utils.dataset.weather_forecasts import KnownWeather
from utils.figures import scatter
from utils.figures.series import draw_run, has_few_cells
from utils.models import ForecastModel
from utils.scores.baseline_runs import FittedBaselines, fit_baselines
from utils.scores.metrics import well_covered
from utils.scores.prediction_file import (
    Predictions,
    open_predictions,
    run_attributes,
    score_with_intervals,
    write_scores,
)
from utils.scores.run_table import print_table
from utils.scores.scoring import hash_scoring
from utils.scores.sums import Sums
from utils.settings import RUNS
from utils.training.checkpoint import Checkpoint, checkpoint_file, load_checkpoint
from utils.training.inference import BATCH, forecast, restore_model, restore_windows, training_statistics
from utils.training.moved import find_moved_inputs
from utils.training.run_directory import hold_run_directory
from utils.training.setup import check_grid, check_weather, start_of

_POINTS = 2**22  # of a scatter plot, at most: of more days, every so many
OWN = ("", "")  # no test period given: tyro would let an optional one swallow the run directories behind it


def evaluate(
    run_dir: Path,
    data: Path | None = None,
    test: Period | None = None,
    permuted: str | None = None,
    into: Path | None = None,
    max_input_age: int | None = None,
    on_doubt: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Forecast the test period with the best weights of a run, and return the content of metrics.json.

    Writes predictions.nc, scores.nc, metrics.json, figures/map.png and figures/scatter.png to the run directory.

    With `max_input_age`, a cell-day is scored only where the cell's last observation was at most so many days old on
    the last input day; the baselines are scored on the same cell-days.

    `data` and `test` replace the run's own. The baselines still learn from the run's own data where it is there and
    unchanged. With `permuted`, the windows of that variable are shuffled among the test days. The files then go to
    the folder `into`, without figures. The skill that is lost is what the trained model owes to the variable, its
    seasonal cycle included. `on_doubt` is called with each sentence on what may be wrong with the data. Raises
    UserError for whatever the user can mend, and writes nothing then.
    """
    checkpoint_file(run_dir)  # a folder without a run is left as it is
    folder = into or run_dir
    with hold_run_directory(folder):
        checkpoint = load_checkpoint(run_dir)
        if not checkpoint.best:
            raise UserError(f"{run_dir} has no trained weights yet; give its train command again.")
        find_moved_inputs(checkpoint, run_dir, offered=data)
        periods = _choose_periods(checkpoint, run_dir, test)
        path, learn_from = _choose_data(checkpoint, run_dir, data)
        model = restore_model(checkpoint, run_dir)
        samples = _open_samples(checkpoint, run_dir, model, path, periods)
        attributes = run_attributes(checkpoint)
        if permuted:
            attributes["model"] += f"_permuted_{permuted}"
        source = open_data_set(learn_from, start_of(checkpoint), variables=checkpoint.variables)
        climate = training_statistics(checkpoint, model, source)
        for doubt in samples.data.list_doubts_of_rain(climate.scored) if on_doubt else ():
            on_doubt(doubt)
        baselines = _fit_baselines(checkpoint, climate, samples, learn_from, max_input_age)
        with open_predictions(folder, samples, attributes, climate, max_input_age) as out:
            _forecast_blocks(out, model, samples, baselines, permuted)
            sums = out.sums()
        metrics = {
            # scores
            **score_with_intervals("predicted", sums, out.frame),
            "baselines": baselines.scores(sums, out.frame),
            **_describe_data(path, samples, periods, max_input_age),
            # run
            **attributes,
            "target_days": checkpoint.settings.get("target_days"),
            "weights_sha256": checkpoint.weights_hash,
            "finished": checkpoint.finished,
            **checkpoint.training,
            "validation_rmse": checkpoint.best_rmse,
        }
        write_scores(folder, out.frame, sums["predicted"], metrics)
        if not permuted:
            draw(run_dir, sums["predicted"])
    return metrics


def _describe_data(
    path: Path, samples: Windows, periods: tuple[Span, ...], max_input_age: int | None
) -> dict[str, Any]:
    """What metrics.json says of the data and of the days that were scored."""
    return {
        "data": str(path),
        "data_sha256": data_hash(path),
        "synthetic_data": samples.data.synthetic,
        "label": samples.data.label,
        "test": [[str(first), str(last)] for first, last in periods],
        "skipped_days": samples.skipped,
        "max_input_age": max_input_age,
    }


def _choose_periods(checkpoint: Checkpoint, run_dir: Path, test: Period | None) -> tuple[Span, ...]:
    """The test period asked for, or the run's own. Raises UserError where the run has learned from one of its days."""
    periods = checkpoint.periods.test if test is None else spans("test", test)
    if (day := overlap(checkpoint.learned_from, periods)) is not None:
        raise UserError(f"{run_dir} was trained or validated on {day}, which lies in the test period asked for.")
    return periods


def _choose_data(checkpoint: Checkpoint, run_dir: Path, data: Path | None) -> tuple[Path, Path]:
    """The data set to forecast, and the one that the baselines learn from: the run's own, where it is unchanged."""
    own = Path(checkpoint.settings["data"])
    unchanged = own.exists() and data_hash(own) == checkpoint.data_hash
    if data is None and own.exists() and not unchanged:
        raise UserError(f"{own} has changed since {run_dir} was trained on it; train again, or give --data.")
    path = own if data is None else data
    return path, own if unchanged else path


def _open_samples(
    checkpoint: Checkpoint, run_dir: Path, model: ForecastModel, path: Path, periods: tuple[Span, ...]
) -> Windows:
    """The samples of these periods as the model sees them.

    Raises UserError where the grid is not the run's, or where the weather forecasts that it knows have changed.
    """
    weather = KnownWeather.of(checkpoint.settings)
    check_weather(weather, checkpoint, run_dir)
    data = open_data_set(path, start_of(checkpoint), variables=checkpoint.variables)
    check_grid(checkpoint, data.grid, path, run_dir)
    return restore_windows(checkpoint, model, data, weather).in_periods(periods, "test")


def _fit_baselines(
    checkpoint: Checkpoint, statistics: Statistics, samples: Windows, learn_from: Path, max_input_age: int | None
) -> FittedBaselines:
    """The baselines, which learn from the run's training days, or also from its validation days."""
    return fit_baselines(
        statistics=statistics,
        learn_from=learn_from,
        data=samples.data.path,
        train=checkpoint.periods.train,
        val=checkpoint.periods.val,
        test=samples.periods,
        lead_days=samples.lead_days,
        input_days=samples.input_days,
        start=start_of(checkpoint),
        in_blocks=samples.patch is not None,  # a map that fits in memory is one block for any model: all share a fit
        variables=checkpoint.variables,
        max_input_age=max_input_age,
    )


def _forecast_blocks(
    out: Predictions, model: ForecastModel, samples: Windows, baselines: FittedBaselines, permuted: str | None
) -> None:
    """Forecast every block of the map by the model and the baselines, and add both to predictions.nc."""
    for windows, block in zip(samples, samples.blocks, strict=True):
        inputs = windows.permuted(list(VARIABLES).index(permuted)) if permuted else windows
        predicted = forecast(model, inputs, BATCH, torch.device("cpu"))
        own_cells = (slice(None), *block.inside)
        out.add(block, windows, predicted[own_cells], baselines.forecasts(block))


def last_metrics(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """The metrics in a folder, of whatever data and days; {} where they are missing, or of other weights or code."""
    metrics = read_json(folder / "metrics.json")
    same_code = metrics.get("scoring") == hash_scoring()
    same_weights = metrics.get("weights_sha256") == checkpoint.weights_hash
    return metrics if same_code and same_weights and (folder / "predictions.nc").exists() else {}


def current_metrics(folder: Path, checkpoint: Checkpoint, max_input_age: int | None = None) -> dict[str, Any]:
    """The metrics in a folder, or {} where they are missing or stale.

    They are stale when they or predictions.nc are of other weights, data, test days, ages or code (see scoring).
    """
    metrics = last_metrics(folder, checkpoint)
    current = (
        metrics.get("data_sha256") == checkpoint.data_hash
        and metrics.get("test") == checkpoint.split["test"]
        and metrics.get("max_input_age") == max_input_age
    )
    return metrics if current else {}


RunDirs = Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[RUN_DIR ...]")]


@dataclass
class EvalSettings:
    run_dirs: RunDirs = ()  # run directories, or folders with runs below them; none: all runs of this folder
    data: Path | None = None  # a prepared data set instead of each run's own
    test: Period = OWN  # target days START END instead of each run's own test period
    max_input_age: int | None = None  # score where the last observation is at most so many days old; None: any age


def main(experiment: str) -> None:
    """The main of an eval script: evaluate the runs named, or all of the folder, and print the table."""
    with one_sentence():
        settings = parse(EvalSettings, sys.argv[1:], sys.modules["__main__"].__doc__)
        refuse_age(settings.max_input_age)
        run_dirs = [run for named in settings.run_dirs for run in runs_below(named)] or runs_of(experiment)
        if not run_dirs:
            raise UserError(
                f"There are no runs of {experiment}; make one with: python {experiment}/train_cnn.py, "
                "or name run directories, such as those of a study below results/runs."
            )
        said: set[str] = set()

        def warn_once(doubt: str) -> None:
            if doubt not in said:
                tqdm.write(f"warning: {doubt}")
            said.add(doubt)

        test = None if settings.test == OWN else settings.test
        asked = {"data": settings.data, "test": test, "max_input_age": settings.max_input_age, "on_doubt": warn_once}
        print_table(run_dirs, partial(evaluate, **asked))


def print_last_scores(folders: Sequence[Path]) -> None:
    """Print the table of all runs below these folders as they were evaluated last; others are evaluated now."""

    def score(run_dir: Path) -> dict[str, Any]:
        return last_metrics(run_dir, load_checkpoint(run_dir)) or evaluate(run_dir)

    print_table([run_dir for folder in folders for run_dir in runs_below(folder)], score)


def refuse_age(max_input_age: int | None) -> None:
    """Raises UserError where no observation can be of this age."""
    if max_input_age is not None and max_input_age < 0:
        raise UserError(f"--max-input-age is {max_input_age}, expected 0 or more days.")


def runs_of(experiment: str) -> list[Path]:
    """All run directories of an experiment's folder, in order."""
    return sorted(path.parent for path in (RUNS / experiment).glob("**/checkpoint.pt"))


def holds_runs(folder: Path) -> bool:
    return any(folder.glob("**/checkpoint.pt"))


def runs_below(folder: Path) -> list[Path]:
    """The run directory itself, or all below another folder, in order; a folder without any is for `evaluate`."""
    if (folder / "checkpoint.pt").exists():
        return [folder]
    return sorted(path.parent for path in folder.glob("**/checkpoint.pt")) or [folder]


def draw(run_dir: Path, sums: Sums) -> None:
    """Draw figures/map.png, of the day with the median error, and figures/scatter.png, from the run's predictions.nc.

    Of a few cells, time series are drawn instead of the map, figures/series.png.
    A figure that has too little to show is left out, and a sentence says so: the scores stand without it.
    """
    day = _median_day(sums)
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        title = f"{ds.attrs['experiment']}, {ds.attrs['model']}, {format_days(int(ds.attrs['lead_days']))} ahead"
        title += in_brackets(label_of(ds.attrs))
        map_title = f"{title}, {str(ds['time'].values[day])[:10]}"
        pair = ds[["observed", "predicted"]]
        maps = pair.isel(time=day).load()
        few = pair.load() if has_few_cells(pair) else None
        every = math.ceil(pair["predicted"].size / _POINTS)
        points = pair.isel(time=slice(None, None, every)).load()
    folder = run_dir / "figures"
    try:
        if few is None:
            Drawmap.draw_maps(maps["observed"], maps["predicted"], map_title, folder / "map.png")
        else:
            draw_run(few, title, folder / "series.png")
        scatter.draw_scatter(points["observed"].values, points["predicted"].values, title, folder / "scatter.png")
    except UserError as error:
        print(fold(error))


def _median_day(sums: Sums) -> int:
    """Position of the day whose mean squared error is the median one, among the well covered days."""
    count = sums.of_days("n")
    candidates = np.flatnonzero(well_covered(count))
    error = sums.of_days("error_2")[candidates] / count[candidates]
    return int(candidates[np.argsort(error)[len(candidates) // 2]])
