"""From a prepared data set to the samples of a model.

A sample
    The input is a window of `input_days` daily maps of precipitation, soil moisture and soil temperature. The target is
    the soil-moisture map `lead_days` after the last input day:

        features [sample, day, channel, lat, lon]      target [sample, lat, lon]

Which forecast is compared with which day
    The target day (`valid_time`) is the last input day (`init_time`) + lead_days. With 3 input days and a lead of 3
    days, the maps of 1 to 3 June are the input, and 6 June is the target. A forecast is compared with the observation
    of its target day alone. A period holds target days; its input days may lie before it. No window crosses a gap.

Missing values
    - A cell is scored if it has any valid soil moisture before the test period. In all other cells every input is
      OUTSIDE, and nothing is learned or scored there.
    - Missing soil moisture and soil temperature of a scored cell become its last earlier valid value. That value is
      never taken from a later day, and never from the other side of a gap. Before the first valid value, the cell's
      mean over the training period stands in; where there is none, the mean over cells.
    - Missing precipitation becomes that mean at once: rain does not persist. Antecedent features take its mean root.
    - A missing target counts neither in the loss nor in the scores.

What else a model may see
    - A variable that is not among the predictors is OUTSIDE everywhere, so that the model keeps its shape and its first
      weights. Further predictors and static maps add channels (utils/dataset/predictors.py).
    - Nothing after the last input day is seen. The one exception is known weather of the days up to the target
      (utils/dataset/weather_forecasts.py): each of its maps is one more channel, the same on every input day.
    - With bias correction (utils/dataset/bias_correction.py), soil moisture is mapped to the source's product before it
      is scaled, as input and as target. A forecast is mapped back.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int16
from torch import Tensor

from utils.common.cli import UserError
from utils.common.grid import WHOLE, Tile, tiles
from utils.common.parallel import prefetch
from utils.common.periods import Span, format_periods, in_spans, with_days_before
from utils.dataset.blocks import DataSet
from utils.dataset.predictors import channels_of_day
from utils.dataset.prepared import VARIABLES
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE, Statistics
from utils.dataset.weather_forecasts import KnownWeather

PATCH = 32  # cells: side of the patches that a larger data set is learned from, where the script says nothing


class Batch(NamedTuple):
    """Some samples: scaled features and target, and where the target is valid."""

    features: Float[Tensor, "batch day channel lat lon"]
    target: Float[Tensor, "batch lat lon"]  # scaled; 0 where not valid
    valid: Bool[Tensor, "batch lat lon"]


class Windows:
    """The samples of a period, as a model sees them. They are index arithmetic: nothing is copied.

        windows = Windows(data, statistics, lead_days=3, input_days=3)
        for part in windows.in_periods(split.train, "training"):     one part a block of the map
            features, target, valid = part.batch(np.array([0, 1]))   samples 0 and 1 of that block

    A map that fits in memory is one block, which is read once and shared by all periods. Of a larger map, each part
    holds one block, and the next block is read while the last one is used.

    data              a data set on disk, or a record in memory
    statistics        of the training period; None: those of the record
    periods           spans of target days; None: all days with a full window
    name              of the period, for error messages
    predictors        what the model sees of each input day, and `static`, which maps (utils/dataset/predictors.py)
    receptive_radius  cells that a forecast sees beyond its own; None: all, so that the whole map is held in memory
    patch             side in cells of what the model learns from; None: whole maps, or PATCH where the map is in blocks
    hidden            where the inputs lack soil moisture
    weather           the weather after the last input day that the model knows

    Target days without a full window, because the record starts there or has a gap, are left out and counted in
    `skipped`. Raises UserError where a period is left without a sample, and where known weather is missing.
    """

    def __init__(
        self,
        data: DataSet | Record,
        statistics: Statistics | None = None,
        *,
        lead_days: int,
        input_days: int,
        periods: tuple[Span, ...] | None = None,
        name: str = "",
        predictors: tuple[str, ...] = tuple(VARIABLES),
        static: tuple[str, ...] = (),
        receptive_radius: int | None = None,
        patch: int | None = None,
        hidden: Bool[np.ndarray, "time lon"] | None = None,
        weather: KnownWeather | None = None,
    ):
        self.data, self.lead_days, self.input_days = data, lead_days, input_days
        self.predictors, self.static, self.receptive_radius = predictors, static, receptive_radius
        self.hidden, self.weather = hidden, weather
        self.behind: dict[str, int] = {}  # days by which predictors end before the last input day: see `with_late`
        self._in_memory: dict[str, Any] = {}  # of the only block; periods of the same windows share it
        if isinstance(data, Record):
            self.statistics, self.patch = data.statistics, patch
            self.blocks = tiles(data.grid.shape, max(data.grid.shape))
            self._in_memory["record"] = data
        else:
            self.statistics = statistics
            self._choose_blocks(data, patch)
        if periods is None:
            self.periods, self.name, self.skipped = None, name, 0
            self.target_index = with_days_before(np.arange(len(data.days)), data.days, self._reach)
        else:
            self._choose_periods(periods, name)

    def _choose_blocks(self, data: DataSet, patch: int | None) -> None:
        maps = len(channels_of_day(self.predictors)) + (self.weather.maps if self.weather else 0)
        in_blocks = self.receptive_radius is not None and data.large(maps)
        self.patch = PATCH if in_blocks and patch is None else patch
        if in_blocks:
            blocks = data.blocks(halo=self.receptive_radius, multiple=self.patch, maps=maps)
            scored = [block for block in blocks if self.statistics.scored[block.own].any()]
            self.blocks = scored or blocks[:1]  # windows need a block, even where no cell is scored
        else:
            self.blocks = tiles(data.grid.shape, max(data.grid.shape))

    def _choose_periods(self, periods: tuple[Span, ...], name: str) -> None:
        self.periods, self.name, days = periods, name, self.data.days
        wanted = np.flatnonzero(in_spans(days, periods))
        self.target_index = with_days_before(wanted, days, self._reach)
        self.skipped = len(wanted) - len(self.target_index)
        if not len(self.target_index):
            raise UserError(
                f"The {name} period {format_periods(periods)} has {len(wanted)} days in the record ({days[0]} to "
                f"{days[-1]}) but no full window: {self.input_days} input days and a lead of {self.lead_days} need "
                f"{self._reach + 1} days in a row."
            )
        if self.weather:
            self.weather.require(self.init_time, self.data.grid, name)

    @property
    def _reach(self) -> int:
        """Days from the first input day to the target day."""
        return self.lead_days + self.input_days - 1

    def in_periods(self, periods: tuple[Span, ...], name: str, input_days: int | None = None) -> "Windows":
        """The same with other target days and, if given, other input days. Raises UserError as the class does."""
        windows = copy.copy(self)
        windows.input_days = input_days or self.input_days
        windows._choose_periods(periods, name)
        return windows

    def with_late(self, behind: Mapping[str, int]) -> "Windows":
        """The same where these variables end some days before each last input day, and are missing from then on."""
        windows = copy.copy(self)
        windows.behind = {name: days for name, days in behind.items() if days > 0 and name in self.predictors}
        return windows

    def hiding(self, hidden: Bool[np.ndarray, "time lon"]) -> "Windows":
        """The same with inputs that lack soil moisture where it is hidden; the targets stay."""
        windows = copy.copy(self)
        windows.hidden, windows._in_memory = hidden, {}
        return windows

    def permuted(self, channel: int, seed: int = 0) -> "Windows":
        """The same, but each sample has the maps of one channel from another sample, drawn at random."""
        return _Permuted(self, channel, np.random.default_rng(seed).permutation(len(self)))

    def patches(self, patches: list[Tile]) -> "Windows":
        """Each window once for each of these patches of its map."""
        return _Patches(self, patches)

    def __len__(self) -> int:
        """The number of windows, which is that of the target days."""
        return len(self.target_index)

    @property
    def valid_time(self) -> np.ndarray:
        """The target days, datetime64[D]."""
        return self.data.days[self.target_index]

    @property
    def init_time(self) -> np.ndarray:
        """The last input days, datetime64[D]."""
        return self.data.days[self.target_index - self.lead_days]

    def input_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch day"]:
        """Positions in the record of each sample's input days, oldest first."""
        return self.last_index(samples)[:, None] + np.arange(1 - self.input_days, 1)

    def last_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch"]:
        """Positions in the record of each sample's last input day."""
        return self.target_index[samples] - self.lead_days

    def require_targets(self) -> None:
        """Raises UserError where no target is valid. The statistics must be of this data set, not of a checkpoint."""
        if not self.statistics.observed_cells[self.target_index].any():
            first, last = self.valid_time[0], self.valid_time[-1]
            raise UserError(f"The {self.name} period has no valid soil moisture on its target days, {first} to {last}.")

    def __iter__(self) -> Iterator["Windows"]:
        """The windows of each block, in memory, in the order of the blocks."""
        return self._parts(self.blocks)

    def shuffled(self) -> Iterator["Windows"]:
        """What an epoch goes through: the blocks in a random order, cut into patches."""
        blocks = self.blocks
        if len(blocks) > 1:
            blocks = [blocks[i] for i in torch.randperm(len(blocks))]
        for part in self._parts(blocks):
            yield part.patches(self._patches_of(part.blocks[0])) if self.patch else part

    @property
    def epoch_size(self) -> int:
        """Samples in an epoch: windows, or patches of them."""
        return len(self) * sum(len(self._patches_of(block)) for block in self.blocks)

    def of(self, block: Tile) -> "Windows":
        """The windows of one block, which is read when it is needed."""
        if self.blocks == [block]:
            return self
        part = copy.copy(self)
        part.blocks, part._in_memory = [block], {}
        return part

    def _parts(self, blocks: list[Tile]) -> Iterator["Windows"]:
        parts = (self.of(block) for block in blocks)
        return prefetch(part.load() for part in parts) if len(blocks) > 1 else parts

    def _patches_of(self, block: Tile) -> list[Tile]:
        """Patches of a block with cells to learn from, in the block's own coordinates."""
        if not self.patch:
            return [block]
        scored = self.statistics.scored[block.window] & block.mask()
        patches = tiles(scored.shape, self.patch, self.receptive_radius or 0, within=block)
        chosen = [patch for patch in patches if scored[patch.own].any()]
        return chosen or patches[:1]  # an epoch needs a sample, even where no cell is scored

    @property
    def record(self) -> Record:
        """The only block, in memory. Raises ValueError where there are several: iterate over the windows then."""
        if "record" not in self._in_memory:
            self._in_memory["record"] = self._read()
        return self._in_memory["record"]

    def load(self) -> "Windows":
        """Read what `batch` needs of the only block, so that a thread can do it ahead; returns these windows."""
        _ = self.record
        return self

    def _read(self) -> Record:
        if len(self.blocks) > 1:
            raise ValueError(f"these windows lie in {len(self.blocks)} blocks: iterate over them")
        block = self.blocks[0]
        whole = block.mask().shape == self.data.grid.shape
        ds = self.data.read(WHOLE if whole else block.window)
        statistics = self.statistics.part(block.window)
        return Record(
            ds,
            statistics,
            predictors=self.predictors,
            static=self.static,
            own=block.mask(),
            hidden=None if self.hidden is None else self.hidden[:, None, block.columns],
            weather=self.weather.read(ds, statistics, block.window) if self.weather else None,
        )

    @property
    def observed(self) -> Float32[np.ndarray, "sample lat lon"]:
        """The targets in m3 m-3; NaN where they are not scored."""
        return self.record.observed[self.target_index]

    @property
    def input_age(self) -> Int16[np.ndarray, "sample lat lon"]:
        """Days from the last observation of soil moisture to the last input day; -1 where there is none."""
        return self.record.input_age[self.target_index - self.lead_days]

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        """The samples of these numbers, 0 to len - 1."""
        target = self.record.target[torch.from_numpy(self.target_index[samples])]
        features, last = self.record.features[torch.from_numpy(self.input_index(samples))], self.last_index(samples)
        features = self.record.with_late_inputs(features, last, self.behind)
        return scaled_batch(self.record.beside(features, last), target, self.record.statistics)


