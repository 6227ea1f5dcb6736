"""Forecast maps from a request: soil moisture of each lead time, its anomaly, its quantiles and how unusual it is.

The initial day is the last input day. Missing observations are carried forward as in training, and `input_age` says how
old the last observation of each cell is. A cell has no forecast where the runs do not know it, or where it has no
observation between the last gap in time and the initial day.
"""

import functools
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float32, Int, Int16

from utils.common.cli import UserError
from utils.common.periods import starts_of_runs
from utils.common.text import format_days
from utils.data_processing import Windows
from utils.dataset.open import open_data_set
from utils.dataset.prepared import VARIABLES
from utils.forecasts.calibration import LEVELS, history_class
from utils.forecasts.climatology import DRY, WET
from utils.forecasts.event_scores import probability_below
from utils.forecasts.forecast_file import OLD_INPUTS, SHORT_RECORD, Maps, describe_maps
from utils.forecasts.request import ForecastRequest, LeadEnsemble, weather_of
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import BATCH, forecast, restore_model, restore_windows
from utils.training.moved import find_moved_inputs
from utils.training.setup import start_of

Predicted = Float32[np.ndarray, "time lat lon"]
Age = Int16[np.ndarray, "time lat lon"]


class TrainedRun:
    """A run with its data, ready to forecast. `beyond` days without values follow the last day of the data."""

    def __init__(self, run_dir: Path, request: ForecastRequest, beyond: int):
        self.checkpoint = load_checkpoint(run_dir)
        find_moved_inputs(self.checkpoint, run_dir, offered=request.data)
        self.model = restore_model(self.checkpoint, run_dir)
        start = start_of(self.checkpoint)
        if start is not None and open_data_set(request.data).first > start:
            start = None  # newer data than its own: nothing in them is too early
        variables = self.checkpoint.variables
        beyond += request.days_after_data
        data = open_data_set(request.data, start, end=request.end, beyond=beyond, variables=variables)
        weather = weather_of(self.checkpoint, run_dir, request.future_from)
        windows = restore_windows(self.checkpoint, self.model, data, weather)
        self.windows = windows.with_late(request.known.behind)

    def samples(self, first: np.datetime64, last: np.datetime64) -> Windows:
        """The samples with their last input day from `first` to `last`, without those that lack a full window."""
        lead = self.checkpoint.lead_days
        return self.windows.in_periods(((first + lead, last + lead),), "forecast")

    @property
    def memory(self) -> int:
        """How many days up to the initial day shape a forecast."""
        return self.model.memory(self.checkpoint.input_days)

    def days_behind(self, inits: np.ndarray) -> Int[np.ndarray, "time"]:
        """How many days in a row the record has up to each of these days."""
        days = self.windows.data.days
        starts = days[starts_of_runs(days)]
        return (inits - starts[np.searchsorted(starts, inits, side="right") - 1]).astype(int) + 1

    def predict(self, inits: np.ndarray) -> tuple[Predicted, Age]:
        """Soil moisture forecast from these initial days, m3 m-3, and the age of the last observation, days."""
        samples = self.samples(inits[0], inits[-1])
        chosen = np.isin(samples.init_time, inits)
        maps = np.full((len(inits), *samples.data.grid.shape), np.nan, np.float32)
        age = np.full(maps.shape, -1, np.int16)
        for windows, block in zip(samples, samples.blocks, strict=True):
            predicted = forecast(self.model, windows, BATCH, torch.device("cpu"))
            maps[:, *block.own] = predicted[chosen][:, *block.inside]
            age[:, *block.own] = windows.input_age[chosen][:, *block.inside]
        return np.where(age >= 0, maps, np.float32(np.nan)), age


@functools.lru_cache(maxsize=1)  # a process keeps the runs from one part of a request to the next
def open_runs(request: ForecastRequest) -> dict[Path, TrainedRun]:
    """Each run of the request, with its data."""
    longest_lead = max(lead.days for lead in request.leads)
    return {run_dir: TrainedRun(run_dir, request, beyond=longest_lead) for run_dir in request.run_dirs}


