"""Forest plots: a row for each forecast, in it a point with its 95 % interval for each lead, or for each other kind.

A point is filled where its interval excludes 0 and hollow where it does not; so it is in every figure (see style).
"""

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from utils.figures import style

PITCH = 0.085  # inches from one point of a row to the next
GAP = 0.08  # inches between the points of two rows
INTERVAL = Line2D([], [], color="0.4", linewidth=1, label="95 % interval")
NOTES = (INTERVAL, style.FILLED, style.HOLLOW)  # of every figure with points and their intervals
CLIPPED = Line2D([], [], color="0.6", label="off the axis", **style.DOT | {"marker": CARETLEFT})
_HALO = [withStroke(linewidth=1.5, foreground="white")]


class Look(NamedTuple):
    """How the points of one kind look: `key` is their value in the table, `label` their name in the legend."""

    key: object
    label: str
    colour: object
    marker: str


def lead_looks(leads: Iterable[int]) -> list[Look]:
    """One look for each lead, light to dark."""
    leads = sorted({int(lead) for lead in leads})
    shades = colormaps["viridis_r"](np.linspace(0.3, 0.95, len(leads)) if len(leads) > 1 else [0.7])
    return [
        Look(key=lead, label=f"lead {lead} d", colour=tuple(shade), marker=marker)
        for lead, shade, marker in zip(leads, shades, cycle(style.MARKERS))
    ]


def row_height(looks: Sequence[Look]) -> float:
    """Height of a row, inches."""
    return GAP + PITCH * len(looks)


def keys(looks: Sequence[Look], rows: pd.DataFrame, clipped: bool) -> list[Artist]:
    """The entries of the legend: each kind, the interval, filled and hollow, and the arrow where a point is clipped."""
    kinds = [Line2D([], [], color=look.colour, label=look.label, **style.DOT | _marker(look)) for look in looks]
    notes = NOTES if rows["low"].notna().any() else ()
    return [*kinds, *notes, CLIPPED] if clipped else [*kinds, *notes]


def percent_limits(points: pd.DataFrame) -> tuple[float, float]:
    """Limits of an axis of changes in per cent (value, low, high): 0 and all changes up to ±100 % are on it."""
    usual = points.loc[points["value"].abs() <= 100, "value"]
    ends = points[["value", "low", "high"]].to_numpy(float).ravel()
    return style.axis_limits(np.append(ends, 0.0), inside=[0.0, *usual])


def prepare_rows(ax: Axes, labels: Sequence[str], shaded: Sequence[bool] | None = None) -> None:
    """A place for each row from top to bottom; every other row is shaded, or those of `shaded`."""
    ax.set_ylim(len(labels) - 0.5, -0.5)
    for place in range(len(labels)):
        if shaded[place] if shaded else place % 2:
            ax.axhspan(place - 0.5, place + 0.5, **style.STRIPES)
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color="0.2", linewidth=0.6, zorder=2)
    ax.grid(**style.GRID | {"axis": "x"})
    ax.set_axisbelow(True)


def draw_points(ax: Axes, table: pd.DataFrame, rows: Sequence[str], looks: Sequence[Look], by: str) -> bool:
    """Draw the points and intervals of every row; returns whether any point lies off the axis.

    `table`: row (one of `rows`), the column `by` with the looks' keys, value, low, high (NaN: no interval). The limits
    of the x axis must be set before.
    """
    clipped = False
    pitch = PITCH / row_height(looks)
    for middle, row in enumerate(rows):
        part = table[table["row"] == row].set_index(by)
        there = [look for look in looks if look.key in part.index]
        for turn, look in enumerate(there):
            place = middle + pitch * (turn - (len(there) - 1) / 2)
            numbers = tuple(part.loc[look.key, ["value", "low", "high"]].astype(float))
            clipped |= _draw_point(ax, place, numbers, look)
    return clipped


def draw_upright_points(ax: Axes, x: ArrayLike, points: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw points with upright intervals at the places `x`: filled where the interval excludes 0, else hollow.

    `points` has a row a place: value, low, high (NaN: no interval). Where limits of the y axis are set before, an
    interval that crosses one is cut there.
    """
    style.draw_interval(ax, x, points[["low", "high"]], look["color"])
    for place, (value, low, high) in zip(x, points[["value", "low", "high"]].to_numpy(), strict=True):
        face = look["color"] if _excludes_zero(low, high) else "white"
        ax.plot(place, value, **look | {"markerfacecolor": face, "zorder": 4})


def _excludes_zero(low: float, high: float) -> bool:
    """Whether an interval leaves out 0; one that is not known (NaN) does not."""
    return bool(low > 0 or high < 0)


def _draw_point(ax: Axes, place: float, numbers: tuple[float, float, float], look: Look) -> bool:
    """One point; an arrow with the numbers where it lies off the axis, arrowheads where its interval alone does."""
    value, low, high = numbers
    left, right = ax.get_xlim()
    face = look.colour if _excludes_zero(low, high) else "white"
    marker = {"markersize": 4, "markerfacecolor": face, "markeredgecolor": look.colour, "linestyle": "none"}
    if not left <= value <= right:
        edge, arrow, side = (left, CARETLEFT, 1) if value < left else (right, CARETRIGHT, -1)
        ax.plot([edge], [place], **marker | {"marker": arrow, "gid": "clipped", "zorder": 5, "clip_on": False})
        how = {"xytext": (6 * side, 0), "textcoords": "offset points", "va": "center", "fontsize": 5}
        how |= {"ha": "left" if side > 0 else "right", "zorder": 6, "path_effects": _HALO}
        ax.annotate(_write(numbers), (edge, place), **how)
        return True
    ax.plot([max(low, left), min(high, right)], [place, place], color=look.colour, linewidth=1, zorder=3)
    for end, arrow in ((left, CARETLEFT), (right, CARETRIGHT)):
        if (low < left and end == left) or (high > right and end == right):
            head = {"marker": arrow, "markersize": 3, "color": look.colour, "gid": "cut", "clip_on": False}
            ax.plot([end], [place], linestyle="none", zorder=5, **head)
    ax.plot([value], [place], **marker | {"marker": look.marker, "markeredgewidth": 0.8, "gid": "point", "zorder": 4})
    return False


def _write(numbers: tuple[float, float, float]) -> str:
    value, low, high = (f"{number:.3g}".replace("-", "−") for number in numbers)
    return value if low == "nan" else f"{value} ({low} to {high})"


def _marker(look: Look) -> dict[str, object]:
    return {"marker": look.marker, "markeredgecolor": look.colour}
