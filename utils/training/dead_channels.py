"""Channels that the ReLU before a dense map keeps closed.

A channel is dead where the ReLU gives 0 in every cell for every training sample. Then it adds nothing to any forecast,
and nothing before it gets a gradient through it. If all channels are dead, every forecast is the same map.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from utils.data_processing import Windows
from utils.training.inference import forecast_batches


class Channels(NamedTuple):
    """The channels that come out of a model's ReLU."""

    dead: int
    all: int


def count_dead_channels(model: nn.Module, training: Windows, batch_size: int, device: torch.device) -> Channels | None:
    """How many channels of the model's ReLU are dead on the training samples; None where it has no ReLU.

    The weights and the random state stay as they are.
    """
    relu = next((module for module in model.modules() if isinstance(module, nn.ReLU)), None)
    if relu is None:
        return None
    opened: list[Bool[Tensor, "channel"]] = []  # in one batch each
    hook = relu.register_forward_hook(lambda module, inputs, maps: opened.append((maps > 0).amax(dim=(0, 2, 3))))
    try:
        alive = torch.zeros(0, dtype=torch.bool, device=device)
        for windows in training:
            for _ in forecast_batches(model, windows, batch_size, device):
                now_open = opened.pop()
                alive = now_open | alive if len(alive) else now_open
                if alive.all():
                    return Channels(0, len(alive))
    finally:
        hook.remove()
    return Channels(int((~alive).sum()), len(alive))
