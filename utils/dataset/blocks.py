"""What a model sees of a prepared data set on disk: held in memory, or read in blocks where it is large.

Maps that fit in memory are one block. Larger ones can be met by models free of the grid alone: every pass over the data
reads block by block, the next one while the last is used, so that memory does not grow with the record.
"""

import atexit
import functools
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from utils.common.files import write_errors
from utils.common.grid import WHOLE, Tile, tiles
from utils.common.parallel import prefetch
from utils.common.periods import Split
from utils.dataset.prepared import (
    DAYS_ENCODING,
    VARIABLES,
    grid_of,
    is_synthetic,
    no_value,
    open_prepared,
    read_prepared,
)
from utils.dataset.statistics import Summary

MEMORY = 2**29  # bytes: a data set with more is read in blocks
BLOCK = 2**26  # bytes of a block, at most
TILE = 64  # cells: side of a chunk in a copy


class DataSet:
    """A prepared data set from day `start` on: its axes now, its values when they are asked for.

    With `beyond`, so many days without values follow the last one, or day `end`: those that are to be forecast.
    """

    def __init__(
        self,
        path: Path,
        start: np.datetime64 | None = None,
        made_by: str = "",
        end: np.datetime64 | None = None,
        beyond: int = 0,
    ):
        self.path, self.start, self.made_by = path, start, made_by
        with open_prepared(path, made_by) as ds:
            self.days = ds["time"].values.astype("datetime64[D]")
            self.grid, self.synthetic, self.first = grid_of(ds), is_synthetic(ds), self.days[0]
        if start is not None:
            self.days = self.days[self.days >= start]
        if end is not None:
            self.days = self.days[self.days <= end]
        self.end = self.days[-1] if end is not None and len(self.days) else None
        if len(self.days):
            self.days = np.append(self.days, self.days[-1] + np.arange(1, beyond + 1))
        self._kept: xr.Dataset | None = None

    def large(self, maps: int = len(VARIABLES)) -> bool:
        """Whether this many maps a day are too much to be held in memory."""
        return 4 * maps * len(self.days) * math.prod(self.grid.shape) > MEMORY

    def read(self, window: tuple[slice, slice] = WHOLE) -> xr.Dataset:
        """Some rows and columns. A whole map is kept for the next call, which takes it."""
        kept, self._kept = self._kept, None
        if kept:
            return kept
        path = self.path if window == WHOLE else in_tiles(self.path, self.blocks()[0].mask().size)
        ds = read_prepared(path, self.start, self.made_by, window, copy_of=self.path, end=self.end)
        return ds if len(ds["time"]) == len(self.days) else ds.reindex(time=self.days.astype("datetime64[ns]"))

    def blocks(self, halo: int = 0, multiple: int = 1, maps: int = len(VARIABLES)) -> list[Tile]:
        """The whole map as one tile, or tiles of at most BLOCK bytes whose side is a multiple of this many cells.

        `maps` are those that a day has in memory.
        """
        side = max(self.grid.shape)
        if self.large(maps):
            side = math.isqrt(BLOCK // (4 * maps * len(self.days)))
            side = max(side // multiple, 1) * multiple
        return tiles(self.grid.shape, side, halo)

    def summary(self, split: Split) -> Summary:
        """One pass over all values, which also checks them. Raises UserError as `read_prepared` does."""
        if not self.large():
            self._kept = self.read()
            parts = [(Summary.of(self._kept, split), WHOLE)]
        else:
            parts, valid = [], np.zeros(len(VARIABLES), bool)
            blocks = tqdm(self.blocks(), desc=f"reading {self.path.name}", unit="block", disable=None, leave=False)
            for ds, block in prefetch((self.read(block.own), block) for block in blocks):
                parts.append((Summary.of(ds, split), block.own))
                valid |= [bool(np.isfinite(ds[name].values).any()) for name in VARIABLES]
            for name, there in zip(VARIABLES, valid, strict=True):
                if not there:
                    raise no_value(self.path, name)
        return Summary.joined(parts, self.grid.shape)


@functools.cache
def in_tiles(path: Path, cells: int) -> Path:
    """The data set, or a copy in the temporary folder where its chunks are much larger than blocks of so many cells.

    Each pass would read every chunk again for each block of it: thirty times the data, if chunks are whole maps.
    """
    with open_prepared(path) as ds:
        moisture = ds["soil_moisture"]
        chunks = moisture.encoding.get("chunks") or moisture.encoding.get("chunksizes")
        if not chunks or math.prod(chunks[1:]) <= 2 * cells:
            return path
        folder = Path(tempfile.mkdtemp(prefix="tiles-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        copy = folder / f"{path.stem}.zarr"
        step = max(1, BLOCK // (4 * len(VARIABLES) * math.prod(moisture.shape[1:])))
        step = max(step, step // chunks[0] * chunks[0])  # whole chunks, where they are short
        shape = (step, *(min(TILE, length) for length in moisture.shape[1:]))
        encoding = {name: {"chunks": shape} for name in VARIABLES} | {"time": DAYS_ENCODING}
        for first in tqdm(range(0, len(moisture), step), f"{path.name} in tiles", disable=None, leave=False):
            slab = ds.isel(time=slice(first, first + step)).astype(np.float32).load().drop_encoding()
            with write_errors(copy):
                how = {"append_dim": "time"} if first else {"encoding": encoding}
                slab.to_zarr(copy, consolidated=False, **how)
    return copy
