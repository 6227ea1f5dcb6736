"""A ConvMixer (Trockman and Kolter 2022) without patches: a network without recurrence, as SimVP forecasts video.

Days and variables are channels. Each block mixes the cells around by one wide filter a channel, then the channels of
each cell. Its weights serve any grid. Plain definition: `ConvMixer` in utils/models/reference.py.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from utils.models import ForecastModel


class MixerBlock(nn.Module):
    """maps + GELU(depthwise convolution) → 1×1 convolution → GELU."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.around = nn.Conv2d(width, width, kernel, padding="same", groups=width)
        self.across = nn.Conv2d(width, width, 1)
        self.gelu = nn.GELU()

    def forward(self, maps: Float[Tensor, "batch width lat lon"]) -> Float[Tensor, "batch width lat lon"]:
        return self.gelu(self.across(maps + self.gelu(self.around(maps))))


class ConvMixer(ForecastModel):
    """1×1 convolution (channels·days → width) → GELU → blocks → 1×1 convolution to one channel, which is the map."""

    def __init__(self, input_days: int, width: int = 48, depth: int = 3, kernel: int = 5, channels: int = 3):
        super().__init__()
        self.radius = depth * (kernel // 2)
        self.embed = nn.Sequential(nn.Conv2d(input_days * channels, width, 1), nn.GELU())
        self.blocks = nn.Sequential(*(MixerBlock(width, kernel) for _ in range(depth)))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, features: Float[Tensor, "batch day channel lat lon"]) -> Float[Tensor, "batch lat lon"]:
        days = features.flatten(1, 2).contiguous(memory_format=torch.channels_last)  # twice as fast on a processor
        return self.head(self.blocks(self.embed(days))).squeeze(1)

    def receptive_radius(self, input_days: int) -> int:
        """Half a kernel for each block."""
        return self.radius
