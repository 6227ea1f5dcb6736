"""The published training step, which ours is measured against: every window is a copy of its days, and the mask of the
land cells is read from its file in every step. The models are those of utils/models/reference.py, in 32 bit, with Adam
as it comes.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def windows(
    days: Float[np.ndarray, "time channel lat lon"], input_days: int, lead_days: int
) -> tuple[Float[np.ndarray, "sample day channel lat lon"], Float[np.ndarray, "sample lat lon"]]:
    """Every window as a copy of its days, and the soil moisture (channel 1) `lead_days` after its last."""
    starts = range(len(days) - input_days - lead_days + 1)
    features = np.stack([days[start : start + input_days] for start in starts])
    return features, np.stack([days[start + input_days - 1 + lead_days, 1] for start in starts])


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    features: Float[np.ndarray, "sample day channel lat lon"],
    target: Float[np.ndarray, "sample lat lon"],
    samples: np.ndarray,
    mask_file: Path,
) -> float:
    """One step on the samples of these numbers.

    Returns the loss: the mean square over the land cells of the mask in `mask_file`, scaled.
    """
    mask: Bool[Tensor, "lat lon"] = torch.from_numpy(np.load(mask_file))
    forecast = model(torch.from_numpy(features[samples]))
    loss = (forecast - torch.from_numpy(target[samples]))[:, mask].square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()
