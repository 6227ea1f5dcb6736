"""The question about the models: how good their forecasts are, and whether they are better than simple ones."""

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import style
from utils.figures.points_by_lead import LeadLook, draw_points, lead_keys, lead_looks, prepare_groups
from utils.figures.style import EXPERIMENTS, MODELS, UNITS
from utils.scores.baselines import BASELINES
from utils.study.claims import count_verdicts, format_range
from utils.study.html_page import Figure, Section
from utils.study.plan import COMPACT, PAPERS_BEST
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

MEMORY = "the ridge regression on antecedent features that learned from the same days"

SCORES = {  # column: stem of the columns of its interval, name on the axis, where the axis ends at the latest
    "rmse": ("rmse", f"RMSE ({UNITS})\nlower is better", -np.inf),
    "r2": ("r2", "R² (–)\nhigher is better", -np.inf),
    "skill_over_persistence": ("skill", "skill over persistence (–)\nhigher is better", style.WORST_SKILL),
}
_SEED = {"marker": "_", "s": 36, "color": "0.2", "linewidth": 0.6, "zorder": 3.5}


def how_good(results: Results, figures: Path) -> Section:
    """How good the forecasts are, and which are significantly better than the baselines."""
    path = figures / "study.png"
    draw_study(_scores(results), results.title("RMSE, R² and skill over persistence of every model and baseline"), path)
    against_persistence, *others = _against_baselines(results)
    return Section(
        "How good are the forecasts, and are they better than simple ones?",
        against_persistence,
        [Figure(path, "RMSE, R² and skill of all models and baselines, by lead", "Bars: 95 % intervals.")],
        points=[*others, *_papers_claim(results), *(_lowest(results, lead) for lead in results.leads)],
    )


def _scores(results: Results) -> pd.DataFrame:
    """Scores of every seed and baseline; intervals are those of the model over its seeds, not of one of them."""
    table, by = results.main(), ["experiment", "model", "lead_days"]
    ends = [f"{score}_{end}" for score in ("rmse", "r2", "skill") for end in ("low", "high")]
    table = table.drop(columns=ends).join(results.rows[ends], on=by)
    return table[table["seed"].notna() | table["model"].isin(BASELINES)]


def _lowest(results: Results, lead: int) -> str:
    """The best network with transfer and the best baseline at one lead, with their RMSE."""
    rmse = {name: results.rows.loc[(TRANSFERRED, name, lead), "rmse"] for name in [*results.models, *BASELINES]}
    best = (min(results.models, key=rmse.get), min(BASELINES, key=rmse.get))
    network, baseline = (f"{name} {format_number(rmse[name], 4)}" for name in best)
    return f"Lowest RMSE (m³ m⁻³), {format_days(lead)}: {network} of the networks, {baseline} of the baselines."


def _against_baselines(results: Results) -> list[str]:
    """How often the models with transfer are better than persistence, and than a ridge regression with a memory."""
    cases = [(model, lead) for model in results.models for lead in results.leads]
    names = [f"{model}, {format_days(lead)}" for model, lead in cases]
    sentences = []
    for rival, name_of in (("persistence", lambda _: "persistence"), (MEMORY, memory_rival)):
        changes = results.compare([Comparison(TRANSFERRED, m, at, (SCRATCH, name_of(m))) for m, at in cases])
        count = count_verdicts(changes, subject="a model with transfer", rival=rival)
        sentences.append(f"{count} {format_range(changes, names)}")
    return sentences


def memory_rival(model: str) -> str:
    """The ridge regression on antecedent features that learned from the same days as the model."""
    if model == COMPACT or "ridge_memory_train" not in BASELINES:
        return "ridge_memory"
    return "ridge_memory_train"


def _papers_claim(results: Results) -> list[str]:
    """How often the ConvLSTM with transfer is better than another network, as the paper has it."""
    others = [model for model in results.models if model != PAPERS_BEST]
    if PAPERS_BEST not in results.models or not others:
        return []
    cases = [(model, lead) for lead in results.leads for model in others]
    changes = results.compare([Comparison(TRANSFERRED, PAPERS_BEST, at, (TRANSFERRED, m)) for m, at in cases])
    subject = f"the {PAPERS_BEST} with transfer, the paper's best model,"
    count = count_verdicts(changes, subject=subject, rival="another network with transfer")
    return [f"{count} {format_range(changes, [f'against {model}, {format_days(lead)}' for model, lead in cases])}"]


