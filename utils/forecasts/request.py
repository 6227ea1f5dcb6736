"""What a forecast is made of: trained runs, grouped by lead time, with their weights, calibration and climatology.

Runs of the same lead, be they seeds or models, are one forecast. It is their mean, weighted by 1 / MSE on the held-out
days that all of them have (Bates and Granger 1969, doi:10.1057/jors.1969.103).
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from utils.common.cli import UserError
from utils.common.grid import Grid
from utils.common.text import format_days
from utils.dataset.lags import KnownInputs
from utils.dataset.open import data_hash, open_data_set
from utils.dataset.prepared import SYNTHETIC
from utils.dataset.weather_forecasts import KnownWeather
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample, combination_weights
from utils.forecasts.climatology import Climatology
from utils.forecasts.cross_validation import InputFaults, cross_validate, days_in_piece
from utils.forecasts.numerical_model import has_soil_moisture, open_rival
from utils.training.checkpoint import Checkpoint, load_finished
from utils.training.inference import restore_model
from utils.training.moved import find_moved_inputs
from utils.training.run_directory import git_commit
from utils.training.setup import check_grid, check_weather

MAX_MAPS = 2**24  # values of a variable that are forecast together, at most
MAX_INITS = 100  # initial days that are forecast together, at most
MOST_BEHIND = 7  # days: by which a variable of the calibration's forecasts ends before the initial day, at most
CROSS_VALIDATED = "on days held out, by climate region and season"
ON_VALIDATION_DAYS = "on validation days, which chose the runs' best epochs: a little too narrow"
SEEN_IN_PRETRAINING = (
    "on days held out from the fine-tuning; the pre-training had learned from {:.0f} % of these calendar days: perhaps "
    "too narrow"
)
ON_PERFECT_WEATHER = "of runs that know the weather ahead: with perfect forecasts of it, too narrow"


@dataclass(frozen=True)
class LeadEnsemble:
    """The runs of one lead time, and what their out-of-sample forecasts say."""

    days: int
    run_dirs: tuple[Path, ...]
    weights: tuple[float, ...]  # sum to 1
    calibration: Calibration
    climatology: Climatology
    seen_share: float  # of the held-out days, those from which the pre-training of a run had learned


@dataclass(frozen=True, eq=False)
class ForecastRequest:
    """What is to be forecast. It can be pickled, so that another process can do a part of it.

    Two requests are equal where their runs, data, weather forecasts, code and last day are the same.
    """

    leads: tuple[LeadEnsemble, ...]
    data: Path
    future_from: Path | None  # weather forecasts
    grid: Grid
    end: np.datetime64 | None  # no later day of the data is read; None: all days may be read
    cross_validated: bool  # whether the intervals come from cross-validation; otherwise from the validation days
    warnings: tuple[str, ...]  # why the intervals may be too narrow
    attributes: dict[str, Any]  # global attributes of the file
    known: KnownInputs = field(default_factory=KnownInputs)  # the lags of the inputs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForecastRequest) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @property
    def identity(self) -> tuple[str, np.datetime64 | None]:
        return self.attributes["request"], self.end

    @property
    def run_dirs(self) -> list[Path]:
        return [run_dir for lead in self.leads for run_dir in lead.run_dirs]

    @property
    def days_after_data(self) -> int:
        """How many days the last initial day lies after the last day of the data set."""
        if self.end is None:
            return 0
        return max(0, int((self.end - open_data_set(self.data).days[-1]).astype(int)))

    @property
    def calibrated_behind(self) -> dict[str, int]:
        """Days by which variables ended before the initial day in the forecasts that the intervals come from."""
        return calibrated_behind(self.known, self.end)

    @property
    def calibration_note(self) -> str:
        """How the intervals were calibrated, for the file and for the terminal."""
        return "; ".join(self.warnings) or CROSS_VALIDATED

    @property
    def max_inits(self) -> int:
        """How many initial days fit in memory together."""
        values = len(self.leads) * len(LEVELS) * np.prod(self.grid.shape)
        return int(np.clip(MAX_MAPS // values, 1, MAX_INITS))


def calibrated_behind(known: KnownInputs, init: np.datetime64 | None) -> dict[str, int]:
    """The days by which variables end before the initial day, at most MOST_BEHIND; `init` None: of hindcasts."""
    return {name: min(days, MOST_BEHIND) for name, days in known.days_behind(init).items()}


def make_request(
    run_dirs: Sequence[Path],
    data: Path,
    end: np.datetime64 | None,
    future_from: Path | None,
    folds: int,
    known: KnownInputs | None = None,
    history: int | None = None,
) -> ForecastRequest:
    """Check all that is asked for, and make each run's out-of-sample forecasts where they are missing.

    `known` says which inputs the forecasts can know; None: all up to the initial day. `history` is the smallest number
    of days in a row up to an initial day; None: enough.

    Raises UserError for runs that are not finished, do not fit each other, or do not fit the data.
    """
    checkpoints = {run_dir: load_finished(run_dir) for run_dir in dict.fromkeys(path.resolve() for path in run_dirs)}
    grid = open_data_set(data).grid
    _check_runs(checkpoints, grid, data, future_from)
    known = known or KnownInputs()
    behind, leads = calibrated_behind(known, end), []
    is_short = history is not None and any(history < count_memory(run, at) for at, run in checkpoints.items())
    lead_days = sorted({checkpoint.lead_days for checkpoint in checkpoints.values()})
    if future_from:
        _check_weather_file(future_from, known.lag)
        for days in lead_days if end is None else ():
            open_rival(future_from, days, grid)  # refused before the work is done
    for days in lead_days:
        same_lead = [run_dir for run_dir, checkpoint in checkpoints.items() if checkpoint.lead_days == days]
        leads.append(_make_ensemble(days, same_lead, folds, data, behind, is_short))
    weather, weather_is_perfect = _weather_attributes(checkpoints, future_from, hindcasts=end is None)
    warnings = []
    if not folds:
        warnings.append(ON_VALIDATION_DAYS)
    if seen_share := max(lead.seen_share for lead in leads):
        warnings.append(SEEN_IN_PRETRAINING.format(100 * seen_share))
    if weather_is_perfect:
        warnings.append(ON_PERFECT_WEATHER)
    hashes = {str(run_dir): checkpoint.weights_hash for run_dir, checkpoint in checkpoints.items()}
    attributes = _file_attributes(leads, checkpoints, hashes, data) | weather
    if warnings:
        attributes["calibration"] = "; ".join(warnings)
    if set(known.lags.values()) != {0}:
        attributes["lags"] = ", ".join(f"{name} {format_days(days)}" for name, days in known.lags.items())
    attributes["request"] = _fingerprint(hashes, folds, attributes)
    return ForecastRequest(
        leads=tuple(leads),
        data=data,
        future_from=future_from,
        grid=grid,
        end=end,
        cross_validated=folds > 0,
        warnings=tuple(warnings),
        attributes=attributes,
        known=known,
    )


def weather_of(checkpoint: Checkpoint, run_dir: Path, future_from: Path | None) -> KnownWeather | None:
    """The weather ahead that a run needs; None where it needs none. A UserError where nobody can know it."""
    settings = dict(checkpoint.settings)
    if future_from:
        settings["future_from"] = str(future_from)
    weather = KnownWeather.of(settings)
    if weather and weather.source == "data set":
        raise UserError(
            f"{run_dir} {checkpoint.future}; nobody has that of days to come: give forecasts with --future-from "
            "(docs/weather_forecasts.md)."
        )
    if not future_from:
        check_weather(weather, checkpoint, run_dir)
    return weather


def count_memory(checkpoint: Checkpoint, run_dir: Path) -> int:
    """How many days up to the initial day shape a run's forecast."""
    return restore_model(checkpoint, run_dir).memory(checkpoint.input_days)


