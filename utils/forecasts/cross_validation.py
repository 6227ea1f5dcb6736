"""Cross-validation in blocks of time: a run's out-of-sample forecasts, from which its uncertainty is learned.

The training and validation days are cut into blocks of time. For each block, a model with the run's settings is trained
on the other blocks: for as many epochs as the run's best, and from the same pre-trained weights. Then it forecasts the
block. Days near the block are left out of both. The baselines are fitted in the same way.

The pre-trained weights may have learned from the source product's days of the same dates. Such days count as seen:
`seen_in_pretraining` says it of every day.

RUN_DIR/held_out/predictions.nc holds all of these forecasts. It looks like the run's predictions.nc of its test period.
Another number of blocks than FOLDS has a folder of its own. If a call is killed, the next one finds the finished fits.

The same models forecast the same days again with poorer inputs (`InputFaults`), in folders below held_out: with outages
of soil moisture, and with variables that reach us later. The fits stay in held_out, so that nothing is trained again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int

from utils.common.cli import UserError
from utils.common.files import read_json, whole_file, write_json
from utils.common.periods import Span, Split, in_spans
from utils.common.progress import Progress
from utils.common.text import format_days
from utils.data_processing import Windows
from utils.dataset.blocks import DataSet
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.weather_forecasts import KnownWeather
from utils.models import ForecastModel
from utils.scores.baselines import climatology, persistence
from utils.scores.fitting import Fitting
from utils.scores.prediction_file import Predictions, open_predictions, run_attributes
from utils.scores.scoring import hash_scoring
from utils.training.checkpoint import Checkpoint, load_checkpoint, load_finished
from utils.training.inference import (
    BATCH,
    forecast,
    model_maker,
    restore_model,
    restore_windows,
    script_of,
    training_statistics,
)
from utils.training.moved import find_moved_inputs
from utils.training.run_directory import hold_run_directory
from utils.training.setup import make_windows_pair, new_model, start_of

SEEN = "whether the run that this one started from had learned from this calendar day"
LONGEST_OUTAGE = 35  # days: SMAP's of June and July 2019
BETWEEN_OUTAGES = 10  # days
PIECE = 200  # days: of a record that is cut, one day between two pieces included
FOLDS = 4  # a year each of the three years of training and one of validation of the sample


@dataclass(frozen=True)
class Fold:
    """The target days that a model learns from, and those that it then forecasts."""

    training: tuple[Span, ...]
    validation: tuple[Span, ...]


@dataclass(frozen=True)
class InputFaults:
    """What the inputs lack, beside what the record lacks."""

    behind: Mapping[str, int] = field(default_factory=dict)  # days by which variables end before the last input day
    outages: bool = False  # whether soil moisture is hidden in outages
    pieces: bool = False  # whether the record is cut, so that few days lie before a forecast

    @property
    def folder(self) -> str:
        """The folder of such forecasts below that of the others; empty where nothing is lacking."""
        late = [f"{name}_{days}_days_late" for name, days in sorted(self.behind.items())]
        return "_".join([*late, *(["outages"] if self.outages else []), *(["pieces"] if self.pieces else [])])

    def apply(self, windows: Windows, model: ForecastModel) -> Windows:
        """Windows of a model whose inputs lack this."""
        if self.pieces:
            windows = model.make_windows(
                windows.data.without(days_in_piece(windows.data.days) == 0),
                windows.statistics,
                lead_days=windows.lead_days,
                input_days=windows.input_days,
                predictors=windows.predictors,
                static=windows.static,
                weather=windows.weather,
            )
        if self.outages:
            hidden = draw_outages(windows.data.days)
            windows = windows.hiding(np.broadcast_to(hidden[:, None], (len(hidden), len(windows.data.grid.lon))))
        return windows.with_late(self.behind)


NO_FAULTS = InputFaults()


def days_in_piece(days: np.ndarray) -> Int[np.ndarray, "time"]:
    """How many days in a row a record has up to each day where it is cut in pieces; 0: the day is cut out."""
    return (days - np.datetime64("1900-01-01")).astype(int) % PIECE


def draw_outages(days: np.ndarray) -> Bool[np.ndarray, "time"]:
    """On which days soil moisture is hidden, everywhere. A date is hidden in every record or in none.

    The lengths are even from 1 to LONGEST_OUTAGE days, so that all ages are met. A record has outages of its own, but
    seldom enough long ones.
    """
    first = np.datetime64("1900-01-01")
    count, generator = int((days[-1] - first).astype(int)) + 1, np.random.default_rng(0)
    lengths = generator.integers(1, LONGEST_OUTAGE, size=count // BETWEEN_OUTAGES + 1, endpoint=True)
    stretches = np.column_stack([np.full_like(lengths, BETWEEN_OUTAGES), lengths]).ravel()
    is_out = np.repeat(np.arange(len(stretches)) % 2 == 1, stretches)
    return is_out[(days - first).astype(int)]


def cross_validate(
    run_dir: Path,
    folds: int = FOLDS,
    quiet: bool = False,
    offered: Path | None = None,
    faults: InputFaults = NO_FAULTS,
) -> Path:
    """Make the file of out-of-sample forecasts where it is missing, and return its path.

    `offered` is a data set at hand: if the run was trained on it, it need not be where it was then. `faults` are of the
    inputs of the forecasts, not of the training.

    With `folds` 0, the run itself forecasts its validation days. That is quick, but these days chose its best epoch, so
    its errors are a little too small. Raises UserError where the run's data or the weights it started from are gone or
    have changed.
    """
    fits = run_dir / ("held_out" if folds == FOLDS else f"held_out_{folds}")
    return _make_where_missing(run_dir, fits, faults, folds, quiet, offered=offered)


def forecast_test_days(run_dir: Path, faults: InputFaults) -> Path:
    """The same file of a run's own forecasts of its test days, below RUN_DIR/operational."""
    return _make_where_missing(run_dir, run_dir / "operational", faults, folds=0, quiet=True, is_test=True)