def draw_study(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE, R² and skill over persistence (rows) of every model beside the baselines by experiment (columns).

    `table`: one row per experiment, model, lead_days and seed with its rmse, m3 m-3, and, where known, r2,
    skill_over_persistence and the ends of their 95 % intervals (rmse_low, rmse_high, r2_low, …, skill_high); baselines
    are rows of their own. A dot is the mean over the seeds, its interval the mean of theirs. Values that would ruin an
    axis, and skill below −1 (twice the squared error of persistence), are marked on its edge and written.
    Raises UserError when the table holds no model with an RMSE.
    """
    style.save(_study_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _study_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: row by row (one per score of the table), one panel per experiment."""
    table = style.finite_rows(table, "rmse")
    baselines = [name for name in BASELINES if (table["model"] == name).any()]
    models = style.ordered(table.loc[~table["model"].isin(baselines), "model"], MODELS)
    if not models:
        raise UserError("The study cannot be drawn: its table holds no model with an RMSE.")
    experiments, looks = style.ordered(table["experiment"], EXPERIMENTS), lead_looks(table["lead_days"])
    scores = [name for name in SCORES if name in table and table[name].notna().any()]

    names = 0.035 * max(map(len, models))  # inches: they slope
    figure = style.new_figure(style.DOUBLE, 0.9 + names + 1.8 * len(scores), title)
    panels = figure.subplots(len(scores), len(experiments), sharex=True, sharey="row", squeeze=False)
    clipped, off = False, {name: [] for name in baselines}
    for score, row in zip(scores, panels, strict=True):
        stem, label, lowest = SCORES[score]
        values = _values(table, score)
        fitted = values["model"].isin(models)
        ends = values.loc[fitted, ["low", "high"]].to_numpy().ravel()
        ylim = style.axis_limits(np.concatenate([values["value"], ends]), lowest)
        row[0].set(ylim=ylim, ylabel=label)
        for ax, experiment in zip(row, experiments, strict=True):
            here = values["experiment"] == experiment
            prepare_groups(ax, models)
            _draw_baselines(ax, values[here & ~fitted], len(models), looks)
            clipped |= _draw_models(ax, values[here & fitted], models, looks)
        for name in baselines:
            known = values.loc[values["model"] == name, "value"].dropna()
            if not known.between(*ylim).all():
                off[name].append({"rmse": "RMSE", "r2": "R²"}.get(stem, stem))
    for ax, letter in zip(panels.flat, ascii_lowercase, strict=False):
        ax.set_title(f"({letter})")
    for ax, experiment in zip(panels[0], experiments, strict=True):
        ax.set_title(f"{ax.get_title(loc='left')} {experiment}\n{EXPERIMENTS.get(experiment, '')}")
    figure.align_ylabels()
    style.legend(figure, *_study_keys(table, models, looks, clipped, off))
    return figure


def _study_keys(
    table: pd.DataFrame, models: list[str], looks: list[LeadLook], clipped: bool, off: dict[str, list[str]]
) -> list[Sequence[Line2D]]:
    """The rows of the legend; `off`: baseline → the scores of which a part lies off the axis."""
    keys = lead_keys(looks)
    if any(f"{stem}_low" in table for stem, *_ in SCORES.values()):
        keys.append(style.INTERVAL)
    if table[table["model"].isin(models)].groupby(["experiment", "model", "lead_days"]).size().max() > 1:
        keys.append(Line2D([], [], marker="_", linestyle="none", markersize=6, color="0.2", label="one seed"))
    if clipped:
        keys.append(style.CLIPPED)
    lines = []
    for name, scores in off.items():
        note = f"\n({' and '.join(scores)} partly off the axis)" if scores else ""
        lines.append(Line2D([], [], label=name + note, **style.baseline_line(name)))
    return [*style.in_rows(keys, 5), *style.in_rows(lines, 5)]


def _values(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """One score: experiment, model, lead_days, value, low and high (NaN where the table has no interval)."""
    stem = SCORES[score][0]
    columns = {score: "value", f"{stem}_low": "low", f"{stem}_high": "high"}
    part = table.reindex(columns=["experiment", "model", "lead_days", *columns]).rename(columns=columns)
    return part.astype(dict.fromkeys(columns.values(), float))


def _draw_baselines(ax: Axes, values: pd.DataFrame, models: int, looks: list[LeadLook]) -> None:
    """Draw each baseline (its mean over rows) as steps through the leads of every model."""
    step = looks[1].offset - looks[0].offset if len(looks) > 1 else 0.8
    edges = np.array([looks[0].offset - step / 2, *(look.offset + step / 2 for look in looks)])
    means = values.groupby(["model", "lead_days"])["value"].mean()
    for name in style.ordered(values["model"], BASELINES):
        heights = means[name].reindex([look.lead for look in looks]).to_numpy()
        for x in range(models):
            ax.stairs(heights, x + edges, baseline=None, **style.baseline_line(name, width=0.9))


def _draw_models(ax: Axes, values: pd.DataFrame, models: list[str], looks: list[LeadLook]) -> bool:
    """Every seed, and the means with their intervals; returns whether any mean lies off the axis."""
    by_case = values.groupby(["model", "lead_days"])
    seeds = values[by_case["value"].transform("size") > 1]
    offset = {look.lead: look.offset for look in looks}
    ax.scatter(seeds["model"].map(models.index) + seeds["lead_days"].map(offset), seeds["value"], **_SEED)
    return draw_points(ax, by_case[["value", "low", "high"]].mean().reset_index(), models, looks)
