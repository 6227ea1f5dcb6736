"""Plot of what knowing the weather of the days ahead is worth: error against lead, and what it changes."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.figures.scatter import legend
from utils.figures.style import DOUBLE, STYLE, UNITS, axis_limits, new_figure, save
from utils.scores.baselines import BASELINES

KINDS = {  # what is known of the weather ahead: name in the legend, look
    "none": ("no weather ahead", {"color": "#0072b2", "marker": "o"}),
    "degraded": ("degraded forecast", {"color": "#e69f00", "marker": "s"}),
    "perfect": ("perfect forecast: an upper bound", {"color": "#009e73", "marker": "D"}),
}
_EDGE = {"mec": "0.2", "mew": 0.5, "markersize": 4, "linewidth": 1.2, "zorder": 4}


def draw_weather(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against lead for each kind of weather ahead, and the change of RMSE by knowing it, per cent.

    `table`: kind (none, degraded, perfect, persistence), lead_days, rmse, low, high (95 %, m3 m-3; may be NaN), and of
    degraded and perfect: change, change_low, change_high (per cent; negative: better), significant (filled marker;
    hollow where not). Raises UserError when no RMSE is there.
    """
    save(_weather_figure(table, title), path, vector=True)


@rc_context(STYLE)
def _weather_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: RMSE, change."""
    table = table[np.isfinite(table["rmse"].astype(float))].sort_values("lead_days")
    if table.empty:
        raise UserError("What the weather ahead is worth cannot be drawn: the table holds no RMSE.")
    left, right, gap, bottom, h = 0.62, 0.08, 0.5, 0.66, 2.0
    w = (DOUBLE - left - right - gap) / 2
    figure, place = new_figure(DOUBLE, bottom + h + 0.2, title)
    error, change = (figure.add_axes(place(left + i * (w + gap), bottom, w, h)) for i in range(2))
    handles = []
    for i, (kind, (name, look)) in enumerate(KINDS.items()):
        part = table[table["kind"] == kind]
        if part.empty:
            continue
        x = part["lead_days"].to_numpy(float) + 0.08 * (i - 1)
        error.vlines(x, part["low"], part["high"], color=look["color"], linewidth=1, zorder=3)
        handles += error.plot(x, part["rmse"], label=name, **look, **_EDGE)
        if kind != "none":
            change.vlines(x, part["change_low"], part["change_high"], color=look["color"], linewidth=1, zorder=3)
            change.plot(x, part["change"], color=look["color"], linewidth=1.2)
            for place_, value, sure in zip(x, part["change"], part["significant"], strict=True):
                change.plot(place_, value, **look, **_EDGE, mfc=look["color"] if sure else "white")
    simple = table[table["kind"] == "persistence"]
    if len(simple):
        color, style = BASELINES["persistence"].colour, BASELINES["persistence"].line
        handles += error.plot(
            simple["lead_days"], simple["rmse"], color=color, linestyle=style, linewidth=0.8, label="persistence"
        )
    handles.append(Line2D([], [], color="0.4", linewidth=1, label="95 % interval"))
    if not table["significant"].fillna(True).astype(bool).all():
        handles.append(Line2D([], [], ls="none", marker="o", mfc="white", mec="0.2", ms=4, label="not significant"))
    error.set_ylim(*axis_limits(table[["rmse", "low", "high"]].to_numpy(float).ravel()))
    change.axhline(0, color=KINDS["none"][1]["color"], linewidth=1)
    error.set(title="(a) RMSE", xlabel="lead (d)", ylabel=f"RMSE ({UNITS})")
    change.set(title="(b) what knowing the weather changes", xlabel="lead (d)", ylabel="change of RMSE (%)")
    for ax in (error, change):
        ax.set_xticks(sorted(table["lead_days"].unique()))
        ax.margins(x=0.1)
        ax.grid(axis="y", color="0.85", linewidth=0.4)
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), handles, 3)
    return figure
