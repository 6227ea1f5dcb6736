"""Plots: predicted against observed, and the study at a glance."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.metrics import r2_score, root_mean_squared_error

from utils.console import UserError
from utils.drawing import BASELINES, DOUBLE, EXPERIMENTS, MODELS, SINGLE, STYLE, UNITS, new_figure, ordered, save

DENSITY, LEADS = "viridis_r", "Blues"


def draw_scatter(observed: np.ndarray, predicted: np.ndarray, title: str, path: Path) -> None:
    """Draw the density of predicted against observed soil moisture, m3 m-3, any shape; pairs with a NaN are left out.

    R² is the coefficient of determination of predicted against observed, as in the evaluation, not the square of their
    correlation. Raises UserError for fewer than two pairs.
    """
    save(_scatter_figure(observed, predicted, title), path)


def draw_study(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the RMSE of every model beside the baselines, one panel per experiment.

    `table`: one row per experiment, model, lead_days and seed with its rmse, m3 m-3; baselines are rows of their own.
    Raises UserError when it holds no model with an RMSE.
    """
    save(_study_figure(table, title), path, vector=True)


@rc_context(STYLE)
def _scatter_figure(observed: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Axes in order: the scatter, its colour bar."""
    observed, predicted = np.asarray(observed, float).ravel(), np.asarray(predicted, float).ravel()
    pairs = np.isfinite(observed) & np.isfinite(predicted)
    observed, predicted = observed[pairs], predicted[pairs]
    if len(observed) < 2:
        raise UserError("No scatter can be drawn: fewer than two cell-days have an observed and a predicted value.")
    # forecasts farther than this from all observations are counted, not drawn, or they squeeze the rest into a corner
    reach = max(0.5 * np.ptp(observed), 0.05)
    low = min(observed.min(), max(predicted.min(), observed.min() - reach))
    high = max(observed.max(), min(predicted.max(), observed.max() + reach))
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    counts, edges, _ = np.histogram2d(observed, predicted, bins=100, range=[(low, high)] * 2)

    left, bottom, side = 0.5, 0.36, 2.3
    figure, place = new_figure(SINGLE, bottom + side + 0.08, title)
    ax = figure.add_axes(place(left, bottom, side, side), xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set(xlabel=f"observed soil moisture ({UNITS})", ylabel=f"predicted soil moisture ({UNITS})")
    ax.locator_params(nbins=6, steps=[1, 2, 5, 10])
    density = np.ma.masked_equal(counts.T, 0)
    mesh = ax.pcolormesh(edges, edges, density, norm=LogNorm(1, max(counts.max(), 10)), cmap=DENSITY)
    halo = [withStroke(linewidth=2, foreground="white")]
    ax.plot([low, high], [low, high], "--", color="black", linewidth=0.8, label="y = x", path_effects=halo)
    r2 = "R² not defined"
    if np.ptp(observed) > 0:
        r2 = f"R² = {r2_score(observed, predicted):.3f}".replace("-", "−")
        slope, intercept = np.polyfit(observed, predicted, 1)
        equation = f"fit: y = {slope:.3f} x {'+' if intercept >= 0 else '−'} {abs(intercept):.4f}"
        line = slope * np.array([low, high]) + intercept
        ax.plot([low, high], line, color="#d7191c", linewidth=1, label=equation, path_effects=halo)
    ax.legend(loc="upper left", borderaxespad=0.3)
    outside = len(observed) - int(counts.sum())
    lines = [
        r2,
        f"RMSE = {root_mean_squared_error(observed, predicted):.4f} {UNITS}",
        f"n = {len(observed):,}" + (f" ({outside:,} outside)" if outside else ""),
    ]
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "0.7", "linewidth": 0.5, "alpha": 0.85}
    ax.text(0.97, 0.03, "\n".join(lines), transform=ax.transAxes, ha="right", va="bottom", bbox=box)
    cax = figure.add_axes(place(left + side + 0.06, bottom, 0.08, side), label="colour bar")
    figure.colorbar(mesh, cax=cax, label="number of cell-days").outline.set_linewidth(0.5)
    return figure


@rc_context(STYLE)
def _study_figure(table: pd.DataFrame, title: str) -> Figure:
    """Axes in order: one panel per experiment of the table."""
    table = table[np.isfinite(table["rmse"].astype(float))]
    baselines = [name for name in BASELINES if (table["model"] == name).any()]
    models = ordered(table.loc[~table["model"].isin(baselines), "model"], MODELS)
    if not models:
        raise UserError("The study cannot be drawn: its table holds no model with an RMSE.")
    experiments = ordered(table["experiment"], EXPERIMENTS)
    leads = sorted(table["lead_days"].unique())
    scores = table.groupby(["experiment", "model", "lead_days"])["rmse"].agg(["mean", "min", "max"])
    index = pd.MultiIndex.from_product([experiments, [*baselines, *models], leads])
    values = scores.reindex(index).to_numpy().reshape(len(experiments), -1, len(leads), 3)
    margin = 0.06 * np.ptp(scores) or 0.001
    ylim = scores.min(axis=None) - margin, scores.max(axis=None) + margin

    shades = colormaps[LEADS](np.linspace(0.25, 1, len(leads)) if len(leads) > 1 else [0.8])
    left, right, gap, h = 0.46, 0.08, 0.08, 1.75
    bottom = 0.55 + 0.035 * max(map(len, models))  # names slope
    w = (DOUBLE - left - right - gap * (len(experiments) - 1)) / len(experiments)
    figure, place = new_figure(DOUBLE, bottom + h + 0.36, title)
    for i, experiment in enumerate(experiments):
        name = f"({chr(ord('a') + i)}) {experiment}\n{EXPERIMENTS.get(experiment, '')}"
        ax = figure.add_axes(place(left + i * (w + gap), bottom, w, h), title=name)
        _draw_experiment(ax, values[i, : len(baselines)], values[i, len(baselines) :], baselines, shades)
        ax.set(xlim=(-0.5, len(models) - 0.5), ylim=ylim)
        ax.set_xticks(range(len(models)), models, rotation=35, ha="right", rotation_mode="anchor")
        ax.locator_params(axis="y", nbins=6, steps=[1, 2, 5, 10])
        ax.grid(axis="y", color="0.85", linewidth=0.4)
        ax.set_axisbelow(True)
        ax.tick_params(axis="x", length=0)
        ax.tick_params(axis="y", labelleft=i == 0)
    figure.axes[0].set_ylabel(f"RMSE ({UNITS}), lower is better")

    dot = {"marker": "o", "linestyle": "none", "markersize": 4, "markeredgecolor": "0.2", "markeredgewidth": 0.6}
    keys = [[Line2D([], [], color=c, label=f"lead {d} d", **dot) for d, c in zip(leads, shades, strict=True)]]
    if (scores["max"] > scores["min"]).any():
        keys[0].append(Line2D([], [], marker="|", ls="none", markersize=7, color="0.2", label="lowest to highest seed"))
    keys.append([Line2D([], [], color=BASELINES[b][0], ls=BASELINES[b][1], lw=1, label=b) for b in baselines])
    for handles, y in zip(keys, (0.2, 0.05), strict=True):
        anchor = place(DOUBLE / 2, y, 0, 0)[:2]
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=anchor, ncols=9, borderaxespad=0)
    return figure


def _draw_experiment(ax: Axes, baselines: np.ndarray, models: np.ndarray, names: list[str], shades: np.ndarray) -> None:
    """One panel. `baselines`, `models`: [name, lead, (mean, min, max over seeds)], RMSE, NaN where there is no run."""
    leads = models.shape[1]
    steps = 0.84 / leads * (np.arange(leads + 1) - leads / 2)  # a model's group is 1 wide
    middle = (steps[1:] + steps[:-1]) / 2
    for x, model in enumerate(models):
        if x % 2:
            ax.axvspan(x - 0.5, x + 0.5, color="0.95", linewidth=0, zorder=0)
        for name, baseline in zip(names, baselines, strict=True):
            color, style = BASELINES[name]
            ax.stairs(baseline[:, 0], x + steps, baseline=None, color=color, linestyle=style, linewidth=0.9)
        ax.vlines(x + middle, model[:, 1], model[:, 2], color="0.2", linewidth=0.8, zorder=3)
        ax.scatter(x + middle, model[:, 0], s=16, c=shades, edgecolor="0.2", linewidth=0.6, zorder=4)
