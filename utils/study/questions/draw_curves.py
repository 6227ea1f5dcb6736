"""Plots of what a forecast's error depends on: days to learn from, lead, transfer, predictors, time."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.common.cli import UserError
from utils.figures.scatter import CLIPPED, DOT, INTERVAL, WORST_SKILL, group_steps, lead_shades, legend
from utils.figures.style import (
    DOUBLE,
    FORECASTS,
    MODELS,
    SINGLE,
    STYLE,
    UNITS,
    axis_limits,
    mark_clipped,
    new_figure,
    ordered,
    save,
    wrap,
)
from utils.scores.baselines import BASELINES

_SKILL = "skill over persistence (–)"
_WAYS = {  # experiment: name, dodge on the axis of target days, look
    "SMAPtest": ("from scratch", 0.95, {"color": "#56b4e9", "ls": (0, (4, 1.5)), "marker": "s", "mfc": "white"}),
    "finetune-SMAPtest": ("with transfer", 1.05, {"color": "#0072b2", "ls": "solid", "marker": "o"}),
}
_STRONG = {"linewidth": 1.8, "marker": "o", "markersize": 3.5, "zorder": 4}
_EDGE = {"mec": "0.2", "mew": 0.5}
_MARKERS = "os^Dv"  # of the leads, where shades alone would not do
_HOWS = {  # what was done with a predictor: colour and marker
    "retrained without": ("#0072b2", "o"),
    "permuted": ("#e69f00", "s"),
    "added": ("#009e73", "D"),
}
_PREDICTORS = ("soil_moisture", "soil_temperature", "precipitation", "season")
_SEASONS = ("DJF", "MAM", "JJA", "SON")
_CHANGE = f"10⁻³ {UNITS}"
_STRIPES = {"color": "0.95", "linewidth": 0, "zorder": 0}
_GRID = {"axis": "y", "color": "0.85", "linewidth": 0.4}


def draw_target_days(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw skill over persistence against the number of SMAP training days, a panel a model.

    `table`: experiment (SMAPtest: from scratch, finetune-SMAPtest: with transfer), model, target_days, whole (true for
    the whole record), skill, low, high (95 %; may be NaN); baselines are rows of their own, of any experiment. Skill
    that would ruin the axis, in any case below −1, is marked on its edge and written.
    Raises UserError when the table holds no model with a skill.
    """
    save(_target_days_figure(table, title), path, vector=True)


