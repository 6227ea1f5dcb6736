"""The question about the length of the record: with how many days of SMAP transfer pays, and how many it replaces."""

from functools import lru_cache
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number, join_words
from utils.figures import style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.significance import Estimate
from utils.study.claims import format_change, format_range, read_changes
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.plan import MATCHED, TARGET_DAYS, closer_models, suffix
from utils.study.product_names import name_target
from utils.study.questions.forecasts_shown import SIMPLE
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

DAYS_AXIS = "SMAP training days (d)"
CHANGE = ("change", "change_low", "change_high", "p")  # of the RMSE by transfer, on as many days: %, 95 %, p
COLUMNS = {
    "target_days": Column("SMAP days", "days"),
    "rmse": Column("RMSE", "m³ m⁻³", ".4f"),
    "low": Column("from", "", ".4f"),
    "high": Column("to", "", ".4f"),
    "change": Column("change by transfer", "%", ".1f"),
    "change_low": Column("from", "", ".1f"),
    "change_high": Column("to", "", ".1f"),
    "p": Column("p", "", ".3f"),
}
WAYS = {  # experiment: name, dodge on the axis of training days, look
    SCRATCH: ("from scratch", 0.97, {"color": "#56b4e9", "linestyle": (0, (4, 1.5)), "marker": "s"}),
    TRANSFERRED: ("with transfer", 1.03, {"color": "#0072b2", "linestyle": "solid", "marker": "o"}),
}
WHOLE_ONLY = {"color": style.FORECASTS[1], "linestyle": "none", "marker": "D"}
WAY = {"linewidth": 1.2, "markersize": 4, "zorder": 4, **style.EDGE}


def target_days(results: Results, figures: Path) -> Section | None:
    """With how many SMAP days transfer pays; None where the study has no run on fewer days."""
    table = score_record_lengths(results)
    if table is None:
        return None
    path, ahead = figures / "target_days.png", f"{format_days(results.lead)} ahead"
    title = f"How much SMAP transfer replaces: RMSE {ahead} by the length of the SMAP record"
    draw_target_days(table, results.title(title), path, name_target(DAYS_AXIS, results.label))
    ours = table[table["change"].notna()]
    changes = read_changes(ours, CHANGE)
    names = [f"{row.model}, {format_days(row.target_days)}" for row in ours.itertuples()]
    in_short = _where_it_pays(ours["model"], ours["target_days"], changes)
    if of_two := list(dict.fromkeys(ours.loc[ours["of_two"], "model"])):
        in_short += (
            f" From scratch, the better of two runs counts for {join_words(of_two)}: with the usual steps, and with as "
            "many as with transfer."
        )
    said = [
        f"{name}: {format_number(row.rmse_scratch, 4)} and {format_number(row.rmse, 4)}, " + format_change(change)
        for name, row, change in zip(names, ours.itertuples(), changes, strict=True)
    ]
    return Section(
        "With how many SMAP days does transfer pay, and how many does it replace?",
        f"{in_short} {' '.join(_enough(results, model) for model in dict.fromkeys(ours['model']))} RMSE (m³ m⁻³) from "
        f"scratch and with transfer, {ahead}, by the SMAP days to learn from, and the change:",
        [Figure(path, "RMSE against the number of SMAP days, with and without transfer", "95 % intervals.")],
        "Fewer days get at most as many training steps as the whole record. With N days the last fifth chooses the "
        "epoch, with the whole record its validation period. All lengths are compared on the cells that the shortest "
        "record has observed.",
        points=said,
        in_short=f"{in_short} {format_range(changes, names)}",
    )


@lru_cache(maxsize=1)
def score_record_lengths(results: Results) -> pd.DataFrame | None:
    """RMSE (m3 m-3) by SMAP days: of models without and with transfer, and of the baselines; None without such runs.

    A model with transfer has the change against scratch on as many days too, and `rmse_scratch` of that run. Where a
    run with as many steps was made too, that is the better of the two (`of_two`). All on the cells of the shortest
    record.
    """
    models = [model for model in closer_models(results.detail) if _lengths_of(results, model)]
    if not models:
        return None
    lengths = [*_lengths_of(results, models[0]), None]
    cases = [*product((SCRATCH, TRANSFERRED), models), *((SCRATCH, name) for name in BASELINES)]
    rows = []
    for days, (experiment, model) in product(lengths, cases):
        rows.append(_row(results, experiment, model, days, shortest=lengths[0]))
    if results.best not in models:  # it knows all days only
        best = _row(results, TRANSFERRED, results.best, None, shortest=lengths[0])
        rows.append(best | dict.fromkeys(CHANGE))
    return pd.DataFrame(rows)


