"""Questions about the data: what each predictor is worth, and how much SMAP transfer replaces."""

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
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.scores.metrics import SEASONS
from utils.study.claims import format_change
from utils.study.html_page import Figure, Section
from utils.study.plan import TARGET_DAYS
from utils.study.questions.forecasts_shown import SIMPLE
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

CHANGES = {  # what was done with a predictor: colour and marker
    "retrained without": ("#0072b2", "o"),
    "permuted": ("#e69f00", "s"),
    "added": ("#009e73", "D"),
}
PREDICTORS = ("soil_moisture", "soil_temperature", "precipitation", "season")
PERMUTED = "_permuted_"  # in the name of a forecast of a trained network with a shuffled predictor
WAYS = {  # experiment: name, dodge on the axis of training days, look
    SCRATCH: ("from scratch", 0.97, {"color": "#56b4e9", "linestyle": (0, (4, 1.5)), "marker": "s"}),
    TRANSFERRED: ("with transfer", 1.03, {"color": "#0072b2", "linestyle": "solid", "marker": "o"}),
}
WHOLE_ONLY = {"color": style.FORECASTS[1], "linestyle": "none", "marker": "D"}
WAY = {"linewidth": 1.2, "markersize": 4, "zorder": 4, **style.EDGE}


# --- the predictors


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
        "Permuting shuffles the predictor's windows over the test year. So it also takes the predictor's season away.",
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
        f"{_enough(results)} RMSE (m³ m⁻³) of {model} from scratch and with transfer, {ahead}, by the SMAP "
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
        best = [] if variant or results.best == results.detail else [(TRANSFERRED, results.best)]  # knows all days only
        for experiment, name in cases + best:
            rmse = results.estimate(significance.rmse, experiment, name + variant, results.lead, cells_of=least)
            row = {"experiment": experiment, "model": name, "target_days": count, "whole": not variant}
            rows.append(row | {"rmse": rmse.value, "low": rmse.low, "high": rmse.high})
    return pd.DataFrame(rows)


def compare_record_lengths(results: Results) -> list[Comparison]:
    """The detail model with transfer on shorter records, the longest first, against scratch on the whole record."""
    model, lead = results.detail, results.lead
    names = [f"{model}_{days}days" for days in sorted(TARGET_DAYS, reverse=True)]
    return [
        Comparison(TRANSFERRED, name, lead, (SCRATCH, model)) for name in names if results.has(TRANSFERRED, name, lead)
    ]


def _enough(results: Results) -> str:
    """The shortest record whose forecasts with transfer are better than those from scratch on the whole record.

    So must be all longer records. The order is fixed and the first failure ends it: p needs no correction.
    """
    said = "With no shorter record is transfer significantly better than the whole record from scratch."
    for comparison in compare_record_lengths(results):
        change = results.rmse_change(comparison)
        if significance.verdict(change) != "better":
            break
        days = comparison.model.removeprefix(f"{results.detail}_").removesuffix("days")
        said = f"{days} days of SMAP with transfer are significantly better than the whole record from scratch: "
        said += f"{format_change(change)}."
    return said


def draw_target_days(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against the number of SMAP training days, a panel a model.

    `table`: experiment (SMAPtest: from scratch, finetune-SMAPtest: with transfer), model, target_days, whole (true for
    the whole record), rmse, low, high (95 %, m3 m-3; may be NaN); baselines are rows of their own, of any experiment.
    A model that only has the whole record is a point in every panel. An RMSE that would ruin the axis is an arrow on
    its edge with its value. Raises UserError when the table holds no model with an RMSE.
    """
    style.save(_target_days_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _target_days_figure(table: pd.DataFrame, title: str) -> Plot:
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
        ax.set_xlabel("SMAP training days (d)" if nothing_below else "")
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