def find_inits(request: ForecastRequest, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    """The days from `first` to `last` from which every run can forecast. Raises UserError where there is none."""
    common = None
    for run_dir, run in open_runs(request).items():
        try:
            inits = run.samples(first, last).init_time
        except UserError as error:
            if run.windows.weather:  # the weather ahead may be what is missing
                raise
            need = f"{format_days(run.checkpoint.input_days)} in a row up to the last input day"
            raise UserError(
                f"{run_dir} needs {need}; {request.data} has that on no day from {first} to {last}, or a gap behind it."
            ) from error
        common = inits if common is None else np.intersect1d(common, inits)
    if not len(common):
        raise UserError(f"No day from {first} to {last} has the input days of all runs in {request.data}.")
    return common


def note_short_record(request: ForecastRequest, inits: np.ndarray) -> str:
    """A sentence where fewer days in a row lie before an initial day than a run remembers; else empty."""

    def missing(run: TrainedRun) -> int:
        return run.memory - int(run.days_behind(inits).min())

    run = max(open_runs(request).values(), key=missing)
    if missing(run) <= 0:
        return ""
    behind = run.days_behind(inits)
    short = int((behind < run.memory).sum())
    which = f", and too few for {short} of {len(inits)} initial days" if len(inits) > 1 else ""
    few = history_class(behind.min(keepdims=True))
    factors = [lead.calibration.by_history for lead in request.leads]
    width = "wider" if any(factor is not None and factor[few] > 1 for factor in factors) else "no wider"
    return (
        f"{run.checkpoint.model} remembers {run.memory} days, but the record has only {behind.min()} in a row up to "
        f"{inits[behind.argmin()]}{which}; the intervals are {width}, as held-out days asked for with so few."
    )


def note_old_inputs(request: ForecastRequest, inits: np.ndarray, oldest: int) -> str:
    """A sentence where inputs are older than any of the calibration; else empty.

    `oldest` is the greatest age of a last observation of soil moisture at these initial days.
    """
    seen = min(lead.calibration.oldest for lead in request.leads)
    old = [f"soil moisture is up to {format_days(oldest)} old, not {seen}"] if oldest > seen else []
    for name, days in request.known.days_behind(inits[-1]).items():
        seen = request.calibrated_behind.get(name, 0)
        if days > seen:
            old.append(f"{name} ends {format_days(days)} before the initial day, not {seen}")
    if not old:
        return ""
    return f"Inputs are older than any that the intervals were made from ({'; '.join(old)}): they may be too narrow."


def forecast_maps(request: ForecastRequest, inits: np.ndarray) -> xr.Dataset:
    """The forecasts from these initial days, [init_time, lead_time, lat, lon], and quantiles of them."""
    predictions = {run_dir: run.predict(inits) for run_dir, run in open_runs(request).items()}
    age = _youngest([age for _, age in predictions.values()])
    history = np.min([run.days_behind(inits) for run in open_runs(request).values()], axis=0)
    by_lead = []
    for lead in request.leads:
        members = np.stack([predictions[run_dir][0] for run_dir in lead.run_dirs])
        by_lead.append(_combine(lead, members, age, valid_days=inits + lead.days, history=history))
    names = [name for name in by_lead[0] if any(maps[name] is not None for maps in by_lead)]
    missing = np.full(age.shape, np.nan, np.float32)
    stacked = {
        name: np.stack([missing if maps[name] is None else maps[name] for maps in by_lead], axis=1) for name in names
    }
    notes = {
        SHORT_RECORD: note_short_record(request, inits),
        OLD_INPUTS: note_old_inputs(request, inits, int(age.max())),
    }
    return describe_maps(request, inits, stacked, age, notes)


def _combine(
    lead: LeadEnsemble,
    members: Float32[np.ndarray, "run time lat lon"],
    age: Age,
    valid_days: np.ndarray,
    history: Int[np.ndarray, "time"] | None = None,
) -> Maps:
    """The maps of one lead: the weighted mean of its runs, and what follows from it.

    `history` are the days in a row up to each initial day; None: enough.
    """
    weights = np.float32(lead.weights)
    mean = sum(weight * member for weight, member in zip(weights, members, strict=True))
    spread = None  # of one run there is none
    if len(members) > 1:
        squares = sum(weight * (member - mean) ** 2 for weight, member in zip(lead.weights, members, strict=True))
        spread = np.sqrt(squares).astype(np.float32)
    mean = np.clip(mean, *VARIABLES["soil_moisture"].limits)
    anomaly = mean - lead.climatology.expected(valid_days)
    quantiles = np.empty((len(mean), len(LEVELS), *mean.shape[1:]), np.float32)
    for level in range(len(LEVELS)):  # one at a time: all of them are large
        quantiles[:, level] = lead.calibration.quantiles(mean, age, valid_days, [level], history)[0]
    dry, wet = (lead.climatology.quantile(level, valid_days) for level in (DRY, WET))
    by_level = np.moveaxis(quantiles, 1, 0)
    return {
        "soil_moisture": mean,
        "anomaly": anomaly,
        "percentile": lead.climatology.percentile(anomaly, valid_days),
        "ensemble_spread": spread,
        "soil_moisture_quantile": quantiles,
        "climatology_p10": dry,
        "climatology_p90": wet,
        "probability_below_p10": probability_below(dry, by_level),
        "probability_above_p90": 1 - probability_below(wet, by_level),
    }


def _youngest(ages: list[Age]) -> Age:
    """The age by the run that reads the most days: the smallest that is known; −1 where no run knows any."""
    youngest = ages[0]
    for age in ages[1:]:
        younger = (age >= 0) & ((youngest < 0) | (age < youngest))
        youngest = np.where(younger, age, youngest)
    return youngest