def draw_leads(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE and skill over persistence against lead for the baselines and the models beside them.

    `table`: model, lead_days, rmse, low, high (95 % of the RMSE, m3 m-3; may be NaN), skill. Values that would ruin an
    axis, and skill below −1, are marked on its edge and written. Raises UserError when no RMSE is there.
    """
    save(_leads_figure(table, title), path, vector=True)


def draw_transfer_gain(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the change of RMSE by transfer, per cent (negative: better), of every model and lead.

    `table`: model, lead_days, change, low, high (95 %; may be NaN), significant (filled marker; hollow where not).
    Raises UserError when no change is there.
    """
    save(_transfer_gain_figure(table, title), path, vector=True)


def draw_predictors(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw what each predictor is worth: over all seasons, and a strip each by season.

    `table`: how ("retrained without", "permuted", "added"), predictor, season ("all", "DJF", "MAM", "JJA", "SON"),
    rmse_change (m3 m-3; positive: worse for what was done), low, high (95 %; may be NaN). A marker is hollow where the
    interval holds 0. Raises UserError when no change is there.
    """
    save(_predictors_figure(table, title), path, vector=True)


def draw_series(cells: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw observed and forecast soil moisture, m3 m-3, of a few cells over time, a panel a cell.

    Each cell: name, time (datetime64, daily, gaps allowed), observed, forecasts (name → values), rmse (name → value).
    No line crosses a missing day. Raises UserError when no cell has an observed value.
    """
    save(_series_figure(cells, title), path, vector=True)


@rc_context(STYLE)
def _target_days_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: one panel per model."""
    table = _finite(table, "skill", "low", "high")
    known = table["model"].isin(BASELINES)
    fitted, simple = table[~known & table["experiment"].isin(_WAYS)], table[known]
    models = ordered(fitted["model"], MODELS)
    if not models:
        raise UserError("Skill against training days cannot be drawn: the table holds no model with a skill.")
    simple = simple.groupby(["model", "target_days"])["skill"].mean()
    baselines = [name for name in BASELINES if name in simple.index and name != "persistence"]
    days = table.groupby("target_days")["whole"].any()
    values = [*fitted[["skill", "low", "high"]].to_numpy().ravel(), *simple, 0.0]
    ylim = axis_limits(np.array(values), WORST_SKILL)

    rows = 1 if len(models) <= 3 else 2
    columns = max(-(-len(models) // rows), 2)
    free = rows * columns > len(models)  # a place for the legend
    left, right, gap, head, h = 0.46, 0.08, 0.08, 0.2, 1.6 if len(models) > 1 else 2.2
    bottom = 0.45 if free else 1.0
    w = (DOUBLE - left - right - gap * (columns - 1)) / columns if len(models) > 1 else 4.1
    figure, place = new_figure(DOUBLE, bottom + rows * (h + head), title)
    clipped = False
    for i, model in enumerate(models):
        row, column = divmod(i, columns)
        box = place(left + column * (w + gap), bottom + (rows - 1 - row) * (h + head), w, h)
        ax = figure.add_axes(box, xscale="log", xlim=(days.index.min() / 1.25, days.index.max() * 1.25), ylim=ylim)
        ax.set_title(f"({chr(ord('a') + i)}) {model}")
        ax.grid(**_GRID)
        ax.axhline(0, color=BASELINES["persistence"].colour, linewidth=1)
        for name in baselines:
            color, style = BASELINES[name].colour, BASELINES[name].line
            ax.plot(simple[name].index, simple[name], color=color, linestyle=style, linewidth=1, label=name)
        for way, (name, dodge, look) in _WAYS.items():
            part = fitted[(fitted["model"] == model) & (fitted["experiment"] == way)].sort_values("target_days")
            x, y = part["target_days"].to_numpy() * dodge, part["skill"].to_numpy()
            ax.vlines(x, part["low"], part["high"], color=look["color"], linewidth=1, zorder=3)
            ax.plot(x, y, label=name, linewidth=1.2, markersize=4, zorder=4, **_EDGE, **look)
            clipped |= mark_clipped(ax, x, y, [look["color"]] * len(x))
        lowest = i + columns >= len(models)
        ax.set_xticks(days.index, [f"{d}\n(all)" if whole else str(d) for d, whole in days.items()])
        ax.set_xticks([], minor=True)
        ax.tick_params(labelbottom=lowest, labelleft=column == 0)
        ax.set(xlabel="SMAP training days (d)" if lowest else "", ylabel=_SKILL if column == 0 else "")

    keys = [Line2D([], [], label=name, markersize=4, lw=1.2, **_EDGE, **look) for name, _, look in _WAYS.values()]
    keys += [INTERVAL] * bool(fitted[["low", "high"]].notna().any(axis=None)) + [CLIPPED] * clipped
    keys.append(Line2D([], [], color=BASELINES["persistence"].colour, lw=1, label="persistence (skill 0)"))
    for name in baselines:
        off = " (partly off the axis)" * (not simple[name].between(*ylim).all())
        keys.append(Line2D([], [], color=BASELINES[name].colour, ls=BASELINES[name].line, lw=1, label=name + off))
    if free:
        corner = place(left + (columns - 1) * (w + gap), 0.05 if rows > 1 else bottom, 0, 0)[:2]
        figure.legend(handles=keys, loc="lower left", bbox_to_anchor=corner, borderaxespad=0, handlelength=3)
    else:
        legend(figure, place(DOUBLE / 2, 0.04, 0, 0), keys, -(-len(keys) // 3))
    return figure


@rc_context(STYLE)
def _leads_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: RMSE, skill."""
    table = _finite(table, "rmse", "low", "high", "skill").sort_values("lead_days")
    if table.empty:
        raise UserError("Scores against lead cannot be drawn: the table holds no RMSE.")
    names = ordered(table["model"], (*BASELINES, *MODELS))
    models = [name for name in names if name not in BASELINES]
    ends = table.loc[table["model"].isin(models), ["low", "high"]].to_numpy().ravel()
    limits = axis_limits(np.concatenate([table["rmse"], ends])), axis_limits(table["skill"].to_numpy(), WORST_SKILL)
    left, right, gap, h = 0.5, 0.08, 0.5, 2.0
    bottom = 0.36 + 0.15 * -(-(len(names) + 2) // 4)  # names, interval, off the axis
    w = (DOUBLE - left - right - gap) / 2
    figure, place = new_figure(DOUBLE, bottom + h + 0.2, title)
    clipped, keys = False, {}
    for i, (score, label) in enumerate((("rmse", f"RMSE ({UNITS})"), ("skill", _SKILL))):
        ax = figure.add_axes(place(left + i * (w + gap), bottom, w, h), ylim=limits[i])
        ax.set(title=f"({'ab'[i]}) {('RMSE', 'skill')[i]}", xlabel="lead (d)", ylabel=label)
        for name in names:
            part = table[table["model"] == name]
            x, y = part["lead_days"].to_numpy(float), part[score].to_numpy()
            look = _line(name, names) | (_STRONG if name in models else {})
            (keys[name],) = ax.plot(x, y, label=name, **look)
            if name in models and score == "rmse":
                ax.fill_between(x, part["low"], part["high"], color=look["color"], alpha=0.25, linewidth=0)
            clipped |= mark_clipped(ax, x, y, [look["color"]] * len(x))
        ax.set_xticks(sorted(table["lead_days"].unique()))
        ax.grid(**_GRID)
    band = Patch(facecolor=FORECASTS[0], alpha=0.25, label="95 % interval")
    handles = [keys[name] for name in (*models, *(n for n in names if n in BASELINES))]
    handles[len(models) : len(models)] = [band] * bool(np.isfinite(ends).any())
    handles += [CLIPPED] * clipped
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), handles, 4)
    return figure


@rc_context(STYLE)
def _transfer_gain_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes: the one panel."""
    table = _finite(table, "change", "low", "high")
    if table.empty:
        raise UserError("The gain by transfer cannot be drawn: the table holds no change of RMSE.")
    models, leads = ordered(table["model"], MODELS), sorted(table["lead_days"].unique())
    left, right, h = 0.62, 0.08, 1.9
    bottom = 0.46 + 0.035 * max(map(len, models))  # names slope
    figure, place = new_figure(SINGLE, bottom + h + 0.06, title)
    ylim = axis_limits(np.append(table[["change", "low", "high"]].to_numpy().ravel(), 0.0))
    ax = figure.add_axes(place(left, bottom, SINGLE - left - right, h), xlim=(-0.5, len(models) - 0.5), ylim=ylim)
    ax.axhline(0, color="0.2", linewidth=0.6)
    for x in range(1, len(models), 2):
        ax.axvspan(x - 0.5, x + 0.5, **_STRIPES)
    clipped, keys = False, []
    offsets, shades = group_steps(len(leads))[1], lead_shades(len(leads))
    for lead, offset, shade, marker in zip(leads, offsets, shades, cycle(_MARKERS)):
        part = table[table["lead_days"] == lead]
        x = part["model"].map(models.index).to_numpy() + offset
        faces = np.where(part["significant"].to_numpy(bool)[:, None], shade, 1.0)
        ax.vlines(x, part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
        ax.scatter(x, part["change"], s=16, color=faces, marker=marker, edgecolor="0.2", linewidth=0.6, zorder=4)
        clipped |= mark_clipped(ax, x, part["change"].to_numpy(), faces)
        keys.append(Line2D([], [], color=shade, label=f"lead {lead} d", **DOT | {"marker": marker}))
    ax.set_xticks(range(len(models)), models, rotation=35, ha="right", rotation_mode="anchor")
    ax.tick_params(axis="x", length=0)
    ax.grid(**_GRID)
    ax.set_axisbelow(True)
    ax.locator_params(axis="y", nbins=7, steps=[1, 2, 5, 10])
    ax.set_ylabel("change of RMSE by transfer (%)\nnegative is better")
    notes = [INTERVAL, Line2D([], [], color="white", label="not significant", **DOT)] + [CLIPPED] * clipped
    legend(figure, place(SINGLE / 2, 0.19, 0, 0), keys)
    legend(figure, place(SINGLE / 2, 0.04, 0, 0), notes)
    return figure


@rc_context(STYLE)
def _predictors_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: all seasons (predictors from top to bottom), then a strip by season per predictor."""
    table = _finite(table, "rmse_change", "low", "high")
    table[["rmse_change", "low", "high"]] *= 1000
    whole, seasonal = table[table["season"] == "all"], table[table["season"].isin(_SEASONS)]
    if whole.empty:
        raise UserError("The worth of the predictors cannot be drawn: no change of RMSE over all seasons is there.")
    predictors, hows = ordered(whole["predictor"], _PREDICTORS), ordered(whole["how"], _HOWS)
    offsets = dict(zip(hows, group_steps(len(hows))[1] * 0.8, strict=True))
    left, right, middle, gap, bottom, head, h = 0.95, 0.08, 0.6, 0.06, 0.62, 0.2, 0.72
    w = (DOUBLE - left - right - middle) / 2
    figure, place = new_figure(DOUBLE, bottom + len(predictors) * h + head, title)
    ax = figure.add_axes(place(left, bottom, w, len(predictors) * h - gap))
    ax.set(title="(a) all seasons", xlabel=f"change of RMSE ({_CHANGE}), positive is worse", xmargin=0.15)
    ax.set(ylim=(len(predictors) - 0.5, -0.5))
    ax.set_yticks(range(len(predictors)), [name.replace("_", " ") for name in predictors])
    ax.tick_params(axis="y", length=0)
    ax.axvline(0, color="0.2", linewidth=0.6)
    for i in range(1, len(predictors), 2):
        ax.axhspan(i - 0.5, i + 0.5, **_STRIPES)
    for how in hows:
        part = whole[whole["how"] == how]
        y = part["predictor"].map(predictors.index).to_numpy() + offsets[how]
        _draw_changes(ax, part, y, how, upright=False)
        for change, end, at in zip(part["rmse_change"], part[["rmse_change", "high"]].max(axis=1), y, strict=True):
            text = f"{change:+.2g}".replace("-", "−")
            ax.annotate(text, (end, at), (4, 0), textcoords="offset points", va="center", fontsize=6)
    for i, predictor in enumerate(predictors):
        up = bottom + (len(predictors) - 1 - i) * h
        ax = figure.add_axes(place(left + w + middle, up, w, h - gap), xlim=(-0.5, len(_SEASONS) - 0.5), ymargin=0.15)
        for how in hows:
            part = seasonal[(seasonal["how"] == how) & (seasonal["predictor"] == predictor)]
            x = part["season"].map(_SEASONS.index).to_numpy() + offsets[how]
            _draw_changes(ax, part, x, how, upright=True)
        ax.axhline(0, color="0.2", linewidth=0.6)
        ax.locator_params(axis="y", nbins=4, steps=[1, 2, 5, 10])
        ax.set_xticks(range(len(_SEASONS)), _SEASONS)
        ax.tick_params(axis="x", length=0, labelbottom=i == len(predictors) - 1)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.35 * (high - low))  # room for the name
        ax.text(0.99, 0.95, predictor.replace("_", " "), transform=ax.transAxes, ha="right", va="top")
    figure.axes[1].set_title("(b) by season, each predictor on its own scale")
    x, y = place(left + w + 0.2, bottom + len(predictors) * h / 2, 0, 0)[:2]
    figure.text(x, y, f"change of RMSE ({_CHANGE})", rotation=90, ha="center", va="center")
    keys = [Line2D([], [], color=_HOWS[how][0], label=how, **DOT | {"marker": _HOWS[how][1]}) for how in hows]
    keys += [INTERVAL, Line2D([], [], color="white", label="the interval holds 0", **DOT)]
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), keys)
    return figure


