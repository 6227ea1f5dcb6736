"""The question about the lead: how the error grows with it."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.results import SCRATCH, TRANSFERRED, Results

_MARKS = [{"marker": marker, "markersize": 3} for marker in "os^Dv<>P"]


def leads(results: Results, figures: Path) -> Section | None:
    """How the error of the best model grows with the lead; None where it has fewer than two leads."""
    scores = _scores_by_lead(results)
    rmse = scores.pivot(index="lead_days", columns="model", values="rmse")
    ours = rmse[results.best].dropna()
    if len(ours) < 2:
        return None
    path = figures / "leads.png"
    title = "Error by lead of two networks with transfer and of the baselines"
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
        [Figure(path, "RMSE against lead for networks and baselines", "Climatology is in (a) alone.")],
        points=said,
    )


def _scores_by_lead(results: Results) -> pd.DataFrame:
    """RMSE of the baselines and networks at every lead they were run with, and its change against persistence, %."""
    cases = [(SCRATCH, name) for name in BASELINES]
    cases += [(TRANSFERRED, model) for model in dict.fromkeys((results.best, results.detail))]
    rows = []
    for (experiment, model), lead in product(cases, results.study["all_leads"]):
        if model not in BASELINES and not results.has(experiment, model, lead):
            continue
        rmse = results.estimate(significance.rmse, experiment, model, lead)
        row = {"model": model, "lead_days": lead, "rmse": rmse.value}
        if model not in ("persistence", "climatology"):  # the reference; and one that is far off at short leads
            change = results.estimate(significance.rmse_change, experiment, model, lead)
            row |= change.to_per_cent("change")
        rows.append(row)
    return pd.DataFrame(rows)


def draw_leads(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against lead, and its change against persistence on the same days with 95 % intervals; PNG and PDF.

    `table`: model (baselines too), lead_days, rmse (m3 m-3), change, low, high (per cent; negative is better; NaN: not
    in the second panel, or no interval). A value that would ruin an axis is an arrow on its edge.
    Raises UserError when no RMSE is there.
    """
    style.save(_leads_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _leads_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: RMSE, its change."""
    table = style.finite_rows(table, "rmse", "change", "low", "high").sort_values("lead_days", kind="stable")
    if table.empty:
        raise UserError("Scores against lead cannot be drawn: the table holds no RMSE.")
    names = style.networks_first(table["model"])
    figure = style.new_figure(style.DOUBLE, 2.9, title)
    error, change = figure.subplots(1, 2)
    error.set_ylim(style.axis_limits(table["rmse"].to_numpy()))
    error.set(title="(a) RMSE", ylabel=f"RMSE ({UNITS})")
    change.set_ylim(style.axis_limits(np.append(table[["change", "low", "high"]].to_numpy().ravel(), 0.0)))
    change.set(title="(b) against persistence", ylabel="change of RMSE (%)\nnegative is better")
    change.axhline(0, **style.baseline_line("persistence"))
    clipped = False
    for turn, name in enumerate(names):
        rows = table[table["model"] == name]
        look = style.line_of(name, names) | _MARKS[turn % len(_MARKS)]
        clipped |= style.draw_line(error, rows["lead_days"], rows["rmse"], label=name, **look)
        shown = rows[rows["change"].notna()]
        clipped |= _draw_changes(change, shown, look, dodge=0.07 * (turn - len(names) / 2))
    for ax in (error, change):
        ax.set_xlabel("lead (d)")
        ax.set_xticks(sorted(table["lead_days"].unique()))
        ax.grid(**style.GRID)
    lines = [line for line in error.get_lines() if line.get_label() in names]
    notes = [*forest.NOTES, style.CLIPPED] if clipped else forest.NOTES
    style.legend(figure, *style.in_rows([*lines, *notes], 4))
    return figure


def _draw_changes(ax: Axes, rows: pd.DataFrame, look: dict, dodge: float) -> bool:
    """One forecast's changes by lead, hollow where the interval holds 0; returns whether any lies off the axis."""
    if rows.empty:
        return False
    x = rows["lead_days"].to_numpy(float) + dodge
    forest.draw_upright_points(ax, x, rows.rename(columns={"change": "value"}), look)
    line = look | {"marker": "none"}
    return style.draw_line(ax, x, rows["change"], label="_" + rows["model"].iloc[0], **line)