def _lengths_of(results: Results, model: str) -> list[int]:
    """The numbers of days, fewer than the record's, that a model learned from with transfer."""
    return [days for days in TARGET_DAYS if results.has(TRANSFERRED, model + suffix(days), results.lead)]


def _row(results: Results, experiment: str, model: str, days: int | None, shortest: int) -> dict:
    """One forecast that learned from so many days (None: all), on the cells of the shortest record."""
    name, cells_of = model + suffix(days), "persistence" + suffix(shortest)
    rmse = results.estimate(significance.rmse, experiment, name, results.lead, cells_of=cells_of)
    row = {"experiment": experiment, "model": model, "lead_days": results.lead}
    row |= {"target_days": days or results.study["target_days"], "whole": days is None}
    row |= {"rmse": rmse.value, "low": rmse.low, "high": rmse.high, "of_two": False}
    if experiment == SCRATCH:
        return row
    names = [other for other in (name, name + MATCHED) if results.has(SCRATCH, other, results.lead)]
    errors = {
        other: results.estimate(significance.rmse, SCRATCH, other, results.lead, cells_of=cells_of).value
        for other in names
    }
    rival = (SCRATCH, min(errors, key=errors.__getitem__))
    change = results.estimate(significance.rmse_change, experiment, name, results.lead, rival=rival, cells_of=cells_of)
    row |= {"of_two": len(errors) > 1, "rmse_scratch": min(errors.values())}
    return row | change.to_per_cent(*CHANGE[:3]) | {"p": change.p}


def _where_it_pays(models: pd.Series, days: pd.Series, changes: list[Estimate]) -> str:
    """With how many days each model is significantly better, or worse, with transfer than without."""
    found = pd.DataFrame({"model": models, "days": days, "verdict": list(map(significance.verdict, changes))})
    phrases: dict[str, list[str]] = {"better": [], "worse": []}
    for (word, said), (model, rows) in product(phrases.items(), found.groupby("model", sort=False)):
        lengths = [str(days) for days in sorted(rows.loc[rows["verdict"] == word, "days"])]
        if lengths:
            said.append(f"for {model} with {join_words(lengths)} days")
    sentence = "Transfer is significantly better than training from scratch on as many SMAP days "
    sentence += join_words(phrases["better"]) or f"in none of {len(found)} cases"
    if phrases["worse"]:
        sentence += f"; it is significantly worse {join_words(phrases['worse'])}"
    return f"{sentence}."


def record_length_tables(results: Results) -> list[Table]:
    """The table behind the answer; none where there are no such runs."""
    found = score_record_lengths(results)
    if found is None:
        return []
    caption = "On the cells that the shortest record has observed, with 95 % intervals. The change is against scratch."
    shown = found.drop(columns=["lead_days", "whole", "of_two", "rmse_scratch"])
    return [Table("SMAP days to learn from", caption, shown, COLUMNS)]


def compare_record_lengths(results: Results) -> list[Comparison]:
    """Models with transfer on shorter records, the longest first, against scratch on the whole record."""
    models = closer_models(results.detail)
    return [comparison for model in models for comparison in _against_whole_record(results, model)]


def _against_whole_record(results: Results, model: str) -> list[Comparison]:
    """Those of one model."""
    lengths = sorted(_lengths_of(results, model), reverse=True)
    return [Comparison(TRANSFERRED, model + suffix(days), results.lead, (SCRATCH, model)) for days in lengths]


def _enough(results: Results, model: str) -> str:
    """The shortest record whose forecasts with transfer are better than those from scratch on the whole record.

    So must be all longer records. The order is fixed and the first failure ends it: p needs no correction.
    """
    said = (
        f"With no shorter record is {model} with transfer significantly better than from scratch on the whole record."
    )
    for comparison in _against_whole_record(results, model):
        change = results.rmse_change(comparison)
        if significance.verdict(change) != "better":
            break
        days = comparison.model.removeprefix(f"{model}_").removesuffix("days")
        said = f"{model} with transfer and {days} days of SMAP is significantly better than the whole record from "
        said += f"scratch: {format_change(change)}."
    return said


def draw_target_days(table: pd.DataFrame, title: str, path: Path, axis: str = DAYS_AXIS) -> None:
    """Draw RMSE against the number of SMAP training days, a panel a model.

    `table`: experiment (SMAPtest: from scratch, finetune-SMAPtest: with transfer), model, target_days, whole (true for
    the whole record), rmse, low, high (95 %, m3 m-3; may be NaN); baselines are rows of their own, of any experiment.
    A model that only has the whole record is a point in every panel. An RMSE that would ruin the axis is an arrow on
    its edge with its value. `axis` is the label of the days. Raises UserError when the table holds no model with an
    RMSE.
    """
    style.save(_target_days_figure(table, title, axis), path, vector=True)


