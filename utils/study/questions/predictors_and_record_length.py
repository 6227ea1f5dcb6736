"""Questions about the data: what each predictor is worth, and how much SMAP transfer replaces."""

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
from utils.dataset.prepared import SEASON, VARIABLES
from utils.figures import style
from utils.figures.style import DOT, UNITS
from utils.scores import metrics, significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.plan import TARGET_DAYS
from utils.study.results import SCRATCH, TRANSFERRED, Results

CHANGES = {  # what was done with a predictor: colour and marker
    "retrained without": ("#0072b2", "o"),
    "permuted": ("#e69f00", "s"),
    "added": ("#009e73", "D"),
}
PREDICTORS = ("soil_moisture", "soil_temperature", "precipitation", "season")
SEASONS = ("DJF", "MAM", "JJA", "SON")
WAYS = {  # experiment: name, dodge on the axis of training days, look
    SCRATCH: ("from scratch", 0.97, {"color": "#56b4e9", "linestyle": (0, (4, 1.5)), "marker": "s"}),
    TRANSFERRED: ("with transfer", 1.03, {"color": "#0072b2", "linestyle": "solid", "marker": "o"}),
}
WAY = {"linewidth": 1.2, "markersize": 4, "zorder": 4, **style.EDGE}


# --- the predictors


def predictors(results: Results, figures: Path) -> Section | None:
    """What each predictor is worth; None where the study has no such run."""
    model, lead = results.detail, results.lead
    variants = [("retrained without", name, f"{model}_without_{name}") for name in VARIABLES]
    variants += [("permuted", name, f"{model}_permuted_{name}") for name in VARIABLES]
    variants += [("added", SEASON, f"{model}_with_season")]
    variants = [variant for variant in variants if results.has(TRANSFERRED, variant[2], lead)]
    if not variants:
        return None
    changes = pd.DataFrame(
        [
            {"how": how, "predictor": predictor, "season": season} | _change_of_rmse(results, name, season)
            for how, predictor, name in variants
            for season in ("all", *metrics.SEASONS)
        ]
    )
    path, ahead = figures / "predictors.png", f"{format_days(lead)} ahead"
    title = f"What each predictor is worth: {model} with transfer, {ahead}"
    draw_predictors(changes.dropna(subset=["rmse_change"]), results.title(title), path)
    rmse, said = results.rows["rmse"], []
    for how, predictor, name in variants:
        verdict = results.verdict(TRANSFERRED, name, lead, (TRANSFERRED, model))
        chance = "" if verdict in ("better", "worse") else " (n.s.)"
        said.append(f"{how} {predictor.replace('_', ' ')}: {format_number(rmse[TRANSFERRED, name, lead], 4)}{chance}")
    return Section(
        "What is each predictor worth?",
        f"The RMSE (m³ m⁻³) of {model} with transfer, {ahead}, is "
        f"{format_number(rmse[TRANSFERRED, model, lead], 4)}. n.s. (not significant): the "
        "difference from the model with all predictors may be chance. With other predictors it is:",
        [Figure(path, "Change of RMSE without each predictor, permuted, and with the season added", "95 % intervals.")],
        "Permuting shuffles the predictor's windows over the test year. So it also takes the predictor's season away.",
        points=said,
    )


def _change_of_rmse(results: Results, name: str, season: str) -> dict[str, float]:
    """The RMSE of a variant less that of the model with all predictors, with its interval, m3 m-3."""
    change = results.estimate(
        significance.rmse_difference,
        TRANSFERRED,
        name,
        results.lead,
        rival=(TRANSFERRED, results.detail),
        season=None if season == "all" else season,
    )
    return {"rmse_change": change.value, "low": change.low, "high": change.high}


def draw_predictors(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw what each predictor is worth: over all seasons, and a strip each by season.

    `table`: how ("retrained without", "permuted", "added"), predictor, season ("all", "DJF", "MAM", "JJA", "SON"),
    rmse_change (m3 m-3; positive: worse for what was done), low, high (95 %; may be NaN). A marker is hollow where the
    interval holds 0. Raises UserError when no change is there.
    """
    style.save(_predictors_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _predictors_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: all seasons (predictors from top to bottom), then a strip by season per predictor."""
    table = style.finite_rows(table, "rmse_change", "low", "high")
    table[["rmse_change", "low", "high"]] *= 1000
    whole, seasonal = table[table["season"] == "all"], table[table["season"].isin(SEASONS)]
    if whole.empty:
        raise UserError("The worth of the predictors cannot be drawn: no change of RMSE over all seasons is there.")
    names, ways = style.ordered(whole["predictor"], PREDICTORS), style.ordered(whole["how"], CHANGES)
    figure = style.new_figure(style.DOUBLE, 0.9 + 0.85 * len(names), title)
    panels = figure.subplot_mosaic([["all", name] for name in names])
    ax = panels["all"]
    ax.set(xlabel=f"change of RMSE (10⁻³ {UNITS}), positive is worse", xmargin=0.18, ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), [name.replace("_", "\n") for name in names])
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color="0.2", linewidth=0.6)
    for i, name in enumerate(names):
        if i % 2:
            ax.axhspan(i - 0.5, i + 0.5, **style.STRIPES)
        _draw_all_seasons(ax, whole[whole["predictor"] == name], i, ways)
        _draw_seasons(panels[name], seasonal[seasonal["predictor"] == name], ways)
        panels[name].set(title=f"({ascii_lowercase[i + 1]}) {name.replace('_', ' ')}", ylabel=f"change\n(10⁻³ {UNITS})")
        panels[name].tick_params(labelbottom=name == names[-1])
    ax.set_title("(a) all seasons")
    figure.align_ylabels()
    keys = [Line2D([], [], color=CHANGES[how][0], label=how, **DOT | {"marker": CHANGES[how][1]}) for how in ways]
    hollow = Line2D([], [], color="white", label="hollow: the interval holds 0", **DOT)
    style.legend(figure, [*keys, style.INTERVAL, hollow])
    return figure


