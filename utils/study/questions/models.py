"""The question about the models: how good their forecasts are, and whether they are better than simple ones."""

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
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.plan import PAPERS_BEST
from utils.study.questions.forecasts_shown import WAYS, forecast_rows
from utils.study.results import SCRATCH, TRANSFERRED, Results

RIVALS = ("persistence", "ridge_memory")  # what every forecast is compared with: a panel each
_NOTE = {"textcoords": "offset points", "va": "center", "fontsize": 6, "color": "0.4"}


def how_good(results: Results, figures: Path) -> Section:
    """How good the forecasts are, and which are significantly better than the baselines."""
    path = figures / "study.png"
    title = "Change of RMSE against persistence and against ridge_memory, on the same days"
    draw_study(_changes(results), results.title(title), path)
    cases = [(model, lead) for model in results.models for lead in results.leads]
    persistence = [results.rows.loc[(TRANSFERRED, *case), "vs_persistence"] for case in cases]
    memory = [results.rows.loc[(TRANSFERRED, *case), "vs_ridge_memory"] for case in cases]
    return Section(
        "How good are the forecasts, and are they better than simple ones?",
        f"With transfer there are {len(cases)} cases (a model at a lead). Significantly better than persistence: "
        f"{persistence.count('better')}; significantly worse: {persistence.count('worse')}. Significantly better than "
        f"ridge_memory: {memory.count('better')}; significantly worse: {memory.count('worse')}. "
        f"{_papers_claim(results)}Lowest RMSE (m³ m⁻³) of a network and of a baseline:",
        [Figure(path, "Change of RMSE against two baselines of all models, by lead", "Left of 0: better than it.")],
        points=[_lowest(results, lead) for lead in results.leads],
    )


def _changes(results: Results) -> pd.DataFrame:
    """The change of RMSE, per cent, of every baseline and model against each of RIVALS, over all seeds."""
    cases = [(SCRATCH, name) for name in BASELINES]
    cases += [(experiment, model) for model in results.models for experiment in WAYS]
    rows = []
    for (experiment, model), lead, rival in product(cases, results.leads, RIVALS):
        row = {"experiment": experiment, "model": model, "lead_days": lead, "rival": rival}
        if model != rival:
            change = results.estimate(significance.rmse_change, experiment, model, lead, rival=(SCRATCH, rival))
            rows.append(row | {name: 100 * getattr(change, name) for name in ("value", "low", "high")})
    return pd.DataFrame(rows)


def _lowest(results: Results, lead: int) -> str:
    """The best network with transfer and the best baseline at one lead, with their RMSE."""
    rmse = {name: results.rows.loc[(TRANSFERRED, name, lead), "rmse"] for name in [*results.models, *BASELINES]}
    best = (min(results.models, key=rmse.get), min(BASELINES, key=rmse.get))
    return f"{format_days(lead)}: " + ", ".join(f"{name} {format_number(rmse[name], 4)}" for name in best)


def _papers_claim(results: Results) -> str:
    """Whether the ConvLSTM with transfer is the best of the networks, as the paper has it."""
    others = [model for model in results.models if model != PAPERS_BEST]
    if PAPERS_BEST not in results.models or not others:
        return ""
    cases = [(lead, model) for lead in results.leads for model in others]
    verdicts = [results.verdict(TRANSFERRED, PAPERS_BEST, lead, (TRANSFERRED, model)) for lead, model in cases]
    return (
        f"The paper's best model, the {PAPERS_BEST} with transfer, is compared with the other networks with transfer "
        f"{len(verdicts)} times. It is significantly better {verdicts.count('better')} times and significantly worse "
        f"{verdicts.count('worse')} times. "
    )


def draw_study(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE of every forecast against each rival as a forest plot, a panel a rival; PNG and PDF.

    `table`: experiment, model (baselines too, of SMAPtest), lead_days, rival, value, low, high (per cent, 95 %;
    negative is better). A change that would ruin the axis is an arrow on its edge with the numbers.
    Raises UserError when the table holds no change of a model.
    """
    style.save(_study_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _study_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: one panel per rival."""
    table = style.finite_rows(table, "value", "low", "high")
    if table["model"].isin(BASELINES).all():
        raise UserError("The study cannot be drawn: its table holds no change of a model's RMSE.")
    rivals, looks = style.ordered(table["rival"], RIVALS), forest.lead_looks(table["lead_days"])
    table["row"] = table["experiment"] + " " + table["model"]
    rows, shaded = forecast_rows(table)
    figure = style.new_figure(style.DOUBLE, 0.95 + forest.row_height(looks) * len(rows), title)
    panels = figure.subplots(1, len(rivals), sharey=True, squeeze=False)[0]
    clipped = False
    for ax, rival, letter in zip(panels, rivals, "ab", strict=False):
        here = table[table["rival"] == rival]
        ax.set_xlim(style.axis_limits(np.append(here[["value", "low", "high"]].to_numpy().ravel(), 0.0)))
        forest.prepare_rows(ax, list(rows.values()), shaded)
        clipped |= forest.draw_points(ax, here, list(rows), looks, by="lead_days")
        ax.set(title=f"({letter}) against {rival}", xlabel="change of RMSE (%); negative is better")
        _mark_rival(ax, list(rows), rival)
    style.legend(figure, *style.in_rows(forest.keys(looks, table) + ([style.CLIPPED] if clipped else []), 4))
    return figure


def _mark_rival(ax: Axes, rows: list[str], rival: str) -> None:
    """Say in the rival's own row that it is what the others are compared with."""
    row = f"{SCRATCH} {rival}"
    if row in rows:
        ax.annotate("reference", (0, rows.index(row)), (4, 0), **_NOTE)
