"""The models. Each maps features [batch, day, 3, H, W], scaled, to a soil-moisture map [batch, H, W], scaled.

A model free of the grid says how far it looks: `halo(input_days)`, in cells. Its weights serve any region and
resolution.
"""

from torch import nn

from utils.data_processing import Windows


def halo(model: nn.Module, input_days: int) -> int | None:
    """How many cells beyond a cell its forecast looks; None: the model is bound to its grid."""
    return model.halo(input_days) if hasattr(model, "halo") else None


def windows_of(model: nn.Module) -> type[Windows]:
    """What it sees of a record: the last days' maps, unless it says otherwise."""
    return getattr(model, "windows", Windows)
