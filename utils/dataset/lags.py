"""When the values of a day reach us, by product; and up to which day each variable of a data set is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError, fold
from utils.dataset.prepared import THREE, VariableNames, no_value, open_prepared, unreadable

LAGS = {"SMAP L4": 3, "SMAP L3": 2, "ERA5-Land": 5, "ERA5": 5}  # days, by the attribute `product`; see data/README.md
SEARCH_DAYS = 32  # days read together in search of the last value


@dataclass(frozen=True)
class KnownInputs:
    """What is known of the inputs when a forecast is issued.

    lags      days from a day to the day on which its values are there, by variable
    newest    of a single forecast: the last day with a value that is known, by variable; else empty
    """

    lags: Mapping[str, int] = field(default_factory=lambda: {"soil_moisture": 0})
    newest: Mapping[str, np.datetime64] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """Days from the initial day, which is the newest day of soil moisture, to the day of issue."""
        return self.lags["soil_moisture"]

    @property
    def behind(self) -> dict[str, int]:
        """Days by which a variable ends before the initial day, of those that do."""
        return {name: days - self.lag for name, days in self.lags.items() if days > self.lag}

    def days_behind(self, init: np.datetime64 | None) -> dict[str, int]:
        """The same of a forecast from this day; an input may be older than its lag says. None: of hindcasts."""
        if init is None:
            return self.behind
        older = {name: int((init - day).astype(int)) for name, day in self.newest.items() if name != "soil_moisture"}
        return self.behind | {name: days for name, days in older.items() if days > 0}

    def last_days(self, inits: np.ndarray) -> dict[str, np.ndarray]:
        """The newest day of each variable that a forecast from each of these days can know."""
        if self.newest:
            return {name: np.full(len(inits), day) for name, day in self.newest.items()}
        return {name: inits - self.behind.get(name, 0) for name in self.lags}


def choose_lags(data: Path, variables: VariableNames, asked: Sequence[str], as_expected: bool = True) -> dict[str, int]:
    """The lag of each daily variable: as `asked` (NAME=DAYS), else that of its product, else that of soil moisture.

    Where inputs did not come `as_expected`, the product's lag counts for soil moisture alone. Raises UserError for
    words of another form, and for names that are no variables of the runs.
    """
    given = dict(_read_lag(word) for word in asked)
    if strange := [name for name in given if name not in variables.daily]:
        raise UserError(f"--lag has {strange[0]}, which the runs do not read; they read {', '.join(variables.daily)}.")
    with open_prepared(data, variables=variables) as ds:
        products = {name: ds[name].attrs.get("product") or ds.attrs.get("product", "") for name in variables.daily}
    known = {name: LAGS[fold(product)] for name, product in products.items() if fold(product) in LAGS} | given
    target = known.get("soil_moisture", 0)
    chosen = known if as_expected else given
    return {name: chosen.get(name, target) for name in variables.daily}


def _read_lag(word: str) -> tuple[str, int]:
    name, _, days = word.partition("=")
    if not (name and days.isdecimal()):
        raise UserError(f"--lag has {word!r}, expected NAME=DAYS, such as precipitation=5.")
    return name, int(days)


def find_newest(
    data: Path, ends: Mapping[str, np.datetime64], variables: VariableNames = THREE
) -> dict[str, np.datetime64]:
    """The last day with any value of each variable, up to its own end; a variable without one is left out.

    Raises UserError where soil moisture is left out, and where the file cannot be read.
    """
    newest = {}
    with open_prepared(data, variables=variables) as ds:
        days = ds["time"].values.astype("datetime64[D]")
        for name, end in ends.items():
            count = int(np.searchsorted(days, end, side="right"))
            if (day := _last_day_with_value(data, ds[name][:count])) is not None:
                newest[name] = day
    if "soil_moisture" not in newest:
        raise no_value(data, "soil_moisture")
    return newest


def _last_day_with_value(data: Path, values: xr.DataArray) -> np.datetime64 | None:
    for end in range(len(values), 0, -SEARCH_DAYS):
        part = values.isel(time=slice(max(end - SEARCH_DAYS, 0), end))
        try:
            there = np.isfinite(part.values).any(axis=(1, 2))
        except Exception as error:  # netCDF4, h5py and zarr raise their own kinds
            raise unreadable(data, error) from error
        if there.any():
            return part["time"].values[there][-1].astype("datetime64[D]")
    return None
