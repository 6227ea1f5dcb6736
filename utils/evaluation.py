"""The evaluation of a run: predictions.nc, metrics.json and figures in its directory.

RMSE, MSE and R² are pooled and unweighted over all valid cell-days, as in the paper; the rest is in `metrics`. Every
baseline is scored on exactly the same cell-days, and every score comes with its 95 % interval (`significance`).
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm
from tyro.conf import Positional

from utils import Drawmap
from utils.common.cli import UserError, fold, one_sentence, parse
from utils.common.files import read_json
from utils.common.periods import Period, overlap, spans
from utils.common.text import days
from utils.data_processing import Permuted
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.prepared import VARIABLES
from utils.dataset.weather_forecasts import KnownWeather
from utils.figures import scatter
from utils.scores.baseline_runs import Asked, references_of
from utils.scores.metrics import Sums, well_covered
from utils.scores.prediction_file import SCORING, described, score_with_intervals, write_scores, written
from utils.scores.score_table import show, table
from utils.settings import RUNS
from utils.training import runs
from utils.training.inference import BATCH, forecast, restore_model, view_of
from utils.training.runs import Checkpoint
from utils.training.setup import check_grid, start_of

_POINTS = 2**22  # of a scatter plot, at most: of more days, every so many
OWN = ("", "")  # no test period given: tyro would let an optional one swallow the run directories behind it


def evaluate(
    run_dir: Path,
    data: Path | None = None,
    test: Period | None = None,
    permuted: str | None = None,
    into: Path | None = None,
) -> dict[str, Any]:
    """Forecast the test period with the best weights of a run; write its files; return the metrics.

    `data` and `test` stand in for the run's own; the baselines still learn from the run's own data where that is to
    be had. With `permuted`, the windows of that variable are shuffled among the test days: what is lost then, its
    seasonal cycle included, is what the trained model owes to it; the files go to the folder `into`. Raises UserError
    for whatever the user can mend, and writes nothing then.
    """
    runs.checkpoint_file(run_dir)  # a folder without a run is left as it is
    with runs.claimed(into or run_dir):
        checkpoint = runs.load_checkpoint(run_dir)
        if not checkpoint.best:
            raise UserError(f"{run_dir} has no trained weights yet; give its train command again.")
        periods = checkpoint.periods.test if test is None else spans("test", test)
        if (day := overlap(checkpoint.learned_from, periods)) is not None:
            raise UserError(f"{run_dir} was trained or validated on {day}, which lies in the test period asked for.")
        own = Path(checkpoint.settings["data"])
        own_is_there = own.exists() and data_hash(own) == checkpoint.data_hash
        if data is None and own.exists() and not own_is_there:
            raise UserError(f"{own} has changed since {run_dir} was trained on it; train again, or give --data.")
        future = KnownWeather.of(checkpoint.settings)
        if future and future.hash() != checkpoint.future_hash:
            raise UserError(f"{checkpoint.settings['future_from']} has changed since {run_dir} was trained on it.")
        path = own if data is None else data
        about = described(checkpoint)
        if permuted:
            about["model"] += f"_permuted_{permuted}"
        start = start_of(checkpoint)
        ds = open_data_set(path, start)
        check_grid(checkpoint, ds.grid, path, run_dir)
        model, reach = restore_model(checkpoint, run_dir), (checkpoint.lead_days, checkpoint.input_days)
        view, statistics = view_of(checkpoint, model, ds, future), checkpoint.restored_statistics()
        samples = model.scoring_samples(
            view, periods, lead_days=checkpoint.lead_days, input_days=checkpoint.input_days, name="test"
        )
        asked = Asked(own if own_is_there else path, path, checkpoint.periods.train, periods, *reach, start)
        if model.days_of_means(checkpoint.periods, checkpoint.experiment) != checkpoint.periods:
            # its cells' means are of other days than the baselines may know
            learned = open_data_set(asked.learn_from, start).summary(checkpoint.periods)
            statistics = learned.statistics(checkpoint.periods)
        references = references_of(asked, statistics, in_blocks=view.free)
        with written(into or run_dir, samples, about) as out:
            for windows, block in zip(samples, samples.view.blocks, strict=True):
                shown = Permuted(windows, list(VARIABLES).index(permuted)) if permuted else windows
                predicted = forecast(model, shown, BATCH, torch.device("cpu"))
                own_cells = (slice(None), *block.inside)
                out.add(block, windows, predicted[own_cells], references.forecasts(block))
        sums = out.sums()
        found = score_with_intervals("predicted", sums, out.frame)
        found |= {name: value for name, value in about.items() if name != "commit"}
        found |= {"baselines": references.scores(sums, out.frame)}
        found |= {"data": str(path), "synthetic_data": ds.synthetic, "finished": checkpoint.finished}
        found |= {"test": [[str(start), str(end)] for start, end in periods], "skipped_days": samples.skipped}
        found |= {"data_sha256": data_hash(path), "weights_sha256": runs.weights_hash(checkpoint.best)}
        found |= {"commit": checkpoint.commit, "epochs": checkpoint.settings["epochs"]}
        found |= {"best_epoch": checkpoint.best_epoch, "validation_rmse": checkpoint.best_rmse}
        write_scores(into or run_dir, out.frame, sums["predicted"], found)
        if not permuted:
            draw(run_dir, sums["predicted"])
    return found


def current_metrics(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """The metrics in a folder; {} unless they and predictions.nc are the checkpoint's on its own data and test days."""
    metrics = read_json(folder / "metrics.json")
    current = (
        metrics.get("scoring") == SCORING
        and metrics.get("weights_sha256") == runs.weights_hash(checkpoint.best)
        and metrics.get("data_sha256") == checkpoint.data_hash
        and metrics.get("test") == checkpoint.split["test"]
        and (folder / "predictions.nc").exists()
    )
    return metrics if current else {}


