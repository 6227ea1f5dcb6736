"""What a forecast leaves behind: predictions.nc, and the scores of metrics.json with intervals and tests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from utils import metrics, significance
from utils.data_processing import Windows
from utils.files import whole_file, write_json
from utils.prepared_data import AXES, DAYS_ENCODING, VARIABLES
from utils.runs import Checkpoint

SCORING = 1  # of metrics.json; another number where the same forecasts get other scores or baselines


@dataclass
class References:
    """The baselines' forecasts of a set of samples [sample, lat, lon], m3 m-3, and what is known of them."""

    forecasts: dict[str, np.ndarray]
    notes: dict[str, str]  # where one is less than its name says
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)  # filled by the first who asks


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """What predictions.nc says about its run."""
    names = ("model", "experiment", "lead_days", "input_days", "seed", "commit")
    return {name: getattr(checkpoint, name) for name in names}


def dataset(
    windows: Windows,
    predicted: np.ndarray,
    references: References,
    attributes: dict[str, Any],
    data: Path,
    synthetic: bool,
) -> xr.Dataset:
    """predictions.nc: forecast and observation, m3 m-3, by valid date, and what their scores are made with."""
    moisture = {"units": "m3 m-3", **VARIABLES["soil_moisture"].attributes}
    dims, grid, simple = ("time", "lat", "lon"), windows.record.grid, references.forecasts
    rain = windows.record.statistics.cell_mean[list(VARIABLES).index("precipitation")]
    regions = {
        "flag_values": np.arange(len(metrics.REGIONS), dtype=np.int8),
        "flag_meanings": " ".join(metrics.REGIONS),
    }
    regions |= {"long_name": "climate region by the mean precipitation of the training period"}
    return xr.Dataset(
        {
            "predicted": (dims, predicted, {**moisture, "long_name": "forecast soil moisture"}),
            "observed": (dims, windows.observed, {**moisture, "long_name": "soil moisture of the data set"}),
            "persistence": (dims, simple["persistence"], {**moisture, "long_name": "last observation"}),
            "climatology": (
                dims,
                simple["climatology"],
                {**moisture, "long_name": "training climatology"},
            ),
            "region": (dims[1:], metrics.region_of(rain), regions),
            "cell_area": (dims[1:], metrics.cell_area(grid.lat, grid.lon), {"units": "km2"}),
        },
        coords={
            "time": ("time", windows.valid_time.astype("datetime64[ns]"), AXES["time"]),
            "lat": ("lat", grid.lat, AXES["lat"]),
            "lon": ("lon", grid.lon, AXES["lon"]),
            "init_time": (
                "time",
                windows.init_time.astype("datetime64[ns]"),
                {"standard_name": "forecast_reference_time", "long_name": "last input day"},
            ),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": ("SYNTHETIC sample: " if synthetic else "") + "soil-moisture forecasts and observations",
            **attributes,
            "data": str(data),
            "synthetic": str(synthetic).lower(),
        },
    )


def write_predictions(run_dir: Path, predictions: xr.Dataset, found: dict[str, Any]) -> None:
    """predictions.nc, scores.nc (maps over time and days over cells) and metrics.json, the last one last."""
    encoding = {name: {"zlib": True, "complevel": 1} for name in predictions.data_vars}
    encoding |= {name: {"_FillValue": None} for name in ("lat", "lon", "region", "cell_area")}
    encoding |= {name: DAYS_ENCODING for name in ("time", "init_time")}
    with whole_file(run_dir / "predictions.nc") as partial:
        predictions.to_netcdf(partial, engine="netcdf4", encoding=encoding)
    cells, days = metrics.by_cell(predictions), metrics.by_day(predictions)
    parts = cells.assign({f"{name}_of_day": values for name, values in days.items()})
    with whole_file(run_dir / "scores.nc") as partial:
        parts.to_netcdf(partial, engine="netcdf4", encoding={"time": DAYS_ENCODING})
    write_json(run_dir / "metrics.json", found | {"scoring": SCORING})


def judged(predictions: xr.Dataset, references: References) -> dict[str, Any]:
    """metrics.json: the model's scores first, with intervals and tests against each baseline, then the baselines'."""
    if not references.scores:
        for name, forecast in references.forecasts.items():
            found = _judge(predictions.assign(predicted=predictions["observed"].copy(data=forecast)), references)
            found["comparisons"].pop(name)
            references.scores[name] = found | ({"note": references.notes[name]} if references.notes[name] else {})
    names = ("experiment", "model", "lead_days", "input_days", "seed")
    names = {name: predictions.attrs[name] for name in names if name in predictions.attrs}
    return {**_judge(predictions, references), **names, "baselines": references.scores}


def _judge(predictions: xr.Dataset, references: References) -> dict[str, Any]:
    """All scores of one forecast."""
    observed, predicted = predictions["observed"].values, predictions["predicted"].values
    found = metrics.scores(predictions) | intervals(observed, predicted, references.forecasts["persistence"])
    comparisons = {name: difference(observed, predicted, values) for name, values in references.forecasts.items()}
    return {**found, **fitted_line(observed, predicted), "comparisons": comparisons}


def intervals(observed: np.ndarray, predicted: np.ndarray, persistence: np.ndarray) -> dict[str, float | None]:
    """95 % intervals of RMSE (m3 m-3), R² and skill over persistence; all [time, lat, lon]."""
    sums, found = [significance.daily_sums(observed, predicted, persistence)], {}
    for name in ("rmse", "r2", "skill"):
        score = significance.estimate(sums, getattr(significance, name))
        found |= {f"{name}_low": score.low, f"{name}_high": score.high}
    return without_nan(found)


def difference(observed: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, float | str | None]:
    """Whether the forecasts `one` are better or worse than `other`: a Diebold–Mariano test on the MSE.

    `mse_difference` in m6 m-6, negative where `one` is better, with its 95 % interval; [time, lat, lon] as above.
    """
    found = significance.compare(observed, [one], [other])
    numbers = {"mse_difference": found.value, "low": found.low, "high": found.high, "p": found.p}
    return {**without_nan(numbers), "verdict": significance.verdict(found)}


def fitted_line(observed: np.ndarray, predicted: np.ndarray) -> dict[str, float | None]:
    """Slope and intercept (m3 m-3) of the least-squares line of predicted on observed, as in the scatter plots."""
    valid = np.isfinite(observed)
    x, y = observed[valid].astype(float), predicted[valid].astype(float)
    if len(x) < 2 or np.ptp(x) == 0:
        return {"slope": None, "intercept": None}
    slope, intercept = np.polyfit(x, y, 1)
    return {"slope": float(slope), "intercept": float(intercept)}


def without_nan(numbers: dict[str, float]) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in numbers.items()}
