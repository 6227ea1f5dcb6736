"""All ERA5 parts together as one mosaic: a window of their common grid, and every hour read from the best plane.

Where several planes hold the same hour, final data (expver 1) go before preliminary (5) and fill cell by cell what is
missing. Planes of equal rank must agree to within packing, else the run stops and names both files.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from utils.common.cli import UserError
from utils.common.grid import WHOLE
from utils.products import AGREEMENT
from utils.products.era5.files import read_planes
from utils.products.era5.part import RAW, Part
from utils.products.regrid import Cells

BLOCK = 128 * 2**20  # bytes of float32 read at a time
_METRES = 1000  # precipitation is in m here and in mm in a prepared data set
_AGREEMENT = AGREEMENT | {"precipitation": AGREEMENT["precipitation"] / _METRES, "land": 1e-2}


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Parts on a window of their common grid. `rows` and `columns` locate the window in each part; −1 is outside it."""

    parts: tuple[Part, ...]
    rows: tuple[np.ndarray, ...]
    columns: tuple[np.ndarray, ...]
    cells: Cells  # of the window; latitude descends, longitude ascends

    def between(self, start: np.datetime64, end: np.datetime64) -> "Mosaic":
        """Only the planes with start <= valid time <= end, and the land mask."""
        parts, chosen = [], []
        for i, part in enumerate(self.parts):
            kept = (part.stamps >= start) & (part.stamps <= end)
            if part.variable == "land":
                kept[:] = True
            parts.append(replace(part, stamps=part.stamps[kept], index=part.index[kept], rank=part.rank[kept]))
            if kept.any():
                chosen.append(i)
        return replace(self, parts=tuple(parts)).only(chosen)

    def only(self, chosen: Sequence[int]) -> "Mosaic":
        """Only the parts at these positions."""
        return replace(
            self,
            parts=tuple(self.parts[i] for i in chosen),
            rows=tuple(self.rows[i] for i in chosen),
            columns=tuple(self.columns[i] for i in chosen),
        )

    def of(self, variable: str) -> list[int]:
        """The positions of the parts of a variable."""
        return [i for i, part in enumerate(self.parts) if part.variable == variable]

    def stamps(self, variable: str) -> np.ndarray:
        """The valid times at which the whole window is covered, sorted, datetime64[m]."""
        covered = [np.array([], "datetime64[m]")]
        pieces: dict[np.datetime64, set[int]] = {}
        for i in self.of(variable):
            if (self.rows[i] >= 0).all() and (self.columns[i] >= 0).all():
                covered.append(self.parts[i].stamps)
            else:
                for stamp in self.parts[i].stamps:
                    pieces.setdefault(stamp, set()).add(i)
        groups = {stamp: frozenset(group) for stamp, group in pieces.items()}
        covering = {group: self.cover(group) for group in set(groups.values())}
        together = [stamp for stamp, group in groups.items() if covering[group]]
        covered.append(np.array(together, "datetime64[m]"))
        return np.unique(np.concatenate(covered).astype("datetime64[m]"))

    def cover(self, group: Iterable[int]) -> bool:
        """Whether these parts cover the window together."""
        covered = np.zeros(self.cells.shape, bool)
        for i in group:
            covered |= np.outer(self.rows[i] >= 0, self.columns[i] >= 0)
        return bool(covered.all())

    def read(
        self, variable: str, stamps: np.ndarray, tile: tuple[slice, slice] = WHOLE
    ) -> Float[np.ndarray, "stamps rows columns"]:
        """The hours `stamps` on a tile of the window, in the file's unit; NaN where no plane has a value.

        Raises UserError where planes of equal rank contradict each other.
        """
        layers = list(self._layers(variable, stamps))
        if len(layers) == 1 and np.array_equal(layers[0].where, np.arange(len(stamps))):
            values = self._read_layer(layers[0], tile)  # the usual case, without a copy
            if values is not None:
                return values
        rows, columns = (len(range(n)[wanted]) for n, wanted in zip(self.cells.shape, tile, strict=True))
        out = np.full((len(stamps), rows, columns), np.nan, np.float32)
        filled_by = np.full(len(stamps), -1)  # the part that filled each hour last, and its plane's rank
        filled_rank = np.full(len(stamps), -1)
        for layer in layers:
            values = self._read_layer(layer, tile)
            if values is None:
                continue
            where, part = layer.where, self.parts[layer.part]
            rank = part.rank[layer.planes]
            if (filled_by[where] < 0).all():
                out[where] = values
            else:
                comparable = (filled_by[where] >= 0) & (filled_rank[where] == rank)
                earlier = [self.parts[i] for i in filled_by[where]]
                _refuse_contradiction(part, earlier, stamps[where], out[where], values, comparable)
                out[where] = np.where(np.isnan(out[where]), values, out[where])
            filled_by[where], filled_rank[where] = layer.part, rank
        return out

    def _layers(self, variable: str, stamps: np.ndarray) -> Iterator["_Layer"]:
        """The planes of the wanted hours, best rank first, then by file name: each hour at most once in a layer."""
        matches = [
            (self.parts[i].rank[plane], i, plane, at)
            for i in self.of(variable)
            for plane, at in _matches(self.parts[i].stamps, stamps)
        ]
        if not matches:
            return
        rank, part, plane, at = np.array(matches, np.int64).T
        for level in np.unique(rank):
            for i in self.of(variable):
                mine = np.flatnonzero((rank == level) & (part == i))
                while len(mine):
                    _, first = np.unique(at[mine], return_index=True)
                    yield _Layer(part=i, planes=plane[mine[first]], where=at[mine[first]])
                    mine = np.delete(mine, first)

    def _read_layer(self, layer: "_Layer", tile: tuple[slice, slice]) -> np.ndarray | None:
        """A layer's planes on a tile, [planes, rows, columns], NaN outside the part; None where they do not meet."""
        own = [axis[layer.part][wanted] for axis, wanted in zip((self.rows, self.columns), tile, strict=True)]
        inside = [np.flatnonzero(positions >= 0) for positions in own]
        if not all(len(within) for within in inside):
            return None
        held = [positions[within] for positions, within in zip(own, inside, strict=True)]
        box = [slice(int(positions.min()), int(positions.max()) + 1) for positions in held]
        block = read_planes(self.parts[layer.part], layer.planes, box[0], box[1])
        for axis in (0, 1):
            block = _reorder(block, held[axis] - box[axis].start, axis=axis + 1)
        if all(len(within) == len(positions) for within, positions in zip(inside, own, strict=True)):
            return block
        full = np.full((len(layer.planes), len(own[0]), len(own[1])), np.nan, np.float32)
        full[np.ix_(range(len(layer.planes)), *inside)] = block
        return full

    def tiles(self, variable: str, hours: int) -> Iterator[tuple[slice, slice]]:
        """Tiles of the window, along the files' chunks, on which `hours` hours need at most about BLOCK bytes.

        Files stored in long pieces of time are read tile by tile for the whole month, those stored hour by hour as
        whole maps for a few days: either way every chunk is unpacked once.
        """
        part = max(self.of(variable), key=lambda i: np.prod(self.parts[i].chunks))
        _, chunk_rows, chunk_columns = self.parts[part].chunks
        row_edges = _chunk_edges(self.rows[part], chunk_rows)
        column_edges = _chunk_edges(self.columns[part], chunk_columns)
        room = max(1.0, BLOCK / (4 * hours))  # cells
        # as many whole chunk columns as fit, then as many chunk rows
        column_edges = _join(column_edges, longest=max(1, int(room // max(np.diff(row_edges)))))
        row_edges = _join(row_edges, longest=max(1, int(room // max(np.diff(column_edges)))))
        for top, bottom in pairwise(row_edges):
            for left, right in pairwise(column_edges):
                yield slice(top, bottom), slice(left, right)

    def days_at_once(self, variable: str, days: int) -> int:
        """How many days to read together: all of a month where files store long pieces of time, else what fits."""
        longest = max(self.parts[i].chunks[0] for i in self.of(variable))
        if longest > 24:
            return days
        return max(1, min(days, BLOCK // (24 * 4 * int(np.prod(self.cells.shape)))))


@dataclass(frozen=True)
class _Layer:
    """Some planes of a part, and which of the wanted hours they are."""

    part: int
    planes: np.ndarray
    where: np.ndarray


def _reorder(block: np.ndarray, order: np.ndarray, axis: int) -> np.ndarray:
    """The block's entries in this order along an axis, without a copy where it is as it is or the reverse."""
    whole = len(order) == block.shape[axis]
    if whole and (np.diff(order) == 1).all():
        return block
    if whole and (np.diff(order) == -1).all():
        return np.flip(block, axis)
    return np.take(block, order, axis)


def _refuse_contradiction(
    part: Part,
    earlier: Sequence[Part],
    stamps: np.ndarray,
    old: Float[np.ndarray, "stamps rows columns"],
    new: Float[np.ndarray, "stamps rows columns"],
    comparable: np.ndarray,
) -> None:
    """Raises UserError where planes of equal rank differ by more than packing; `earlier`: the part of each old hour."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(old - new) > _AGREEMENT[part.variable]
    apart[~comparable] = False
    if apart.any():
        hour, row, column = np.argwhere(apart)[0]
        raise UserError(
            f"{earlier[hour].file.name} and {part.file.name} contradict each other: {RAW[part.variable].short} at "
            f"{stamps[hour]} UTC is {old[hour, row, column]:g} in one and {new[hour, row, column]:g} in the other; "
            "both have the same expver, so leave one of them out of --raw."
        )


def _chunk_edges(positions: np.ndarray, size: int) -> list[int]:
    """Where, along an axis of the window, one chunk of a part ends and the next begins; both ends included."""
    chunk = np.where(positions >= 0, positions // size, -1)
    return [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(positions)]


def _join(edges: list[int], longest: int) -> list[int]:
    """The edges left when neighbouring pieces are joined up to a length; a longer piece stands alone."""
    kept = [edges[0]]
    for edge, following in pairwise(edges[1:]):
        if following - kept[-1] > longest:
            kept.append(edge)
    return [*kept, edges[-1]]


def _matches(have: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    """(position in `have`, position in `wanted`) of every entry of `have` that is wanted; `wanted` is sorted."""
    at = np.searchsorted(wanted, have)
    at[at == len(wanted)] = 0
    hits = np.flatnonzero(wanted[at] == have) if len(wanted) else np.array([], int)
    return zip(hits.tolist(), at[hits].tolist(), strict=True)
