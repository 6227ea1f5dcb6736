"""Train change_net on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_change_net.py
    python ERA5test/train_change_net.py --lead-days 7 --known-ahead precipitation

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass

from torch import nn

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.change_net import ChangeNet
from utils.settings import ERA5Settings


@dataclass(kw_only=True)
class Settings(ERA5Settings):
    input_days: int | None = None  # days that the baselines beside it see; it needs no window itself. None: lead_days
    # training
    pseudo_satellite_years: int = 48  # of each view, complete and with a satellite's gaps and noise
    epochs: int = 1  # each year is drawn and seen once
    batch_size: int = 16  # days
    lr: float = 3e-3  # highest learning rate of AdamW
    # architecture
    members: int = 4  # networks of a view
    kernel: int = 5  # cells: side of a filter


def build(settings: Settings, grid: Grid) -> nn.Module:
    ahead = settings.lead_days * len(settings.known_ahead)
    return ChangeNet(ahead, settings.members, settings.kernel, settings.variables.daily, settings.static)


if __name__ == "__main__":
    train("ERA5test/change_net", Settings, build)
