"""The figure of uncertainty: reliability diagrams of quantiles, and the CRPS that goes with them."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import days
from utils.figures.scatter import legend
from utils.figures.style import DOUBLE, FORECASTS, STYLE, UNITS, new_figure, ordered, save
from utils.scores.baselines import BASELINES

MARKERS = "os^Dv"


def draw_reliability(table: pd.DataFrame, levels: Float[np.ndarray, "level"], title: str, path: Path) -> None:
    """Draw a reliability diagram a lead, and the CRPS of every forecast by lead in the last panel; PNG and PDF.

    `table`: model, lead_days, crps (m3 m-3) and reliability, the share of observations below the quantile at each of
    `levels`. Raises UserError when it is empty.
    """
    if table.empty:
        raise UserError("The reliability of quantiles cannot be drawn: there are none.")
    save(_figure(table, levels, title), path, vector=True)


@rc_context(STYLE)
def _figure(table: pd.DataFrame, levels: np.ndarray, title: str) -> Figure:
    """Axes in order: a diagram for each lead, the CRPS."""
    leads, names = sorted(table["lead_days"].unique()), ordered(table["model"], (*BASELINES,))
    colours = iter(FORECASTS)
    known = {name: (row.colour, row.line) for name, row in BASELINES.items()}
    looks = {name: known[name] if name in known else (next(colours), "solid") for name in names}
    marks = dict(zip(names, MARKERS * len(names), strict=False))
    panels, left, right, gap, bottom = len(leads) + 1, 0.42, 0.06, 0.42, 0.62
    w = (DOUBLE - left - right - (panels - 1) * gap) / panels
    figure, place = new_figure(DOUBLE, bottom + w + 0.2, title)
    for i, lead in enumerate(leads):
        ax = figure.add_axes(place(left + i * (w + gap), bottom, w, w), xlim=(0, 1), ylim=(0, 1))
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.6, zorder=1)
        for _, row in table[table["lead_days"] == lead].iterrows():
            colour, style = looks[row["model"]]
            how = {"color": colour, "linestyle": style, "linewidth": 0.9, "markersize": 2.2}
            ax.plot(levels, row["reliability"], marker=marks[row["model"]], **how)
        ax.set_title(f"({'abcdefghijklm'[i]}) {days(int(lead))} ahead")
        ax.set_xlabel("level of the quantile (–)")
        ax.set_xticks([0, 0.5, 1])
        ax.set_yticks([0, 0.5, 1])
        if not i:
            ax.set_ylabel("observations below it (share, –)")
    ax = figure.add_axes(place(left + len(leads) * (w + gap), bottom, w, w))
    for name in names:
        rows = table[table["model"] == name].sort_values("lead_days")
        colour, style = looks[name]
        ax.plot(rows["lead_days"], rows["crps"], color=colour, linestyle=style, marker=marks[name], markersize=3)
    ax.set_title(f"({'abcdefghijklm'[len(leads)]}) CRPS ({UNITS})")
    ax.set_xlabel("lead (days)")
    ax.set_xticks(leads)
    ax.set_ylim(bottom=0)
    keys = [
        Line2D([], [], color=looks[n][0], linestyle=looks[n][1], marker=marks[n], markersize=3, label=n) for n in names
    ]
    keys.append(Line2D([], [], color="0.6", linewidth=0.6, label="perfectly reliable"))
    legend(figure, place(DOUBLE / 2, 0.06, 0, 0), keys)
    return figure
