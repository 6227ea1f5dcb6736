"""The file that forecast.py writes: its variables, their CF metadata and their compression."""

import contextlib
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from utils.common.georeference import GRID_MAPPING, georeference
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES
from utils.forecasts.calibration import LEVELS
from utils.forecasts.climatology import FEWEST_YEARS
from utils.forecasts.request import ForecastRequest
from utils.scores.prediction_file import AGE

PERCENTILES = ("climatology_p10", "climatology_p90")
CHANCES = ("probability_below_p10", "probability_above_p90")
DIMENSIONS = ("init_time", "lead_time", "lat", "lon")
PACKED = {"dtype": "int16", "scale_factor": np.float32(5e-5), "_FillValue": np.int16(-32768)}  # of the quantiles
SHORT_RECORD = "short_record"  # the global attribute with a sentence, where the record is shorter than a run's memory
SMALL_MAP = 2**16  # cells: a larger map is stored in chunks
CHUNK = 256  # cells: side of a chunk of a larger map

Maps = dict[str, np.ndarray | None]  # by variable; None where a forecast has none


def describe_maps(
    request: ForecastRequest, inits: np.ndarray, maps: Maps, age: np.ndarray, note: str = ""
) -> xr.Dataset:
    """The forecast maps as a data set with CF metadata; `note` is what it says of a short record, if it is short.

    `maps` are [init_time, lead_time, lat, lon], the quantiles [init_time, lead_time, quantile, lat, lon]; `age` is
    [init_time, lat, lon], in days.
    """
    attributes = _variable_attributes(request)
    variables = {
        name: ((*DIMENSIONS[:2], "quantile", *DIMENSIONS[2:]) if values.ndim == 5 else DIMENSIONS, values)
        for name, values in maps.items()
    }
    described = {name: (dims, values, attributes[name]) for name, (dims, values) in variables.items()}
    described["input_age"] = (("init_time", "lat", "lon"), age, {"units": "day", "long_name": AGE})
    leads = np.array([lead.days for lead in request.leads], np.int32)
    valid_time = (inits[:, None] + leads).astype("datetime64[ns]")
    init_about = {"standard_name": "forecast_reference_time", "long_name": "last input day"}
    valid_about = {"standard_name": "time", "long_name": "day that is forecast", "units_metadata": "leap_seconds: none"}
    coords = {
        "init_time": ("init_time", inits.astype("datetime64[ns]"), init_about),
        "lead_time": ("lead_time", leads, {"units": "days", "standard_name": "forecast_period"}),
        "valid_time": (("init_time", "lead_time"), valid_time, valid_about),
        "quantile": ("quantile", LEVELS, {"units": "1", "long_name": "probability of less soil moisture"}),
        "lat": ("lat", request.grid.lat, AXES["lat"]),
        "lon": ("lon", request.grid.lon, AXES["lon"]),
    }
    return georeference(xr.Dataset(described, coords, request.attributes | ({SHORT_RECORD: note} if note else {})))


def _variable_attributes(request: ForecastRequest) -> dict[str, dict[str, str]]:
    """Units, long name and comment of each variable."""
    days = "the days that the runs learned from" if request.cross_validated else "the validation days"
    climatology = f"climatology of {days}"
    if not all(lead.climatology.all_year for lead in request.leads):
        climatology = f"mean, for want of a full year, as climatology of {days}"
    units = {"units": "m3 m-3"}
    return {
        "soil_moisture": {
            **units,
            **VARIABLES["soil_moisture"].attributes,
            "long_name": "forecast soil moisture, daily mean",
        },
        "anomaly": {**units, "long_name": f"forecast soil moisture less the {climatology}"},
        "ensemble_spread": {**units, "long_name": "standard deviation among the runs, weighted as their mean"},
        "soil_moisture_quantile": {
            **units,
            "long_name": "quantile of the forecast soil moisture",
            "comment": f"calibrated {request.calibration_note}",
        },
        **_unusual_attributes(min(lead.climatology.years for lead in request.leads), days),
    }


def _unusual_attributes(years: int, days: str) -> dict[str, dict[str, str]]:
    """The same of what compares the forecast with unseen years; `years` of them were left out, each once."""
    unseen = "unseen years at that time of the year"
    comment = f"Climatology of {days}: {years} years, each compared with the cycle of the others."
    percentile = f"share of the days of {unseen} that are drier than the forecast"
    if years < FEWEST_YEARS:
        comment = f"Missing: {days} have fewer than {FEWEST_YEARS} years."
        percentile = f"share of {days}, at that time of the year, that are drier than the forecast"
    chance = f"{comment} From the forecast's quantiles."
    return {
        "percentile": {"units": "percent", "long_name": percentile},
        "climatology_p10": {
            "units": "m3 m-3",
            "long_name": f"10th percentile of soil moisture in {unseen}",
            "comment": comment,
        },
        "climatology_p90": {
            "units": "m3 m-3",
            "long_name": f"90th percentile of soil moisture in {unseen}",
            "comment": comment,
        },
        "probability_below_p10": {
            "units": "1",
            "long_name": "chance of unusually dry soil: probability of soil moisture below climatology_p10",
            "comment": chance,
        },
        "probability_above_p90": {
            "units": "1",
            "long_name": "chance of unusually wet soil: probability of soil moisture above climatology_p90",
            "comment": chance,
        },
    }


def encoding(ds: xr.Dataset) -> dict[str, dict[str, Any]]:
    """How each variable is stored: compressed, a chunk for each init; quantiles as whole numbers of 0.00005 m3 m-3."""
    encodings: dict[str, dict[str, Any]] = {name: {"_FillValue": None} for name in ("lat", "lon", "quantile")}
    encodings |= {name: DAYS_ENCODING for name in ("init_time", "valid_time")}
    for name, variable in ds.drop_vars(GRID_MAPPING).data_vars.items():
        if name == "soil_moisture_quantile":
            kind = PACKED
        elif name == "input_age":
            kind = {"_FillValue": np.int16(-1)}
        else:
            kind = {"_FillValue": np.float32(np.nan)}
        chunks = tuple(_chunk_length(ds, dimension) for dimension in variable.dims)
        encodings[name] = {**kind, "zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
    return encodings


def _chunk_length(ds: xr.Dataset, dimension: str) -> int:
    if dimension == "init_time":
        return 1
    small = ds.sizes["lat"] * ds.sizes["lon"] <= SMALL_MAP
    return ds.sizes[dimension] if small or dimension == "quantile" else min(ds.sizes[dimension], CHUNK)


def is_forecast(path: Path) -> bool:
    """Whether a file was written by forecast.py."""
    with contextlib.suppress(OSError), netCDF4.Dataset(path) as file:
        return "request" in file.ncattrs()
    return False
