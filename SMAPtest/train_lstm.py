"""Train the LSTM on SMAP alone: the target task without transfer.

    python SMAPtest/train_lstm.py
    python SMAPtest/train_lstm.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: SMAPSettings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.lstm import LSTM
from utils.settings import NetworkSettings, SMAPSettings


@dataclass(kw_only=True)
class Settings(SMAPSettings, NetworkSettings):
    # training
    epochs: int = 45  # at most; the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    # architecture
    hidden: int | None = None  # size of the state; None: the number of cells, as published


def build(settings: Settings, grid: Grid) -> nn.Module:
    return LSTM(grid, settings.hidden, settings.channels)


if __name__ == "__main__":
    train("SMAPtest/lstm", Settings, build)
