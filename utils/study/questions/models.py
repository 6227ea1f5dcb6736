"""The question about the models: how good their forecasts are, and whether they are better than simple ones."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number, join_words
from utils.figures import forest, style
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.claims import count_verdicts, format_change, format_range
from utils.study.html_page import Figure, Section
from utils.study.plan import MATCHED, OURS, PAPERS_BEST
from utils.study.questions.forecasts_shown import WAYS, forecast_rows
from utils.study.results import LEARNED_FROM, RIVALS, SCRATCH, TRANSFERRED, Comparison, Results

YARDSTICKS = ("persistence", "ridge", "ridge_memory", "boosting")  # a model that is of use is better than each of them
_NOTE = {"textcoords": "offset points", "va": "center", "fontsize": 6, "color": "0.4"}


def how_good(results: Results, figures: Path) -> Section:
    """How good the forecasts are, and which are significantly better than the baselines."""
    path = figures / "study.png"
    title = "Change of RMSE against persistence and against ridge_memory, on the same days"
    draw_study(_changes(results), results.title(title), path)
    against_persistence, *others = _against_baselines(results)
    against_all = _against_yardsticks(results)
    return Section(
        "How good are the forecasts, and are they better than simple ones?",
        against_persistence,
        [Figure(path, "Change of RMSE against two baselines of all models, by lead", "Left of 0: better than it.")],
        LEARNED_FROM,
        points=[against_all, *others, *_papers_claim(results), *(_lowest(results, lead) for lead in results.leads)],
        in_short=against_all,
    )


def _changes(results: Results) -> pd.DataFrame:
    """The change of RMSE, per cent, of every baseline and model against each of RIVALS, over all seeds."""
    cases = [(SCRATCH, name) for name in BASELINES]
    cases += [(experiment, model) for model in results.models for experiment in WAYS]
    matched = [(SCRATCH, model + MATCHED) for model in results.models]
    cases += [case for case in matched if results.has(*case, results.leads[0])]
    rows = []
    for (experiment, model), lead, rival in product(cases, results.leads, RIVALS):
        row = {"experiment": experiment, "model": model, "lead_days": lead, "rival": rival}
        if model != rival:
            change = results.estimate(significance.rmse_change, experiment, model, lead, rival=(SCRATCH, rival))
            rows.append(row | change.to_per_cent())
    return pd.DataFrame(rows)


def _lowest(results: Results, lead: int) -> str:
    """The best network with transfer and the best baseline at one lead, with their RMSE."""
    rmse = {name: results.rows.loc[(TRANSFERRED, name, lead), "rmse"] for name in [*results.models, *BASELINES]}
    best = (min(results.models, key=rmse.get), min(BASELINES, key=rmse.get))
    network, baseline = (f"{name} {format_number(rmse[name], 4)}" for name in best)
    return f"Lowest RMSE (m³ m⁻³), {format_days(lead)}: {network} of the networks, {baseline} of the baselines."


def _against_yardsticks(results: Results) -> str:
    """How often a model is better than each of YARDSTICKS, and where it comes closest to that."""
    cases = list(product(WAYS, results.models, results.leads))
    pairs = list(product(cases, YARDSTICKS))
    compared = results.compare([Comparison(*case, (SCRATCH, rival)) for case, rival in pairs])
    changes = dict(zip(pairs, compared, strict=True))
    better = [all(significance.verdict(changes[case, name]) == "better" for name in YARDSTICKS) for case in cases]
    strongest = {case: max(YARDSTICKS, key=lambda name: changes[case, name].value) for case in cases}
    best = min(cases, key=lambda case: changes[case, strongest[case]].value)
    (way, model, lead), rival = best, strongest[best]
    return (
        f"In {sum(better)} of {len(cases)} cases a model, from scratch or with transfer, is significantly better than "
        f"each of {join_words(YARDSTICKS)}; {model} {WAYS[way]}, {format_days(lead)}, has the largest gain on the "
        f"strongest of them: {format_change(changes[best, rival])} against {rival}."
    )


def _against_baselines(results: Results) -> list[str]:
    """How often the models with transfer are better than persistence, and than ridge_memory from the same days."""
    networks = [model for model in results.models if model not in OURS]
    cases = [
        ("a model with transfer", results.models, "persistence", "persistence"),
        ("a network with transfer", networks, "ridge_memory_train", "ridge_memory_train, from the same days"),
    ]
    words = "ridge_memory, from the same days"
    cases += [(f"{model} with transfer", [model], "ridge_memory", words) for model in OURS if model in results.models]
    return [_compare(results, subject, models, rival, words) for subject, models, rival, words in cases if models]


def _compare(results: Results, subject: str, models: Sequence[str], rival: str, words: str) -> str:
    """How often these models with transfer are better than a baseline, and by how much."""
    cases = [(model, lead) for model in models for lead in results.leads]
    changes = results.compare([Comparison(TRANSFERRED, model, lead, (SCRATCH, rival)) for model, lead in cases])
    names = [f"{model}, {format_days(lead)}" for model, lead in cases]
    return f"{count_verdicts(changes, subject=subject, rival=words)} {format_range(changes, names)}"


def _papers_claim(results: Results) -> list[str]:
    """How often the ConvLSTM with transfer is better than another network, as the paper has it.

    OURS are left out: they learned from more days.
    """
    others = [model for model in results.models if model not in (PAPERS_BEST, *OURS)]
    if PAPERS_BEST not in results.models or not others:
        return []
    cases = [(model, lead) for lead in results.leads for model in others]
    changes = results.compare([Comparison(TRANSFERRED, PAPERS_BEST, at, (TRANSFERRED, m)) for m, at in cases])
    subject = f"the {PAPERS_BEST} with transfer, the paper's best model,"
    count = count_verdicts(changes, subject=subject, rival="another network with transfer")
    return [f"{count} {format_range(changes, [f'against {model}, {format_days(lead)}' for model, lead in cases])}"]


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
        ax.set_xlim(forest.percent_limits(here))
        forest.prepare_rows(ax, list(rows.values()), shaded)
        clipped |= forest.draw_points(ax, here, list(rows), looks, by="lead_days")
        ax.set(title=f"({letter}) against {rival}", xlabel="change of RMSE (%)\nnegative is better")
        _mark_rival(ax, list(rows), rival)
    style.legend(figure, *style.in_rows(forest.keys(looks, table, clipped), 4))
    return figure


def _mark_rival(ax: Axes, rows: list[str], rival: str) -> None:
    """Say in the rival's own row that it is what the others are compared with."""
    row = f"{SCRATCH} {rival}"
    if row in rows:
        ax.annotate("reference", (0, rows.index(row)), (4, 0), **_NOTE)
