"""Questions about pre-training: whether it lowers the error, and whether forecasts then lie closer to y = x."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import scatter, style
from utils.figures.points_by_lead import draw_points, lead_keys, lead_looks, prepare_groups
from utils.study.claims import count_verdicts, format_range
from utils.study.html_page import Figure, Section
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

MATCHED = "_matched"  # a model from scratch with the steps of pre-training and fine-tuning together


def transfer(results: Results, figures: Path) -> Section | None:
    """Whether pre-training lowers the error on SMAP; None where no run with transfer can be compared."""
    cases = [(m, lead) for m in results.models for lead in results.leads if results.has(TRANSFERRED, m, lead)]
    rows = results.rows.loc[[(TRANSFERRED, *case) for case in cases]].reset_index()
    if rows["transfer_rmse_change"].isna().all():
        return None
    gains = rows[["model", "lead_days"]].assign(significant=rows["vs_scratch"].isin(["better", "worse"]))
    for name, column in (("change", "transfer_rmse_change"), ("low", "transfer_low"), ("high", "transfer_high")):
        gains[name] = 100 * rows[column]
    path = figures / "transfer_gain.png"
    draw_transfer_gain(gains, results.title("Change of RMSE by pre-training on ERA5-Land"), path)
    return Section(
        "Does pre-training on ERA5-Land lower the error on SMAP?",
        " ".join(_against_scratch(results, cases)),
        [Figure(path, "Change of RMSE by transfer, by model and lead", "Filled: significant at 5 %.")],
    )


def _against_scratch(results: Results, cases: list[tuple[str, int]]) -> list[str]:
    """How often transfer lowers the error: first against as many training steps from scratch, where those were run."""
    rivals = {MATCHED: "from scratch with as many training steps as both of its trainings", "": "from scratch"}
    sentences = []
    for variant, words in rivals.items():
        there = [(m, lead) for m, lead in cases if results.has(SCRATCH, m + variant, lead)]
        if there:
            changes = results.compare([Comparison(TRANSFERRED, m, at, (SCRATCH, m + variant)) for m, at in there])
            sentences.append(count_verdicts(changes, subject="a model with transfer", rival=f"the same model {words}"))
            sentences.append(format_range(changes, [f"{m}, {format_days(lead)}" for m, lead in there]))
    return sentences


def scatters(results: Results, figures: Path) -> Section:
    """Whether predicted and observed soil moisture lie closer to y = x with transfer."""
    panels = {}
    for experiment, name in ((SCRATCH, "from scratch"), (TRANSFERRED, "with transfer")):
        for model in results.models:
            run = results.predictions(experiment, model, results.lead, results.seeds[0])
            panels[name, model] = (run["observed"].values, run["predicted"].values)
    path, ahead = figures / "scatters.png", format_days(results.lead)
    scatter.draw_scatters(panels, results.title(f"Predicted against observed, {ahead} ahead"), path)
    slopes = results.rows["slope"]
    closer = [
        abs(slopes[TRANSFERRED, model, lead] - 1) < abs(slopes[SCRATCH, model, lead] - 1)
        for model in results.models
        for lead in results.leads
    ]
    shown = [
        f"{m}: {format_number(slopes[SCRATCH, m, results.lead], 3)} and "
        f"{format_number(slopes[TRANSFERRED, m, results.lead], 3)}"
        for m in results.models
    ]
    return Section(
        "Do predicted and observed soil moisture lie closer to y = x with transfer?",
        f"In {sum(closer) or 'none'} of {len(closer)} cases the slope of the fitted line is closer to 1 with transfer. "
        f"Slopes {ahead} ahead without and with transfer:",
        [Figure(path, "Density of predicted against observed soil moisture of all models", "Colour: cell-days.")],
        points=shown,
    )


def draw_transfer_gain(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE by transfer, per cent (negative: better), of every model and lead.

    `table`: model, lead_days, change, low, high (95 %; may be NaN), significant (filled marker; hollow where not).
    Raises UserError when no change is there.
    """
    style.save(_transfer_gain_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _transfer_gain_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: the one panel."""
    table = style.finite_rows(table, "change", "low", "high")
    if table.empty:
        raise UserError("The gain by transfer cannot be drawn: the table holds no change of RMSE.")
    models, looks = style.ordered(table["model"], style.MODELS), lead_looks(table["lead_days"])
    figure = style.new_figure(style.SINGLE, 2.5 + 0.035 * max(map(len, models)), title)
    ax = figure.subplots()
    ax.set_ylim(style.axis_limits(np.append(table[["change", "low", "high"]].to_numpy().ravel(), 0.0)))
    prepare_groups(ax, models)
    ax.axhline(0, color="0.2", linewidth=0.6)
    clipped = draw_points(ax, table.rename(columns={"change": "value", "significant": "filled"}), models, looks)
    ax.set_ylabel("change of RMSE by transfer (%)\nnegative is better")
    notes = [style.INTERVAL, style.HOLLOW] + ([style.CLIPPED] if clipped else [])
    style.legend(figure, *style.in_rows(lead_keys(looks), 3), notes)
    return figure
