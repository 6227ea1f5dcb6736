"""The figure of the limit: how much of the predictable each model has learned."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.figures.scatter import CLIPPED, DOT, INTERVAL, WORST_SKILL, group_steps, lead_shades, legend
from utils.figures.style import DOUBLE, MODELS, STYLE, axis_limits, mark_clipped, new_figure, ordered, save
from utils.scores.baselines import BASELINES

_PANELS = {"SMAPtest": "baselines, and models from scratch", "finetune-SMAPtest": "models with transfer"}
_MARKERS = "os^Dv"  # of the leads, where shades alone would not do


def draw_shares(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the share of the predictable that models have learned, by lead: a panel without and one with transfer.

    `table`: experiment, model (baselines too), lead_days, share (0: persistence, 1: the limit), low, high (95 %).
    A share that would ruin the axis, in any case below −1, is marked on its edge and written.
    Raises UserError when the table holds no share.
    """
    save(_shares_figure(table, title), path, vector=True)


@rc_context(STYLE)
def _shares_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: from scratch, with the baselines; with transfer."""
    table = table[np.isfinite(table["share"]) & (table["model"] != "persistence")]  # which is 0 by definition
    if table.empty:
        raise UserError("Shares of the predictable cannot be drawn: the table holds none.")
    panels = [(e, rows) for e in _PANELS if len(rows := table[table["experiment"] == e])]
    names = [ordered(rows["model"], (*BASELINES, *MODELS)) for _, rows in panels]
    leads = sorted(table["lead_days"].unique())
    left, right, gap, h = 0.75, 0.08, 0.12, 2.2
    bottom = 0.36 + 0.032 * max(len(name) for part in names for name in part)  # names slope
    unit = (DOUBLE - left - right - gap * (len(panels) - 1)) / sum(map(len, names))
    figure, place = new_figure(DOUBLE, bottom + h + 0.2, title)
    ylim = axis_limits(np.append(table["share"].to_numpy(), [0.0, 1.05]), WORST_SKILL)
    offsets, shades = group_steps(len(leads))[1], lead_shades(len(leads))
    clipped, x0 = False, left
    for i, ((experiment, rows), shown) in enumerate(zip(panels, names, strict=True)):
        w = unit * len(shown)
        ax = figure.add_axes(place(x0, bottom, w, h), xlim=(-0.5, len(shown) - 0.5), ylim=ylim)
        x0 += w + gap
        for x in range(1, len(shown), 2):
            ax.axvspan(x - 0.5, x + 0.5, color="0.95", linewidth=0, zorder=0)
        for height in (0, 1):
            ax.axhline(height, color="0.2", linewidth=0.6)
        for lead, offset, shade, marker in zip(leads, offsets, shades, cycle(_MARKERS)):
            part = rows[rows["lead_days"] == lead]
            x = part["model"].map(shown.index).to_numpy() + offset
            ax.vlines(x, part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
            ax.scatter(x, part["share"], s=16, color=shade, marker=marker, edgecolor="0.2", linewidth=0.6, zorder=4)
            clipped |= mark_clipped(ax, x, part["share"].to_numpy(), [shade] * len(x))
        ax.set_xticks(range(len(shown)), shown, rotation=35, ha="right", rotation_mode="anchor")
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y", color="0.85", linewidth=0.4)
        ax.set_axisbelow(True)
        ax.set_title(f"({'ab'[i]}) {_PANELS[experiment]}")
        if i:
            ax.tick_params(axis="y", length=0, labelleft=False)
        else:
            ax.set_ylabel("share of the predictable (–)\n0: persistence, 1: the limit")
    looks = zip(leads, shades, cycle(_MARKERS))
    keys = [Line2D([], [], color=c, label=f"lead {lead} d", **DOT | {"marker": marker}) for lead, c, marker in looks]
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), [*keys, INTERVAL, *[CLIPPED] * clipped])
    return figure
