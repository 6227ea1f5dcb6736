"""Plots of the forecasts themselves: predicted against observed, and the study at a glance."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.metrics import r2_score, root_mean_squared_error

from utils.common.cli import UserError
from utils.figures.style import (
    DOUBLE,
    EXPERIMENTS,
    MODELS,
    SINGLE,
    STYLE,
    UNITS,
    axis_limits,
    mark_clipped,
    new_figure,
    ordered,
    save,
)
from utils.scores.baselines import BASELINES

DENSITY, LEADS = "viridis_r", "Blues"
DOT = {"marker": "o", "linestyle": "none", "markersize": 4, "markeredgecolor": "0.2", "markeredgewidth": 0.6}
INTERVAL = Line2D([], [], marker="|", linestyle="none", markersize=7, color="0.2", label="95 % interval")
CLIPPED = Line2D([], [], color="0.6", label="off the axis", **DOT | {"marker": "v"})
WORST_SKILL = -1.0  # twice the squared error of persistence: an axis need not reach farther
_SEED = {"marker": "_", "s": 36, "color": "0.2", "linewidth": 0.6, "zorder": 3.5}
_HALO = [withStroke(linewidth=2, foreground="white")]
_BOX = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "0.7", "linewidth": 0.5, "alpha": 0.85}
_SCORES = {  # column: stem of the columns of its interval, name on the axis, where the axis ends at the latest
    "rmse": ("rmse", f"RMSE ({UNITS})\nlower is better", -np.inf),
    "r2": ("r2", "R² (–)\nhigher is better", -np.inf),
    "skill_over_persistence": ("skill", "skill over persistence (–)\nhigher is better", WORST_SKILL),
}


def draw_scatter(observed: np.ndarray, predicted: np.ndarray, title: str, path: Path) -> None:
    """Draw the density of predicted against observed soil moisture, m3 m-3, any shape; pairs with a NaN are left out.

    R² is the coefficient of determination of predicted against observed, as in the evaluation, not the square of their
    correlation. Raises UserError for fewer than two pairs.
    """
    save(_scatter_figure(observed, predicted, title), path)


def draw_scatters(panels: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], title: str, path: Path) -> None:
    """Draw a grid of such densities on shared axes and one scale of colours.

    `panels`: (name of the row, name of the column) → observed, predicted. Places without two pairs stay empty. Raises
    UserError when all do.
    """
    save(_scatters_figure(panels, title), path, vector=True)


def draw_study(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE, R² and skill over persistence (rows) of every model beside the baselines by experiment (columns).

    `table`: one row per experiment, model, lead_days and seed with its rmse, m3 m-3, and, where known, r2,
    skill_over_persistence and the ends of their 95 % intervals (rmse_low, rmse_high, r2_low, …, skill_high); baselines
    are rows of their own. A dot is the mean over the seeds, its interval the mean of theirs. Values that would ruin an
    axis, and skill below −1 (twice the squared error of persistence), are marked on its edge and written.
    Raises UserError when the table holds no model with an RMSE.
    """
    save(_study_figure(table, title), path, vector=True)


