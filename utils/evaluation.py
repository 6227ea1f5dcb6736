"""Scores of forecasts, and the evaluation of a run: predictions.nc, metrics.json and figures in its directory.

RMSE, MSE and R² are pooled and unweighted over all valid cell-days, as in the paper; R² is the coefficient of
determination. Every baseline is scored on exactly the same cell-days.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from sklearn.metrics import mean_squared_error, r2_score
from tqdm import tqdm
from tyro.conf import Positional

from utils import Drawmap, Drawplot, runs
from utils.baselines import baselines
from utils.console import UserError, fold, one_sentence, parse
from utils.data_processing import Record, Windows
from utils.experiment import check_grid, data_hash, read_from
from utils.files import whole_file, write_json
from utils.forecasting import forecast, restore_model
from utils.prepared_data import AXES, DAYS_ENCODING, VARIABLES, grid_of, is_synthetic
from utils.runs import Checkpoint
from utils.settings import RUNS, Period, overlap, spans
from utils.tables import show, table

_BATCH = 64
OWN = ("", "")  # no test period given: tyro would let an optional one swallow the run directories behind it


def scores(
    observed: Float[np.ndarray, "*cell_days"], predicted: Float[np.ndarray, "*cell_days"]
) -> dict[str, float | int | None]:
    """rmse (m3 m-3), mse, r2 and n over the pairs with a valid observation.

    r2 is None where it is not defined: fewer than two pairs, or observations without any variation. Raises UserError
    when there is no pair, ValueError when an observation has no finite forecast.
    """
    valid = np.isfinite(observed)
    truth, guess = observed[valid].astype(np.float64), predicted[valid].astype(np.float64)
    if not truth.size:
        raise UserError("The test period has no valid soil moisture to score forecasts with.")
    mse = float(mean_squared_error(truth, guess))
    r2 = float(r2_score(truth, guess)) if truth.size > 1 and np.ptp(truth) > 0 else None
    return {"rmse": math.sqrt(mse), "mse": mse, "r2": r2, "n": int(truth.size)}


def evaluate(run_dir: Path, data: Path | None = None, test: Period | None = None) -> dict[str, Any]:
    """Forecast the test period with the best weights of a run; write its files; return the metrics.

    `data` and `test` stand in for the run's own; the baselines still learn from the run's own data where that is to
    be had. Raises UserError for whatever the user can mend, and writes nothing then.
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
        ds, record = _record(checkpoint, path, run_dir)
        learned = _record(checkpoint, own, run_dir)[1] if data is not None and own_is_there else record
        reach = (checkpoint.lead_days, checkpoint.input_days)
        windows = Windows(record, periods, *reach, "test")
        training = Windows(learned, checkpoint.periods.train, *reach, "training")
        predicted = forecast(restore_model(checkpoint, run_dir), windows, _BATCH, torch.device("cpu"))
        metrics = _metrics(checkpoint, windows, predicted, baselines(training, windows, checkpoint.periods.train))
        metrics |= {"data": str(path), "synthetic_data": is_synthetic(ds), "finished": checkpoint.finished}
        metrics |= {"test": [[str(start), str(end)] for start, end in periods], "skipped_days": windows.skipped}
        metrics |= {"data_sha256": data_hash(path), "weights_sha256": runs.weights_hash(checkpoint.best)}
        predictions = _dataset(checkpoint, windows, predicted, path, is_synthetic(ds))
        encoding = {name: {"zlib": True, "complevel": 1} for name in predictions.data_vars}
        encoding |= {name: {"_FillValue": None} for name in ("lat", "lon")}
        encoding |= {name: DAYS_ENCODING for name in ("time", "init_time")}
        with whole_file(run_dir / "predictions.nc") as partial:
            predictions.to_netcdf(partial, engine="netcdf4", encoding=encoding)
        write_json(run_dir / "metrics.json", metrics)
        draw(run_dir, predictions, is_synthetic(ds))
    return metrics


def is_current(metrics: dict[str, Any], checkpoint: Checkpoint) -> bool:
    """Whether metrics are those of this checkpoint on its own data and test period."""
    return (
        metrics.get("weights_sha256") == runs.weights_hash(checkpoint.best)
        and metrics.get("data_sha256") == checkpoint.data_hash
        and metrics.get("test") == checkpoint.split["test"]
    )


def _record(checkpoint: Checkpoint, path: Path, run_dir: Path) -> tuple[xr.Dataset, Record]:
    """A data set as the run would read it, on the run's grid and with the run's statistics."""
    ds = read_from(path, checkpoint.periods.train[0][0] if checkpoint.settings.get("target_days") else None)
    check_grid(checkpoint, grid_of(ds), path, run_dir)
    return ds, Record(ds, checkpoint.restored_statistics(), tuple(checkpoint.settings["predictors"]))


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


def _metrics(checkpoint: Checkpoint, windows: Windows, predicted: np.ndarray, references: dict) -> dict[str, Any]:
    """metrics.json: the model's scores first, then each baseline's on the same cell-days."""
    observed = windows.observed
    names = {name: getattr(checkpoint, name) for name in ("experiment", "model", "lead_days", "input_days", "seed")}
    found = {name: scores(observed, forecast) for name, (forecast, _) in references.items()}
    reference = found["persistence"]["mse"]
    for row in (model := scores(observed, predicted)), *found.values():
        row["skill_over_persistence"] = 1 - row["mse"] / reference if reference else None
    for name, (_, note) in references.items():
        found[name] |= {"note": note} if note else {}
    epochs = {"epochs": checkpoint.settings["epochs"], "best_epoch": checkpoint.best_epoch}
    return {**model, **names, **epochs, "commit": checkpoint.commit, "baselines": found}


def _dataset(checkpoint: Checkpoint, windows: Windows, predicted: np.ndarray, data: Path, synthetic: bool):
    """predictions.nc: forecast and observation, m3 m-3, by valid date."""
    moisture = {"units": "m3 m-3", **VARIABLES["soil_moisture"].attributes}
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "predicted": (dims, predicted, {**moisture, "long_name": "forecast soil moisture"}),
            "observed": (dims, windows.observed, {**moisture, "long_name": "soil moisture of the data set"}),
        },
        coords={
            "time": ("time", windows.valid_time.astype("datetime64[ns]"), AXES["time"]),
            "lat": ("lat", windows.record.grid.lat, AXES["lat"]),
            "lon": ("lon", windows.record.grid.lon, AXES["lon"]),
            "init_time": (
                "time",
                windows.init_time.astype("datetime64[ns]"),
                {"standard_name": "forecast_reference_time", "long_name": "last input day"},
            ),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": ("SYNTHETIC sample: " if synthetic else "") + "soil-moisture forecasts and observations",
            **{name: getattr(checkpoint, name) for name in ("model", "experiment", "lead_days", "input_days", "seed")},
            "data": str(data),
            "commit": checkpoint.commit,
            "synthetic": str(synthetic).lower(),
        },
    )
