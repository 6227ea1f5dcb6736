"""Which forecasts the figures of the questions show, in which order, and how they look."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from utils.figures import style
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample
from utils.scores.baselines import BASELINES
from utils.settings import run_folder
from utils.study.plan import MATCHED
from utils.study.results import SCRATCH, TRANSFERRED, Results

WAYS = {SCRATCH: "from scratch", TRANSFERRED: "with transfer"}
SIMPLE = ("ridge_memory", "persistence")  # the baselines that every figure shows


@dataclass(frozen=True)
class Forecast:
    """One forecast of a figure: its name in the legend, whose it is, and how its line looks."""

    name: str
    experiment: str
    model: str
    colour: str
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        return {"color": self.colour, "linewidth": 1.2 if self.model not in BASELINES else 0.8}

    def read(self, results: Results, lead: int) -> xr.Dataset:
        """Its predictions.nc at one lead, of the first seed."""
        return results.predictions(self.experiment, self.model, lead, results.seeds[0])


def forecasts_shown(results: Results) -> list[Forecast]:
    """The best network by validation and that of the closer questions, with transfer; then the baselines SIMPLE."""
    networks = list(dict.fromkeys((results.best, results.detail)))
    shown = [
        Forecast(f"{model} with transfer", TRANSFERRED, model, style.line_of(model, networks)["color"], marker)
        for model, marker in zip(networks, "os", strict=False)
        if results.has(TRANSFERRED, model, results.lead)
    ]
    simple = zip(SIMPLE, "^D", strict=True)
    return shown + [Forecast(name, SCRATCH, name, BASELINES[name].colour, marker) for name, marker in simple]


def interval_of(results: Results, forecast: Forecast) -> tuple[xr.DataArray, xr.DataArray] | None:
    """The ends of a network's 90 % interval at the first lead, [time, lat, lon] in m3 m-3; None without held-out days.

    The quantiles are those that forecast.py gives to this run alone.
    """
    run = results.out / "runs" / run_folder(forecast.experiment, forecast.model, results.lead, results.seeds[0])
    held_out = run / "held_out" / "predictions.nc"
    if not held_out.exists():
        return None
    calibration = Calibration.of(OutOfSample.read([held_out], (1.0,)))
    tested = OutOfSample.read([run / "predictions.nc"], (1.0,))
    ends = calibration.quantiles(tested.forecast, tested.age, tested.days, [0, len(LEVELS) - 1])
    axes = forecast.read(results, results.lead)
    coords = {"time": tested.days.astype("datetime64[ns]"), "lat": axes["lat"], "lon": axes["lon"]}
    low, high = (xr.DataArray(values, dims=("time", "lat", "lon"), coords=coords) for values in ends)
    return low, high


def forecast_rows(table: pd.DataFrame) -> tuple[dict[str, str], list[bool]]:
    """Rows of a forest plot of all forecasts, from top to bottom: their labels, and which are shaded.

    `table`: experiment, model. A row's key is both names. Baselines come first; every other model is shaded. Scratch
    with equal steps has those of pre-training and fine-tuning together.
    """
    there = set(zip(table["experiment"], table["model"], strict=True))
    networks = (name.removesuffix(MATCHED) for name in table["model"] if name not in BASELINES)
    rows = {f"{SCRATCH} {name}": name for name in BASELINES if (SCRATCH, name) in there}
    shaded = [False] * len(rows)
    for turn, model in enumerate(style.ordered(networks, style.MODELS)):
        cases = {(SCRATCH, model): WAYS[SCRATCH], (SCRATCH, model + MATCHED): "scratch, equal steps"}
        cases[TRANSFERRED, model] = WAYS[TRANSFERRED]
        own = {f"{way} {name}": f"{model}, {label}" for (way, name), label in cases.items() if (way, name) in there}
        rows |= own
        shaded += [turn % 2 == 0] * len(own)
    return rows, shaded
