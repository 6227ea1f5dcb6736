"""Train the ConvMixer, a network without recurrence, on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_conv_mixer.py
    python ERA5test/train_conv_mixer.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.conv_mixer import ConvMixer
from utils.settings import ERA5Settings, PretrainingNetworkSettings


@dataclass(kw_only=True)
class Settings(ERA5Settings, PretrainingNetworkSettings):
    forecast: Literal["value", "change"] = "change"  # of soil moisture: itself, or its change since the last input day
    # training
    epochs: int = 40  # at most
    patience: int = 3  # stop after this many epochs without a better validation RMSE; 0: never
    batch_size: int = 16  # samples per step
    lr: float = 6e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what it learns from; None: whole maps
    # architecture
    width: int = 48  # channels
    depth: int = 3  # blocks
    kernel: int = 5  # cells: side of the filters of a block


def build(settings: Settings, grid: Grid) -> nn.Module:
    return ConvMixer(settings.input_days, settings.width, settings.depth, settings.kernel, settings.channels)


if __name__ == "__main__":
    train("ERA5test/conv_mixer", Settings, build)
