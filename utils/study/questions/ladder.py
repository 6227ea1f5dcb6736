"""The ladder: what each step is worth on the way from the published ConvLSTM to a network that works."""

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.text import format_days
from utils.figures import forest, style
from utils.study.claims import format_change
from utils.study.html_page import Figure, Section
from utils.study.questions.forecasts_shown import WAYS
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

RUNGS = {  # models, from the bottom to the top, and what is new in each
    "convlstm": "the published ConvLSTM",
    "convlstm_no_relu": "no ReLU before its dense map",
    "convlstm_change": "it forecasts the change (with the ReLU)",
    "convlstm_pixel_change": "one head for all cells instead of the dense map",
    "conv_mixer": "no recurrence",
    "change_net": "antecedent features; pre-trained in two views",
}
FEWEST = 3


def ladder(results: Results, figures: Path) -> Section | None:
    """Each rung against persistence and against the one below; None where the study has fewer than FEWEST rungs."""
    rungs = [model for model in RUNGS if model in results.models]
    if len(rungs) < FEWEST or rungs[0] != "convlstm":
        return None
    steps = list(pairwise(rungs))
    lead = results.lead
    worth = results.compare([Comparison(TRANSFERRED, above, lead, (TRANSFERRED, below)) for below, above in steps])
    (whole,) = results.compare([Comparison(TRANSFERRED, rungs[-1], lead, (TRANSFERRED, rungs[0]))])
    path = figures / "ladder.png"
    title = "From the published ConvLSTM to one that works: change of RMSE against persistence"
    draw_ladder(_tabulate(results, rungs), results.title(title), path)
    return Section(
        "What is each step worth, from the published ConvLSTM to a network that works?",
        f"With transfer, {format_days(lead)} ahead, the RMSE of {rungs[-1]} differs from that of {rungs[0]} by "
        f"{format_change(whole)}.",
        [Figure(path, "Change of RMSE against persistence, a row a step", "Left of 0: better than persistence.")],
        points=[
            f"{above} ({RUNGS[above]}) against {below}: {format_change(change)}"
            for (below, above), change in zip(steps, worth, strict=True)
        ],
    )


def _tabulate(results: Results, rungs: Sequence[str]) -> pd.DataFrame:
    """What draw_ladder takes."""
    cases = [Comparison(way, model, results.lead, (SCRATCH, "persistence")) for model, way in product(rungs, WAYS)]
    rows = [
        {"row": f"{case.model}: {RUNGS[case.model]}", "way": WAYS[case.experiment]}
        | results.rmse_change(case).to_per_cent()
        for case in cases
    ]
    return pd.DataFrame(rows)


def draw_ladder(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE against persistence, per cent, of each rung without and with transfer; PNG and PDF.

    `table`: row (the rung, from the bottom to the top), way, value, low, high (95 %; may be NaN).
    """
    style.save(_ladder_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _ladder_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: the one panel, the lowest rung first."""
    ways, rows = list(dict.fromkeys(table["way"])), list(dict.fromkeys(table["row"]))
    looks = [
        forest.Look(key=way, label=way, colour=colour, marker=marker)
        for way, colour, marker in zip(ways, style.FORECASTS, style.MARKERS, strict=False)
    ]
    figure = style.new_figure(style.DOUBLE, 1.0 + forest.row_height(looks) * len(rows), title)
    ax = figure.subplots()
    ax.set_xlim(forest.percent_limits(table))
    forest.prepare_rows(ax, rows)
    clipped = forest.draw_points(ax, table, rows, looks, by="way")
    ax.set_xlabel("change of RMSE against persistence (%)")
    style.legend(figure, *style.in_rows(forest.keys(looks, table, clipped), 5))
    return figure
