"""The evaluation of a run: predictions.nc, metrics.json and figures in its directory.

RMSE, MSE and R² are pooled and unweighted over all valid cell-days, as in the paper; the rest is in `metrics`. Every
baseline is scored on exactly the same cell-days, and every score comes with its 95 % interval (`significance`).
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm
from tyro.conf import Positional

from utils import Drawmap, Drawplot, runs
from utils.baselines import baselines
from utils.console import UserError, fold, one_sentence, parse
from utils.data_processing import Permuted, Record, Statistics, Windows
from utils.drawing import BASELINES
from utils.experiment import check_grid, data_hash, read_from
from utils.files import read_json
from utils.forecasting import forecast, restore_model
from utils.predictions import SCORING, References, dataset, described, judged, write_predictions
from utils.prepared_data import VARIABLES, grid_of, is_synthetic, open_prepared
from utils.runs import Checkpoint
from utils.settings import RUNS, Period, Span, Split, overlap, spans
from utils.tables import show, table

_BATCH = 64
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
    with runs.claimed(run_dir):
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
        path = own if data is None else data
        ds = _data_set(checkpoint, path, run_dir)
        reach, about = (checkpoint.lead_days, checkpoint.input_days), described(checkpoint)
        windows = Windows(checkpoint.record(ds), periods, *reach, "test")
        if permuted:
            windows = Permuted(windows, list(VARIABLES).index(permuted))
            about["model"] += f"_permuted_{permuted}"
        predicted = forecast(restore_model(checkpoint, run_dir), windows, _BATCH, torch.device("cpu"))
        train, learn_from = checkpoint.periods.train, own if own_is_there else path
        start = train[0][0] if checkpoint.settings.get("target_days") else None
        samples = Samples(learn_from, path, train, periods, *reach, start)
        references = reference_forecasts(samples, checkpoint.restored_statistics())
        predictions = dataset(windows, predicted, references, about, path, is_synthetic(ds))
        found = judged(predictions, references)
        found |= {"data": str(path), "synthetic_data": is_synthetic(ds), "finished": checkpoint.finished}
        found |= {"test": [[str(start), str(end)] for start, end in periods], "skipped_days": windows.skipped}
        found |= {"data_sha256": data_hash(path), "weights_sha256": runs.weights_hash(checkpoint.best)}
        found |= {"commit": checkpoint.commit, "epochs": checkpoint.settings["epochs"]}
        found |= {"best_epoch": checkpoint.best_epoch, "validation_rmse": checkpoint.best_rmse}
        write_predictions(into or run_dir, predictions, found)
        if not permuted:
            draw(run_dir, predictions, is_synthetic(ds))
    return found


@dataclass(frozen=True)
class Samples:
    """Which samples baselines learn from, and which they forecast."""

    learn_from: Path  # data set of the training period
    data: Path  # data set of the test period
    train: tuple[Span, ...]
    test: tuple[Span, ...]
    lead_days: int
    input_days: int
    start: np.datetime64 | None  # no earlier day is read

    def windows(self, statistics: Statistics | None = None) -> tuple[Windows, Windows]:
        """The training and the test samples, by the statistics of a run or else by the training period's own.

        They are not scaled: the last digits of a regression on them would hang on whose scaling it was.
        """
        ds = read_from(self.learn_from, self.start)
        statistics = statistics or Statistics.fit(ds, Split(self.train, (), self.test))
        statistics = replace(statistics, low=np.zeros(3, np.float32), high=np.ones(3, np.float32))
        learned = Record(ds, statistics)
        asked = learned if self.data == self.learn_from else Record(read_from(self.data, self.start), statistics)
        reach = (self.lead_days, self.input_days)
        return Windows(learned, self.train, *reach, "training"), Windows(asked, self.test, *reach, "test")


def reference_forecasts(
    samples: Samples, statistics: Statistics, windows: tuple[Windows, Windows] | None = None
) -> References:
    """The baselines' forecasts. The last two sets are kept: a study asks for them model after model.

    `windows` are those of the samples, where the caller has them already.
    """
    cells = (statistics.scored.tobytes(), statistics.cell_mean.tobytes())
    key = (samples, data_hash(samples.learn_from), data_hash(samples.data), hash(cells))
    if key not in _kept:
        if len(_kept) == 2:
            del _kept[next(iter(_kept))]
        forecasts = baselines(*(windows or samples.windows(statistics)), samples.train)
        _kept[key] = References(*({name: parts[i] for name, parts in forecasts.items()} for i in (0, 1)))
    return _kept[key]


_kept: dict[tuple, References] = {}


def evaluate_baselines(samples: Samples, into: Path, suffix: str, attributes: dict[str, Any]) -> None:
    """Write each baseline's predictions.nc and metrics.json as a run's: <into>/<name><suffix>/lead<d>/.

    Nothing is done where they are there already, for the same data and periods.
    """
    folders = {name: into / f"{name}{suffix}" / f"lead{samples.lead_days}" for name in BASELINES}
    state = {"data_sha256": data_hash(samples.data), "input_days": samples.input_days, "scoring": SCORING}
    state |= {f: [[str(a), str(b)] for a, b in getattr(samples, f)] for f in ("train", "test")}
    there = [(read_json(f / "metrics.json"), (f / "predictions.nc").exists()) for f in folders.values()]
    if all(written and found.get("state") == state for found, written in there):
        return
    training, windows = samples.windows()
    references = reference_forecasts(samples, windows.record.statistics, (training, windows))
    with open_prepared(samples.data) as ds:
        synthetic = is_synthetic(ds)
    for name, values in references.forecasts.items():
        about = {**attributes, "model": name, "lead_days": samples.lead_days, "input_days": samples.input_days}
        predictions = dataset(windows, values, references, about, samples.data, synthetic)
        found = judged(predictions, references)["baselines"][name] | about
        write_predictions(folders[name], predictions, found | {"state": state, "synthetic_data": synthetic})


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


def _data_set(checkpoint: Checkpoint, path: Path, run_dir: Path) -> xr.Dataset:
    """A data set as the run would read it, on the run's grid."""
    ds = read_from(path, checkpoint.periods.train[0][0] if checkpoint.settings.get("target_days") else None)
    check_grid(checkpoint, grid_of(ds), path, run_dir)
    return ds


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


def draw(run_dir: Path, predictions: xr.Dataset, synthetic: bool) -> None:
    """figures/map.png, of the day whose error is the median one, and figures/scatter.png.

    A figure that has too little to show is left out and said: the scores stand without it.
    """
    observed, predicted = predictions["observed"], predictions["predicted"]
    error = np.sqrt(((predicted - observed) ** 2).mean(("lat", "lon"))).values
    covered = np.isfinite(observed).sum(("lat", "lon")).values
    candidates = np.flatnonzero(covered >= np.median(covered[covered > 0]))  # days that show something
    day = int(candidates[np.argsort(error[candidates])[len(candidates) // 2]])
    name = (
        f"{predictions.attrs['experiment']}, {predictions.attrs['model']}, {predictions.attrs['lead_days']} days ahead"
    )
    name += " (SYNTHETIC sample)" if synthetic else ""
    date = str(predictions["time"].values[day])[:10]
    path = run_dir / "figures"
    try:
        Drawmap.draw_maps(observed[day], predicted[day], f"{name}, {date}", path / "map.png")
        Drawplot.draw_scatter(observed.values, predicted.values, name, path / "scatter.png")
    except UserError as error:
        print(fold(error))
