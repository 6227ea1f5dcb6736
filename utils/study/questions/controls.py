"""The question about controls: whether transfer helps because of what the source knows, and of which part of it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.text import format_days
from utils.figures import forest, style
from utils.scores.significance import Estimate
from utils.study.claims import format_change
from utils.study.controls import CONTROLS
from utils.study.html_page import Figure, Section
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

# what stands behind a model's name → how its source is called
SOURCES = {"": "own source"} | {f"_{name}": control.name for name, control in CONTROLS.items()}


def why_transfer_helps(results: Results, figures: Path) -> Section | None:
    """Transfer from the study's source beside transfer from controls; None where the study has none."""
    lead = results.lead
    cases = [(m, s) for m in results.models for s in SOURCES if results.has(TRANSFERRED, m + s, lead)]
    controlled = [(model, source) for model, source in cases if source]
    if not controlled:
        return None
    models, used = map(set, zip(*controlled, strict=True))
    cases = [(model, source) for model, source in cases if model in models]
    gains = results.compare([Comparison(TRANSFERRED, m + s, lead, (SCRATCH, m)) for m, s in cases])
    changes = results.compare([Comparison(TRANSFERRED, m + s, lead, (TRANSFERRED, m)) for m, s in controlled])
    path = figures / "controls.png"
    title = "Change of RMSE by transfer from the study's own source and from controls"
    draw_controls(_tabulate(cases, gains), results.title(title), path)
    return Section(
        "Does transfer help for the right reason?",
        f"Change of RMSE {format_days(lead)} ahead, against no transfer and against transfer from the own source:",
        [Figure(path, title, "Left of 0: it helps.")],
        " ".join(control.meaning for name, control in CONTROLS.items() if f"_{name}" in used),
        points=[
            *_describe(cases, gains, rival="no transfer"),
            *_describe(controlled, changes, rival="transfer from the own source"),
        ],
    )


def _tabulate(cases: Sequence[tuple[str, str]], gains: Sequence[Estimate]) -> pd.DataFrame:
    """What draw_controls takes."""
    rows = [
        {"model": model, "row": SOURCES[source]} | gain.to_per_cent()
        for (model, source), gain in zip(cases, gains, strict=True)
    ]
    return pd.DataFrame(rows)


def draw_controls(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE by transfer, per cent, from each source, with a point a model; PNG and PDF.

    `table`: model, row (the source), value, low, high (95 %; may be NaN).
    """
    style.save(_controls_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _controls_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: the one panel."""
    models, rows = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["row"]))
    looks = [
        forest.Look(key=model, label=model, colour=style.line_of(model, models)["color"], marker=marker)
        for model, marker in zip(models, style.MARKERS, strict=False)
    ]
    figure = style.new_figure(style.SINGLE, 1.1 + forest.row_height(looks) * len(rows), title)
    ax = figure.subplots()
    ax.set_xlim(forest.percent_limits(table))
    forest.prepare_rows(ax, rows)
    clipped = forest.draw_points(ax, table, rows, looks, by="model")
    ax.set_xlabel("change of RMSE by transfer (%)")
    style.legend(figure, *style.in_rows(forest.keys(looks, table, clipped), 2))
    return figure


def _describe(cases: Sequence[tuple[str, str]], changes: Sequence[Estimate], rival: str) -> list[str]:
    """A sentence a case."""
    return [
        f"{model}, {SOURCES[source]}, against {rival}: {format_change(change)}"
        for (model, source), change in zip(cases, changes, strict=True)
    ]