def describe_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """What metrics.json says of the run, the data and the code that its forecasts were made with."""
    state = {"weights_sha256": checkpoint.weights_hash, "scoring": hash_scoring()}
    return state | {"data_sha256": checkpoint.data_hash, "test": checkpoint.split["test"]}


def _make_where_missing(
    run_dir: Path,
    root: Path,
    faults: InputFaults,
    folds: int,
    quiet: bool,
    offered: Path | None = None,
    is_test: bool = False,
) -> Path:
    """The file of forecasts with some faults, below the folder `root` with the fits of all of them."""
    folder, checkpoint = root / faults.folder, load_finished(run_dir)
    state = {"folds": folds, **describe_state(checkpoint)}
    path, metrics = folder / "predictions.nc", folder / "metrics.json"
    if not (path.exists() and state.items() <= read_json(metrics).items()):
        with hold_run_directory(root):
            metrics.unlink(missing_ok=True)  # it speaks of the file beside it, which another one is about to replace
            find_moved_inputs(checkpoint, run_dir, offered)
            held_out = HeldOut(run_dir, root, checkpoint, folds, faults, is_test)
            folder.mkdir(exist_ok=True)
            write_json(metrics, {**state, **held_out.write(folder, quiet)})
    return path


def make_folds(days: np.ndarray, periods: tuple[Span, ...], count: int, margin: int) -> list[Fold]:
    """Cut `days` into `count` blocks of time, as parts of the periods.

    The `margin` days beside a block are neither trained on nor forecast with it.
    """
    folds = []
    for block in np.array_split(days, count):
        first, last = block[0], block[-1]
        before = _clip(periods, periods[0][0], first - margin - 1)
        after = _clip(periods, last + margin + 1, periods[-1][1])
        folds.append(Fold(training=(*before, *after), validation=_clip(periods, first, last)))
    return folds


def _clip(periods: tuple[Span, ...], first: np.datetime64, last: np.datetime64) -> tuple[Span, ...]:
    """The parts of the periods from `first` to `last`."""
    clipped = ((max(start, first), min(end, last)) for start, end in periods)
    return tuple((start, end) for start, end in clipped if start <= end)


