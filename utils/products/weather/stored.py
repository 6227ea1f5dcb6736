"""The file of forecasts as it grows: what an earlier call has written stays, and new forecasts join it in order."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
from jaxtyping import Float
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.common.grid import Grid
from utils.dataset.prepared import grid_of
from utils.products.forecast_file import INITS_IN_CHUNK, create_forecast_file
from utils.products.raw_files import output_attributes

MARK = "made_from"  # the variable that says what each forecast was made from
Maps = dict[str, Float[np.ndarray, "lead lat lon"]]  # by variable


@dataclass(frozen=True)
class Kind:
    """What all forecasts of a file have in common."""

    model: str
    lead_days: int
    lag: int

    def attributes(self) -> dict[str, str]:
        """The same as attributes of the file."""
        return {"model": self.model, "lead_days": str(self.lead_days), "lag": str(self.lag)}


def read_marks(path: Path, kind: Kind, grid: Grid) -> dict[np.datetime64, str]:
    """What each forecast of an earlier file was made from, by its last day known; empty where there is no file.

    Raises UserError where the file was not written here, or has forecasts of another kind or on other cells.
    """
    if not path.exists():
        return {}
    attributes = output_attributes(path)
    if "model" not in attributes or "prepared_from" not in attributes:
        raise UserError(f"{path} is no earlier output of this script; it was left as it is, give another --out.")
    for name, now in kind.attributes().items():
        if attributes[name] != now:
            raise UserError(
                f"{path} holds forecasts with {name} {attributes[name]}, now {now}; give another --out, or remove it."
            )
    with xr.open_dataset(path, engine="netcdf4", decode_timedelta=False) as ds:
        if not grid_of(ds).matches(grid):
            raise UserError(f"{path} has {grid_of(ds)}, --like has {grid}; give another --out, or remove it.")
        days = ds["init_time"].values.astype("datetime64[D]")
        return dict(zip(days, map(str, ds[MARK].values), strict=True))


def write_forecasts(
    path: Path,
    kind: Kind,
    grid: Grid,
    marks: Mapping[np.datetime64, str],
    make: Callable[[np.datetime64], Maps | None],
    attributes: Mapping[str, str],
) -> None:
    """Write the forecasts of these last days known, a few at a time, with what each was made from.

    `make` gives a forecast, or None where the earlier file has it.
    """
    inits = np.array(sorted(marks), "datetime64[D]")
    attributes = {**attributes, **kind.attributes(), "prepared_from": _hash(marks)}
    earlier = xr.open_dataset(path, engine="netcdf4", decode_timedelta=False) if path.exists() else xr.Dataset()
    with earlier, whole_file(path) as partial, netCDF4.Dataset(partial, "w") as file:
        create_forecast_file(
            file,
            inits=inits,
            leads=kind.lead_days,
            grid=grid,
            variables=("precipitation", "soil_moisture"),
            attributes=attributes,
        )
        file["soil_moisture"].long_name = "the numerical model's own soil moisture of its upper layer, daily mean"
        mark = file.createVariable(MARK, str, ("init_time",))
        mark[:] = np.array([marks[day] for day in inits], object)
        mark.long_name = "fingerprints of the files of the model runs"
        for first in tqdm(range(0, len(inits), INITS_IN_CHUNK), desc=f"writing {path.name}", leave=False, disable=None):
            days = inits[first : first + INITS_IN_CHUNK]
            forecasts = [make(day) or _copy(earlier, day) for day in days]
            for name in ("precipitation", "soil_moisture"):
                missing = np.full((kind.lead_days, *grid.shape), np.nan, np.float32)
                file[name][first : first + len(days)] = np.stack([maps.get(name, missing) for maps in forecasts])


def _copy(earlier: xr.Dataset, day: np.datetime64) -> Maps:
    row = earlier.sel(init_time=day.astype("datetime64[ns]"))
    return {name: row[name].values for name in ("precipitation", "soil_moisture")}


def _hash(marks: Mapping[np.datetime64, str]) -> str:
    return hashlib.sha256(repr(sorted(marks.items())).encode()).hexdigest()[:16]