def _draw_all_seasons(ax: Axes, rows: pd.DataFrame, row: int, ways: Sequence[str]) -> None:
    """One predictor's changes over all seasons, written beside their markers."""
    for way, y in _places(rows, ways, row):
        part = rows[rows["how"] == way]
        ax.hlines(np.full(len(part), y), part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
        _draw_markers(ax, part, way, x=part["rmse_change"].to_numpy(), y=np.full(len(part), y))
        for change, end in zip(part["rmse_change"], part[["rmse_change", "high"]].max(axis=1), strict=True):
            text = f"{change:+.2f}".replace("-", "−")
            ax.annotate(text, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=6)


def _draw_seasons(ax: Axes, rows: pd.DataFrame, ways: Sequence[str]) -> None:
    """One predictor's changes season by season."""
    ax.set(xlim=(-0.5, len(SEASONS) - 0.5), ymargin=0.15)
    ax.axhline(0, color="0.2", linewidth=0.6)
    for way, offset in _places(rows, ways, 0):
        part = rows[rows["how"] == way]
        x = part["season"].map(SEASONS.index).to_numpy() + offset
        ax.vlines(x, part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
        _draw_markers(ax, part, way, x=x, y=part["rmse_change"].to_numpy())
    ax.set_xticks(range(len(SEASONS)), SEASONS)
    ax.tick_params(axis="x", length=0)
    ax.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])


def _places(rows: pd.DataFrame, ways: Sequence[str], middle: int) -> list[tuple[str, float]]:
    """Where what was done with this predictor stands, side by side about the middle."""
    done = [way for way in ways if (rows["how"] == way).any()]
    return [(way, middle + 0.8 * offset) for way, offset in zip(done, offsets(max(len(done), 1)), strict=False)]


def _draw_markers(ax: Axes, rows: pd.DataFrame, way: str, x: np.ndarray, y: np.ndarray) -> None:
    """Markers at these places, hollow where the interval holds 0 or is not known."""
    color, marker = CHANGES[way]
    sure = (rows["low"] > 0) | (rows["high"] < 0)
    ax.scatter(x, y, s=16, c=np.where(sure, color, "white"), marker=marker, edgecolor="0.2", linewidth=0.6, zorder=4)


# --- the length of the record


def target_days(results: Results, figures: Path) -> Section | None:
    """How many SMAP days pre-training replaces; None where the study has no run on fewer days."""
    model, lead = results.detail, results.lead
    variants = {n: f"_{n}days" for n in TARGET_DAYS if results.has(TRANSFERRED, f"{model}_{n}days", lead)}
    if not variants:
        return None
    variants[results.study["target_days"]] = ""
    path, ahead = figures / "target_days.png", f"{format_days(lead)} ahead"
    title = f"How much SMAP transfer replaces: RMSE {ahead} by the length of the SMAP record"
    draw_target_days(_rmse_by_record_length(results, variants), results.title(title), path)
    rmse = results.rows["rmse"]
    said = [
        f"{n} days: {format_number(rmse[SCRATCH, model + variant, lead], 4)} and "
        f"{format_number(rmse[TRANSFERRED, model + variant, lead], 4)}"
        for n, variant in variants.items()
    ]
    return Section(
        "How much SMAP does pre-training replace?",
        f"{_enough(results, variants)} RMSE (m³ m⁻³) of {model} from scratch and with transfer, {ahead}, by the SMAP "
        "days it learns from:",
        [Figure(path, "RMSE against the number of SMAP days, with and without transfer", "95 % intervals.")],
        "Fewer days get at most as many training steps as the whole record. With N days the last fifth chooses the "
        "epoch, with the whole record its last year. The figure compares all lengths on the cells that the shortest "
        "record has observed.",
        points=said,
    )


def _rmse_by_record_length(results: Results, variants: dict[int, str]) -> pd.DataFrame:
    """RMSE of the model without and with transfer, and of the baselines, on the cells of the shortest record."""
    least, rows = "persistence" + variants[min(variants)], []
    cases = [(SCRATCH, results.detail), (TRANSFERRED, results.detail), *((SCRATCH, name) for name in BASELINES)]
    for count, variant in variants.items():
        for experiment, name in cases:
            rmse = results.estimate(significance.rmse, experiment, name + variant, results.lead, cells_of=least)
            row = {"experiment": experiment, "model": name, "target_days": count, "whole": not variant}
            rows.append(row | {"rmse": rmse.value, "low": rmse.low, "high": rmse.high})
    return pd.DataFrame(rows)


