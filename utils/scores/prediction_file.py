"""What a forecast leaves behind: predictions.nc, and the scores of metrics.json with intervals and tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float

from utils.common.cli import UserError
from utils.common.files import whole_file, write_json
from utils.common.georeference import georeference, georeference_file
from utils.common.grid import Tile, cell_area
from utils.common.text import format_days
from utils.data_processing import Windows
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES
from utils.dataset.statistics import Statistics
from utils.scores import metrics, significance
from utils.scores.baselines import BASELINES
from utils.scores.scoring import hash_scoring
from utils.scores.sums import FORECASTS, REGIONS, Sums, region_of
from utils.scores.variance import number_days, spans_a_year
from utils.training.checkpoint import Checkpoint

Maps = Float[np.ndarray, "time lat lon"]
AGE = "days from the last observation of soil moisture to the last input day"
_DAYS = 64  # of a chunk in a file that is written block by block


def run_attributes(checkpoint: Checkpoint) -> dict[str, Any]:
    """What predictions.nc says about its run."""
    names = ("model", "experiment", "lead_days", "input_days", "seed", "commit")
    known = {"future": checkpoint.future} if checkpoint.future else {}  # of the weather ahead
    if checkpoint.future and checkpoint.weather_kind != "none":  # older checkpoints do not say it
        known["weather_kind"] = checkpoint.weather_kind
    return {name: getattr(checkpoint, name) for name in names} | known


@contextlib.contextmanager
def open_predictions(
    folder: Path, samples: Windows, attributes: dict[str, Any], climate: Statistics, max_input_age: int | None = None
) -> Iterator["Predictions"]:
    """predictions.nc of these samples, to be filled block by block; it appears when the block of code ends well.

    `climate` are the statistics of the training days alone, whose rain gives the regions. With `max_input_age`, a
    cell-day counts as observed only where the cell's last observation was at most so many days old on the last input
    day.
    """
    if max_input_age is not None:
        attributes = {**attributes, "max_input_age": max_input_age}
    frame = _frame(samples, attributes, climate)
    encoding = {name: {"_FillValue": None} for name in ("lat", "lon", "region", "cell_area")}
    encoding |= {name: DAYS_ENCODING for name in ("time", "init_time")}
    with whole_file(folder / "predictions.nc") as partial:
        frame.to_netcdf(partial, engine="netcdf4", encoding=encoding)
        with netCDF4.Dataset(partial, "a") as file:
            _create_variables(file, _chunks(samples, days=len(frame["time"])))
            georeference_file(file)
            yield Predictions(file, frame, max_input_age)


def _chunks(samples: Windows, days: int) -> tuple[int, int, int] | None:
    """Chunk sizes that fit how the file is written; None for a map that is written at once: the library's own."""
    blocks = samples.blocks
    if len(blocks) == 1:
        return None
    rows, columns = blocks[0].own
    return min(_DAYS, days), rows.stop - rows.start, columns.stop - columns.start


def _create_variables(file: netCDF4.Dataset, chunks: tuple[int, int, int] | None) -> None:
    """Forecasts, observations and the age of the last observation, empty."""
    long_names = {"predicted": "forecast soil moisture", "observed": "soil moisture of the data set"}
    long_names |= {name: BASELINES[name].long_name for name in FORECASTS[1:]}
    dims, options = ("time", "lat", "lon"), {"zlib": True, "complevel": 1, "chunksizes": chunks}
    for name, long_name in long_names.items():
        variable = file.createVariable(name, "f4", dims, fill_value=np.float32(np.nan), **options)
        attributes = {**VARIABLES["soil_moisture"].attributes, "units": "m3 m-3", "long_name": long_name}
        variable.setncatts(attributes | {"coordinates": "init_time"})
    variable = file.createVariable("input_age", "i2", dims, fill_value=np.int16(-1), **options)
    variable.setncatts({"units": "day", "long_name": AGE, "coordinates": "init_time"})


class Predictions:
    """A predictions.nc that is being written, and the sums that its scores are made of."""

    def __init__(self, file: netCDF4.Dataset, frame: xr.Dataset, max_input_age: int | None):
        self.file, self.frame, self.max_input_age = file, frame, max_input_age
        self.region = frame["region"].values
        self.parts: dict[str, list[tuple[Sums, tuple[slice, slice]]]] = {}  # by forecast

    def add(self, block: Tile, windows: Windows, predicted: Maps, baselines: dict[str, Maps]) -> None:
        """Write and score the forecasts of a block's own cells, [time, lat, lon] in m3 m-3.

        `baselines` has those that FORECASTS names, which are written; a baseline that is not in it is not scored.
        """
        fields = self.put(block, windows, predicted, baselines)
        for name, values in {"predicted": predicted, **baselines}.items():
            sums = Sums.of(fields | {"predicted": values}, self.region[block.own])
            self.parts.setdefault(name, []).append((sums, block.own))

    def put(
        self, block: Tile, windows: Windows, predicted: Maps, baselines: dict[str, Maps], days: slice = slice(None)
    ) -> dict[str, Maps]:
        """The same without scores, for some of the days; returns what was written."""
        own = (slice(None), *block.inside)
        observed, age = windows.observed[own], windows.input_age[own]
        if self.max_input_age is not None:
            observed = np.where((age >= 0) & (age <= self.max_input_age), observed, np.float32(np.nan))
        fields = {"predicted": predicted, "observed": observed}
        fields |= {name: baselines[name] for name in FORECASTS[1:]}
        for name, values in {**fields, "input_age": age}.items():
            self.file[name][days, *block.own] = values
        return fields

    def sums(self) -> dict[str, Sums]:
        """Sums of the whole map, by forecast: `predicted` and each baseline. Raises UserError when there is no pair."""
        sums = {name: Sums.joined(parts, self.region.shape) for name, parts in self.parts.items()}
        if self.max_input_age is not None and not sums["predicted"].of_days("n").any():
            raise UserError(
                f"No cell-day of the test period has a last observation of at most {format_days(self.max_input_age)} "
                "before the end of its input; give a larger --max-input-age."
            )
        return sums


