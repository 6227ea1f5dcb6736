"""What a forecast leaves behind: predictions.nc, and the scores of metrics.json with intervals and tests."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float

from utils.common.files import whole_file, write_json
from utils.common.grid import Tile, cell_area
from utils.data_processing import Samples, Windows
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES
from utils.scores import metrics, significance
from utils.scores.metrics import FORECASTS, Sums
from utils.training.checkpoint import Checkpoint

Maps = Float[np.ndarray, "time lat lon"]
LONG_NAMES = {
    "predicted": "forecast soil moisture",
    "observed": "soil moisture of the data set",
    "persistence": "last observation",
    "climatology": "training climatology",
}
AGE = "days from the last observation of soil moisture to the last input day"
_DAYS = 64  # of a chunk in a file that is written block by block
SCORING = 2  # of metrics.json; another number where the same forecasts get other scores or baselines


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """What predictions.nc says about its run."""
    names = ("model", "experiment", "lead_days", "input_days", "seed", "commit")
    known = {"future": checkpoint.future} if checkpoint.future else {}  # of the weather ahead
    return {name: getattr(checkpoint, name) for name in names} | known


@contextlib.contextmanager
def written(folder: Path, samples: Samples, attributes: dict[str, Any]) -> Iterator["Predictions"]:
    """predictions.nc of these samples, to be filled block by block; it appears when the block ends well."""
    frame = _frame(samples, attributes)
    encoding = {name: {"_FillValue": None} for name in ("lat", "lon", "region", "cell_area")}
    encoding |= {name: DAYS_ENCODING for name in ("time", "init_time")}
    blocks = samples.view.blocks
    chunks = (
        None if len(blocks) == 1 else (min(_DAYS, len(frame["time"])), *(own.stop - own.start for own in blocks[0].own))
    )
    with whole_file(folder / "predictions.nc") as partial:
        frame.to_netcdf(partial, engine="netcdf4", encoding=encoding)
        with netCDF4.Dataset(partial, "a") as file:
            for name, long_name in LONG_NAMES.items():
                options = {"zlib": True, "complevel": 1, "fill_value": np.float32(np.nan), "chunksizes": chunks}
                variable = file.createVariable(name, "f4", ("time", "lat", "lon"), **options)
                attributes = {**VARIABLES["soil_moisture"].attributes, "units": "m3 m-3", "long_name": long_name}
                variable.setncatts(attributes | {"coordinates": "init_time"})
            options |= {"fill_value": np.int16(-1)}
            variable = file.createVariable("input_age", "i2", ("time", "lat", "lon"), **options)
            variable.setncatts({"units": "day", "long_name": AGE, "coordinates": "init_time"})
            yield Predictions(file, frame)


class Predictions:
    """A predictions.nc that is being written, and the sums that its scores are made of."""

    def __init__(self, file: netCDF4.Dataset, frame: xr.Dataset):
        self.file, self.frame = file, frame
        self.region = frame["region"].values
        self.parts: dict[str, list[tuple[Sums, tuple[slice, slice]]]] = {}  # by forecast

    def add(self, block: Tile, windows: Windows, predicted: Maps, simple: dict[str, Maps]) -> None:
        """The forecasts of a block's own cells, [time, lat, lon] in m3 m-3: the model's and the baselines'.

        `simple` without the forecasts of a baseline leaves that one's scores out.
        """
        fields = self.put(block, windows, predicted, simple)
        for name, values in {"predicted": predicted, **simple}.items():
            found = Sums.of(fields | {"predicted": values}, self.region[block.own])
            self.parts.setdefault(name, []).append((found, block.own))

    def put(
        self, block: Tile, windows: Windows, predicted: Maps, simple: dict[str, Maps], days: slice = slice(None)
    ) -> dict[str, Maps]:
        """The same without scores, for some of the days; returns what was written."""
        own = (slice(None), *block.inside)
        fields = {"predicted": predicted, "observed": windows.observed[own]}
        fields |= {name: simple[name] for name in FORECASTS[1:]}
        for name, values in {**fields, "input_age": windows.input_age[own]}.items():
            self.file[name][days, *block.own] = values
        return fields

    def sums(self) -> dict[str, Sums]:
        """Of the whole map, by forecast: `predicted` and each baseline."""
        return {name: Sums.joined(parts, self.region.shape) for name, parts in self.parts.items()}


def _frame(samples: Samples, attributes: dict[str, Any]) -> xr.Dataset:
    """predictions.nc without its forecasts."""
    data, statistics = samples.view.data, samples.view.statistics
    days = data.days[samples.target_index]
    regions = {
        "flag_values": np.arange(len(metrics.REGIONS), dtype=np.int8),
        "flag_meanings": " ".join(metrics.REGIONS),
    }
    regions |= {"long_name": "climate region by the mean precipitation of the training period"}
    rain = statistics.cell_mean[list(VARIABLES).index("precipitation")]
    begun = {"standard_name": "forecast_reference_time", "long_name": "last input day"}
    return xr.Dataset(
        {
            "region": (("lat", "lon"), metrics.region_of(rain), regions),
            "cell_area": (("lat", "lon"), cell_area(data.grid.lat, data.grid.lon), {"units": "km2"}),
        },
        coords={
            "time": ("time", days.astype("datetime64[ns]"), AXES["time"]),
            "lat": ("lat", data.grid.lat, AXES["lat"]),
            "lon": ("lon", data.grid.lon, AXES["lon"]),
            "init_time": ("time", (days - samples.lead_days).astype("datetime64[ns]"), begun),
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": ("SYNTHETIC sample: " if data.synthetic else "") + "soil-moisture forecasts and observations",
            **attributes,
            "data": str(data.path),
            "synthetic": str(data.synthetic).lower(),
        },
    )


def write_scores(run_dir: Path, frame: xr.Dataset, sums: Sums, found: dict[str, Any]) -> None:
    """scores.nc (maps over time and days over cells) and metrics.json, the last one last."""
    cells, days = metrics.maps(sums, frame), metrics.series(sums, frame)
    parts = cells.assign({f"{name}_of_day": values for name, values in days.items()})
    with whole_file(run_dir / "scores.nc") as partial:
        parts.to_netcdf(partial, engine="netcdf4", encoding={"time": DAYS_ENCODING})
    write_json(run_dir / "metrics.json", found | {"scoring": SCORING})


def score_with_intervals(name: str, sums: dict[str, Sums], frame: xr.Dataset) -> dict[str, Any]:
    """All scores of one forecast, with intervals, and tests against each baseline; `sums` as `Predictions.sums`."""
    one = sums[name].required()
    found = metrics.scores_of(one, frame["time"].values, frame["cell_area"].values)
    comparisons = {rival: difference(one, other) for rival, other in sums.items() if rival not in ("predicted", name)}
    return {**found, **intervals(one, sums["persistence"]), **fitted_line(one), "comparisons": comparisons}


def intervals(sums: Sums, persistence: Sums) -> dict[str, float | None]:
    """95 % intervals of RMSE (m3 m-3), R² and skill over persistence."""
    found = {}
    for name in ("rmse", "r2", "skill"):
        score = significance.estimate([_daily(sums, persistence)], getattr(significance, name))
        found |= {f"{name}_low": score.low, f"{name}_high": score.high}
    return without_nan(found)


def difference(one: Sums, other: Sums) -> dict[str, float | str | None]:
    """Whether forecast `one` is better or worse than `other`: a Diebold–Mariano test on the MSE.

    `mse_difference` in m6 m-6, negative where `one` is better, with its 95 % interval.
    """
    found = significance.estimate([_daily(one, other)], significance.mse_difference)
    numbers = {"mse_difference": found.value, "low": found.low, "high": found.high, "p": found.p}
    return {**without_nan(numbers), "verdict": significance.verdict(found)}


def _daily(one: Sums, other: Sums) -> Float[np.ndarray, "time moment"]:
    """Daily sums of a forecast and the one it is held against (see significance)."""
    return np.column_stack([*(one.of_days(name) for name in ("n", "o", "oo", "error_2")), other.of_days("error_2")])


def fitted_line(sums: Sums) -> dict[str, float | None]:
    """Slope and intercept (m3 m-3) of the least-squares line of predicted on observed, as in the scatter plots."""
    n, p, o, oo, po = (float(sums.of_days(name).sum()) for name in ("n", "p", "o", "oo", "po"))
    spread = oo / n - (o / n) ** 2
    if n < 2 or spread < metrics.VARIATION**2:
        return {"slope": None, "intercept": None}
    slope = (po / n - p / n * o / n) / spread
    return {"slope": slope, "intercept": p / n - slope * o / n}


def without_nan(numbers: dict[str, float]) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in numbers.items()}
