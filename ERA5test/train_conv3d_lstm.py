"""Train the 3-D convolution + LSTM on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_conv3d_lstm.py
    python ERA5test/train_conv3d_lstm.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.conv3d_lstm import Conv3dLSTM
from utils.settings import ERA5Settings, PretrainingNetworkSettings


@dataclass(kw_only=True)
class Settings(ERA5Settings, PretrainingNetworkSettings):
    # training
    epochs: int = 20  # at most; the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    # architecture
    filters: int = 10  # channels of the convolution
    kernel: int = 3  # cells, and stride
    hidden: int | None = None  # size of the state; None: the number of cells, as published


def build(settings: Settings, grid: Grid) -> nn.Module:
    return Conv3dLSTM(grid, settings.filters, settings.kernel, settings.hidden, settings.channels)


if __name__ == "__main__":
    train("ERA5test/conv3d_lstm", Settings, build)
