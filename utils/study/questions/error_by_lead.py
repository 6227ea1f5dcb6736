"""The question about the lead: how the error grows with it."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.patches import Patch

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import style
from utils.figures.style import MODELS, UNITS
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.results import SCRATCH, TRANSFERRED, Results

_STRONG = {"linewidth": 1.8, "marker": "o", "markersize": 3.5, "zorder": 4}
_SCORES = {  # column: title of the panel, name on the axis
    "rmse": ("RMSE", f"RMSE ({UNITS})"),
    "skill": ("skill", "skill over persistence (–)"),
}


def leads(results: Results, figures: Path) -> Section | None:
    """How the error of the best model grows with the lead; None where it has fewer than two leads."""
    scores = _scores_by_lead(results)
    rmse = scores.pivot(index="lead_days", columns="model", values="rmse")
    ours = rmse[results.best].dropna()
    if len(ours) < 2:
        return None
    path = figures / "leads.png"
    title = f"Error by lead of {results.best} with transfer, the best model by validation, and of the baselines"
    draw_leads(scores, results.title(title), path)
    first, last = ours.index.min(), ours.index.max()
    said = [
        f"{name}: from {format_number(rmse.loc[first, model], 4)} to {format_number(rmse.loc[last, model], 4)}"
        for name, model in ((f"{results.best} with transfer", results.best), ("ridge_memory", "ridge_memory"))
    ]
    return Section(
        "How does the error grow with the lead?",
        f"{results.best} with transfer is the best model by validation. From {format_days(int(first))} to "
        f"{format_days(int(last))} ahead, the RMSE (m³ m⁻³) rises:",
        [Figure(path, "RMSE and skill against lead for the best model and the baselines", "Band: 95 % interval.")],
        points=said,
    )


def _scores_by_lead(results: Results) -> pd.DataFrame:
    """RMSE with its interval, and skill, of the baselines and the best model at every lead they were run with."""
    rows = []
    for model in [*BASELINES, results.best]:
        experiment = SCRATCH if model in BASELINES else TRANSFERRED
        for lead in results.study["all_leads"]:
            if model in BASELINES or results.has(experiment, model, lead):
                rmse = results.estimate(significance.rmse, experiment, model, lead)
                skill = results.estimate(significance.skill, experiment, model, lead)
                row = {"model": model, "lead_days": lead, "rmse": rmse.value, "low": rmse.low, "high": rmse.high}
                rows.append(row | {"skill": skill.value})
    return pd.DataFrame(rows)


def draw_leads(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE and skill over persistence against lead for the baselines and the models beside them.

    `table`: model, lead_days, rmse, low, high (95 % of the RMSE, m3 m-3; may be NaN), skill. Values that would ruin an
    axis, and skill below −1, are marked on its edge and written. Raises UserError when no RMSE is there.
    """
    style.save(_leads_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _leads_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: RMSE, skill."""
    table = style.finite_rows(table, "rmse", "low", "high", "skill").sort_values("lead_days")
    if table.empty:
        raise UserError("Scores against lead cannot be drawn: the table holds no RMSE.")
    names = style.ordered(table["model"], (*BASELINES, *MODELS))
    models = [name for name in names if name not in BASELINES]
    ends = table.loc[table["model"].isin(models), ["low", "high"]].to_numpy().ravel()
    limits = {
        "rmse": style.axis_limits(np.concatenate([table["rmse"], ends])),
        "skill": style.axis_limits(table["skill"].to_numpy(), style.WORST_SKILL),
    }
    figure = style.new_figure(style.DOUBLE, 2.8, title)
    panels = figure.subplots(1, len(_SCORES))
    clipped = False
    for ax, (score, (name, label)), letter in zip(panels, _SCORES.items(), "ab", strict=True):
        ax.set(ylim=limits[score], xlabel="lead (d)", ylabel=label, title=f"({letter}) {name}")
        ax.set_xticks(sorted(table["lead_days"].unique()))
        ax.grid(**style.GRID)
        for name in names:
            clipped |= _draw_line(ax, table[table["model"] == name], score, name, names)
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    first = [lines[name] for name in models]
    if np.isfinite(ends).any():
        first.append(Patch(facecolor=style.FORECASTS[0], alpha=0.2, label="95 % interval"))
    if clipped:
        first.append(style.CLIPPED)
    baselines = [lines[name] for name in names if name in BASELINES]
    style.legend(figure, *style.in_rows(first, 4), *style.in_rows(baselines, 4))
    return figure


def _draw_line(ax: Axes, rows: pd.DataFrame, score: str, name: str, names: list[str]) -> bool:
    """One forecast's score by lead, a model's RMSE with its interval; returns whether any lies off the axis."""
    look = style.line_of(name, names)
    x, y = rows["lead_days"].to_numpy(float), rows[score].to_numpy()
    if name not in BASELINES:
        look |= _STRONG
        if score == "rmse":
            ax.fill_between(x, rows["low"], rows["high"], color=look["color"], alpha=0.2, linewidth=0)
    ax.plot(x, y, label=name, **look)
    return style.mark_clipped(ax, x, y, [look["color"]] * len(x))