def _check_runs(checkpoints: Mapping[Path, Checkpoint], grid: Grid, data: Path, future_from: Path | None) -> None:
    first_dir, first = next(iter(checkpoints.items()))
    for run_dir, checkpoint in checkpoints.items():
        find_moved_inputs(checkpoint, run_dir, offered=data)
        if checkpoint.data_hash != first.data_hash:
            raise UserError(f"{run_dir} and {first_dir} were trained on different data; forecast with one kind.")
        check_grid(checkpoint, grid, data, run_dir)
        weather_of(checkpoint, run_dir, future_from)


def _check_weather_file(path: Path, lag: int) -> None:
    """Raises UserError where the file is missing, or made of model runs that start after the day of issue.

    `lag` is that of soil moisture, days.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; give one of weather forecasts (docs/weather_forecasts.md).")
    of_file = 0
    with contextlib.suppress(OSError), netCDF4.Dataset(path) as file:
        of_file = int(getattr(file, "lag", 0))
    if of_file > max(lag, 1):
        raise UserError(
            f"{path} was prepared with --lag {of_file}, but soil moisture is there after {format_days(lag)}: its model "
            f"runs start after the day of issue; prepare it with --lag {max(lag, 1)}, or give the lag of your data as "
            f"--lag soil_moisture={of_file}."
        )


def _make_ensemble(
    days: int, run_dirs: Sequence[Path], folds: int, data: Path, behind: Mapping[str, int], is_short: bool
) -> LeadEnsemble:
    """`behind` says by how many days variables end before an initial day, `is_short` whether the record is short."""

    def held_out(faults: InputFaults) -> list[Path]:
        return [cross_validate(run_dir, folds, offered=data, faults=faults) for run_dir in run_dirs]

    cross_validated = held_out(InputFaults())  # trains, so that the other faults find the fits
    files = held_out(InputFaults(behind)) if behind else cross_validated
    weights = combination_weights(files)
    out_of_sample = OutOfSample.read(files, weights)
    outages = OutOfSample.read(held_out(InputFaults(behind, outages=True)), weights)
    calibration = Calibration.of(out_of_sample, outages)
    if is_short:
        pieces = OutOfSample.read(held_out(InputFaults(behind, pieces=True)), weights)
        calibration = calibration.for_short_records(pieces, days_in_piece(pieces.days - days))
    return LeadEnsemble(
        days=days,
        run_dirs=tuple(run_dirs),
        weights=weights,
        calibration=calibration,
        climatology=Climatology.of(out_of_sample),
        seen_share=out_of_sample.seen_share,
    )


def _weather_attributes(
    checkpoints: Mapping[Path, Checkpoint], future_from: Path | None, hindcasts: bool
) -> tuple[dict[str, str], bool]:
    """What the file says of the weather forecasts, and whether a run was calibrated with perfect ones.

    Raises UserError where forecasts are given, no run uses any, and no soil moisture of theirs is to be scored.
    """
    if not future_from:
        return {}, False
    using = [run_dir for run_dir, checkpoint in checkpoints.items() if checkpoint.future]
    if not using and hindcasts and has_soil_moisture(future_from):
        return {}, False  # the file is a rival alone, which scores the same forecasts
    if not using:
        raise UserError(f"--future-from is {future_from}, but none of the runs knows the weather ahead.")
    weather = weather_of(checkpoints[using[0]], using[0], future_from)
    attributes = {"future_weather": f"forecasts of {future_from.name}", "future_sha256": weather.hash()}
    return attributes, not all(checkpoints[run_dir].future_hash for run_dir in using)


def _fingerprint(hashes: Mapping[str, str], folds: int, attributes: Mapping[str, Any]) -> str:
    """One hash of the runs, the data, the weather forecasts and the code: parts of the same request can be joined."""
    inputs = [attributes.get(name) for name in ("data_sha256", "future_sha256", "commit", "lags")]
    return hashlib.sha256(json.dumps([sorted(hashes.items()), folds, *inputs]).encode()).hexdigest()


def _file_attributes(
    leads: Sequence[LeadEnsemble], checkpoints: Mapping[Path, Checkpoint], hashes: Mapping[str, str], data: Path
) -> dict[str, Any]:
    synthetic = any(checkpoint.synthetic for checkpoint in checkpoints.values())
    label = SYNTHETIC if synthetic else open_data_set(data).label
    sources = []
    for lead in leads:
        for run_dir, weight in zip(lead.run_dirs, lead.weights, strict=True):
            run = checkpoints[run_dir]
            name = f"{run.experiment}/{run.model}/lead{run.lead_days}/seed{run.seed}"
            sources.append(f"{name} (weight {weight:.3f}, weights {hashes[str(run_dir)][:12]}, commit {run.commit})")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": "CF-1.11",
        "title": ": ".join(filter(None, [label, "soil-moisture forecasts with their uncertainty"])),
        "source": "; ".join(sources),
        "data": data.name,
        "data_sha256": data_hash(data),
        "commit": git_commit(),
        "history": f"{now} forecast.py",
        "synthetic": str(label == SYNTHETIC).lower(),
        "label": label,
    }
