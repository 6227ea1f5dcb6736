"""The figure of the study of transfer: error against the number of target days, a line a strategy."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.figures.scatter import CLIPPED, legend
from utils.figures.style import DOUBLE, STYLE, UNITS, axis_limits, mark_clipped, new_figure, save
from utils.scores.baselines import BASELINES

LOOKS = {  # strategy: name, colour, marker, line style
    "scratch": ("from scratch", "black", "s", (0, (4, 1.5))),
    "zero_shot": ("zero-shot", "#cc79a7", "X", (0, (1, 1))),
    "full": ("full", "#0072b2", "o", "solid"),
    "mean_variance": ("full, matched", "#56b4e9", "D", (0, (5, 1, 1, 1))),
    "head": ("head", "#e69f00", "^", "solid"),
    "gradual": ("gradual", "#d55e00", "v", (0, (3, 1))),
    "discriminative": ("discriminative", "#009e73", "P", "solid"),
    "l2sp": ("L2-SP", "#b59a00", "*", (0, (2, 1, 1, 1))),
}
_NUMBERS = ["rmse", "low", "high"]
DODGE = 1.035  # of one strategy's days against those of the one before


def draw_strategies(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against the number of SMAP days, a row of panels, which share an axis, a model and a column a lead.

    `table`: model (or baseline), strategy (of LOOKS), lead_days, target_days, whole (true for the whole record), rmse,
    low, high (95 %, m3 m-3; may be NaN). An RMSE that would ruin the axis is marked on its edge and written.
    Raises UserError when the table holds no model with an RMSE.
    """
    save(_strategies_figure(table, title), path, vector=True)


@rc_context(STYLE)
def _strategies_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: models from top to bottom, leads from left to right."""
    table = table[np.isfinite(table["rmse"].astype(float))]
    fitted, simple = table[~table["model"].isin(BASELINES)], table[table["model"].isin(BASELINES)]
    if fitted.empty:
        raise UserError("Strategies of transfer cannot be drawn: the table holds no model with an RMSE.")
    models, leads = list(dict.fromkeys(fitted["model"])), sorted(fitted["lead_days"].unique())
    lengths = table.groupby("target_days")["whole"].any()
    used = [name for name in LOOKS if name in set(fitted["strategy"])]
    left, right, gap, head, bottom, h = 0.58, 0.08, 0.1, 0.22, 0.95, 1.9
    w = (DOUBLE - left - right - gap * (len(leads) - 1)) / len(leads)
    figure, place = new_figure(DOUBLE, bottom + len(models) * (h + head), title)
    ylims = {
        model: axis_limits(table.loc[table["model"].isin([model, *BASELINES]), _NUMBERS].to_numpy(float).ravel())
        for model in models
    }
    reach = DODGE ** (len(LOOKS) / 2 + 4)
    clipped = False
    for number, (model, lead) in enumerate((model, lead) for model in models for lead in leads):
        row, column = divmod(number, len(leads))
        box = place(left + column * (w + gap), bottom + (len(models) - 1 - row) * (h + head), w, h)
        xlim = (lengths.index.min() / reach, lengths.index.max() * reach)
        ax = figure.add_axes(box, xscale="log", xlim=xlim, ylim=ylims[model])
        ax.set_title(f"({chr(ord('a') + number)}) {model}, {lead} d ahead")
        ax.grid(axis="y", color="0.85", linewidth=0.4)
        here = simple[simple["lead_days"] == lead].sort_values("target_days")
        for name, part in here.groupby("model", sort=False):
            color, style = BASELINES[name].colour, BASELINES[name].line
            ax.plot(part["target_days"], part["rmse"], color=color, linestyle=style, linewidth=1.2, label=name)
            clipped |= mark_clipped(ax, *part[["target_days", "rmse"]].to_numpy(float).T, [color] * len(part))
        here = fitted[(fitted["model"] == model) & (fitted["lead_days"] == lead)].sort_values("target_days")
        for turn, name in enumerate(used):
            part = here[here["strategy"] == name]
            if part.empty:  # this model does not have it
                continue
            label, color, marker, style = LOOKS[name]
            x = part["target_days"].to_numpy(float) * DODGE ** (turn - (len(used) - 1) / 2)
            y = part["rmse"].to_numpy(float)
            ax.vlines(x, part["low"], part["high"], color=color, linewidth=0.7, zorder=3)
            ax.plot(x, y, label=label, color=color, linestyle=style, **_marked(marker), zorder=4)
            clipped |= mark_clipped(ax, x, y, [color] * len(x))
        ax.set_xticks(lengths.index, [f"{n}\n(all)" if whole else str(n) for n, whole in lengths.items()])
        ax.set_xticks([], minor=True)
        lowest = row == len(models) - 1
        ax.tick_params(labelbottom=lowest, labelleft=column == 0)
        ax.set(xlabel="SMAP days (d)" if lowest else "", ylabel=f"RMSE ({UNITS})" if column == 0 else "")
    figure.align_ylabels()
    keys = [
        Line2D([], [], color=color, linestyle=style, label=label, **_marked(marker))
        for label, color, marker, style in (LOOKS[name] for name in used)
    ]
    keys += [
        Line2D([], [], color=BASELINES[name].colour, ls=BASELINES[name].line, lw=1.2, label=name)
        for name in dict.fromkeys(simple["model"])
    ]
    keys.append(Line2D([], [], color="0.4", linewidth=0.7, label="95 % interval"))
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), keys + [CLIPPED] * clipped, 4)
    return figure


def _marked(marker: str) -> dict:
    return {"marker": marker, "markersize": 3.8, "markeredgecolor": "0.2", "markeredgewidth": 0.4, "linewidth": 1}
