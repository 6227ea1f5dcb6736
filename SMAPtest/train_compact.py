"""Train the compact model on SMAP alone: the target task without transfer.

From the root of the repository:

    python SMAPtest/train_compact.py
    python SMAPtest/train_compact.py --lead-days 7 --future-precipitation
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from utils.common.grid import Grid
from utils.common.periods import Period, Periods
from utils.experiment import train
from utils.models.compact import Compact
from utils.settings import SAMPLE_SMAP, TargetSettings


@dataclass(kw_only=True)
class Settings(TargetSettings):
    data: Path = SAMPLE_SMAP  # a prepared data set; your own goes here (data/README.md)
    train: Periods = ("2015-03-31", "2017-03-30")  # target days to learn from: one or several START END pairs
    val: Period = ("2017-03-31", "2018-03-30")  # target days that choose the best epoch
    test: Period = ("2018-03-31", "2019-03-30")  # target days that score it, read by eval.py alone
    lead_days: int = 3  # forecast this many days after the last input day
    input_days: int | None = None  # of the baselines beside it: its own memory has no window; None: lead_days
    future_precipitation: bool = False  # see the rain of the days up to the target too: a perfect forecast of it
    future_from: Path | None = None  # a file of forecasts of them (docs/forecasts.md); None: the data set itself
    target_days: int | None = None  # learn from the last N days before the test period alone; None: train, val
    epochs: int = 10  # of the networks
    batch_size: int = 512  # samples of single cells per step
    lr: float = 3e-3  # highest learning rate of AdamW
    seed: int = 0  # of the initial weights and of the order of the samples
    precision: Literal["auto", "32-true"] = "32-true"  # it is small: always 32 bit
    members: int = 4  # networks
    hidden: int = 16  # units of a network


def build(settings: Settings, grid: Grid) -> nn.Module:
    return Compact(settings.lead_days * settings.future_precipitation, settings.members, settings.hidden)


if __name__ == "__main__":
    train("SMAPtest/compact", Settings, build)