@dataclass
class EvalSettings:
    run_dirs: Positional[tuple[Path, ...]] = ()  # run directories; none: all runs of this folder
    data: Path | None = None  # a prepared data set instead of each run's own
    test: Period = OWN  # target days START END instead of each run's own test period


def main(experiment: str) -> None:
    """The main of an eval script: evaluate the runs named, or all of the folder, and print the table."""
    with one_sentence():
        settings = parse(EvalSettings, sys.argv[1:], sys.modules["__main__"].__doc__)
        run_dirs = settings.run_dirs or runs_of(experiment)
        if not run_dirs:
            raise UserError(
                f"There are no runs of {experiment}; make one with: python {experiment}/train_cnn.py, "
                "or name run directories, such as those of a study below results/runs."
            )
        done, failed = [], 0
        for run_dir in tqdm(run_dirs, unit="run", disable=None):
            try:
                done.append(evaluate(run_dir, settings.data, None if settings.test == OWN else settings.test))
            except UserError as error:  # the other runs still count
                if len(run_dirs) == 1:
                    raise
                failed += 1
                print(f"error: {fold(error)}", file=sys.stderr)
        if done:
            print(show(table(done)))
        if failed:
            raise UserError(f"{failed} of {len(run_dirs)} runs could not be evaluated.")


def runs_of(experiment: str) -> list[Path]:
    """All run directories of an experiment's folder, in order."""
    return sorted(path.parent for path in (RUNS / experiment).glob("**/checkpoint.pt"))


def draw(run_dir: Path, sums: Sums) -> None:
    """figures/map.png, of the day whose error is the median one, and figures/scatter.png.

    A figure that has too little to show is left out and said: the scores stand without it.
    """
    covered = sums.of_days("n")
    candidates = np.flatnonzero(well_covered(covered))
    error = sums.of_days("error_2")[candidates] / covered[candidates]
    day = int(candidates[np.argsort(error)[len(candidates) // 2]])
    path = run_dir / "figures"
    with xr.open_dataset(run_dir / "predictions.nc") as ds:
        name = f"{ds.attrs['experiment']}, {ds.attrs['model']}, {days(int(ds.attrs['lead_days']))} ahead"
        name += " (SYNTHETIC sample)" if ds.attrs["synthetic"] == "true" else ""
        map_name = f"{name}, {str(ds['time'].values[day])[:10]}"
        both = ds[["observed", "predicted"]]
        shown = both.isel(time=day).load()
        some = both.isel(time=slice(None, None, math.ceil(both["predicted"].size / _POINTS))).load()
    try:
        Drawmap.draw_maps(shown["observed"], shown["predicted"], map_name, path / "map.png")
        scatter.draw_scatter(some["observed"].values, some["predicted"].values, name, path / "scatter.png")
    except UserError as error:
        print(fold(error))
