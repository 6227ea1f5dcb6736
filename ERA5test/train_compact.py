"""Train the compact model on ERA5-Land: the source task, and the weights to transfer.

    python ERA5test/train_compact.py
    python ERA5test/train_compact.py --lead-days 7 --known-ahead precipitation

Data, periods, lead time and seed of all scripts of this folder: ERA5Settings in utils/settings.py.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn
from tyro.conf import arg

from utils.common.grid import Grid
from utils.experiment import train
from utils.models.compact import Compact
from utils.settings import ERA5Settings


@dataclass(kw_only=True)
class Settings(ERA5Settings):
    input_days: int | None = None  # days that the baselines beside it see; it needs no window itself. None: lead_days
    # training
    pseudo_satellite_years: Annotated[int, arg(aliases=["--episodes"])] = 12  # of gaps and noise like a satellite's
    epochs: int = 3  # of the networks
    batch_size: int = 2048  # samples of single cells per step
    lr: float = 3e-3  # highest learning rate of AdamW
    precision: Literal["auto", "32-true"] = "32-true"  # it is small: always 32 bit
    # architecture
    members: int = 4  # networks
    hidden: int = 16  # units of a network


def build(settings: Settings, grid: Grid) -> nn.Module:
    ahead = settings.lead_days * len(settings.known_ahead)
    return Compact(ahead, settings.members, settings.hidden, settings.variables.daily, settings.static)


if __name__ == "__main__":
    train("ERA5test/compact", Settings, build)
