"""Train the compact model on SMAP from the weights of ERA5test: the task with transfer.

    python finetune-SMAPtest/train_compact.py
    python finetune-SMAPtest/train_compact.py --lead-days 7 --known-ahead precipitation

Data, periods, lead time and seed of all scripts of this folder: FinetuneSettings in utils/settings.py.
The architecture is that of the pre-trained run.
"""

from dataclasses import dataclass
from typing import Literal

from utils.experiment import train
from utils.settings import FinetuneSettings


@dataclass(kw_only=True)
class Settings(FinetuneSettings):
    input_days: int | None = None  # days that the baselines beside it see; it needs no window itself. None: lead_days
    # training
    transfer: Literal["full", "head"] = "full"  # head: the regression alone learns, the networks stay
    prior_days: int = 1000  # days of SMAP that the land model's regression counts as
    epochs: int = 10  # of the networks; 0: the land model's regression as it is
    batch_size: int = 512  # samples of single cells per step
    lr: float = 1e-3  # highest learning rate of AdamW
    precision: Literal["auto", "32-true"] = "32-true"  # it is small: always 32 bit


if __name__ == "__main__":
    train("finetune-SMAPtest/compact", Settings)
