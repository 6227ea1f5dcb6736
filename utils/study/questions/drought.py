"""The question about drought: how good the chances of unusually dry soil are, and whether they come true as often."""

from itertools import cycle
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.text import format_days, format_number
from utils.figures import style
from utils.forecasts.event_scores import RARE, EventScores
from utils.scores.baselines import BASELINES
from utils.scores.significance import Estimate
from utils.study.html_page import Column

CLIMATOLOGY = "climatology"
DROUGHT = {  # columns of the table of uncertainty; the same of `wet`
    f"{event}_{name}": Column(heading, unit, form)
    for event in ("dry", "wet")
    for name, (heading, unit, form) in {
        "share": (f"unusually {event} cell-days", "%", ".1f"),
        "brier": (f"Brier score, {event}", "", ".4f"),
        "skill": (f"Brier skill, {event}", "", ".3f"),
        "skill_low": ("from", "", ".3f"),
        "skill_high": ("to", "", ".3f"),
        "over_persistence": ("over persistence", "", ".3f"),
        "over_persistence_low": ("from", "", ".3f"),
        "over_persistence_high": ("to", "", ".3f"),
    }.items()
}


def drought_columns(events: dict[str, EventScores], persistence: dict[str, EventScores]) -> dict[str, object]:
    """The columns DROUGHT of one forecast, and `dry_bins`: how often dry soil came by the chance it was given.

    `persistence`: the chances that the calibrated last observation gives.
    """
    columns: dict[str, object] = {"dry_bins": events["dry"].reliability}
    for event, scores in events.items():
        skills = {"skill": scores.skill, "over_persistence": scores.skill_over(persistence[event])}
        scored = bool(scores.n.any())
        columns[f"{event}_share"] = 100 * scores.share if scored else np.nan
        columns[f"{event}_brier"] = scores.brier if scored else np.nan
        for name, skill in skills.items():
            columns |= {f"{event}_{name}{end}": value for end, value in _ends(skill).items()}
    return {name: columns[name] for name in (*DROUGHT, "dry_bins")}


def _ends(skill: Estimate) -> dict[str, float]:
    return {"": skill.value, "_low": skill.low, "_high": skill.high}


def describe_drought(scores: pd.DataFrame) -> tuple[str, list[str]]:
    """The answer, and a statement for each lead."""
    first = scores.iloc[0]
    answer = (
        f"{format_number(first['dry_share'], 1)} % of the test's cell-days were unusually dry, that is below the 10th "
        f"percentile of the time of the year in unseen years; {format_number(first['wet_share'], 1)} % were above the "
        f"90th. Over many years each share is about {100 * RARE:.0f} %. Brier skill of the chance of unusually dry "
        "soil over a climatology, with its 95 % interval (1 is perfect, 0 no better):"
    )
    points = []
    for lead, rows in scores.groupby("lead_days"):
        rows = rows[rows["model"] != CLIMATOLOGY].sort_values("dry_skill", ascending=False)
        points.append(f"{format_days(int(lead))}: {', '.join(_describe_skill(row) for _, row in rows.iterrows())}")
    return answer, points


def _describe_skill(row: pd.Series) -> str:
    value, low, high = (format_number(row[f"dry_skill{end}"], 2) for end in ("", "_low", "_high"))
    return f"{row['model']} {value} ({low} to {high})"


def draw_drought(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw how often unusually dry soil came by its chance, a panel a lead, and the Brier skill by lead; PNG and PDF.

    `table`: model, lead_days, dry_bins, and dry_skill with its ends. The row of climatology is not drawn.
    """
    style.save(_drought_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _drought_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: a diagram for each lead, the Brier skill."""
    leads, names = sorted(table["lead_days"].unique()), style.ordered(table["model"], BASELINES)
    looks = {name: style.line_of(name, names) | {"marker": mark} for name, mark in zip(names, cycle(style.MARKERS))}
    table, names = table[table["model"] != CLIMATOLOGY], [name for name in names if name != CLIMATOLOGY]
    looks = {name: looks[name] for name in names}
    figure = style.new_figure(style.DOUBLE, 0.75 + 5.4 / (len(leads) + 1), title)  # square panels
    *diagrams, skills = figure.subplots(1, len(leads) + 1)
    for ax, lead, letter in zip(diagrams, leads, ascii_lowercase, strict=False):
        _draw_reliability(ax, table[table["lead_days"] == lead], looks)
        ax.set(title=f"({letter}) {format_days(int(lead))} ahead", xlabel="chance of unusually dry (%)")
        ax.tick_params(labelleft=lead == leads[0])
    diagrams[0].set_ylabel("how often it came (%)")
    for shift, name in zip(np.linspace(-0.2, 0.2, len(names)), names, strict=True):
        rows = table[table["model"] == name].sort_values("lead_days")
        whiskers = (rows["dry_skill"] - rows["dry_skill_low"], rows["dry_skill_high"] - rows["dry_skill"])
        place = rows["lead_days"] + shift
        skills.errorbar(place, rows["dry_skill"], yerr=np.array(whiskers), markersize=3, elinewidth=0.6, **looks[name])
    skills.axhline(0, color="0.6", linewidth=0.6, zorder=1)
    skills.set(title=f"({ascii_lowercase[len(leads)]}) Brier skill", xlabel="lead (d)", xticks=leads)
    skills.set(box_aspect=1, ylim=(min(0, skills.get_ylim()[0]), 1))
    keys = [Line2D([], [], markersize=3, label=name, **look) for name, look in looks.items()]
    keys += [Line2D([], [], color="0.6", linewidth=0.6, label="perfectly reliable, or no skill"), style.INTERVAL]
    style.legend(figure, keys)
    return figure


def _draw_reliability(ax: Axes, rows: pd.DataFrame, looks: dict[str, dict]) -> None:
    ax.plot([0, 100], [0, 100], color="0.6", linewidth=0.6, zorder=1)
    for _, row in rows.iterrows():
        bins = 100 * pd.DataFrame(row["dry_bins"])
        whiskers = (bins["frequency"] - bins["low"], bins["high"] - bins["frequency"])
        look = looks[row["model"]] | {"markersize": 2.2, "elinewidth": 0.6}
        ax.errorbar(bins["chance"], bins["frequency"], yerr=np.maximum(np.array(whiskers), 0), **look)
    ax.set(xlim=(0, 100), ylim=(0, 100), box_aspect=1, xticks=[0, 50, 100], yticks=[0, 50, 100])
