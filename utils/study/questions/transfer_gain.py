"""Questions about pre-training: whether it lowers the error, and whether forecasts then lie closer to y = x."""

from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, scatter, style
from utils.scores import score_table
from utils.study.claims import count_verdicts, format_range
from utils.study.html_page import Figure, Section
from utils.study.plan import MATCHED
from utils.study.questions.forecasts_shown import SIMPLE, WAYS
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results


def transfer(results: Results, figures: Path) -> Section | None:
    """Whether pre-training lowers the error on SMAP; None where no run with transfer can be compared."""
    cases = [(m, lead) for m in results.models for lead in results.leads if results.has(TRANSFERRED, m, lead)]
    rows = results.rows.loc[[(TRANSFERRED, *case) for case in cases]].reset_index()
    if rows["transfer_rmse_change"].isna().all():
        return None
    rows = prefer_matched(rows)
    gains = rows[["model", "lead_days"]].copy()
    for name, column in (("change", "transfer_rmse_change"), ("low", "transfer_low"), ("high", "transfer_high")):
        gains[name] = 100 * rows[column]
    path = figures / "transfer_gain.png"
    draw_transfer_gain(gains, results.title("Change of RMSE by pre-training on ERA5-Land"), path)
    return Section(
        "Does pre-training on ERA5-Land lower the error on SMAP?",
        " ".join(_against_scratch(results, cases)),
        [Figure(path, "Change of RMSE by transfer, by model and lead", "Left of 0: transfer helps.")],
    )


def prefer_matched(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the columns of transfer against compute-matched scratch, where that was run."""
    known = rows["matched_rmse_change"].notna()
    preferred = rows.copy()
    for matched, usual in zip(score_table.AGAINST_MATCHED, score_table.AGAINST_SCRATCH, strict=True):
        preferred[usual] = rows[matched].where(known, rows[usual])  # the columns are empty where none was run
    return preferred


def _against_scratch(results: Results, cases: list[tuple[str, int]]) -> list[str]:
    """How often transfer lowers the error: first against as many training steps from scratch, where those were run."""
    rivals = {MATCHED: "from scratch after as many steps", "": "from scratch"}
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
    networks = list(dict.fromkeys((results.best, results.detail)))
    panels = {}
    for (experiment, way), simple in zip(WAYS.items(), SIMPLE, strict=True):
        cases = [(experiment, model, f"{model}, {way}") for model in networks] + [(SCRATCH, simple, simple)]
        for place, model, name in cases:
            run = results.predictions(place, model, results.lead, results.seeds[0])
            panels[name] = (run["observed"].values, run["predicted"].values)
    path, ahead = figures / "scatters.png", format_days(results.lead)
    title = results.title(f"Predicted against observed, {ahead} ahead")
    scatter.draw_scatters(panels, title, path, columns=len(networks) + 1)
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
        [Figure(path, "Density of predicted against observed, two networks and two baselines", "Colour: cell-days.")],
        points=shown,
    )


def draw_transfer_gain(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE by transfer, per cent (negative: better), of every model and lead as a forest plot.

    `table`: model, lead_days, change, low, high (95 %; may be NaN). Raises UserError when no change is there.
    """
    style.save(_transfer_gain_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _transfer_gain_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: the one panel."""
    table = style.finite_rows(table, "change", "low", "high")
    if table.empty:
        raise UserError("The gain by transfer cannot be drawn: the table holds no change of RMSE.")
    models, looks = style.ordered(table["model"], style.MODELS), forest.lead_looks(table["lead_days"])
    figure = style.new_figure(style.SINGLE, 0.95 + forest.row_height(looks) * len(models), title)
    ax = figure.subplots()
    points = table.rename(columns={"model": "row", "change": "value"})
    ax.set_xlim(forest.percent_limits(points))
    forest.prepare_rows(ax, models)
    clipped = forest.draw_points(ax, points, models, looks, by="lead_days")
    ax.set_xlabel("change of RMSE by transfer (%); negative is better")
    style.legend(figure, *style.in_rows(forest.keys(looks, table, clipped), 2))
    return figure
