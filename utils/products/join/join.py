"""Join soil moisture of one product with precipitation and soil temperature of others: the steps."""

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from utils.common.cli import UserError, fold
from utils.common.text import format_days
from utils.dataset.lags import LAGS
from utils.dataset.prepared import PACKING_NOISE, check_values, grid_of, open_prepared, write_prepared
from utils.products import RAIN_NOISE
from utils.products.join.cells import choose_cells
from utils.products.join.days import DAY, Days
from utils.products.join.periods import describe_periods
from utils.products.join.read import read_field
from utils.products.join.scan import Asked, Field, find_fields
from utils.products.join.words import read_predictors, read_target, read_units
from utils.products.regrid import Cells
from utils.products.report import report

LONGEST_NAME = 60  # characters of a product's name
NOISE = {"precipitation": -RAIN_NOISE, "soil_moisture": PACKING_NOISE}  # such values below zero become 0


@dataclass
class JoinSettings:
    """What data/join.py is told."""

    target: tuple[str, ...]  # soil moisture: FILE or FILE:NAME; a file, a folder or a quoted pattern
    predictors: tuple[str, ...]  # precipitation and soil temperature: FILE, or FILE:NAME=precipitation,NAME=…
    out: Path  # the prepared data set: .zarr makes a Zarr store, anything else NetCDF-4
    product: str = ""  # name of the target product, for titles and reports; empty: what its file says
    grid: Path | None = None  # a prepared data set whose cells to take; None: the cells of the target
    south: float = -90.0  # degrees: cells with their centres from here
    north: float = 90.0  # to here
    west: float = -180.0  # and from here
    east: float = 360.0  # to here
    units: tuple[str, ...] = ()  # NAME=UNIT, where a file gives no unit or a wrong one
    site: tuple[float, float] | None = None  # latitude and longitude of a CSV that does not hold them
    layer_depth: float | None = None  # m: depth of the layer, where its water is given in kg m-2 or mm
    rain_stamp: Literal["same-day", "next-day"] = "same-day"  # next-day: rain stamped 00 UTC is of the day before


def join(settings: JoinSettings) -> None:
    """Write the data set, print what it holds, and propose periods. Raises UserError for bad input."""
    if settings.layer_depth is not None and not 0 < settings.layer_depth <= 10:
        raise UserError(f"--layer-depth is {settings.layer_depth}, expected the depth of the layer in m, 0 to 10.")
    if settings.south > settings.north or settings.west > settings.east:
        raise UserError("--south and --west must not be larger than --north and --east.")
    asked = Asked(read_units(settings.units), settings.site, settings.layer_depth, settings.rain_stamp == "next-day")
    fields = find_fields(read_target(settings.target), read_predictors(settings.predictors), asked)
    box = settings.south, settings.north, settings.west, settings.east
    cells = choose_cells(fields, _wanted_grid(settings.grid), box)
    finished = {name: read_field(field, cells, NOISE.get(name, 0.0)) for name, field in fields.items()}
    ds, reasons = _common_period(fields, finished, cells)
    for name, field in fields.items():
        check_values(ds[name], field.pieces[0].path)
        if product := fold(field.attributes.get("product", "")):
            ds[name].attrs["product"] = product  # it says how late the variable comes (utils/dataset/lags.py)
    write_prepared(ds.assign_attrs(_attributes(fields, settings, reasons)), settings.out)
    report(settings.out, reasons, [*_notes(ds, fields, settings.rain_stamp), *_proposal(ds, settings.out)])


def _wanted_grid(path: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The cell centres of --grid; None without it."""
    if path is None:
        return None
    with open_prepared(path) as ds:
        grid = grid_of(ds)
    return grid.lat, grid.lon


def _common_period(
    fields: dict[str, Field], finished: dict[str, Days], cells: Cells
) -> tuple[xr.Dataset, dict[str, str]]:
    """The values of the days that all fields span, and the days between that have none, with the reason.

    Where the product of a field is known to come later than that of soil moisture, the days by which it does may lack
    its values at the end: a forecast starts from the newest soil moisture.
    """
    spans = {}
    for name, days in finished.items():
        if (span := days.span) is None:
            raise UserError(f"{fields[name].pieces[0].path}: {fields[name].name} has no valid value on these cells.")
        spans[name] = span
    first, last = max(start for start, _ in spans.values()), min(end for _, end in spans.values())
    if first > last:
        told = ", ".join(f"{name} {start} to {end}" for name, (start, end) in spans.items())
        raise UserError(f"The files have no day in common: {told}.")
    last = min(end + _days_later(fields[name], fields["soil_moisture"]) for name, (_, end) in spans.items())
    all_days = np.arange(first, last + DAY)
    maps = {name: days.on(all_days, cells.shape) for name, days in finished.items()}
    kept = np.any([np.isfinite(values).any(axis=(1, 2)) for values in maps.values()], axis=0)
    ds = xr.Dataset(
        {name: (("time", "lat", "lon"), values[kept]) for name, values in maps.items()},
        {"time": all_days[kept].astype("datetime64[ns]"), "lat": cells.lat, "lon": cells.lon},
    )
    return ds, {str(day): "no value of any variable" for day in all_days[~kept]}


def _days_later(field: Field, target: Field) -> np.timedelta64:
    """By how many days the values of a field come later than those of the target, where both products are known."""
    lags = [LAGS.get(fold(one.attributes.get("product", ""))) for one in (field, target)]
    return DAY * (0 if None in lags else max(0, lags[0] - lags[1]))


def _attributes(fields: dict[str, Field], settings: JoinSettings, reasons: dict[str, str]) -> dict[str, str]:
    """Global attributes: what the product is called, where everything comes from, and how it was made."""
    target = fields["soil_moisture"]
    product = settings.product or name_product(target)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    attributes = {
        "title": f"{product}, daily, with precipitation and soil temperature",
        "product": product,
        "source": "; ".join(f"{name}: {field.source}" for name, field in fields.items()),
        "rain_stamp": _describe_stamp(fields["precipitation"], settings.rain_stamp),
        "left_out": json.dumps(reasons),
        "history": f"{now} {shlex.join(['python', 'data/join.py', *sys.argv[1:]])}",
    }
    if any(field.synthetic for field in fields.values()):
        attributes["synthetic"] = "true"
    return attributes


def name_product(target: Field) -> str:
    """What the files call their product: the attribute `product` or the title, else the name of the first file."""
    for name in ("product", "title"):
        if value := fold(target.attributes.get(name, "")):
            return value[:LONGEST_NAME]
    return target.pieces[0].path.stem[:LONGEST_NAME]


def _describe_stamp(rain: Field, stamp: str) -> str:
    day = "the day before" if stamp == "next-day" else "its own day"
    return f"{rain.name} stamped 00 UTC is of {day} (--rain-stamp {stamp})"


def _notes(ds: xr.Dataset, fields: dict[str, Field], stamp: str) -> list[str]:
    """Lines for the report: sources, the day of the rain, and on how many days a variable is missing everywhere."""
    lines = [f"  {name}: {field.source}" for name, field in fields.items()]
    lines.append(f"  {_describe_stamp(fields['precipitation'], stamp)}")
    for name in fields:
        missing = int((~np.isfinite(ds[name].values)).all(axis=(1, 2)).sum())
        if missing:
            lines.append(f"  {name} is missing everywhere on {format_days(missing)} of {ds.sizes['time']}")
    return lines


def _proposal(ds: xr.Dataset, out: Path) -> list[str]:
    return describe_periods(ds["time"].values.astype("datetime64[D]"), shlex.quote(str(out)))
