"""The values of a field, read month by month, converted, made into days and put on the cells of the data set."""

import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products import RAIN_NOISE
from utils.products.join.days import Days, RunningSums
from utils.products.join.files import open_file, read_values
from utils.products.join.scan import Field, Piece
from utils.products.regrid import Cells, Regridder, source_cells


def read_field(field: Field, cells: Cells, noise: float) -> Days:
    """The days of a field. Values from `noise` to 0 are of packing and become 0, step by step.

    Raises UserError for rain that is a running sum, and where a file cannot be read to its end.
    """
    source, order = source_cells(field.lat, field.lon, around=float(cells.lon.mean()))
    rows, columns = source.overlapping(cells)
    regrid = None if _are_same(source.window(rows, columns), cells) else Regridder(source.window(rows, columns), cells)
    steps = field.steps_a_day
    days, running = Days(steps, field.conversion.per_step, regrid), RunningSums()
    following = [piece.days[0] for piece in field.pieces[1:]] + [None]
    for piece, end in zip(tqdm(field.pieces, field.variable, disable=None, leave=False), following, strict=True):
        values = field.conversion(_read(field, piece, np.arange(len(source.lat))[rows], order[columns]))
        values = np.where((values < 0) & (values >= noise), 0.0, values)
        if field.conversion.per_step and steps > 2:
            running.add(piece.days, values, noise=RAIN_NOISE / steps)
        days.add(piece.days, values)
        days.finish(before=end)
    if running.found:
        raise UserError(
            f"{field.pieces[0].path}: {field.name} never falls within a day: these are sums since midnight, as of "
            "ERA5-Land, and no totals of a step; make days of them with data/prepare_era5_land.py."
        )
    return days


def _read(field: Field, piece: Piece, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    with open_file(piece.path, field.site) as ds:
        try:
            return read_values(ds, field.name, piece.steps, rows, columns)
        except Exception as error:  # netCDF4, h5py and zarr raise their own kinds
            raise UserError(f"{piece.path} cannot be read to its end: {fold(error)[:150]}.") from error


def _are_same(one: Cells, other: Cells) -> bool:
    """Whether two grids have the same centres: then nothing is regridded."""
    return one.shape == other.shape and bool(
        np.abs(one.lat - other.lat).max() <= 1e-4 and np.abs(one.lon - other.lon).max() <= 1e-4
    )
