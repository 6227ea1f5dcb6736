"""Train the ConvLSTM on SMAP alone: the target task without transfer.

    python SMAPtest/train_convlstm.py --lead-days 7 --head conv

Data, periods, lead time and seed of all scripts of this folder: SMAPSettings in utils/settings.py.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.convlstm import ConvLSTM
from utils.settings import NetworkSettings, SMAPSettings


@dataclass(kw_only=True)
class Settings(SMAPSettings, NetworkSettings):
    # training
    epochs: int | None = None  # None: the published number, 30 for the linear head and 20 for the conv head
    batch_size: int = 64  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what --head pixel learns from; None: whole maps
    # architecture
    hidden: tuple[int, ...] = (8, 4)  # channels of the ConvLSTM layers
    kernel: int = 3  # cells
    head: Literal["linear", "conv", "pixel"] = "linear"  # from the last hidden state to the map; pixel: any grid

    @property
    def variant(self) -> str:
        return "" if self.head == "linear" else f"_{self.head}"

    @property
    def published_epochs(self) -> int:
        return 20 if self.head == "conv" else 30


def build(settings: Settings, grid: Grid) -> nn.Module:
    return ConvLSTM(grid, settings.hidden, settings.kernel, settings.head, settings.channels)


if __name__ == "__main__":
    train("SMAPtest/convlstm", Settings, build)
