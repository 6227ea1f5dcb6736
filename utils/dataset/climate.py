"""How soil moisture is distributed in each cell, and monotone maps from one distribution to another."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

LEVELS = (np.arange(11) + 0.5) / 11  # of the quantiles: the middles of eleven equal parts of the days
TERMS = 1 + len(LEVELS)


def climate_of(
    values: Float[np.ndarray, "time cell"], levels: Float[np.ndarray, "level"] = LEVELS
) -> Float[np.ndarray, "term cell"]:
    """The standard deviation of each cell's valid values, then their quantiles; NaN where there is none.

    Quantiles are interpolated between order statistics as numpy does by default. Sorts `values` in place.
    """
    if not len(values):
        return np.full((1 + len(levels), values.shape[1]), np.nan)
    values.sort(axis=0)  # NaN last
    count = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(count, 1)
    deviation = np.sqrt(np.nansum(np.square(values - mean), axis=0) / np.maximum(count, 1))
    position = levels[:, None] * np.maximum(count - 1, 0)
    below: Int[np.ndarray, "level cell"] = position.astype(int)
    low, high = (np.take_along_axis(values, np.minimum(below + i, np.maximum(count - 1, 0)), axis=0) for i in (0, 1))
    return np.where(count > 0, np.vstack([deviation, low + (position - below) * (high - low)]), np.nan)


def carried(
    values: Float[Tensor, "*sample lat lon"],
    start: Float32[np.ndarray, "knot lat lon"],
    end: Float32[np.ndarray, "knot lat lon"],
) -> Float[Tensor, "*sample lat lon"]:
    """Each cell's values by the straight lines between its knots, from `start` to `end`; the outer lines go on.

    With strictly increasing knots the way back is `carried(values, end, start)`. NaN stays NaN.
    """
    x, y = (torch.from_numpy(np.ascontiguousarray(knots)).to(values.device) for knots in (start, end))
    slope = y.diff(dim=0) / x.diff(dim=0)
    found = y[0] + slope[0] * (values - x[0])
    for i in range(1, len(slope)):
        found = torch.where(values < x[i], found, y[i] + slope[i] * (values - x[i]))
    return found
