"""Train the compact model on ERA5-Land: the source task, and the weights to transfer.

From the root of the repository:

    python ERA5test/train_compact.py
    python ERA5test/train_compact.py --lead-days 7 --future-precipitation
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from torch import nn
from tyro.conf import arg

from utils.common.grid import Grid
from utils.common.periods import Period, Periods
from utils.experiment import train
from utils.models.compact import Compact
from utils.settings import SAMPLE_ERA5, SourceSettings


@dataclass(kw_only=True)
class Settings(SourceSettings):
    data: Path = SAMPLE_ERA5  # a prepared data set; your own goes here (data/README.md)
    train: Periods = ("2009-03-31", "2016-03-30")  # target days to learn from: one or several START END pairs
    val: Period = ("2016-03-31", "2017-03-30")  # target days that choose the best epoch
    test: Period = ("2017-03-31", "2018-03-30")  # target days that score it, read by eval.py alone
    lead_days: int = 3  # forecast this many days after the last input day
    input_days: int | None = None  # of the baselines beside it: its own memory has no window; None: lead_days
    future_precipitation: bool = False  # see the rain of the days up to the target too: a perfect forecast of it
    future_from: Path | None = None  # a file of forecasts of them (docs/forecasts.md); None: the data set itself
    pseudo_satellite_years: Annotated[int, arg(aliases=["--episodes"])] = 12  # of gaps and noise like a satellite's
    epochs: int = 3  # of the networks
    batch_size: int = 2048  # samples of single cells per step
    lr: float = 3e-3  # highest learning rate of AdamW
    seed: int = 0  # of the initial weights and of the order of the samples
    precision: Literal["auto", "32-true"] = "32-true"  # it is small: always 32 bit
    members: int = 4  # networks
    hidden: int = 16  # units of a network


def build(settings: Settings, grid: Grid) -> nn.Module:
    return Compact(settings.lead_days * settings.future_precipitation, settings.members, settings.hidden)


if __name__ == "__main__":
    train("ERA5test/compact", Settings, build)
