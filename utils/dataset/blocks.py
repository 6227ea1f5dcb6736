"""The prepared data set on disk, read as one map where it fits in memory and in blocks where it does not.

A map that fits is one block. A larger one can only be used by models that are free of the grid: every pass over the
data goes block by block, and the next block is read while the last one is used. Memory does not grow with the record.
"""

import atexit
import functools
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Bool
from tqdm import tqdm

from utils.common.files import write_errors
from utils.common.grid import WHOLE, Tile, tiles
from utils.common.parallel import prefetch
from utils.common.periods import Split
from utils.dataset.prepared import (
    DAYS_ENCODING,
    SYNTHETIC,
    THREE,
    VariableNames,
    check_values,
    grid_of,
    label_of,
    no_value,
    open_prepared,
    read_prepared,
)
from utils.dataset.rain_checks import list_doubts
from utils.dataset.statistics import Statistics

BYTES = 4  # of a float32 value
MEMORY = 2**29  # bytes: a data set with more is read in blocks
BLOCK = 2**26  # bytes of a block, at most
TILE = 64  # cells: side of a chunk in a copy
CHECKED = 2**22  # cell-days whose rain is looked at, at most


class DataSet:
    """A prepared data set on disk from day `start` to day `end`. Its axes are read now, its values later.

    Where forecasts are to be made, `beyond` days without values follow the last one. Raises UserError as
    `open_prepared` does. `variables` are those that are read.
    """

    def __init__(
        self,
        path: Path,
        start: np.datetime64 | None = None,
        made_by: str = "",
        end: np.datetime64 | None = None,
        beyond: int = 0,
        variables: VariableNames = THREE,
    ):
        self.path, self.start, self.made_by, self.variables = path, start, made_by, variables
        with open_prepared(path, made_by, variables) as ds:
            days = ds["time"].values.astype("datetime64[D]")
            self.grid, self.label = grid_of(ds), label_of(ds.attrs)
        self.first = days[0]  # of the file, whatever `start` says
        if start is not None:
            days = days[days >= start]
        if end is not None:
            days = days[days <= end]
        self.end = days[-1] if end is not None and len(days) else None
        if len(days):
            days = np.append(days, days[-1] + np.arange(1, beyond + 1))
        self.days = days

    @property
    def synthetic(self) -> bool:
        return self.label == SYNTHETIC

    def large(self, maps: int | None = None) -> bool:
        """Whether this many maps a day, or those of its variables, are too much to be held in memory."""
        maps = len(self.variables.daily) if maps is None else maps
        return BYTES * maps * len(self.days) * math.prod(self.grid.shape) > MEMORY

    def read(self, window: tuple[slice, slice] = WHOLE) -> xr.Dataset:
        """The values of some rows and columns. Raises UserError as `read_prepared` does.

        Several callers share a whole map that fits in memory; none of them changes it.
        """
        if window == WHOLE and not self.large():
            return _read_shared(self)
        return self._read(window)

    def _read(self, window: tuple[slice, slice]) -> xr.Dataset:
        daily = VariableNames(self.variables.daily)
        path = self.path if window == WHOLE else in_tiles(self.path, self.blocks()[0].mask().size, daily)
        names = self.variables if path == self.path else daily
        ds = read_prepared(path, self.start, self.made_by, window, copy_of=self.path, end=self.end, variables=names)
        if names != self.variables:
            ds = ds.assign(self._read_static(window))
        if len(ds["time"]) == len(self.days):
            return ds
        return ds.reindex(time=self.days.astype("datetime64[ns]"))

    def _read_static(self, window: tuple[slice, slice]) -> xr.Dataset:
        """The static maps alone, which a copy does not have."""
        with open_prepared(self.path, variables=self.variables) as ds:
            maps = ds[list(self.variables.static)].isel(lat=window[0], lon=window[1]).astype(np.float32).load()
        for name in self.variables.static:
            check_values(maps[name], self.path)
        return maps

    def blocks(self, halo: int = 0, multiple: int = 1, maps: int | None = None) -> list[Tile]:
        """The whole map as one tile, or tiles of at most BLOCK bytes whose side is a multiple of this many cells.

        `halo` is the width in cells of the neighbours that are read with a tile, `maps` the number of maps that a day
        has in memory; None: those of its variables.
        """
        maps = len(self.variables.daily) if maps is None else maps
        side = max(self.grid.shape)
        if self.large(maps):
            cells = BLOCK // (BYTES * maps * len(self.days))
            side = multiple * max(1, math.isqrt(cells) // multiple)
        return tiles(self.grid.shape, side, halo)

    def statistics(self, split: Split) -> Statistics:
        """What is learned from the training period, in one pass over all values, which also checks them.

        Raises UserError as `read_prepared` does, and where the training period has no valid value of a variable.
        """
        blocks = self._read_in_blocks() if self.large() else [(self.read(), WHOLE)]
        return Statistics.from_blocks(blocks, self.grid.shape, split, self.variables.all)

    def list_doubts_of_rain(self, scored: Bool[np.ndarray, "lat lon"]) -> list[str]:
        """Sentences that warn of rain that cannot be right (utils/dataset/rain_checks.py); none where nothing is odd.

        At most CHECKED cell-days are looked at. A map in memory is not read again; of a larger one, the block with
        most `scored` cells is.
        """
        blocks = self.blocks()
        fullest = max(blocks, key=lambda block: int(scored[block.own].sum()))
        ds = self.read(WHOLE if len(blocks) == 1 else fullest.own)
        every = slice(None, None, math.ceil(math.sqrt(ds["precipitation"].size / CHECKED)))
        some = ds.isel(lat=every, lon=every)
        return [f"{self.path}: {doubt}" for doubt in list_doubts(some, some["precipitation"].mean("time").values)]

    def _read_in_blocks(self) -> Iterator[tuple[xr.Dataset, tuple[slice, slice]]]:
        """Each block's values with its rows and columns. Raises UserError where a variable has no value at all."""
        valid = dict.fromkeys(self.variables.all, False)
        blocks = tqdm(self.blocks(), desc=f"reading {self.path.name}", unit="block", disable=None, leave=False)
        for ds, window in prefetch((self.read(block.own), block.own) for block in blocks):
            for name in valid:
                valid[name] |= bool(np.isfinite(ds[name].values).any())
            yield ds, window
        for name, any_valid in valid.items():
            if not any_valid:
                raise no_value(self.path, name)


@functools.lru_cache(maxsize=1)  # the last map alone: a run takes its statistics and its samples from one reading
def _read_shared(data: DataSet) -> xr.Dataset:
    return data._read(WHOLE)


@functools.cache
def in_tiles(path: Path, cells: int, variables: VariableNames = THREE) -> Path:
    """The data set, or a copy in the temporary folder where its chunks are much larger than blocks of so many cells.

    Each pass would read every chunk again for each block that it touches: thirty times the data, if chunks are whole
    maps. The copy is removed when the process ends.
    """
    with open_prepared(path, variables=variables) as ds:
        moisture = ds["soil_moisture"]
        chunks = moisture.encoding.get("chunks") or moisture.encoding.get("chunksizes")
        if not chunks or math.prod(chunks[1:]) <= 2 * cells:
            return path
        folder = Path(tempfile.mkdtemp(prefix="tiles-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        copy = folder / f"{path.stem}.zarr"
        step = max(1, BLOCK // (BYTES * len(variables.daily) * math.prod(moisture.shape[1:])))
        step = max(step, step // chunks[0] * chunks[0])  # whole chunks, where they are short
        shape = (step, *(min(TILE, length) for length in moisture.shape[1:]))
        encoding = {name: {"chunks": shape} for name in variables.daily} | {"time": DAYS_ENCODING}
        for first in tqdm(range(0, len(moisture), step), f"{path.name} in tiles", disable=None, leave=False):
            slab = ds.isel(time=slice(first, first + step)).astype(np.float32).load().drop_encoding()
            with write_errors(copy):
                if first == 0:
                    slab.to_zarr(copy, consolidated=False, encoding=encoding)
                else:
                    slab.to_zarr(copy, consolidated=False, append_dim="time")
    return copy