def _enough(results: Results, variants: dict[int, str]) -> str:
    """The shortest record whose forecasts with transfer are better than those from scratch on the whole record.

    So must be all longer records.
    """
    enough = None
    for n, variant in sorted(variants.items(), reverse=True)[1:]:
        verdict = results.verdict(TRANSFERRED, results.detail + variant, results.lead, (SCRATCH, results.detail))
        if verdict != "better":
            break
        enough = n
    if enough is None:
        return "With no shorter record is transfer significantly better than the whole record from scratch."
    return f"Transfer with {enough} days is significantly better than the whole record from scratch."


def draw_target_days(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against the number of SMAP training days, a panel a model.

    `table`: experiment (SMAPtest: from scratch, finetune-SMAPtest: with transfer), model, target_days, whole (true for
    the whole record), rmse, low, high (95 %, m3 m-3; may be NaN); baselines are rows of their own, of any experiment.
    An RMSE that would ruin the axis is marked on its edge and written.
    Raises UserError when the table holds no model with an RMSE.
    """
    style.save(_target_days_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _target_days_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: one panel per model."""
    table = style.finite_rows(table, "rmse", "low", "high")
    known = table["model"].isin(BASELINES)
    fitted = table[~known & table["experiment"].isin(WAYS)]
    models = style.ordered(fitted["model"], style.MODELS)
    if not models:
        raise UserError("RMSE against training days cannot be drawn: the table holds no model with an RMSE.")
    simple = table[known].groupby(["model", "target_days"], as_index=False)["rmse"].mean()
    lengths = table.groupby("target_days")["whole"].any()
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    figure = style.new_figure(style.SINGLE if columns == 1 else style.DOUBLE, 1.0 + 1.7 * rows, title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    panels[0].set(xscale="log", xlim=(lengths.index.min() / 1.25, lengths.index.max() * 1.25))
    panels[0].set_ylim(_rmse_limits(fitted, simple))
    clipped = False
    for i, (ax, model) in enumerate(zip(panels, models, strict=False)):
        ax.set_title(f"({ascii_lowercase[i]}) {model}")
        ax.grid(**style.GRID)
        clipped |= _draw_record_lengths(ax, fitted[fitted["model"] == model], simple)
        ax.set_xticks(lengths.index, [f"{n}\n(all)" if whole else str(n) for n, whole in lengths.items()])
        ax.set_xticks([], minor=True)
        nothing_below = i + columns >= len(models)
        ax.tick_params(labelbottom=nothing_below)
        ax.set_xlabel("SMAP training days (d)" if nothing_below else "")
    for ax in grid[:, 0]:
        ax.set_ylabel(f"RMSE ({UNITS})")
    for spare in panels[len(models) :]:
        spare.remove()
    first = [Line2D([], [], label=name, **look, **WAY) for name, _, look in WAYS.values()]
    if fitted[["low", "high"]].notna().any(axis=None):
        first.append(style.INTERVAL)
    if clipped:
        first.append(style.CLIPPED)
    lines = [
        Line2D([], [], label=name, **style.baseline_line(name)) for name in style.ordered(simple["model"], BASELINES)
    ]
    style.legend(figure, *style.in_rows([*first, *lines], 3 if columns == 1 else 4))
    return figure


def _rmse_limits(fitted: pd.DataFrame, simple: pd.DataFrame) -> tuple[float, float]:
    """Limits of the axis that hide no model with few days, unless its RMSE is three times that of most others."""
    low, high = style.axis_limits(np.append(fitted[["rmse", "low", "high"]].to_numpy().ravel(), simple["rmse"]))
    usual = fitted.loc[fitted["rmse"] < 3 * fitted["rmse"].median(), "rmse"]
    return low, max(high, usual.max() + 0.07 * (usual.max() - low))


def _draw_record_lengths(ax: Axes, fitted: pd.DataFrame, simple: pd.DataFrame) -> bool:
    """One model without and with transfer, beside the baselines; returns whether any RMSE lies off the axis."""
    clipped = False
    for name, rows in simple.groupby("model", sort=False):
        line = style.baseline_line(name)
        x, y = rows["target_days"].to_numpy(float), rows["rmse"].to_numpy()
        ax.plot(x, y, label=name, **line)
        clipped |= style.mark_clipped(ax, x, y, [line["color"]] * len(x))
    for way, (name, dodge, look) in WAYS.items():
        rows = fitted[fitted["experiment"] == way].sort_values("target_days")
        x, y = rows["target_days"].to_numpy() * dodge, rows["rmse"].to_numpy()
        ax.vlines(x, rows["low"], rows["high"], color=look["color"], linewidth=1, zorder=3)
        ax.plot(x, y, label=name, **look, **WAY)
        clipped |= style.mark_clipped(ax, x, y, [look["color"]] * len(x))
    return clipped