@rc_context(STYLE)
def _series_figure(cells: list[dict[str, Any]], title: str) -> Figure:
    """Axes in order: one panel per cell."""
    cells = [cell for cell in cells if np.isfinite(np.asarray(cell["observed"], float)).any()]
    if not cells:
        raise UserError("No time series can be drawn: no cell has an observed value.")
    names = ordered([name for cell in cells for name in cell["forecasts"]], ())
    times = np.concatenate([np.asarray(cell["time"], "datetime64[D]") for cell in cells])
    left, right, h = 0.58, 0.08, 1.05
    w = DOUBLE - left - right
    titles = [f"({chr(ord('a') + i)}) {cell['name']}\n{_errors(cell, w)}" for i, cell in enumerate(cells)]
    head = 0.1 + 0.12 * max(title.count("\n") + 1 for title in titles)
    bottom = 0.28 + 0.15 * -(-(len(names) + 1) // 4)
    figure, place = new_figure(DOUBLE, bottom + len(cells) * (h + head), title)
    for i, cell in enumerate(cells):
        ax = figure.add_axes(place(left, bottom + (len(cells) - 1 - i) * (h + head), w, h))
        ax.set_title(titles[i])
        series = pd.DataFrame({"observed": cell["observed"], **cell["forecasts"]}, pd.DatetimeIndex(cell["time"]))
        series = series.astype(float).resample("D").mean()  # NaN on missing days
        ax.plot(series.index, series["observed"], ".", color="black", markersize=1.8, zorder=3, label="observed")
        for name in reversed(names):
            if name in series:
                ax.plot(series.index, series[name], label=name, **_line(name, names))
        ax.set(xlim=(times.min(), times.max()), ylabel=f"soil moisture\n({UNITS})")
        ax.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
        ax.xaxis.set_major_locator(locator := AutoDateLocator(minticks=5))
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.tick_params(labelbottom=i == len(cells) - 1)
    figure.align_ylabels()
    keys = [Line2D([], [], color="black", marker=".", markersize=3, linestyle="none", label="observed")]
    keys += [Line2D([], [], label=name, **_line(name, names)) for name in names]
    legend(figure, place(DOUBLE / 2, 0.04, 0, 0), keys, 4)
    return figure


def _errors(cell: dict[str, Any], width: float) -> str:
    """The RMSE of each forecast, in as many lines as a panel of this width, inches, needs."""
    scores = ", ".join(f"{name} {cell['rmse'][name]:.4f}" for name in cell["forecasts"] if name in cell["rmse"])
    return "\n".join(wrap(f"RMSE ({UNITS}): {scores}", width, 7))


def _draw_changes(ax: Axes, part: pd.DataFrame, place: np.ndarray, how: str, upright: bool) -> None:
    """Intervals and markers at these places, hollow where the interval holds 0 or is not known."""
    color, marker = _HOWS[how]
    change, sure = part["rmse_change"].to_numpy(), (part["low"] > 0) | (part["high"] < 0)
    lines, (x, y) = (ax.vlines, (place, change)) if upright else (ax.hlines, (change, place))
    lines(place, part["low"], part["high"], color="0.2", linewidth=0.8, zorder=3)
    ax.scatter(x, y, s=16, c=np.where(sure, color, "white"), marker=marker, edgecolor="0.2", linewidth=0.6, zorder=4)


def _finite(table: pd.DataFrame, *numbers: str) -> pd.DataFrame:
    """The rows whose first number is finite, `numbers` as floats (NaN where the table lacks one)."""
    table = table.reindex(columns=dict.fromkeys([*table.columns, *numbers])).astype(dict.fromkeys(numbers, float))
    return table[np.isfinite(table[numbers[0]])].copy()


def _line(name: str, names: list[str]) -> dict[str, Any]:
    """Colour, style and width of the line of one of `names`: a baseline keeps its own, the others are stronger."""
    if name in BASELINES:
        return {"color": BASELINES[name].colour, "linestyle": BASELINES[name].line, "linewidth": 0.8}
    others = [other for other in names if other not in BASELINES]
    return {"color": FORECASTS[others.index(name) % len(FORECASTS)], "linestyle": "solid", "linewidth": 1}