def _frame(samples: Windows, attributes: dict[str, Any], climate: Statistics) -> xr.Dataset:
    """predictions.nc without its forecasts."""
    data, days = samples.data, samples.valid_time
    regions = {
        "flag_values": np.arange(len(REGIONS), dtype=np.int8),
        "flag_meanings": " ".join(REGIONS),
        "long_name": "climate region by the mean precipitation of the training period",
    }
    rain = climate.cell_mean[list(VARIABLES).index("precipitation")]
    area = {"units": "km2", "standard_name": "cell_area", "long_name": "area of the cell"}
    init = {"standard_name": "forecast_reference_time", "long_name": "last input day"}
    return xr.Dataset(
        {
            "region": (("lat", "lon"), region_of(rain), regions),
            "cell_area": (("lat", "lon"), cell_area(data.grid.lat, data.grid.lon), area),
        },
        coords={
            "time": ("time", days.astype("datetime64[ns]"), AXES["time"]),
            "lat": ("lat", data.grid.lat, AXES["lat"]),
            "lon": ("lon", data.grid.lon, AXES["lon"]),
            "init_time": ("time", (days - samples.lead_days).astype("datetime64[ns]"), init),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": ": ".join(filter(None, [data.label, "soil-moisture forecasts and observations"])),
            **attributes,
            "data": str(data.path),
            "synthetic": str(data.synthetic).lower(),
            "label": data.label,
        },
    )


def write_scores(run_dir: Path, frame: xr.Dataset, sums: Sums, content: dict[str, Any]) -> None:
    """scores.nc (maps over time and series over cells), then metrics.json with this content and `scoring`."""
    cells, days = metrics.maps(sums, frame), metrics.series(sums, frame)
    parts = georeference(cells.assign({f"{name}_of_day": values for name, values in days.items()}))
    with whole_file(run_dir / "scores.nc") as partial:
        parts.to_netcdf(partial, engine="netcdf4", encoding={"time": DAYS_ENCODING})
    write_json(run_dir / "metrics.json", content | {"scoring": hash_scoring()})


def score_with_intervals(name: str, sums: dict[str, Sums], frame: xr.Dataset) -> dict[str, Any]:
    """All scores of one forecast, with intervals, and tests against each baseline; `sums` as `Predictions.sums`."""
    own, time = sums[name].required(), frame["time"].values
    rivals = {rival: other for rival, other in sums.items() if rival not in ("predicted", name)}
    return {
        **metrics.scores_of(own, time, frame["cell_area"].values),
        **intervals(own, sums["persistence"], time),
        **fit_line(own),
        "spans_a_year": spans_a_year(number_days(time[own.of_days("n") > 0])),
        "comparisons": {rival: compare_errors(own, other, time) for rival, other in rivals.items()},
    }


def intervals(sums: Sums, persistence: Sums, time: np.ndarray) -> dict[str, float | None]:
    """95 % intervals of RMSE (m3 m-3), R² and skill over persistence."""
    ends: dict[str, float] = {}
    daily = [_daily_sums(sums, persistence, time)]
    for name, score in significance.WITH_INTERVALS.items():
        estimate = significance.estimate(daily, score)
        ends |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return without_nan(ends)


def compare_errors(one: Sums, other: Sums, time: np.ndarray) -> dict[str, float | str | None]:
    """Whether forecast `one` is better or worse than `other`: a test on the ratio of their mean squared errors.

    `mse_difference` in m6 m-6; `rmse_change` relative, with its 95 % interval `low` to `high`. Both are negative where
    `one` is better.
    """
    daily = [_daily_sums(one, other, time)]
    change = significance.estimate(daily, significance.rmse_change)
    numbers = {
        "mse_difference": significance.estimate(daily, significance.mse_difference).value,
        "rmse_change": change.value,
        "low": change.low,
        "high": change.high,
        "p": change.p,
    }
    return {**without_nan(numbers), "verdict": significance.verdict(change)}


def _daily_sums(one: Sums, other: Sums, time: np.ndarray) -> Float[np.ndarray, "time moment"]:
    """Daily sums of a forecast and of the one that it is compared with, as `significance.estimate` takes them."""
    return significance.pack_daily_sums(
        time,
        n=one.of_days("n"),
        observed=one.of_days("o"),
        observed_2=one.of_days("oo"),
        error_2=one.of_days("error_2"),
        reference_2=other.of_days("error_2"),
    )


def fit_line(sums: Sums) -> dict[str, float | None]:
    """Slope and intercept (m3 m-3) of the least-squares line of predicted on observed, as in the scatter plots."""
    n, p, o, oo, po = (float(sums.of_days(name).sum()) for name in ("n", "p", "o", "oo", "po"))
    variance = oo / n - (o / n) ** 2
    if n < 2 or variance < metrics.VARIATION**2:
        return {"slope": None, "intercept": None}
    slope = (po / n - p / n * o / n) / variance
    return {"slope": slope, "intercept": p / n - slope * o / n}


def without_nan(numbers: dict[str, float]) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in numbers.items()}
