"""The table of trainers. A model names its own.

Only what trains imports this module, and only when it trains: Fabric takes a second to load, and evaluations, forecasts
and reports need none.
"""

from utils.training.change_net import ChangeNetTrainer
from utils.training.compact import CompactTrainer
from utils.training.loop import GradientDescent, start_fabric
from utils.training.trainer import Run, Trainer

TRAINERS: dict[str, type[Trainer]] = {
    "gradient_descent": GradientDescent,  # Adam on maps, the best epoch is kept
    "compact": CompactTrainer,  # a regression and small networks on single cells
    "change_net": ChangeNetTrainer,  # small convolutional networks on maps
}

__all__ = ["TRAINERS", "Run", "Trainer", "start_fabric"]
