"""Train the LSTM on SMAP from the weights of ERA5test: the target task with transfer.

    python finetune-SMAPtest/train_lstm.py
    python finetune-SMAPtest/train_lstm.py --lead-days 7 --epochs 5

Data, periods, lead time and seed of all scripts of this folder: FinetuneSettings in utils/settings.py.
The architecture is that of the pre-trained run.
"""

from dataclasses import dataclass

from utils.experiment import train
from utils.settings import FinetuneSettings, FinetuningNetworkSettings


@dataclass(kw_only=True)
class Settings(FinetuneSettings, FinetuningNetworkSettings):
    # training
    epochs: int = 30  # at most; the published number
    batch_size: int = 128  # samples per step
    lr: float = 1e-3  # learning rate of Adam


if __name__ == "__main__":
    train("finetune-SMAPtest/lstm", Settings)
