"""The axes of many files as one: equal, overlapping, or neighbouring pieces of one axis."""

from collections.abc import Sequence

import numpy as np

SAME_CELL = 0.02  # of the grid spacing; float32 coordinates are off by less
LONE_CELL = 0.1  # degrees: the width of a point, such as one of the time-series service of ERA5-Land


def merge_axes(axes: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """The ascending union of the axes, and where the values of each are in it; None where they make no one grid.

    They make none where one is finer than another or shifted against it, and where a gap lies between pieces.
    """
    longest = max(axes, key=len)
    tolerance = SAME_CELL * min(np.diff(np.unique(longest)), default=LONE_CELL)
    values = np.sort(np.concatenate([longest, *[axis for axis in axes if axis is not longest]]))
    union = values[np.concatenate([[True], np.diff(values) > tolerance])]
    if len(union) == 1:
        return union, [np.zeros(len(axis), int) for axis in axes]
    positions = [_nearest(union, axis) for axis in axes]
    spacing = np.diff(union)
    uneven = spacing.max() - spacing.min() > 4 * tolerance
    partial = any(len(axis) != len(union) for axis in axes)
    with_holes = any(np.ptp(p) != len(np.unique(p)) - 1 for p in positions)
    return None if (uneven and partial) or with_holes else (union, positions)


def _nearest(union: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Positions of the values in the ascending union that are closest to these."""
    right = np.clip(np.searchsorted(union, values), 1, len(union) - 1)
    return np.where(np.abs(union[right - 1] - values) <= np.abs(union[right] - values), right - 1, right)
