"""Files of SMAP L4 of any shape, scanned in one way and placed on the grid that all of them share."""

from collections.abc import Sequence
from dataclasses import replace

from utils.common.cli import UserError
from utils.products.axes import merge_axes
from utils.products.raw_files import RawFile
from utils.products.regrid import Cells, ease_cells, latlon_cells
from utils.products.smap import granules as granule_files
from utils.products.smap.granules import SHAPE, Axes, Granule, window_cells
from utils.products.smap.series import is_series, scan_geotiff, scan_series


def scan(file: RawFile) -> list[Granule]:
    """The maps of a file; values are not read.

    Raises Unreadable for a damaged file, UserError for one that is in order but not what is expected.
    """
    if file.kind == "tiff":
        found = scan_geotiff(file)
    elif file.kind == "hdf5":
        found = scan_series(file) if is_series(file) else [granule_files.scan(file)]
    else:
        raise UserError(f"{file.name} is {file.kind}, expected HDF5, NetCDF-4 or GeoTIFF of SMAP L4.")
    return found


def place(granules: Sequence[Granule]) -> tuple[Cells, list[Granule]]:
    """The cells of the grid that all granules share, and the granules with their places in it.

    That is the 9 km grid of the product, or a grid of the files' own. Raises UserError for mixed grids.
    """
    own = [granule for granule in granules if granule.axes is not None]
    if not own:
        return window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1])), list(granules)
    others = [granule for granule in granules if granule.axes is None]
    odd = [*others, *(granule for granule in own if granule.axes.in_degrees != own[0].axes.in_degrees)]
    if odd:
        _refuse_mixed(own[0], odd[0])
    key_of = [(granule.axes.y.tobytes(), granule.axes.x.tobytes()) for granule in own]
    axes: dict[tuple, Axes] = dict(zip(key_of, (granule.axes for granule in own), strict=True))
    rows, columns = (merge_axes(lines) for lines in zip(*((a.y, a.x) for a in axes.values()), strict=True))
    if rows is None or columns is None:
        _refuse_mixed(own[0], next((g for g, key in zip(own, key_of, strict=True) if key != key_of[0]), own[0]))
    y = rows[0][::-1]  # from north to south
    first_row = {key: len(y) - 1 - int(at.max()) for key, at in zip(axes, rows[1], strict=True)}
    first_column = {key: int(at.min()) for key, at in zip(axes, columns[1], strict=True)}
    placed = [
        replace(
            granule,
            row=first_row[key],
            column=first_column[key],
            from_south=bool(granule.axes.y[0] < granule.axes.y[-1]),
            axes=None,
        )
        for granule, key in zip(own, key_of, strict=True)
    ]
    cells = latlon_cells(y, columns[0]) if own[0].axes.in_degrees else ease_cells(columns[0], y)
    return cells, placed


def _refuse_mixed(first: Granule, other: Granule) -> None:
    raise UserError(
        f"mixed grids: {first.file.name} has {_describe(first)}, and {other.file.name} has {_describe(other)}; prepare "
        "them apart."
    )


def _describe(granule: Granule) -> str:
    rows, columns = granule.shape
    kind = "the 9 km grid" if granule.axes is None else "degrees" if granule.axes.in_degrees else "metres"
    return f"{rows} × {columns} cells in {kind}"
