"""Train change_net on SMAP from the weights of ERA5test: the target task with transfer.

    python finetune-SMAPtest/train_change_net.py
    python finetune-SMAPtest/train_change_net.py --lead-days 7 --known-ahead precipitation

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
    transfer: Literal["full"] = "full"  # all weights learn, as far as days held out allow
    epochs: int = 6  # 0: the weights of the land model as they are
    batch_size: int = 16  # days
    lr: float = 1e-3  # highest learning rate of AdamW


if __name__ == "__main__":
    train("finetune-SMAPtest/change_net", Settings)
