"""From a prepared data set to the models' samples (contract 2).

A sample is a window of `input_days` daily maps of precipitation, soil moisture and soil temperature, and the
soil-moisture map `lead_days` after its last day: features [N, input_days, 3, H, W], target [N, H, W].

How missing values are met:
- A cell is scored if it has any valid soil moisture before the test period. In all other cells every input is
  OUTSIDE, and nothing is learned or scored there.
- Missing soil moisture and temperature of a scored cell become its last earlier valid value, never across a gap in
  `time` and never a later one; before the first valid value, the cell's mean over the training period; where there is
  none, the mean over cells. Missing precipitation becomes that mean at once: rain does not persist.
- A variable that is not among the predictors is OUTSIDE everywhere, so that the model and its first weights stay what
  they are with it; the season, if it is one, adds two channels.
- Missing targets are left out of the loss and of the metrics.
- Nothing of a later day than the last input day is seen, unless a model is to know the weather of the days up to the
  target (`WeatherMaps`): then each of their maps is one more channel, the same on every input day.

Where a run is matched to the climate of its pre-training (utils/dataset/bias_correction.py), soil moisture is carried
there by its cell's knots before it is scaled, as input and as target, and a forecast is carried back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int16
from torch import Tensor

from utils.common.cli import UserError
from utils.common.grid import WHOLE, Tile, tiles
from utils.common.parallel import prefetch
from utils.common.periods import Span, in_spans, named
from utils.dataset.blocks import DataSet
from utils.dataset.prepared import (
    VARIABLES,
)
from utils.dataset.record import Record
from utils.dataset.statistics import MOISTURE, Statistics
from utils.dataset.weather_forecasts import KnownWeather


class Batch(NamedTuple):
    """Some samples: scaled features and target, and where the target is valid."""

    features: Float[Tensor, "batch day channel lat lon"]
    target: Float[Tensor, "batch lat lon"]  # scaled; 0 where not valid
    valid: Bool[Tensor, "batch lat lon"]


class Windows:
    """The samples of a record whose target days lie in `periods`, as index arithmetic: nothing is copied.

    Target days without a full window, because the record starts there or has a gap, are left out and counted in
    `skipped`. Raises UserError when no sample is left.
    """

    def __init__(self, record: Record, periods: tuple[Span, ...], lead_days: int, input_days: int, name: str):
        self.record, self.lead_days, self.input_days = record, lead_days, input_days
        self.target_index, self.skipped = target_days(record.days, periods, lead_days, input_days, name)

    def __len__(self) -> int:
        return len(self.target_index)

    @property
    def valid_time(self) -> np.ndarray:
        """The target days."""
        return self.record.days[self.target_index]

    @property
    def init_time(self) -> np.ndarray:
        """The last input days."""
        return self.record.days[self.target_index - self.lead_days]

    @property
    def observed(self) -> Float32[np.ndarray, "sample lat lon"]:
        """The target in m3 m-3, NaN where not scored."""
        return self.record.observed[self.target_index]

    @property
    def input_age(self) -> Int16[np.ndarray, "sample lat lon"]:
        """Days from the last observation of soil moisture to the last input day; -1 where there is none."""
        return self.record.age[self.target_index - self.lead_days]

    def input_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch day"]:
        """Positions in the record of each sample's input days, oldest first."""
        return self.last_index(samples)[:, None] + np.arange(1 - self.input_days, 1)

    def last_index(self, samples: Int[np.ndarray, "batch"]) -> Int[np.ndarray, "batch"]:
        """Positions in the record of each sample's last input day."""
        return self.target_index[samples] - self.lead_days

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        target = self.record.target[torch.from_numpy(self.target_index[samples])]
        features = self.record.features[torch.from_numpy(self.input_index(samples))]
        if self.record.ahead:
            features = beside(features, self.record.ahead.channels(self.last_index(samples)))
        return scaled_batch(features, target, self.record.statistics)


class Permuted(Windows):
    """Windows whose maps of one channel come from another sample each: its values, without their link to the target."""

    def __init__(self, windows: Windows, channel: int, seed: int = 0):
        self.__dict__.update(windows.__dict__)
        self.channel, self.order = channel, np.random.default_rng(seed).permutation(len(windows))

    def batch(self, samples: Int[np.ndarray, "batch"]) -> Batch:
        batch, other = super().batch(samples), super().batch(self.order[samples])
        batch.features[:, :, self.channel] = other.features[:, :, self.channel]
        return batch


def beside(
    features: Float[Tensor, "batch day channel lat lon"], ahead: Float[Tensor, "batch map lat lon"]
) -> Float[Tensor, "batch day channels lat lon"]:
    """The features with the maps of the days ahead added to each input day, the same on each."""
    return torch.cat([features, ahead[:, None].expand(-1, features.shape[1], -1, -1, -1)], dim=2)


def scaled_batch(
    features: Float[Tensor, "batch day channel lat lon"], target: Float[Tensor, "batch lat lon"], scale: Statistics
) -> Batch:
    """`target` is in m3 m-3, matched, NaN where it does not count."""
    scaled = (target - float(scale.low[MOISTURE])) / float(scale.span[MOISTURE])
    valid = torch.isfinite(target)
    return Batch(features, torch.where(valid, scaled, 0), valid)


def target_days(
    days: np.ndarray, periods: tuple[Span, ...], lead_days: int, input_days: int, name: str
) -> tuple[Int[np.ndarray, "sample"], int]:
    """Positions of the target days in these periods that have a full window, and how many have none.

    Raises UserError when none has.
    """
    reach = lead_days + input_days - 1
    wanted = np.flatnonzero(in_spans(days, periods))
    later = wanted[wanted >= reach]
    index = later[days[later] - days[later - reach] == np.timedelta64(reach, "D")]
    if not len(index):
        raise UserError(
            f"The {name} period {named(periods)} has {len(wanted)} days in the record ({days[0]} to {days[-1]}) but "
            f"no full window: {input_days} input days and a lead of {lead_days} need {reach + 1} days in a row."
        )
    return index, len(wanted) - len(index)


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
        future: KnownWeather | None = None,
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
        return prefetch(made) if len(blocks) > 1 else made

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


def index_batches(count: int, size: int) -> Iterator[Int[np.ndarray, "batch"]]:
    """Sample numbers 0 … count − 1 in order, `size` at a time."""
    for first in range(0, count, size):
        yield np.arange(first, min(first + size, count))


PATCH = 32  # cells: side of the patches that a larger data set is learned from, where the script says nothing
