"""All ERA5 parts together as one source: a common grid, a window of it, and every hour read from the best plane.

Where several planes hold the same hour, final data (expver 1) go before preliminary (5) and fill cell by cell what is
missing; planes of equal rank must agree to within packing (`AGREEMENT`), else the run stops and names both files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError
from utils.products.era5.files import RAW, Part
from utils.products.regrid import Cells, latlon_cells

# Two packings of one hour may differ by this much: m, m3 m-3, K.
AGREEMENT = {"precipitation": 2e-5, "soil_moisture": 1e-4, "soil_temperature": 2e-2, "land": 1e-2}
SAME_CELL = 0.02  # of the grid spacing; float32 coordinates are off by less
BLOCK = 128 * 2**20  # bytes of float32 read at a time
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, eq=False)
class Source:
    """Parts on a window of their common grid. `rows` and `columns` locate the window in each part; −1 is outside it."""

    parts: tuple[Part, ...]
    rows: tuple[np.ndarray, ...]
    columns: tuple[np.ndarray, ...]
    cells: Cells  # of the window; latitude descends, longitude ascends

    def between(self, start: np.datetime64, end: np.datetime64) -> "Source":
        """Only the planes with start <= valid time <= end, and the land mask."""
        kept = [
            (p.variable == "land") | ((p.stamps >= start) & (p.stamps <= end)) & np.ones(len(p.stamps), bool)
            for p in self.parts
        ]
        parts = [
            replace(p, stamps=p.stamps[k], index=p.index[k], rank=p.rank[k])
            for p, k in zip(self.parts, kept, strict=True)
        ]
        return replace(self, parts=tuple(parts)).only([i for i, planes in enumerate(kept) if planes.any()])

    def only(self, chosen: Sequence[int]) -> "Source":
        """Only the parts at these positions."""
        parts, rows, columns = (tuple(field[i] for i in chosen) for field in (self.parts, self.rows, self.columns))
        return replace(self, parts=parts, rows=rows, columns=columns)

    def of(self, variable: str) -> list[int]:
        return [i for i, part in enumerate(self.parts) if part.variable == variable]

    def stamps(self, variable: str) -> np.ndarray:
        """The valid times at which the whole window is covered, sorted, datetime64[m]."""
        whole, pieces = [], {}
        for i in self.of(variable):
            if (self.rows[i] >= 0).all() and (self.columns[i] >= 0).all():
                whole.append(self.parts[i].stamps)
            else:
                for stamp in self.parts[i].stamps:
                    pieces.setdefault(stamp, set()).add(i)
        covering = {group: self._cover(group) for group in {frozenset(g) for g in pieces.values()}}
        together = [stamp for stamp, group in pieces.items() if covering[frozenset(group)]]
        return np.unique(np.concatenate([*whole, np.array(together, "datetime64[m]")]).astype("datetime64[m]"))

    def _cover(self, group: frozenset[int]) -> bool:
        covered = np.zeros(self.cells.shape, bool)
        for i in group:
            covered |= np.outer(self.rows[i] >= 0, self.columns[i] >= 0)
        return bool(covered.all())

    def read(
        self, variable: str, stamps: np.ndarray, tile: tuple[slice, slice] = (slice(None), slice(None))
    ) -> Float[np.ndarray, "stamps rows columns"]:
        """The hours `stamps` on a tile of the window, in the file's unit; NaN where no plane has a value.

        Raises UserError where planes of equal rank contradict each other.
        """
        rows, columns = (np.arange(n)[s] for n, s in zip(self.cells.shape, tile, strict=True))
        layers = list(self._layers(variable, stamps))
        if len(layers) == 1 and np.array_equal(layers[0][0], np.arange(len(stamps))):  # the usual case, without a copy
            only = self._planes(*layers[0][1:], rows, columns)
            if only is not None:
                return only
        out = np.full((len(stamps), len(rows), len(columns)), np.nan, np.float32)
        filled_by = np.full(len(stamps), -1)  # the part and rank that filled each hour last
        filled_rank = np.full(len(stamps), -1)
        for where, part, planes in layers:
            values = self._planes(part, planes, rows, columns)
            if values is None:
                continue
            fresh = filled_by[where] < 0
            if fresh.all():
                out[where] = values  # a slice where the hours are consecutive
            else:
                self._agree(
                    variable, stamps[where], out[where], values, filled_by[where], filled_rank[where], part, planes
                )
                out[where] = np.where(np.isnan(out[where]), values, out[where])
            filled_by[where], filled_rank[where] = part, self.parts[part].rank[planes]
        return out

    def _layers(self, variable: str, stamps: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """(positions in stamps, part, planes), best rank first, then by file name: each stamp at most once per item."""
        rows = [
            (self.parts[i].rank[k], i, k, at)
            for i in self.of(variable)
            for k, at in _matches(self.parts[i].stamps, stamps)
        ]
        if not rows:
            return
        rank, part, plane, at = (np.array(column) for column in zip(*rows, strict=True))
        for level in np.unique(rank):
            for i in self.of(variable):
                mine = np.flatnonzero((rank == level) & (part == i))
                while len(mine):
                    _, first = np.unique(at[mine], return_index=True)
                    yield at[mine[first]], i, plane[mine[first]]
                    mine = np.delete(mine, first)

    def _planes(self, part: int, planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
        own = [axis[part][wanted] for axis, wanted in ((self.rows, rows), (self.columns, columns))]
        inside = [np.flatnonzero(o >= 0) for o in own]
        if not all(len(i) for i in inside):
            return None
        boxes = [slice(int(o[i].min()), int(o[i].max()) + 1) for o, i in zip(own, inside, strict=True)]
        block = self.parts[part].read(planes, *boxes)
        for axis, (o, i, box) in enumerate(zip(own, inside, boxes, strict=True), start=1):
            order = o[i] - box.start
            if (np.diff(order) == -1).all() and len(order) == block.shape[axis] and len(order) > 1:
                block = np.flip(block, axis)
            elif not (np.diff(order) == 1).all() or len(order) != block.shape[axis]:
                block = np.take(block, order, axis)
        if all(len(i) == len(o) for i, o in zip(inside, own, strict=True)):
            return block
        full = np.full((len(planes), len(rows), len(columns)), np.nan, np.float32)
        full[np.ix_(range(len(planes)), *inside)] = block
        return full

    def _agree(self, variable, stamps, old, new, filled_by, filled_rank, part, planes) -> None:
        same = (filled_rank == self.parts[part].rank[planes]) & (filled_by >= 0)
        with np.errstate(invalid="ignore"):
            apart = np.abs(old - new) > AGREEMENT[variable]
        apart[~same] = False
        if apart.any():
            hour, row, column = np.argwhere(apart)[0]
            names = self.parts[filled_by[hour]].file.name, self.parts[part].file.name
            raise UserError(
                f"{names[0]} and {names[1]} contradict each other: {RAW[variable].short} at {stamps[hour]} UTC is "
                f"{old[hour, row, column]:g} in one and {new[hour, row, column]:g} in the other; "
                "both have the same expver, so leave one of them out of --raw."
            )

    def tiles(self, variable: str, hours: int) -> Iterator[tuple[slice, slice]]:
        """Tiles of the window, along the files' chunks, on which `hours` hours need at most about BLOCK bytes.

        Files stored in long pieces of time are read tile by tile for the whole month, those stored hour by hour as
        whole maps for a few days: either way every chunk is unpacked once.
        """
        part = max(self.of(variable), key=lambda i: np.prod(self.parts[i].chunks))
        sizes = self.parts[part].chunks[1:]
        edges = []
        room = max(1.0, BLOCK / (4 * hours))
        for axis, size, length in zip((self.rows, self.columns), sizes, self.cells.shape, strict=True):
            chunk = np.where(axis[part] >= 0, axis[part] // size, -1)
            cuts = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), length]
            edges.append(cuts)
        # as many whole chunk columns as fit, then as many chunk rows
        column_cuts = _joined(edges[1], max(1, int(room // max(np.diff(edges[0])))))
        widest = max(np.diff(column_cuts))
        row_cuts = _joined(edges[0], max(1, int(room // widest)))
        for top, bottom in pairwise(row_cuts):
            for left, right in pairwise(column_cuts):
                yield slice(int(top), int(bottom)), slice(int(left), int(right))

    def days_at_once(self, variable: str, days: int) -> int:
        """How many days to read together: all of a month where files store long pieces of time, else what fits."""
        longest = max(self.parts[i].chunks[0] for i in self.of(variable))
        if longest > 24:
            return days
        return max(1, min(days, BLOCK // (24 * 4 * int(np.prod(self.cells.shape)))))


def _joined(cuts: list[int], most: int) -> list[int]:
    """Neighbouring pieces joined while they stay within `most`; a larger piece stands alone."""
    kept = [cuts[0]]
    for this, following in zip(cuts[1:], [*cuts[2:], None], strict=True):
        if following is None or following - kept[-1] > most:
            kept.append(this)
    return kept


def _matches(have: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    """(position in `have`, position in `wanted`) of every entry of `have` that is wanted; `wanted` is sorted."""
    at = np.searchsorted(wanted, have)
    at[at == len(wanted)] = 0
    hits = np.flatnonzero(wanted[at] == have) if len(wanted) else np.array([], int)
    return zip(hits.tolist(), at[hits].tolist(), strict=True)


def source_of(parts: Sequence[Part], target: Cells, native: bool) -> Source:
    """The parts on the window of their common grid that `target` needs: every cell that overlaps it, or, for `native`,
    the cells whose centres lie between its outermost centres.

    Raises UserError for a missing variable, for mixed grids and for a region outside the data.
    """
    found = sorted({RAW[p.variable].short for p in parts})
    for key in ("precipitation", "soil_moisture", "soil_temperature"):
        if not any(p.variable == key for p in parts):
            raise UserError(
                f"no file has {RAW[key].short} ({RAW[key].names[1]}), found: {', '.join(found) or 'no known variable'}."
            )
    parts = sorted(parts, key=lambda p: (p.file.name, p.variable))
    # longitudes in the convention of the wanted region, whatever the file's
    base = (target.lon_edges.min() + target.lon_edges.max()) / 2 - 180
    lat, row_positions = _common_axis([p.lat for p in parts], parts, "latitude", lambda lat: lat)
    lon, column_positions = _common_axis(
        # rounded before and after: float32 coordinates must not fall on the other side of the cut
        [p.lon for p in parts],
        parts,
        "longitude",
        lambda lon: np.round(np.round((lon - base) % 360, 4) % 360 + base, 4),
    )
    held = _held(parts, row_positions, "latitudes"), _held(parts, column_positions, "longitudes")
    corner = len(lat) - held[0].stop, held[1].start
    box = latlon_cells(lat[::-1], lon).window(slice(corner[0], len(lat) - held[0].start), held[1])
    rows, columns = (slice(s.start + c, s.stop + c) for s, c in zip(_window(box, target, native), corner, strict=True))
    located = []
    for positions, window, size, flip in (
        (row_positions, rows, len(lat), True),
        (column_positions, columns, len(lon), False),
    ):
        axis = {}  # files share their coordinates, so most positions are one and the same object
        for position in positions:
            if id(position) not in axis:
                at = np.full(size, -1)
                at[position[::-1]] = np.arange(len(position))[::-1]  # of a meridian that comes twice, the first
                axis[id(position)] = (at[::-1] if flip else at)[window]
        located.append(tuple(axis[id(position)] for position in positions))
    return Source(tuple(parts), *located, latlon_cells(lat[::-1], lon).window(rows, columns))


def _held(parts: Sequence[Part], positions: list[np.ndarray], name: str) -> slice:
    """The stretch of an axis that all three variables reach; a land mask may be larger or smaller."""
    ends: dict[str, list[int]] = {}
    for part, position in zip(parts, positions, strict=True):
        if part.variable != "land":
            ends.setdefault(part.variable, []).extend((int(position.min()), int(position.max())))
    first, last = max(map(min, ends.values())), min(map(max, ends.values()))
    if first >= last:
        raise UserError(f"the files of the three variables have no two {name} in common.")
    return slice(first, last + 1)


def _common_axis(
    raw: list[np.ndarray], parts: Sequence[Part], name: str, normal: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The ascending union of the parts' coordinates, made `normal`, and where each part's own values are in it."""
    kinds: dict[bytes, int] = {}
    kind = [kinds.setdefault(axis.tobytes(), len(kinds)) for axis in raw]
    first = [kind.index(k) for k in range(len(kinds))]
    parts, axes = [parts[i] for i in first], [normal(raw[i]) for i in first]
    longest = max(axes, key=len)
    steps = np.diff(np.unique(longest))
    if not len(steps):
        raise UserError(f"{parts[0].file.name} has a single {name}, expected at least two to tell the grid's spacing.")
    tolerance = SAME_CELL * steps.min()
    values = np.sort(np.concatenate([longest, *[a for a in axes if a is not longest]]))
    union = values[np.concatenate([[True], np.diff(values) > tolerance])]
    positions = [_nearest(union, a) for a in axes]
    spacing = np.diff(union)
    uneven = spacing.max() - spacing.min() > 4 * tolerance and any(len(a) != len(union) for a in axes)
    if uneven or any(
        np.ptp(p) != len(np.unique(p)) - 1 for p in positions
    ):  # a finer or shifted grid, or a gap between pieces
        if len(axes) == 1:
            raise UserError(f"{parts[0].file.name}: its values of {name} have a gap, expected an even grid.")
        steps = [float(np.median(np.abs(np.diff(a)))) if len(a) > 1 else np.nan for a in axes]
        odd = next((i for i, s in enumerate(steps) if abs(s - steps[0]) > tolerance), None)
        odd = odd if odd is not None else next((i for i, a in enumerate(axes) if len(a) != len(axes[0])), 1)
        raise UserError(
            f"mixed grids: {parts[0].file.name} has {len(axes[0])} values of {name} every {steps[0]:g}°, from "
            f"{axes[0].min():g} to {axes[0].max():g}, and {parts[odd].file.name} has {len(axes[odd])} every "
            f"{steps[odd]:g}°, from {axes[odd].min():g} to {axes[odd].max():g}; prepare them apart."
        )
    return union, [positions[k] for k in kind]