def _pairs(observed: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    observed, predicted = np.asarray(observed, float).ravel(), np.asarray(predicted, float).ravel()
    both = np.isfinite(observed) & np.isfinite(predicted)
    return observed[both], predicted[both]


def _limits(observed: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Of both axes. Forecasts farther than `reach` from all observations would squeeze the rest into a corner."""
    reach = max(0.5 * np.ptp(observed), 0.05)
    low = min(observed.min(), max(predicted.min(), observed.min() - reach))
    high = max(observed.max(), min(predicted.max(), observed.max() + reach))
    return low - 0.02 * (high - low), high + 0.02 * (high - low)


def _fit(observed: np.ndarray, predicted: np.ndarray) -> tuple[float, float] | None:
    """Slope and intercept of predicted on observed, None where the observed are all the same."""
    return tuple(np.polyfit(observed, predicted, 1)) if np.ptp(observed) > 0 else None


def _draw_density(ax: Axes, counts: np.ndarray, edges: np.ndarray, fit: tuple[float, float] | None, most: float):
    """The densities [observed, predicted], y = x and the fitted line; returns the mesh."""
    ends = edges[[0, -1]]
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    style = {"norm": LogNorm(1, max(most, 10)), "cmap": DENSITY, "rasterized": True}
    mesh: QuadMesh = ax.pcolormesh(edges, edges, np.ma.masked_equal(counts.T, 0), **style)
    ax.plot(ends, ends, "--", color="black", linewidth=0.8, label="y = x", path_effects=_HALO)
    if fit:
        ax.plot(ends, fit[0] * ends + fit[1], color="#d7191c", linewidth=1, label="fitted line", path_effects=_HALO)
    return mesh


@rc_context(STYLE)
def _scatter_figure(observed: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Axes in order: the scatter, its colour bar."""
    observed, predicted = _pairs(observed, predicted)
    if len(observed) < 2:
        raise UserError("No scatter can be drawn: fewer than two cell-days have an observed and a predicted value.")
    counts, edges, _ = np.histogram2d(observed, predicted, bins=100, range=[_limits(observed, predicted)] * 2)

    left, bottom, side = 0.5, 0.36, 2.3
    figure, place = new_figure(SINGLE, bottom + side + 0.08, title)
    ax = figure.add_axes(place(left, bottom, side, side))
    ax.set(xlabel=f"observed soil moisture ({UNITS})", ylabel=f"predicted soil moisture ({UNITS})")
    ax.locator_params(nbins=6, steps=[1, 2, 5, 10])
    fit = _fit(observed, predicted)
    mesh = _draw_density(ax, counts, edges, fit, counts.max())
    r2 = "R² not defined"
    if fit:
        r2 = f"R² = {r2_score(observed, predicted):.3f}".replace("-", "−")
        equation = f"fit: y = {fit[0]:.3f} x {'+' if fit[1] >= 0 else '−'} {abs(fit[1]):.4f}".replace("-", "−")
        ax.get_lines()[-1].set_label(equation)
    ax.legend(loc="upper left", borderaxespad=0.3)
    outside = len(observed) - int(counts.sum())
    lines = [
        r2,
        f"RMSE = {root_mean_squared_error(observed, predicted):.4f} {UNITS}",
        f"n = {len(observed):,}" + (f" ({outside:,} outside)" if outside else ""),
    ]
    ax.text(0.97, 0.03, "\n".join(lines), transform=ax.transAxes, ha="right", va="bottom", bbox=_BOX)
    cax = figure.add_axes(place(left + side + 0.06, bottom, 0.08, side), label="colour bar")
    figure.colorbar(mesh, cax=cax, label="number of cell-days").outline.set_linewidth(0.5)
    return figure


@rc_context(STYLE)
def _scatters_figure(panels: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Axes in order: the panels row by row (without the empty ones), the colour bar."""
    pairs = {key: _pairs(*values) for key, values in panels.items()}
    pairs = {key: values for key, values in pairs.items() if len(values[0]) > 1}
    if not pairs:
        raise UserError("No scatter can be drawn: no panel has two cell-days with an observed and a predicted value.")
    rows, columns = ordered([r for r, _ in pairs], EXPERIMENTS), ordered([c for _, c in pairs], MODELS)
    limits = np.array([_limits(*values) for values in pairs.values()])
    span = [(limits[:, 0].min(), limits[:, 1].max())] * 2
    counts = {key: np.histogram2d(*values, bins=80, range=span) for key, values in pairs.items()}
    most = max(count.max() for count, *_ in counts.values())

    left, right, bottom, top, gap = 0.6, 0.56, 0.52, 0.18, 0.16
    side = min((DOUBLE - left - right - gap * (len(columns) - 1)) / len(columns), 2.3)
    width, height = [n * side + (n - 1) * gap for n in (len(columns), len(rows))]
    figure, place = new_figure(left + width + right, bottom + height + top, title)
    for row, column in ((r, c) for r in rows for c in columns if (r, c) in pairs):
        i, j = rows.index(row), columns.index(column)
        ax = figure.add_axes(place(left + j * (side + gap), bottom + (len(rows) - 1 - i) * (side + gap), side, side))
        count, edges, _ = counts[row, column]
        mesh = _draw_density(ax, count, edges, _fit(*pairs[row, column]), most)
        lowest = not any((below, column) in pairs for below in rows[i + 1 :])
        first = not any((row, before) in pairs for before in columns[:j])
        ax.locator_params(nbins=5, steps=[1, 2, 5, 10])
        ax.tick_params(labelbottom=lowest, labelleft=first, pad=3.5)
        ax.set_ylabel(f"{row}\npredicted ({UNITS})" if first else "")
        summary = _summary(*pairs[row, column], outside=len(pairs[row, column][0]) - int(count.sum()))
        box = _BOX | {"boxstyle": "round,pad=0.15", "linewidth": 0}
        ax.text(
            0.97, 0.03, summary, transform=ax.transAxes, ha="right", va="bottom", fontsize=5, linespacing=1.05, bbox=box
        )
    up = bottom + height
    for j, column in enumerate(columns):
        figure.text(*place(left + j * (side + gap) + side / 2, up + 0.05, 0, 0)[:2], column, ha="center")
    figure.text(*place(left + width / 2, bottom - 0.31, 0, 0)[:2], f"observed soil moisture ({UNITS})", ha="center")
    legend(figure, place(left + width / 2, 0.02, 0, 0), figure.axes[0].get_lines())
    cax = figure.add_axes(place(left + width + 0.08, bottom, 0.08, height), label="colour bar")
    figure.colorbar(mesh, cax=cax, label="number of cell-days").outline.set_linewidth(0.5)
    return figure


def _summary(observed: np.ndarray, predicted: np.ndarray, outside: int) -> str:
    """Slope, R² and RMSE, and how many pairs lie outside the axes."""
    fit = _fit(observed, predicted)
    lines = [f"slope {fit[0]:.2f}", f"R² {r2_score(observed, predicted):.3f}"] if fit else ["R² not defined"]
    lines.append(f"RMSE {root_mean_squared_error(observed, predicted):.4f}")
    return "\n".join(lines + [f"{outside:,} outside"] * (outside > 0)).replace("-", "−")


@rc_context(STYLE)
def _study_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: row by row (one per score of the table), one panel per experiment."""
    table = table[np.isfinite(table["rmse"].astype(float))]
    baselines = [name for name in BASELINES if (table["model"] == name).any()]
    models = ordered(table.loc[~table["model"].isin(baselines), "model"], MODELS)
    if not models:
        raise UserError("The study cannot be drawn: its table holds no model with an RMSE.")
    experiments = ordered(table["experiment"], EXPERIMENTS)
    leads = sorted(table["lead_days"].unique().tolist())
    scores = [name for name in _SCORES if name in table and table[name].notna().any()]

    shades = lead_shades(len(leads))
    left, right, gap, h = 0.58, 0.08, 0.08, 1.6
    bottom = 0.68 + 0.035 * max(map(len, models))  # names slope
    w = (DOUBLE - left - right - gap * (len(experiments) - 1)) / len(experiments)
    figure, place = new_figure(DOUBLE, bottom + len(scores) * (h + gap) + 0.28, title)
    clipped, off = False, []
    for i, score in enumerate(scores):
        stem, label, lowest = _SCORES[score]
        values = _values(table, score)
        fitted = values["model"].isin(models)
        ends = values.loc[fitted, ["low", "high"]].to_numpy().ravel()
        ylim = axis_limits(np.concatenate([values["value"], ends]), lowest)
        for j, experiment in enumerate(experiments):
            y = bottom + (len(scores) - 1 - i) * (h + gap)
            ax = figure.add_axes(place(left + j * (w + gap), y, w, h), xlim=(-0.5, len(models) - 0.5), ylim=ylim)
            here = values["experiment"] == experiment
            _draw_baselines(ax, values[here & ~fitted], len(models), leads)
            clipped |= _draw_models(ax, values[here & fitted], models, leads, shades)
            ax.set_xticks(range(len(models)), models, rotation=35, ha="right", rotation_mode="anchor")
            ax.locator_params(axis="y", nbins=6, steps=[1, 2, 5, 10])
            ax.grid(axis="y", color="0.85", linewidth=0.4)
            ax.set_axisbelow(True)
            ax.tick_params(axis="x", length=0, labelbottom=i == len(scores) - 1)
            ax.tick_params(axis="y", labelleft=j == 0)
            if i == 0:
                ax.set_title(f"({chr(ord('a') + j)}) {experiment}\n{EXPERIMENTS.get(experiment, '')}")
        figure.axes[-len(experiments)].set_ylabel(label)
        beyond = values.loc[~fitted & ~values["value"].between(*ylim) & values["value"].notna(), "model"]
        off += [f"{stem} of {name}" for name in baselines if (beyond == name).any()]
    figure.align_ylabels()

    keys = [Line2D([], [], color=c, label=f"lead {d} d", **DOT) for d, c in zip(leads, shades, strict=True)]
    if any(f"{_SCORES[score][0]}_low" in table for score in scores):
        keys.append(INTERVAL)
    if table[table["model"].isin(models)].groupby(["experiment", "model", "lead_days"]).size().max() > 1:
        keys.append(Line2D([], [], marker="_", linestyle="none", markersize=6, color="0.2", label="one seed"))
    legend(figure, place(DOUBLE / 2, 0.34, 0, 0), keys + [CLIPPED] * clipped)
    keys = [Line2D([], [], color=BASELINES[b].colour, ls=BASELINES[b].line, lw=1, label=b) for b in baselines]
    legend(figure, place(DOUBLE / 2, 0.19, 0, 0), keys)
    if off:
        figure.text(0.5, place(0, 0.05, 0, 0)[1], f"partly off the axis: {', '.join(off)}", ha="center")
    return figure


def lead_shades(leads: int) -> np.ndarray:
    """The colours of so many leads, from light to dark."""
    return colormaps[LEADS](np.linspace(0.25, 1, leads) if leads > 1 else [0.8])


def _values(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """One score: experiment, model, lead_days, value, low and high (NaN where the table has no interval)."""
    columns = {score: "value", f"{_SCORES[score][0]}_low": "low", f"{_SCORES[score][0]}_high": "high"}
    part = table.reindex(columns=["experiment", "model", "lead_days", *columns]).rename(columns=columns)
    return part.astype(dict.fromkeys(columns.values(), float))


def legend(figure: Figure, place: tuple[float, ...], handles: list, columns: int = 9) -> None:
    """A legend centred above a place of the page."""
    how = {"loc": "lower center", "bbox_to_anchor": place[:2], "ncols": columns, "borderaxespad": 0}
    figure.legend(handles=handles, **how)


def group_steps(leads: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the leads of one model lie, as offsets from its tick: edges and middles; a model's group is 1 wide."""
    edges = 0.84 / leads * (np.arange(leads + 1) - leads / 2)
    return edges, (edges[1:] + edges[:-1]) / 2


def _draw_baselines(ax: Axes, values: pd.DataFrame, models: int, leads: list[int]) -> None:
    """Shade every other model's group and draw each baseline (its mean over rows) as steps through all of them."""
    edges, _ = group_steps(len(leads))
    means = values.groupby(["model", "lead_days"])["value"].mean()
    for x in range(models):
        if x % 2:
            ax.axvspan(x - 0.5, x + 0.5, color="0.95", linewidth=0, zorder=0)
        for name in ordered(values["model"], BASELINES):
            color, style = BASELINES[name].colour, BASELINES[name].line
            heights = means[name].reindex(leads).to_numpy()
            ax.stairs(heights, x + edges, baseline=None, color=color, linestyle=style, linewidth=0.9)


def _draw_models(ax: Axes, values: pd.DataFrame, models: list[str], leads: list[int], shades: np.ndarray) -> bool:
    """Intervals, seeds and mean dots, models by leads; returns whether any lies off the axis."""
    _, middle = group_steps(len(leads))
    groups = values.groupby(["model", "lead_days"])
    every = pd.MultiIndex.from_product([models, leads])
    x = pd.Series((np.arange(len(models))[:, None] + middle).ravel(), every)
    means = groups[["value", "low", "high"]].mean().reindex(every)
    ax.vlines(x, means["low"], means["high"], color="0.2", linewidth=0.8, zorder=3)
    seeds = values[groups["value"].transform("size") > 1]
    ax.scatter(x[pd.MultiIndex.from_frame(seeds[["model", "lead_days"]])], seeds["value"], **_SEED)
    colors = np.tile(shades, (len(models), 1))
    ax.scatter(x, means["value"], s=16, c=colors, edgecolor="0.2", linewidth=0.6, zorder=4)
    return mark_clipped(ax, x.to_numpy(), means["value"].to_numpy(), colors)
