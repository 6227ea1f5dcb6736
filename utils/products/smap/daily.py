"""Days from SMAP L4 granules: the mean of a day's three-hourly fields."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products import AGREEMENT, RAIN_NOISE
from utils.products.regrid import Cells, regrid_days
from utils.products.smap.granules import FIELDS, Granule, read

PER_DAY = 8  # granules


def smap_month(
    by_day: dict[np.datetime64, list[Granule]],
    rows: slice,
    columns: slice,
    cells: Cells,
    target: Cells,
    min_valid: float | None,
) -> xr.Dataset:
    """The days of one month: means over each day's maps; a cell missing in one of them is missing that day.

    `rows` and `columns` are the window in the grid of the granules, `cells` those of the window. `min_valid` None keeps
    the grid's own cells.
    """
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
    """The fields of one time, of pieces and copies, packing noise set to 0.

    Raises UserError for contradicting copies and for impossible values.
    """
    fields: dict[str, np.ndarray] = {}
    for granule in copies:
        for name, field in read(granule, rows, columns).items():
            fields[name] = _join(fields[name], field, name, copies) if name in fields else field
    masked = fields["soil_temperature"] == 0  # Earth Engine may write 0 for what it masks
    for name, field in fields.items():
        field[masked] = np.nan
        low, high = VARIABLES[name].limits
        noise = {"soil_moisture": PACKING_NOISE, "precipitation": -RAIN_NOISE}.get(name, low)
        bad = (field < noise) | (field > high)
        if bad.any():
            raise UserError(
                f"{copies[0].file.name}: {name} is {field[bad][0]:g} {VARIABLES[name].units} in {int(bad.sum())} "
                f"cells, outside its physical limits {low:g} to {high:g}, or the file's fill value."
            )
        field[field < low] = low
    return fields


def _join(first: np.ndarray, second: np.ndarray, name: str, copies: Sequence[Granule]) -> np.ndarray:
    """Two pieces of a map as one. Raises UserError where both have a cell and differ by more than packing."""
    if (np.abs(first - second) > AGREEMENT[name]).any():
        names = list(dict.fromkeys(granule.file.name for granule in copies))
        raise UserError(
            f"{' and '.join(names[:2])} contradict each other: {name} differs at {copies[0].time} UTC; leave one of "
            "them out of --raw."
        )
    return np.where(np.isnan(first), second, first)