def _nearest(union: np.ndarray, values: np.ndarray) -> np.ndarray:
    right = np.clip(np.searchsorted(union, values), 1, len(union) - 1)
    return np.where(np.abs(union[right - 1] - values) <= np.abs(union[right] - values), right - 1, right)


def _window(cells: Cells, target: Cells, native: bool) -> tuple[slice, slice]:
    """Rows and columns of `cells` that the target needs; UserError where a target centre lies outside the data."""
    for name, unit, edges, wanted in (
        ("latitude", "N", cells.lat_edges, target.lat),
        ("longitude", "E", cells.lon_edges, target.lon),
    ):
        tolerance = SAME_CELL * np.abs(np.diff(edges)).min()
        low, high = edges.min() - tolerance, edges.max() + tolerance
        if wanted.min() < low or wanted.max() > high:
            centres = cells.lat if name == "latitude" else cells.lon
            raise UserError(
                f"the region lies outside the data: cells centred on {name} {wanted.min():g} to {wanted.max():g} are "
                f"wanted, the files hold {centres.min():g} to {centres.max():g} °{unit}; choose --south --north --west "
                "--east within them or download a larger box."
            )
    if not native:
        return cells.overlapping(target)
    windows = []
    for centres, wanted in ((cells.lat, target.lat), (cells.lon, target.lon)):
        tolerance = SAME_CELL * np.abs(np.diff(centres)).min()
        inside = np.flatnonzero((centres >= wanted.min() - tolerance) & (centres <= wanted.max() + tolerance))
        if len(inside) < 2:
            raise UserError(
                f"the region {target.lat.min():g} to {target.lat.max():g} °N, {target.lon.min():g} to "
                f"{target.lon.max():g} °E holds fewer than two rows and two columns of the data's own grid."
            )
        windows.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return windows[0], windows[1]