class _Permuted(Windows):
    """See Windows.permuted."""

    def __init__(self, windows: Windows, channel: int, order: Int[np.ndarray, "sample"]):
        self.windows, self.channel, self.order = windows, channel, order

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def record(self) -> Record:
        return self.windows.record

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        batch, other = self.windows.batch(samples), self.windows.batch(self.order[samples])
        batch.features[:, :, self.channel] = other.features[:, :, self.channel]
        return batch


class _Patches(Windows):
    """See Windows.patches. Sample i is patch i mod P of window i div P, where P is the number of patches."""

    def __init__(self, windows: Windows, patches: list[Tile]):
        self.windows, self.tiles = windows, patches
        self.masks = torch.from_numpy(np.stack([patch.mask() for patch in patches]))

    def __len__(self) -> int:
        return len(self.windows) * len(self.tiles)

    @property
    def record(self) -> Record:
        return self.windows.record

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        window, patch = np.divmod(samples, len(self.tiles))
        record, inputs, targets = self.record, self.windows.input_index(window), self.windows.target_index[window]
        features = []
        target = torch.empty((len(samples), *self.masks.shape[1:]))
        for sample, (days, day, number) in enumerate(zip(inputs, targets, patch, strict=True)):
            cells = self.tiles[number].window
            maps = record.features[int(days[0]) : int(days[-1]) + 1, :, *cells]
            features.append(record.beside(maps[None], days[-1:], cells)[0])
            target[sample] = record.target[int(day), *cells]
        target[~self.masks[torch.from_numpy(patch)]] = torch.nan
        return scaled_batch(torch.stack(features), target, record.statistics)


def scaled_batch(
    features: Float[Tensor, "batch day channel lat lon"], target: Float[Tensor, "batch lat lon"], scale: Statistics
) -> Batch:
    """`target` is in m3 m-3, matched, NaN where it does not count."""
    scaled = (target - float(scale.low[MOISTURE])) / float(scale.span[MOISTURE])
    valid = torch.isfinite(target)
    return Batch(features, torch.where(valid, scaled, 0), valid)


def index_batches(count: int, size: int) -> Iterator[Int[np.ndarray, "batch"]]:
    """Sample numbers 0 … count − 1 in order, `size` at a time."""
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))
