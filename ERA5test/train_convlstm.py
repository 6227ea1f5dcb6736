"""Train the ConvLSTM on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_convlstm.py
    python ERA5test/train_convlstm.py --lead-days 7 --head conv

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.convlstm import ConvLSTM, Head
from utils.settings import ERA5Settings, PretrainingNetworkSettings


@dataclass(kw_only=True)
class Settings(ERA5Settings, PretrainingNetworkSettings):
    # training
    epochs: int = 50  # at most; the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what --head pixel learns from; None: whole maps
    # architecture
    hidden: tuple[int, ...] = (8, 4)  # channels of the ConvLSTM layers
    kernel: int = 3  # cells
    head: Head = "linear"  # from the last hidden state to the map; no_relu and pixel are ours

    @property
    def variant(self) -> str:
        return "" if self.head == "linear" else f"_{self.head}"


def build(settings: Settings, grid: Grid) -> nn.Module:
    return ConvLSTM(grid, settings.hidden, settings.kernel, settings.head, settings.channels)


if __name__ == "__main__":
    train("ERA5test/convlstm", Settings, build)
