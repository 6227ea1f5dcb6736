"""Train the ConvLSTM on SMAP alone: the target task without transfer.

    python SMAPtest/train_convlstm.py --lead-days 7 --head conv

Data, periods, lead time and seed of all scripts of this folder: SMAPSettings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.convlstm import ConvLSTM, Head
from utils.settings import NetworkSettings, SMAPSettings


@dataclass(kw_only=True)
class Settings(SMAPSettings, NetworkSettings):
    # training
    epochs: int | None = None  # None: the published number, 20 for the conv head and 30 for the others
    batch_size: int = 64  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what --head pixel learns from; None: whole maps
    # architecture
    hidden: tuple[int, ...] = (8, 4)  # channels of the ConvLSTM layers
    kernel: int = 3  # cells
    head: Head = "linear"  # from the last hidden state to the map; no_relu and pixel are ours

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
