"""How the parts of many files fit together: the grid that they share, and the window of it that is needed."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from utils.common.cli import UserError
from utils.common.grid import bounds
from utils.products.axes import LONE_CELL, SAME_CELL, merge_axes
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.part import Part
from utils.products.regrid import Cells


def assemble(parts: Sequence[Part], target: Cells, native: bool) -> Mosaic:
    """The parts on the window of their common grid that `target` needs.

    The window holds every cell that overlaps the target; for `native`, the cells whose centres lie between the target's
    outermost centres. Raises UserError for mixed grids and for a region outside the data.
    """
    parts = sorted(parts, key=lambda p: (p.file.name, p.variable))
    west_end = (target.lon_edges.min() + target.lon_edges.max()) / 2 - 180
    lat, row_positions = _common_axis(parts, "latitude", [part.lat for part in parts], descending=True)
    lon, column_positions = _common_axis(parts, "longitude", [part.lon for part in parts], west_end=west_end)
    grid = Cells(lat, lon, np.clip(bounds(lat, lon, LONE_CELL), -90, 90), bounds(lon, lat, LONE_CELL))
    held_rows = _held(parts, row_positions, "latitudes")
    held_columns = _held(parts, column_positions, "longitudes")
    rows, columns = _window(grid.window(held_rows, held_columns), target, native)
    rows = slice(held_rows.start + rows.start, held_rows.start + rows.stop)
    columns = slice(held_columns.start + columns.start, held_columns.start + columns.stop)
    return Mosaic(
        parts=tuple(parts),
        rows=_locate(row_positions, len(lat), rows),
        columns=_locate(column_positions, len(lon), columns),
        cells=grid.window(rows, columns),
    )


def _wrap(lon: np.ndarray, west_end: float) -> np.ndarray:
    """Longitudes in the convention of the wanted region, whatever the file's: `west_end` to `west_end` + 360."""
    # rounded before and after: float32 coordinates must not fall on the other side of the cut
    return np.round(np.round((lon - west_end) % 360, 4) % 360 + west_end, 4)


def _common_axis(
    parts: Sequence[Part],
    name: str,
    axes: Sequence[np.ndarray],
    descending: bool = False,
    west_end: float | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The sorted union of the parts' coordinates, and where each part's own values are in it.

    `west_end`: for longitudes, which are brought into one convention (see `_wrap`). Parts of equal coordinates share
    one array of positions. Raises UserError for mixed grids.
    """
    kinds: dict[bytes, int] = {}
    kind_of = [kinds.setdefault(axis.tobytes(), len(kinds)) for axis in axes]
    first_of = [kind_of.index(kind) for kind in range(len(kinds))]
    parts, axes = [parts[i] for i in first_of], [axes[i] for i in first_of]
    if west_end is not None:
        axes = [_wrap(axis, west_end) for axis in axes]
    merged = merge_axes(axes)
    if merged is None:
        _refuse_grids(parts, axes, name)
    union, positions = merged
    if descending:
        union = union[::-1]
        positions = [len(union) - 1 - position for position in positions]
    return union, [positions[kind] for kind in kind_of]


def _refuse_grids(parts: Sequence[Part], axes: Sequence[np.ndarray], name: str) -> NoReturn:
    """Raises the UserError that names two files whose coordinates do not make one grid, or the one with a gap."""
    if len(axes) == 1:
        raise UserError(f"{parts[0].file.name}: its values of {name} have a gap, expected an even grid.")
    steps = [float(np.median(np.abs(np.diff(axis)))) if len(axis) > 1 else np.nan for axis in axes]
    other_step = [i for i, step in enumerate(steps) if abs(step - steps[0]) > SAME_CELL * steps[0]]
    other_length = [i for i, axis in enumerate(axes) if len(axis) != len(axes[0])]
    odd = [*other_step, *other_length, 1][0]
    raise UserError(
        f"mixed grids: {parts[0].file.name} has {len(axes[0])} values of {name} every {steps[0]:g}°, from "
        f"{axes[0].min():g} to {axes[0].max():g}, and {parts[odd].file.name} has {len(axes[odd])} every "
        f"{steps[odd]:g}°, from {axes[odd].min():g} to {axes[odd].max():g}; prepare them apart."
    )


def _held(parts: Sequence[Part], positions: Sequence[np.ndarray], name: str) -> slice:
    """The stretch of an axis that all three variables reach; a land mask may be larger or smaller."""
    ends: dict[str, list[int]] = {}
    for part, position in zip(parts, positions, strict=True):
        if part.variable != "land":
            ends.setdefault(part.variable, []).extend((int(position.min()), int(position.max())))
    first, last = max(map(min, ends.values())), min(map(max, ends.values()))
    if first > last:
        raise UserError(f"the files of the three variables have no {name} in common.")
    return slice(first, last + 1)


def _window(cells: Cells, target: Cells, native: bool) -> tuple[slice, slice]:
    """Rows and columns of `cells` that the target needs; UserError where a target centre lies outside the data."""
    for name, unit, edges, centres, wanted in (
        ("latitude", "N", cells.lat_edges, cells.lat, target.lat),
        ("longitude", "E", cells.lon_edges, cells.lon, target.lon),
    ):
        if not (native and _holds_the_point(centres, wanted)):
            _refuse_outside(name, unit, edges=edges, centres=centres, wanted=wanted)
    if not native:
        return cells.overlapping(target)
    rows, columns = _between(cells.lat, target.lat), _between(cells.lon, target.lon)
    if not len(rows) or not len(columns):
        raise UserError(
            f"the region {target.lat.min():g} to {target.lat.max():g} °N, {target.lon.min():g} to "
            f"{target.lon.max():g} °E holds no cell centre of the data's own grid."
        )
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _holds_the_point(centres: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether the data is one row or column, which lies in the region: a point has no region of its own."""
    return len(centres) == 1 and bool(wanted.min() <= centres[0] <= wanted.max())


def _refuse_outside(name: str, unit: str, edges: np.ndarray, centres: np.ndarray, wanted: np.ndarray) -> None:
    tolerance = SAME_CELL * np.abs(np.diff(edges)).min()
    if wanted.min() < edges.min() - tolerance or wanted.max() > edges.max() + tolerance:
        raise UserError(
            f"the region lies outside the data: cells centred on {name} {wanted.min():g} to {wanted.max():g} are "
            f"wanted, the files hold {centres.min():g} to {centres.max():g} °{unit}; choose --south --north --west "
            "--east within them or download a larger box."
        )


def _between(centres: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of the centres between the outermost wanted ones."""
    tolerance = SAME_CELL * min(np.abs(np.diff(centres)), default=LONE_CELL)
    return np.flatnonzero((centres >= wanted.min() - tolerance) & (centres <= wanted.max() + tolerance))


def _locate(positions: Sequence[np.ndarray], size: int, window: slice) -> tuple[np.ndarray, ...]:
    """For every part, which of its rows (or columns) each one of the window is; −1 where the part has none.

    `positions`: of each part's rows in the common axis of this size. Files share their coordinates, so most positions
    are one and the same object, and so are the results.
    """
    located: dict[int, np.ndarray] = {}
    for position in positions:
        if id(position) not in located:
            own = np.full(size, -1)
            own[position[::-1]] = np.arange(len(position))[::-1]  # of a meridian that comes twice, the first
            located[id(position)] = own[window]
    return tuple(located[id(position)] for position in positions)