def _choose_folds(run_dir: Path, checkpoint: Checkpoint, days: np.ndarray, folds: int) -> list[Fold]:
    """The blocks of the days that a run learned from. Raises UserError where there are too few days."""
    if len(days) < 2 * folds:
        raise UserError(
            f"{run_dir} learned from {format_days(len(days))}, too few for {folds} --folds of the cross-validation; "
            "give fewer --folds, or --folds 0 for the validation days alone."
        )
    learned = (*checkpoint.periods.train, *checkpoint.periods.val)
    margin = min(checkpoint.lead_days + checkpoint.input_days, len(days) // (4 * folds))
    return make_folds(days, learned, folds, margin)


class HeldOut:
    """The days that a run learned from, cut into folds, and a model for each fold. Raises UserError as cross_validate.

    Without folds, they are the validation days, or with `is_test` the test days, and the model is the run's own.
    """

    def __init__(
        self,
        run_dir: Path,
        fits: Path,
        checkpoint: Checkpoint,
        folds: int,
        faults: InputFaults,
        is_test: bool = False,
    ):
        self.run_dir, self.fits, self.checkpoint, self.folds, self.faults = run_dir, fits, checkpoint, folds, faults
        path, periods = Path(checkpoint.settings["data"]), checkpoint.periods
        if not path.exists() or data_hash(path) != checkpoint.data_hash:
            raise UserError(
                f"{path}, on which {run_dir} was trained, is gone or has changed; its uncertainty needs it."
            )
        self.data = open_data_set(path, start_of(checkpoint), variables=checkpoint.variables)
        self.future = KnownWeather.of(checkpoint.settings)
        self.model = restore_model(checkpoint, run_dir)
        self.windows = restore_windows(checkpoint, self.model, self.data, self.future)
        days = periods.test if is_test else periods.val
        if folds:
            days = (*periods.train, *periods.val)
        self.samples = faults.apply(self.windows, self.model).in_periods(days, "test" if is_test else "training")
        self.parts = [Fold(periods.train, days)]
        if folds:
            whole = self.windows.in_periods(days, "training")  # the folds are the same whatever the faults are
            self.parts = _choose_folds(run_dir, checkpoint, whole.valid_time, folds)

    def write(self, folder: Path, quiet: bool) -> dict[str, float | int]:
        """Write the forecasts of all folds; returns their RMSE, m3 m-3, and how many days pre-training had seen."""
        checkpoint, days = self.checkpoint, self.samples.valid_time
        name = f"{checkpoint.model} lead {checkpoint.lead_days}, held out"
        if self.faults.folder:
            name += f" with {self.faults.folder.replace('_', ' ')}"
        seen = in_spans(days, checkpoint.pretraining_periods)
        climate = training_statistics(checkpoint, self.model, self.data)
        attributes = {**run_attributes(checkpoint), "folds": self.folds}
        first, squares, count = 0, 0.0, 0
        with (
            open_predictions(folder, self.samples, attributes, climate) as out,
            Progress(len(self.parts), name, "fold", quiet) as progress,
        ):
            variable = out.file.createVariable("seen_in_pretraining", "i1", ("time",))
            variable.setncatts({"flag_values": np.int8([0, 1]), "flag_meanings": "unseen seen", "long_name": SEEN})
            variable[:] = seen
            for fold in self.parts:
                fold_squares, fold_count, days_written = self._forecast_fold(fold, out, first)
                first, squares, count = first + days_written, squares + fold_squares, count + fold_count
                progress.step(name)
        self._remove_other_fits()
        rmse = float(np.sqrt(squares / max(count, 1)))
        return {"rmse": rmse, "days": len(days), "days_seen_in_pretraining": int(seen.sum())}

    def _forecast_fold(self, fold: Fold, out: Predictions, first: int) -> tuple[float, int, int]:
        """Write the forecasts of a fold from the row `first` on; returns the sum and number of squares, and of days."""
        model, windows, squares, count = self.model, self.windows, 0.0, 0
        if self.folds:
            model, windows = refit_run(
                self.run_dir, self.checkpoint, self.data, fold.training, self.future, keep=self.fits
            )
        samples = self.faults.apply(windows, model).in_periods(fold.validation, "held-out")
        rows = slice(first, first + len(samples.target_index))
        for part, block in zip(samples, samples.blocks, strict=True):
            own = (slice(None), *block.inside)
            predicted = forecast(model, part, BATCH, torch.device("cpu"))[own]
            fitting = Fitting(training=part, test=part, days=fold.training)
            simple = {"persistence": persistence(fitting)[own], "climatology": climatology(fitting)[own]}
            fields = out.put(block, part, predicted, simple, rows)
            error = fields["predicted"].astype(np.float64) - fields["observed"]
            squares, count = squares + np.nansum(error**2), count + int(np.isfinite(error).sum())
        return squares, count, rows.stop - rows.start

    def _remove_other_fits(self) -> None:
        """Those of a run that was here before, or of other days."""
        ours = {name_fit(self.checkpoint, fold.training) for fold in self.parts}
        for kept in self.fits.glob("fit_*.pt"):
            if kept.name not in ours:
                kept.unlink()


def name_fit(checkpoint: Checkpoint, days: tuple[Span, ...]) -> str:
    """The file with the weights of a run's model that learned from these target days alone."""
    return f"fit_{hashlib.sha256(f'{checkpoint.weights_hash} {days}'.encode()).hexdigest()[:16]}.pt"


def refit_run(
    run_dir: Path,
    checkpoint: Checkpoint,
    data: DataSet,
    days: tuple[Span, ...],
    future: KnownWeather | None,
    keep: Path | None = None,
) -> tuple[ForecastModel, Windows]:
    """Train a model with the settings of a run on these target days; returns it, and all its windows.

    Its weights are kept in the folder `keep`, where a later call finds them.
    """
    module, source = script_of(checkpoint, run_dir), None
    settings = checkpoint.restored_settings(module.Settings)
    if checkpoint.source_hash:
        source = load_checkpoint(settings.init_from)
        if source.weights_hash != checkpoint.source_hash:
            raise UserError(f"{settings.init_from} has other weights than {run_dir} started from; train again.")
    model = new_model(model_maker(checkpoint, run_dir), settings, data, source)
    learned = Split(days, (), checkpoint.periods.test)
    windows, gappy = make_windows_pair(settings, model, data, learned, source, future)
    kept = keep / name_fit(checkpoint, days) if keep else None
    if kept and kept.exists():
        model.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True))
        return model, windows
    from utils.training.trainers import TRAINERS, start_fabric  # a second to load, for those who train again

    training = gappy.in_periods(days, "training", model.input_window(checkpoint.input_days))
    fabric = start_fabric(settings.precision)
    trainer = TRAINERS[model.trainer](model, settings, fabric, source.best if source else None)
    model = trainer.refit(training, checkpoint).cpu()
    if kept:
        with whole_file(kept) as partial:
            torch.save(model.state_dict(), partial)
    return model, windows
