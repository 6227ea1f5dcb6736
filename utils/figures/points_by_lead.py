"""Panels in which each model has a group of points side by side, one point a lead."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from utils.figures.style import DOT, GRID, MARKERS, STRIPES, mark_clipped

LEADS = "Blues"
GROUP = 0.84  # share of a model's place that its points take


class LeadLook(NamedTuple):
    """How the points of one lead look, and where they stand beside the middle of a group that is 1 wide."""

    lead: int
    offset: float
    colour: np.ndarray  # RGBA
    marker: str


def lead_looks(leads: Iterable[int]) -> list[LeadLook]:
    """One look for each lead, light to dark and from left to right."""
    leads = sorted(set(leads))
    shades = colormaps[LEADS](np.linspace(0.25, 1, len(leads)) if len(leads) > 1 else [0.8])
    return [LeadLook(*look) for look in zip(leads, offsets(len(leads)), shades, cycle(MARKERS))]


def offsets(count: int) -> np.ndarray:
    """Where so many points of one group lie beside its middle."""
    return GROUP / count * (np.arange(count) - (count - 1) / 2)


def lead_keys(looks: Sequence[LeadLook]) -> list[Line2D]:
    """An entry of the legend for each lead."""
    return [
        Line2D([], [], color=look.colour, label=f"lead {look.lead} d", **DOT | {"marker": look.marker})
        for look in looks
    ]


def prepare_groups(ax: Axes, models: Sequence[str]) -> None:
    """A place on the x axis for each model, every other one shaded."""
    ax.set_xlim(-0.5, len(models) - 0.5)
    for x in range(1, len(models), 2):
        ax.axvspan(x - 0.5, x + 0.5, **STRIPES)
    ax.set_xticks(range(len(models)), models, rotation=35, ha="right", rotation_mode="anchor")
    ax.tick_params(axis="x", length=0)
    ax.locator_params(axis="y", nbins=6, steps=[1, 2, 5, 10])
    ax.grid(**GRID)
    ax.set_axisbelow(True)


def draw_points(ax: Axes, rows: pd.DataFrame, models: Sequence[str], looks: Sequence[LeadLook]) -> bool:
    """Draw the intervals and points of every model and lead; returns whether any point lies off the axis.

    `rows`: model, lead_days, value, low, high (NaN: no interval) and, if points can be hollow, filled.
    """
    clipped = False
    for look in looks:
        part = rows[rows["lead_days"] == look.lead]
        x = part["model"].map(models.index).to_numpy(float) + look.offset
        faces = np.tile(look.colour, (len(part), 1))
        if "filled" in part:
            faces[~part["filled"].to_numpy(bool)] = 1.0
        ax.vlines(x, part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
        ax.scatter(x, part["value"], s=16, c=faces, marker=look.marker, edgecolor="0.2", linewidth=0.6, zorder=4)
        clipped |= mark_clipped(ax, x, part["value"].to_numpy(float), faces)
    return clipped
