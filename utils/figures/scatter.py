"""Plots of predicted against observed soil moisture: one forecast, or a grid of them."""

import math
from pathlib import Path
from string import ascii_lowercase

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from sklearn.metrics import r2_score, root_mean_squared_error

from utils.common.cli import UserError
from utils.figures.style import DOUBLE, SINGLE, STYLE, UNITS, legend, new_figure, save

DENSITY = "viridis_r"
_HALO = [withStroke(linewidth=2, foreground="white")]
_BOX = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "0.7", "linewidth": 0.5, "alpha": 0.85}


def draw_scatter(observed: np.ndarray, predicted: np.ndarray, title: str, path: Path) -> None:
    """Draw the density of predicted against observed soil moisture, m3 m-3, any shape; pairs with a NaN are left out.

    R² is the coefficient of determination of predicted against observed, as in the evaluation, not the square of their
    correlation. Raises UserError for fewer than two pairs.
    """
    save(_scatter_figure(observed, predicted, title), path)


def draw_scatters(panels: dict[str, tuple[np.ndarray, np.ndarray]], title: str, path: Path, columns: int = 3) -> None:
    """Draw such densities side by side, in so many columns, on shared axes and one scale of colours.

    `panels`: name → observed, predicted. Those without two pairs are left out. Raises UserError when none is left.
    """
    save(_scatters_figure(panels, title, columns), path, vector=True)


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

    figure = new_figure(SINGLE, 2.8, title)
    ax = figure.subplots()
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
    _draw_colour_bar(figure, mesh, [ax])
    return figure


@rc_context(STYLE)
def _scatters_figure(panels: dict[str, tuple[np.ndarray, np.ndarray]], title: str, columns: int = 3) -> Figure:
    """Axes in order: the panels row by row, the colour bar."""
    pairs = {name: _pairs(*values) for name, values in panels.items()}
    pairs = {name: values for name, values in pairs.items() if len(values[0]) > 1}
    if not pairs:
        raise UserError("No scatter can be drawn: no panel has two cell-days with an observed and a predicted value.")
    limits = np.array([_limits(*values) for values in pairs.values()])
    span = [(limits[:, 0].min(), limits[:, 1].max())] * 2
    counts = {name: np.histogram2d(*values, bins=100, range=span) for name, values in pairs.items()}
    most = max(count.max() for count, *_ in counts.values())

    columns = min(columns, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    side = min((DOUBLE - 1.2) / columns, 2.3)  # inches
    figure = new_figure(1.2 + side * columns, 0.6 + (side + 0.15) * rows, title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, (name, (observed, predicted)) in enumerate(pairs.items()):
        ax, (count, edges, _) = grid.flat[place], counts[name]
        mesh = _draw_density(ax, count, edges, _fit(observed, predicted), most)
        lowest, first = place + columns >= len(pairs), place % columns == 0
        ax.locator_params(nbins=5, steps=[1, 2, 5, 10])
        ax.tick_params(labelbottom=lowest, labelleft=first, pad=3.5)
        ax.set_title(f"({ascii_lowercase[place]}) {name}")
        ax.set_ylabel(f"predicted ({UNITS})" if first else "")
        ax.set_xlabel(f"observed ({UNITS})" if lowest else "")
        _write_summary(ax, observed, predicted, outside=len(observed) - int(count.sum()))
    for spare in grid.flat[len(pairs) :]:
        spare.remove()
    shown = list(grid.flat[: len(pairs)])
    legend(figure, shown[0].get_lines())
    _draw_colour_bar(figure, mesh, shown)
    return figure


def _draw_colour_bar(figure: Figure, mesh: QuadMesh, panels: list[Axes]) -> None:
    """The colour bar of the density, right of all panels."""
    bar = figure.colorbar(mesh, ax=panels, label="number of cell-days", aspect=30, pad=0.02)
    bar.outline.set_linewidth(0.5)
    bar.ax.set_label("colour bar")


def _write_summary(ax: Axes, observed: np.ndarray, predicted: np.ndarray, outside: int) -> None:
    """Slope, R² and RMSE, and how many pairs lie outside the axes, in the panel's lower right corner."""
    style = {"ha": "right", "va": "bottom", "fontsize": 6, "linespacing": 1.05}
    box = _BOX | {"boxstyle": "round,pad=0.15", "linewidth": 0}
    ax.text(0.97, 0.03, _summary(observed, predicted, outside), transform=ax.transAxes, bbox=box, **style)


def _summary(observed: np.ndarray, predicted: np.ndarray, outside: int) -> str:
    fit = _fit(observed, predicted)
    lines = [f"slope {fit[0]:.2f}", f"R² {r2_score(observed, predicted):.3f}"] if fit else ["R² not defined"]
    lines.append(f"RMSE {root_mean_squared_error(observed, predicted):.4f}")
    if outside:
        lines.append(f"{outside:,} outside")
    return "\n".join(lines).replace("-", "−")
