"""Train the ConvLSTM on SMAP from the weights of ERA5test: the target task with transfer.

    python finetune-SMAPtest/train_convlstm.py
    python finetune-SMAPtest/train_convlstm.py --lead-days 7 --head conv

Data, periods, lead time and seed of all scripts of this folder: FinetuneSettings in utils/settings.py.
The architecture is that of the pre-trained run.
"""

from dataclasses import dataclass

from utils.experiment import train
from utils.models.convlstm import Head
from utils.settings import FinetuneSettings, FinetuningNetworkSettings


@dataclass(kw_only=True)
class Settings(FinetuneSettings, FinetuningNetworkSettings):
    # training
    epochs: int = 50  # at most; the published number
    batch_size: int = 64  # samples per step
    lr: float = 1e-3  # learning rate of Adam
    patch: int | None = None  # cells: side of what --head pixel learns from; None: whole maps
    # architecture: which of the pre-trained runs
    head: Head = "linear"  # from the last hidden state to the map; no_relu and pixel are ours

    @property
    def variant(self) -> str:
        return "" if self.head == "linear" else f"_{self.head}"


if __name__ == "__main__":
    train("finetune-SMAPtest/convlstm", Settings)
