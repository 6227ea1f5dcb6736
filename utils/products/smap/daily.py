"""Days from SMAP L4 granules: the mean of a day's three-hourly fields."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products import AGREEMENT, RAIN_NOISE
from utils.products.regrid import Cells, regrid_days
from utils.products.smap.granules import FIELDS, Granule, read, window_cells

PER_DAY = 8  # granules


def smap_month(
    by_day: dict[np.datetime64, list[Granule]], rows: slice, columns: slice, target: Cells, min_valid: float | None
) -> xr.Dataset:
    """The days of one month: means over each day's granules; a cell missing in one of them is missing that day.

    `rows` and `columns`: the window, in the global grid. `min_valid` None keeps the grid's own cells.
    """
    cells = window_cells(rows, columns)
    values = {name: np.empty((len(by_day), *cells.shape), np.float32) for name in FIELDS}
    for k, own in enumerate(by_day.values()):
        times = sorted({granule.time for granule in own})
        total = {name: np.zeros(cells.shape, np.float64) for name in FIELDS}
        for time in times:
            copies = [granule for granule in own if granule.time == time]
            for name, field in _read_one_time(copies, rows, columns).items():
                total[name] += field
        for name in FIELDS:
            values[name][k] = total[name] / len(times)
    return regrid_days(values, np.array(list(by_day)), source=cells, target=target, min_valid=min_valid)


def _read_one_time(copies: Sequence[Granule], rows: slice, columns: slice) -> dict[str, np.ndarray]:
    """The fields of one time, packing noise set to 0. Raises UserError for contradicting copies, impossible values."""
    first, *others = copies
    fields = read(first, rows, columns)
    for other in others:
        for name, field in read(other, rows, columns).items():
            if not np.allclose(fields[name], field, rtol=0, atol=AGREEMENT[name], equal_nan=True):
                raise UserError(
                    f"{first.file.name} and {other.file.name} contradict each other: {name} differs at {first.time} "
                    "UTC; leave one of them out of --raw."
                )
    for name, field in fields.items():
        low, high = VARIABLES[name].limits
        noise = {"soil_moisture": PACKING_NOISE, "precipitation": -RAIN_NOISE}.get(name, low)
        bad = (field < noise) | (field > high)
        if bad.any():
            raise UserError(
                f"{first.file.name}: {name} is {field[bad][0]:g} {VARIABLES[name].units} in {int(bad.sum())} cells, "
                f"outside its physical limits {low:g} to {high:g}, or the file's fill value."
            )
        field[field < low] = low
    return fields
