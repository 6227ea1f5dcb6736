"""What a model sees of a prepared data set on disk: held in memory, or read in blocks where it is large.

Maps that fit in memory are one block. Larger ones can be met by models free of the grid alone: every pass over the data
reads block by block, the next one while the last is used, so that memory does not grow with the record.
"""

import atexit
import functools
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Int
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import write_errors
from utils.common.grid import Tile, tiles
from utils.data_processing import Batch, Record, Windows, beside, scaled_batch, target_days
from utils.dataset.prepared import (
    DAYS_ENCODING,
    VARIABLES,
    WHOLE,
    grid_of,
    is_synthetic,
    no_value,
    open_prepared,
    read_prepared,
)
from utils.dataset.statistics import Statistics, Summary
from utils.dataset.weather_forecasts import Future
from utils.settings import Span, Split

MEMORY = 2**29  # bytes: a data set with more is read in blocks
BLOCK = 2**26  # bytes of a block, at most
TILE = 64  # cells: side of a chunk in a copy
PATCH = 32  # cells: side of the patches that a larger data set is learned from, where the script says nothing
T = TypeVar("T")


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
            for ds, block in ahead((self.read(block.own), block) for block in blocks):
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


class View:
    """A data set as a model sees it: scaled by these statistics, in blocks with the halo the model looks beyond.

    `halo` None: the model is bound to the whole map, which is held in memory however large it is. `patch` is the side
    in cells of what it learns from; None: whole maps, or PATCH where the data set is large. Inputs lack soil moisture
    where it is `hidden`; `future` is the weather of the days ahead that the model knows.
    """

    def __init__(
        self,
        data: DataSet,
        statistics: Statistics,
        predictors: tuple[str, ...] = tuple(VARIABLES),
        halo: int | None = None,
        patch: int | None = None,
        hidden: Bool[np.ndarray, "time lon"] | None = None,
        future: Future | None = None,
    ):
        self.data, self.statistics, self.predictors = data, statistics, predictors
        self.hidden, self.future, self.halo, self.free = hidden, future, halo or 0, halo is not None
        maps = len(VARIABLES) + (future.maps if future else 0)
        in_blocks = data.large(maps) and halo is not None
        self.patch = PATCH if in_blocks and patch is None else patch
        self.blocks = data.blocks(self.halo, self.patch or 1, maps) if in_blocks else tiles(data.grid.shape, 2**31)
        self.blocks = [block for block in self.blocks if statistics.scored[block.own].any()] or self.blocks[:1]
        self._kept: Record | None = None

    def record(self, block: Tile) -> Record:
        """A tile of the map in memory; the only block is kept."""
        whole = self.blocks == [block]
        if whole and self._kept:
            return self._kept
        ds = self.data.read(WHOLE if whole else block.window)
        statistics = self.statistics.part(block.window)
        hidden = None if self.hidden is None else self.hidden[:, None, block.columns]
        ahead = self.future.ahead(ds, statistics, block.window) if self.future else None
        record = Record(ds, statistics, self.predictors, block.mask(), hidden, ahead)
        if whole:
            self._kept = record
        return record


@dataclass
class Samples:
    """The samples of a period, block by block (contract 2)."""

    view: View
    periods: tuple[Span, ...]
    lead_days: int
    input_days: int
    name: str  # of the period, for the errors
    kind: type[Windows] = Windows  # what a model sees of a record

    def __post_init__(self):
        """Raises UserError when no target day has a full window, or a forecast of its future weather is missing."""
        data, future = self.view.data, self.view.future
        self.target_index, self.skipped = target_days(data.days, *self._asked)
        if future:
            future.require(data.days[self.target_index - self.lead_days], data.grid, self.name)

    @property
    def _asked(self) -> tuple:
        return self.periods, self.lead_days, self.input_days, self.name

    @property
    def init_time(self) -> np.ndarray:
        """The last input days."""
        return self.view.data.days[self.target_index - self.lead_days]

    def require_targets(self, observed: Int[np.ndarray, "time"]) -> "Samples":
        """These samples, or a UserError when no target is valid: there is nothing to learn or to choose by."""
        if not observed[self.target_index].any():
            days = self.view.data.days[self.target_index]
            raise UserError(
                f"The {self.name} period has no valid soil moisture on its target days, {days[0]} to {days[-1]}."
            )
        return self

    def __iter__(self) -> Iterator[Windows]:
        """Windows of whole blocks, in their order."""
        return self._of(self.view.blocks)

    def __len__(self) -> int:
        """Samples in an epoch: target days, or patches of them."""
        return len(self.target_index) * sum(len(self._patches(block)) for block in self.view.blocks)

    def of(self, block: Tile) -> Windows:
        """The windows of one block."""
        return self.kind(self.view.record(block), *self._asked)

    def shuffled(self) -> Iterator[Windows]:
        """What an epoch goes through: the blocks in a random order, cut into patches."""
        blocks = self.view.blocks
        if len(blocks) > 1:
            blocks = [blocks[i] for i in torch.randperm(len(blocks))]
        for windows, block in zip(self._of(blocks), blocks, strict=True):
            yield Patches(windows, self._patches(block)) if self.view.patch else windows

    def _of(self, blocks: list[Tile]) -> Iterator[Windows]:
        made = (self.of(block) for block in blocks)
        return ahead(made) if len(blocks) > 1 else made

    def _patches(self, block: Tile) -> list[Tile]:
        """Patches of a block with cells to learn from, in the block's own coordinates."""
        if not self.view.patch:
            return [block]
        scored = self.view.statistics.scored[block.window] & block.mask()
        patches = tiles(scored.shape, self.view.patch, self.view.halo, within=block)
        return [patch for patch in patches if scored[patch.own].any()] or patches[:1]


class Patches(Windows):
    """Each window once for each patch of its map."""

    def __init__(self, windows: Windows, patches: list[Tile]):
        self.__dict__.update(windows.__dict__)
        self.patches, self.masks = patches, torch.from_numpy(np.stack([patch.mask() for patch in patches]))

    def __len__(self) -> int:
        return super().__len__() * len(self.patches)

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        window, patch = np.divmod(samples, len(self.patches))
        record, inputs, targets = self.record, self.input_index(window), self.target_index[window]
        features = []
        found = torch.empty((len(samples), *self.masks.shape[1:]))
        for i, (days, target, number) in enumerate(zip(inputs, targets, patch, strict=True)):
            cells = self.patches[number].window
            maps = record.features[int(days[0]) : int(days[-1]) + 1, :, *cells]
            if record.ahead:
                maps = beside(maps[None], record.ahead.channels(days[-1:], cells))[0]
            features.append(maps)
            found[i] = record.target[int(target), *cells]
        found[~self.masks[torch.from_numpy(patch)]] = torch.nan
        return scaled_batch(torch.stack(features), found, record.statistics)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while the last is used."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, source, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, source, end)
            yield item
            del item
