"""The question about conditions: in which season and region, and how long after an observation, forecasts are good."""

from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase

import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure as Plot

from utils.common.cli import UserError
from utils.common.text import format_days, format_percent
from utils.figures import forest, style
from utils.scores import significance
from utils.scores.metrics import SEASONS
from utils.scores.sums import REGIONS
from utils.study.html_page import Figure, Section
from utils.study.questions.forecasts_shown import Forecast, forecasts_shown
from utils.study.results import Results

AGES = {  # days from the last observation to the last input day: first, last
    "0 days": (0, 0),
    "1 day": (1, 1),
    "2 or 3 days": (2, 3),
    "4 to 7 days": (4, 7),
    "8 days or more": (8, float("inf")),
}
Choice = Callable[[xr.Dataset], xr.DataArray]  # predictions.nc → which cell-days count


def conditions(results: Results, figures: Path) -> Section:
    """The change of RMSE against persistence by season, climate region and age of the last observation."""
    shown = forecasts_shown(results)[:-1]  # persistence is what they are compared with
    changes = pd.DataFrame(
        [
            {"group": group, "row": name, "forecast": forecast.name} | _change(results, forecast, choice)
            for group, choices in _groups().items()
            for name, choice in choices.items()
            for forecast in shown
        ]
    ).dropna(subset="value")
    ages = changes.loc[changes["group"] == "age", "row"].nunique()
    if ages < 2:
        changes = changes[changes["group"] != "age"]
    path, ahead = figures / "conditions.png", f"{format_days(results.lead)} ahead"
    by = "season, region and age of the last observation" if ages > 1 else "season and region"
    draw_conditions(changes, shown, results.title(f"Change of RMSE against persistence by {by}, {ahead}"), path)
    best = changes[changes["forecast"] == shown[0].name]
    one_age = "" if ages > 1 else "All last observations have the same age, so there is no panel of it. "
    return Section(
        "When and where are forecasts better than persistence?",
        f"{one_age}Change of RMSE of {shown[0].name} against persistence, {ahead}:",
        [Figure(path, "Change of RMSE by season, climate region and age of observation", "Left of 0: better.")],
        points=[_words(rows) for _, rows in best.groupby("group", sort=False)],
    )


def _groups() -> dict[str, dict[str, Choice]]:
    """The classes of each panel, and which cell-days are in each."""
    return {
        "season": {name: lambda run, name=name: run["time"].dt.season == name for name in SEASONS},
        "region": {name: lambda run, i=i: run["region"] == i for i, name in enumerate(REGIONS)},
        "age": {
            name: lambda run, ends=ends: (run["input_age"] >= ends[0]) & (run["input_age"] <= ends[1])
            for name, ends in AGES.items()
        },
    }


def _change(results: Results, forecast: Forecast, choice: Choice) -> dict[str, float]:
    """The change of RMSE against persistence over the chosen cell-days and all seeds, per cent; empty without any."""
    run = forecast.read(results, results.lead)
    try:
        observed = run["observed"].where(choice(run))
    except KeyError:  # runs of older versions do not know the age
        return {"value": float("nan")}
    if not observed.notnull().any():
        return {"value": float("nan")}
    sums = results.sums_on(observed, forecast.experiment, forecast.model, results.lead)
    return significance.estimate(sums, significance.rmse_change).to_per_cent()


def _words(rows: pd.DataFrame) -> str:
    """The changes of one forecast in the classes of one panel."""
    said = (f"{name} {format_percent(value / 100)}" for name, value in zip(rows["row"], rows["value"], strict=True))
    group = rows["group"].iloc[0]
    return f"{'age of the last observation' if group == 'age' else group}: {', '.join(said)}"


def draw_conditions(table: pd.DataFrame, shown: list[Forecast], title: str, path: Path) -> None:
    """Draw the change of RMSE against persistence, per cent, as a forest plot with a panel a group; PNG and PDF.

    `table`: group (season, region, age), row (the class), forecast (a name of `shown`), value, low, high (95 %;
    negative is better). Raises UserError when no change is there.
    """
    style.save(_conditions_figure(table, shown, title), path, vector=True)


@rc_context(style.STYLE)
def _conditions_figure(table: pd.DataFrame, shown: list[Forecast], title: str) -> Plot:
    """Axes in order: one panel per group."""
    table = style.finite_rows(table, "value", "low", "high")
    if table.empty:
        raise UserError("Changes of RMSE by season and region cannot be drawn: there are none.")
    looks = [forest.Look(one.name, one.name, one.colour, one.marker) for one in shown]
    rows = {group: list(dict.fromkeys(part["row"])) for group, part in table.groupby("group", sort=False)}
    most = max(map(len, rows.values()))
    figure = style.new_figure(style.DOUBLE, 0.95 + 1.3 * forest.row_height(looks) * most, title)
    panels = figure.subplots(1, len(rows), sharex=True, squeeze=False)[0]
    panels[0].set_xlim(forest.percent_limits(table))
    names = {"season": "season of the target day", "region": "climate region", "age": "age of the last observation"}
    clipped = False
    for ax, group, letter in zip(panels, rows, ascii_lowercase, strict=False):
        forest.prepare_rows(ax, rows[group])
        clipped |= forest.draw_points(ax, table[table["group"] == group], rows[group], looks, by="forecast")
        ax.set(title=f"({letter}) {names[group]}", xlabel="change of RMSE (%)\nnegative is better")
    style.legend(figure, *style.in_rows(forest.keys(looks, table, clipped), 3))
    return figure
