"""The question about the predictors: what each of them is worth."""

from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.dataset.predictors import SEASON
from utils.dataset.prepared import VARIABLES
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.metrics import SEASONS
from utils.study.claims import format_change
from utils.study.html_page import Figure, Section
from utils.study.results import TRANSFERRED, Comparison, Results

CHANGES = {  # what was done with a predictor: colour and marker
    "retrained without": ("#0072b2", "o"),
    "permuted": ("#e69f00", "s"),
    "added": ("#009e73", "D"),
}
PREDICTORS = ("soil_moisture", "soil_temperature", "precipitation", "season")
PERMUTED = "_permuted_"  # in the name of a forecast of a trained network with a shuffled predictor


def predictors(results: Results, figures: Path) -> Section | None:
    """What each predictor is worth; None where the study has no such run."""
    model, lead = results.detail, results.lead
    variants = list_variants(results)
    if not variants:
        return None
    changes = pd.DataFrame(
        [
            {"how": how, "predictor": predictor, "season": season} | _change_of_rmse(results, name, season)
            for how, predictor, name in variants
            for season in ("all", *SEASONS)
        ]
    )
    path, ahead = figures / "predictors.png", f"{format_days(lead)} ahead"
    title = f"What each predictor is worth: {model} with transfer, {ahead}"
    draw_predictors(changes.dropna(subset=["rmse_change"]), results.title(title), path)
    rmse = results.rows["rmse"]
    compared = results.compare(compare_variants(results))
    said = [
        f"{how} {predictor.replace('_', ' ')}: {format_number(rmse[TRANSFERRED, name, lead], 4)}, "
        + format_change(change)
        for (how, predictor, name), change in zip(variants, compared, strict=True)
    ]
    return Section(
        "What is each predictor worth?",
        f"{format_number(rmse[TRANSFERRED, model, lead], 4)} m³ m⁻³ is the RMSE of {model} with transfer and all "
        f"predictors, {ahead}. With other predictors it is, and changes by:",
        [Figure(path, "Change of RMSE without predictors, permuted, and with season", "Right of 0: worse.")],
        "Permuting shuffles the predictor's windows over the test days. So it also takes the predictor's season away.",
        points=said,
    )


def list_variants(results: Results) -> list[tuple[str, str, str]]:
    """What was done with which predictor, and the name of the model, of each such run that the study has."""
    model = results.detail
    variants = [("retrained without", name, f"{model}_without_{name}") for name in VARIABLES]
    variants += [("permuted", name, f"{model}{PERMUTED}{name}") for name in VARIABLES]
    variants += [("added", SEASON, f"{model}_with_season")]
    return [variant for variant in variants if results.has(TRANSFERRED, variant[2], results.lead)]


def compare_variants(results: Results) -> list[Comparison]:
    """Each variant against the model with all predictors; with a shuffled predictor it is the same network."""
    rival = (TRANSFERRED, results.detail)
    return [
        Comparison(TRANSFERRED, name, results.lead, rival, paired=PERMUTED in name)
        for _, _, name in list_variants(results)
    ]


def _change_of_rmse(results: Results, name: str, season: str) -> dict[str, float]:
    """The RMSE of a variant less that of the model with all predictors, with its interval, m3 m-3."""
    change = results.estimate(
        significance.rmse_difference,
        TRANSFERRED,
        name,
        results.lead,
        rival=(TRANSFERRED, results.detail),
        paired=PERMUTED in name,
        season=None if season == "all" else season,
    )
    return {"rmse_change": change.value, "low": change.low, "high": change.high}


def draw_predictors(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw what each predictor is worth as a forest plot: a panel over all seasons, and one each by season.

    `table`: how ("retrained without", "permuted", "added"), predictor, season ("all", "DJF", "MAM", "JJA", "SON"),
    rmse_change (m3 m-3; positive: worse for what was done), low, high (95 %; may be NaN). All panels share their axis.
    Raises UserError when no change over all seasons is there.
    """
    style.save(_predictors_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _predictors_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: all seasons, then one panel a season."""
    table = style.finite_rows(table, "rmse_change", "low", "high")
    table[["rmse_change", "low", "high"]] *= 1000
    if not (table["season"] == "all").any():
        raise UserError("The worth of the predictors cannot be drawn: no change of RMSE over all seasons is there.")
    points = table.rename(columns={"predictor": "row", "rmse_change": "value"})
    names, ways = style.ordered(points["row"], PREDICTORS), style.ordered(points["how"], CHANGES)
    looks = [forest.Look(way, way, *CHANGES[way]) for way in ways]
    seasons = style.ordered(points["season"], ("all", *SEASONS))
    figure = style.new_figure(style.DOUBLE, 0.95 + max(forest.row_height(looks), 0.3) * len(names), title)
    panels = figure.subplots(1, len(seasons), sharex=True, sharey=True, squeeze=False)[0]
    panels[0].set_xlim(style.axis_limits(np.append(points[["value", "low", "high"]].to_numpy().ravel(), 0.0)))
    clipped = False
    for ax, season, letter in zip(panels, seasons, ascii_lowercase, strict=False):
        forest.prepare_rows(ax, [name.replace("_", " ") for name in names])
        clipped |= forest.draw_points(ax, points[points["season"] == season], names, looks, by="how")
        ax.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
        ax.set_title(f"({letter}) {'all seasons' if season == 'all' else season}")
    panels[len(panels) // 2].set_xlabel(f"change of RMSE (10⁻³ {UNITS}); positive is worse")
    style.legend(figure, *style.in_rows(forest.keys(looks, points, clipped), 4))
    return figure
