"""Train the ConvMixer, a network without recurrence, on SMAP from the weights of ERA5test: the task with transfer.

    python finetune-SMAPtest/train_conv_mixer.py
    python finetune-SMAPtest/train_conv_mixer.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: FinetuneSettings in utils/settings.py.
The architecture is that of the pre-trained run.
"""

from dataclasses import dataclass
from typing import Literal

from utils.experiment import train
from utils.settings import FinetuneSettings, FinetuningNetworkSettings


@dataclass(kw_only=True)
class Settings(FinetuneSettings, FinetuningNetworkSettings):
    forecast: Literal["value", "change"] = "change"  # of soil moisture: itself, or its change since the last input day
    # training
    epochs: int = 40  # at most
    patience: int = 3  # stop after this many epochs without a better validation RMSE; 0: never
    batch_size: int = 16  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what it learns from; None: whole maps


if __name__ == "__main__":
    train("finetune-SMAPtest/conv_mixer", Settings)