@rc_context(style.STYLE)
def _target_days_figure(table: pd.DataFrame, title: str, axis: str = DAYS_AXIS) -> Plot:
    """Axes in order: one panel per model."""
    table = style.finite_rows(table, "rmse", "low", "high")
    known = table["model"].isin(BASELINES)
    fitted = table[~known & table["experiment"].isin(WAYS)]
    few = fitted.groupby("model")["target_days"].transform("nunique") == 1
    whole_only, fitted = (fitted[few], fitted[~few]) if not few.all() else (fitted[:0], fitted)
    models = style.ordered(fitted["model"], style.MODELS)
    if not models:
        raise UserError("RMSE against training days cannot be drawn: the table holds no model with an RMSE.")
    simple = table[known].groupby(["model", "target_days"], as_index=False)[["rmse", "low", "high"]].mean()
    lengths = table.groupby("target_days")["whole"].any()
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    figure = style.new_figure(style.SINGLE if columns == 1 else style.DOUBLE, 1.0 + 1.7 * rows, title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    panels[0].set(xscale="log", xlim=(lengths.index.min() / 1.25, lengths.index.max() * 1.25))
    usual = fitted.loc[fitted["rmse"] < 3 * fitted["rmse"].median(), "rmse"]  # a result with few days is not hidden
    shown = np.append(fitted[["rmse", "low", "high"]].to_numpy().ravel(), simple["rmse"])
    panels[0].set_ylim(style.axis_limits(shown, inside=usual))
    clipped = False
    for i, (ax, model) in enumerate(zip(panels, models, strict=False)):
        ax.set_title(f"({ascii_lowercase[i]}) {model}")
        clipped |= _draw_record_lengths(ax, fitted[fitted["model"] == model], simple, whole_only)
        ax.set_xticks(lengths.index, [f"{n}\n(all)" if whole else str(n) for n, whole in lengths.items()])
        ax.set_xticks([], minor=True)
        nothing_below = i + columns >= len(models)
        ax.tick_params(labelbottom=nothing_below)
        ax.set_xlabel(axis if nothing_below else "")
    for ax in grid[:, 0]:
        ax.set_ylabel(f"RMSE ({UNITS})")
    for spare in panels[len(models) :]:
        spare.remove()
    keys = _record_length_keys(panels[0], fitted, clipped)
    style.legend(figure, *style.in_rows(keys, 2 if columns == 1 else 4))
    return figure


def _record_length_keys(ax: Axes, fitted: pd.DataFrame, clipped: bool) -> list[Line2D]:
    """The entries of the legend: models, marks, baselines."""
    lines = {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}
    keys = [line for name, line in lines.items() if name not in BASELINES]
    if fitted[["low", "high"]].notna().any(axis=None):
        keys.append(style.INTERVAL)
    if clipped:
        keys.append(style.CLIPPED)
    return keys + [lines[name] for name in BASELINES if name in lines]


def _draw_record_lengths(ax: Axes, fitted: pd.DataFrame, simple: pd.DataFrame, whole_only: pd.DataFrame) -> bool:
    """One model without and with transfer, beside the others; returns whether any RMSE lies off the axis."""
    clipped = False
    ax.grid(**style.GRID)
    for name, rows in simple.groupby("model", sort=False):
        look = style.baseline_line(name)
        if name == SIMPLE[0]:
            style.draw_interval(ax, rows["target_days"], rows[["low", "high"]], look["color"])
        clipped |= style.draw_line(ax, rows["target_days"], rows["rmse"], label=name, **look)
    for way, (name, dodge, look) in WAYS.items():
        rows = fitted[fitted["experiment"] == way].sort_values("target_days")
        x = rows["target_days"].to_numpy() * dodge
        style.draw_interval(ax, x, rows[["low", "high"]], look["color"])
        clipped |= style.draw_line(ax, x, rows["rmse"], label=name, **look, **WAY)
    for name, rows in whole_only.groupby("model"):
        style.draw_interval(ax, rows["target_days"] * 1.1, rows[["low", "high"]], WHOLE_ONLY["color"])
        label = f"{name} with transfer, all days"
        clipped |= style.draw_line(ax, rows["target_days"] * 1.1, rows["rmse"], label=label, **WHOLE_ONLY, **WAY)
    return clipped
