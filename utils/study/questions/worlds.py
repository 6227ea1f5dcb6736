"""The question about other worlds: whether other weather over other soils would give the same answers."""

from pathlib import Path
from string import ascii_lowercase

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_number, format_percent
from utils.figures import forest, style
from utils.scores.significance import Estimate
from utils.study.claims import format_change, read_changes
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.questions.forecasts_shown import WAYS, forecast_rows
from utils.study.results import RIVALS, Results
from utils.study.worlds import EQUAL_STEPS, MEAN, NO_TRANSFER, THIS, compare_worlds

PANELS = (*RIVALS, NO_TRANSFER, EQUAL_STEPS)
CHANGE = ("rmse_change", "low", "high", "p")
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "rmse_change": Column("RMSE change", "%", ".1f"),
    "low": Column("from", "%", ".1f"),
    "high": Column("to", "%", ".1f"),
    "between": Column("deviation between worlds", "%", ".1f"),
    "within": Column("deviation within one", "%", ".1f"),
    "better": Column("worlds that are better"),
    "worlds": Column("worlds"),
}


def other_worlds(results: Results, figures: Path) -> Section | None:
    """How results differ between worlds; None where the study has no others."""
    table = compare_worlds(results)
    if table is None:
        return None
    lead = int(table["lead_days"].iloc[0])
    shown = table[table["lead_days"] == lead]
    means = shown[shown["world"] == MEAN]
    path = figures / "worlds.png"
    draw_worlds(shown, results.title(f"Change of RMSE in each world, {format_days(lead)} ahead"), path)
    return Section(
        "Would another world say the same?",
        f"{int(means['worlds'].iloc[0])} other SYNTHETIC worlds have other weather and other soils, in the same "
        f"climate. Mean change of RMSE over them {format_days(lead)} ahead, with its 95 % interval:",
        [Figure(path, "Change of RMSE in each world and on the mean over worlds", "Left of 0: the lower error.")],
        "The interval within one world is about its test days. It does not know the spread between worlds. All leads "
        "are in worlds.csv.",
        points=[
            _describe(row, change, shown)
            for (_, row), change in zip(means.iterrows(), read_changes(means, CHANGE), strict=True)
        ],
    )


def _describe(mean: pd.Series, change: Estimate, table: pd.DataFrame) -> str:
    """A comparison over all worlds, and in the study's own."""
    names = ["experiment", "model", "against"]
    (here,) = table.loc[(table["world"] == THIS) & (table[names] == mean[names]).all(axis=1), "rmse_change"]
    between, within = (format_number(mean[name], 1) for name in ("between", "within"))
    way = "" if mean["model"] == "ridge_memory" else f" {WAYS[mean['experiment']]}"
    return (
        f"{mean['model']}{way} against {mean['against']}: {format_change(change)}; standard deviation {between} % "
        f"between worlds and {within} % within one; better in {int(mean['better'])} of {int(mean['worlds'])}; "
        f"{format_percent(here / 100)} in this study"
    )


def world_tables(results: Results) -> list[Table]:
    """The means over worlds for the page."""
    table = compare_worlds(results)
    if table is None:
        return []
    means = table.loc[table["world"] == MEAN].drop(columns="world")
    caption = "Mean over SYNTHETIC worlds, with Student's 95 % interval; deviation between worlds and within one."
    return [Table("Worlds", caption, means, COLUMNS)]


def draw_worlds(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw each world's change of RMSE, per cent, with its interval and the mean over worlds; PNG and PDF.

    `table`: world, experiment, model, against, rmse_change, low, high, as compare_worlds makes it, of one lead. Raises
    UserError where no change is there.
    """
    style.save(_worlds_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _worlds_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes: one for each of PANELS that the table has, with a row for each forecast."""
    table = style.finite_rows(table, "rmse_change", "low", "high").rename(columns={"rmse_change": "value"})
    if table.empty:
        raise UserError("The worlds cannot be drawn: the table holds no change of RMSE.")
    names, shaded = forecast_rows(table)
    table["row"] = table["experiment"] + " " + table["model"]
    looks, keys = _looks(table["world"])
    panels = [against for against in PANELS if (table["against"] == against).any()]
    figure = style.new_figure(style.DOUBLE, 0.95 + forest.row_height(looks) * len(names), title)
    clipped = False
    for i, (ax, against) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)):
        part = table[table["against"] == against]
        ax.set_xlim(forest.percent_limits(part))
        forest.prepare_rows(ax, list(names.values()), shaded)
        clipped |= forest.draw_points(ax, part, list(names), looks, by="world")
        ax.set_title(f"({ascii_lowercase[i]}) against\n{against}")
        ax.set_xlabel("change of RMSE (%)")
        ax.tick_params(labelleft=i == 0)
    style.legend(figure, *style.in_rows(forest.keys(keys, table, clipped), 3))
    return figure


def _looks(worlds: pd.Series) -> tuple[list[forest.Look], list[forest.Look]]:
    """How each world looks, the mean last; and the looks that the legend needs, as all other worlds look alike."""
    others = [world for world in dict.fromkeys(worlds) if world not in (MEAN, THIS)]
    looks = [forest.Look(key=world, label="another world", colour="0.55", marker="o") for world in others]
    looks.append(forest.Look(key=THIS, label=THIS, colour="#0072b2", marker="s"))
    looks.append(forest.Look(key=MEAN, label="mean over the other worlds", colour="0.1", marker="D"))
    return looks, looks[len(others) - 1 :]
