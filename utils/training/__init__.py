"""How models are fitted, and the files of a run. A model names its trainer; `TRAINERS` is the table of them."""

from utils.training.compact import CompactTrainer
from utils.training.loop import GradientDescent
from utils.training.trainer import Run, Trainer

TRAINERS: dict[str, type[Trainer]] = {
    "gradient_descent": GradientDescent,  # Adam on maps, the best epoch is kept
    "compact": CompactTrainer,  # a regression and small networks on single cells
}

__all__ = ["TRAINERS", "Run", "Trainer"]
