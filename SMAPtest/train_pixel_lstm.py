"""Train the pixel LSTM, one LSTM shared by all cells, on SMAP alone: the target task without transfer.

    python SMAPtest/train_pixel_lstm.py
    python SMAPtest/train_pixel_lstm.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: SMAPSettings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.pixel_lstm import PixelLSTM
from utils.settings import NetworkSettings, SMAPSettings


@dataclass(kw_only=True)
class Settings(SMAPSettings, NetworkSettings):
    # training
    epochs: int = 20  # at most
    patience: int = 5  # stop after this many epochs without a better validation RMSE; 0: never
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = 8  # cells: side of what it learns from; None: whole maps
    # architecture
    hidden: int = 64  # size of a cell's state


def build(settings: Settings, grid: Grid) -> nn.Module:
    return PixelLSTM(settings.hidden, settings.channels)


if __name__ == "__main__":
    train("SMAPtest/pixel_lstm", Settings, build)
