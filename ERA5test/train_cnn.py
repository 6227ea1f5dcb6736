"""Train the CNN on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_cnn.py
    python ERA5test/train_cnn.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.cnn import CNN
from utils.settings import ERA5Settings, PretrainingNetworkSettings


@dataclass(kw_only=True)
class Settings(ERA5Settings, PretrainingNetworkSettings):
    # training
    epochs: int = 30  # at most; the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    # architecture
    filters: int = 48  # channels of the convolution
    kernel: int = 3  # cells
    stride: int = 3  # cells


def build(settings: Settings, grid: Grid) -> nn.Module:
    return CNN(grid, settings.input_days, settings.filters, settings.kernel, settings.stride, settings.channels)


if __name__ == "__main__":
    train("ERA5test/cnn", Settings, build)
