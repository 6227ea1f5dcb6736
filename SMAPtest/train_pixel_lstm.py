"""Train the pixel LSTM, one LSTM shared by all cells, on SMAP alone: the target task without transfer.

From the root of the repository:

    python SMAPtest/train_pixel_lstm.py
    python SMAPtest/train_pixel_lstm.py --lead-days 7 --epochs 5
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from utils.common.grid import Grid
from utils.common.periods import Period, Periods
from utils.experiment import train
from utils.models.pixel_lstm import PixelLSTM
from utils.settings import SAMPLE_SMAP, TargetSettings


@dataclass(kw_only=True)
class Settings(TargetSettings):
    data: Path = SAMPLE_SMAP  # a prepared data set; your own goes here (data/README.md)
    train: Periods = ("2015-03-31", "2017-03-30")  # target days to learn from: one or several START END pairs
    val: Period = ("2017-03-31", "2018-03-30")  # target days that choose the best epoch
    test: Period = ("2018-03-31", "2019-03-30")  # target days that score it, read by eval.py alone
    lead_days: int = 3  # forecast this many days after the last input day
    input_days: int | None = None  # days in the window; None: as many as lead_days
    predictors: tuple[str, ...] = ("precipitation", "soil_moisture", "soil_temperature")  # "season" can be added
    future_precipitation: bool = False  # see the rain of the days up to the target too: a perfect forecast of it
    future_temperature: bool = False  # the same of soil temperature
    future_from: Path | None = None  # a file of forecasts of them (docs/forecasts.md); None: the data set itself
    target_days: int | None = None  # learn from the last N days before the test period alone; None: train, val
    epochs: int = 20  # at most
    patience: int = 5  # stop after this many epochs without a better validation RMSE; 0: never
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    seed: int = 0  # of the initial weights and of the order of the samples
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"  # auto: bf16-mixed where the processor has it
    hidden: int = 64  # size of a cell's state
    patch: int | None = 8  # cells: side of what it learns from; None: whole maps


def build(settings: Settings, grid: Grid) -> nn.Module:
    return PixelLSTM(settings.hidden, settings.channels)


if __name__ == "__main__":
    train("SMAPtest/pixel_lstm", Settings, build)
