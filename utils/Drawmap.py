"""Maps: forecasts of one day or of several, scores of each cell, and what transfer changes in each cell."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps, rc_context
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from sklearn.metrics import root_mean_squared_error

from utils.common.cli import UserError
from utils.figures.map_panels import DOT, MINUS, Panel, ascending, colour_bar, find_region, key, map_figure
from utils.figures.style import STYLE, UNITS, save

MOISTURE, ERROR = "YlGnBu", "YlOrRd"
# the darkest ends would hide borders and marks
DIFFERENCE = ListedColormap(colormaps["BrBG"](np.linspace(0.1, 0.9, 256)))  # brown: too dry
SKILL = ListedColormap(colormaps["RdBu"](np.linspace(0.18, 0.82, 256)))  # blue: better


def draw_maps(observed: xr.DataArray, predicted: xr.DataArray, title: str, path: Path) -> None:
    """Draw observed, predicted and predicted − observed soil moisture of one day as three maps.

    `observed`, `predicted`: [lat, lon], m3 m-3, NaN where nothing is scored; lat and lon as the data set has them.
    A grid of China, or of a part of it, gets China's border and provinces, the whole country the South China Sea inset;
    any other grid gets the world's borders. Colours span the 2nd to 98th percentile; a minus sign marks cells that are
    too dry by more than a quarter of the difference's limit. Raises UserError when no cell has both values.
    """
    save(_days_figure([("", observed, predicted)], title), path)


def draw_days(days: list[tuple[str, xr.DataArray, xr.DataArray]], title: str, path: Path) -> None:
    """Draw several days as `draw_maps` does one, a row each under its label, in the same colours; PNG and PDF.

    `days`: label, observed and predicted [lat, lon], m3 m-3, all on one grid. A day without a cell that has both values
    gets no RMSE; raises UserError when that is so on every day.
    """
    save(_days_figure(days, title), path, vector=True)


def draw_cell_maps(columns: dict[str, xr.Dataset], title: str, path: Path) -> None:
    """Draw each cell's R² over time (upper row) and RMSE (lower row), one column per forecast; PNG and PDF.

    `columns`: name → data set with `r2` and `rmse` (m3 m-3), [lat, lon], NaN where too few days are scored, all on one
    grid; two to four columns fit the page. A row has one colour scale, 2nd to 98th percentile; that of R² contains zero
    and ends at −1, and a minus sign marks cells below zero. Each panel says the median of its cells. Raises UserError
    when no cell has a score.
    """
    save(_cells_figure(columns, title), path, vector=True)


def draw_transfer_maps(change: xr.Dataset, title: str, path: Path) -> None:
    """Draw what transfer changes in each cell's R² (left) and RMSE (right), with the shares that gain; PNG and PDF.

    `change`: `r2` and `rmse` (m3 m-3), with transfer − without, [lat, lon], NaN where not scored; `better` and `worse`,
    boolean [lat, lon]: significant after control of the false discovery rate, stippled. Blue means in both maps that
    transfer helps; a minus sign marks cells that lose more than a quarter of the limit or lose significantly. Shares
    are of the cells with a change of RMSE; raises UserError when there is none.
    """
    save(_transfer_figure(change, title), path, vector=True)


@rc_context(STYLE)
def _days_figure(days: Sequence[tuple[str, xr.DataArray, xr.DataArray]], title: str) -> Figure:
    """Axes in order: the maps of each day (over all China each followed by its inset), the two colour bars."""
    lat, lon, maps = ascending(m for _, *pair in days for m in pair)
    observed, predicted = np.array(maps[0::2]), np.array(maps[1::2])
    difference = predicted - observed
    both = np.isfinite(difference)
    if not both.any():
        which = "that day" if len(days) == 1 else "any of the days"
        raise UserError(f"No map can be drawn: no cell has both an observed and a predicted soil moisture on {which}.")
    moisture = sequential_colours(np.concatenate([observed[both], predicted[both]]), MOISTURE)
    centred = centred_colours(difference, DIFFERENCE)
    rows = []
    for (label, *_), obs, pred, diff, valued in zip(days, observed, predicted, difference, both, strict=True):
        rmse = f", RMSE {root_mean_squared_error(obs[valued], pred[valued]):.4f} {UNITS}" if valued.any() else ""
        dry = diff < centred["norm"].vmin / 4
        first = Panel("observed", obs, moisture, heading=label)
        rows.append([first, Panel("predicted", pred, moisture), Panel(f"difference{rmse}", diff, centred, dry)])
    figure, panels = map_figure(find_region(lat, lon, maps, both), rows, title, bottom=0.92)
    colour_bar(figure, panels[:, :2].flat, moisture, np.array(maps), f"soil moisture ({UNITS})")
    colour_bar(figure, panels[:, 2], centred, difference, f"predicted − observed ({UNITS})")
    key(figure, {"too dry by over ¼ of the scale": MINUS})
    return figure


@rc_context(STYLE)
def _cells_figure(columns: dict[str, xr.Dataset], title: str) -> Figure:
    """Axes in order: the R² maps, the RMSE maps (each followed by its inset), their colour bars."""
    lat, lon, maps = ascending(scores[name] for name in ("r2", "rmse") for scores in columns.values())
    r2, rmse = np.array(maps[: len(columns)]), np.array(maps[len(columns) :])
    if not (np.isfinite(r2).any() and np.isfinite(rmse).any()):
        raise UserError("No map can be drawn: no cell has scores over time; the forecasts cover too few days.")
    skill, error = _with_zero(r2), sequential_colours(rmse, ERROR)
    rows = [
        [Panel(_median(r, 2), r, skill, r < 0, heading=name) for name, r in zip(columns, r2, strict=True)],
        [Panel(_median(r, 4, UNITS), r, error) for r in rmse],
    ]
    region = find_region(lat, lon, maps, np.isfinite(rmse))
    figure, panels = map_figure(region, rows, title, bottom=0.55, right=0.7)
    colour_bar(figure, panels[0], skill, r2, "R² (–)", location="right")
    colour_bar(figure, panels[1], error, rmse, f"RMSE ({UNITS})", location="right")
    key(figure, {"R² below zero": MINUS})
    return figure


@rc_context(STYLE)
def _transfer_figure(change: xr.Dataset, title: str) -> Figure:
    """Axes in order: the maps of R² and of RMSE (over all China each followed by its inset), their colour bars."""
    lat, lon, maps = ascending(change[name] for name in ("r2", "rmse", "better", "worse"))
    r2, rmse = maps[:2]
    valued = np.isfinite(rmse)
    if not valued.any():
        raise UserError("No map can be drawn: no cell has a score both with transfer and without it.")
    better, worse = ((mask == 1) & valued for mask in maps[2:])
    skill, error = centred_colours(r2, SKILL, most=1), centred_colours(rmse, SKILL.reversed())
    row = [
        Panel("R²", r2, skill, worse | (r2 < skill["norm"].vmin / 4), better | worse),
        Panel("RMSE", rmse, error, worse | (rmse > error["norm"].vmax / 4), better | worse),
    ]
    figure, panels = map_figure(find_region(lat, lon, maps[:2], valued), [row], title, bottom=1.25)
    colour_bar(figure, [panels[0, 0]], skill, r2, "change of R² (–); transfer helps →")
    colour_bar(figure, [panels[0, 1]], error, rmse, f"← transfer helps; change of RMSE ({UNITS})")
    marks = {
        "worse by over ¼ of the scale, or significantly": MINUS,
        "significant (false discoveries controlled)": DOT,
    }
    gain, more, less = (f"{100 * part[valued].mean():.1f} %" for part in (rmse < 0, better, worse))
    shares = f"Transfer lowers the RMSE in {gain} of {valued.sum():,} cells, significantly in {more}; "
    key(figure, marks, title=f"{shares}it raises it significantly in {less}.")
    return figure


def sequential_colours(values: np.ndarray, cmap: str) -> dict[str, Any]:
    low, high = np.nanpercentile(values, [2, 98])
    return {"norm": Normalize(low, max(high, low + 0.001)), "cmap": cmap}


def centred_colours(values: np.ndarray, cmap: Colormap, most: float = math.inf) -> dict[str, Any]:
    """Colours with zero in the middle; no limit beyond `most`."""
    valued = np.abs(values[np.isfinite(values)])
    spread = min(max(np.percentile(valued, 98) if valued.size else 0, 0.001), most)
    return {"norm": Normalize(-spread, spread), "cmap": cmap}


def _with_zero(r2: np.ndarray) -> dict[str, Any]:
    """Colours of R² with zero where `SKILL` turns, as steep on both sides, within −1 and 1."""
    low, high = np.nanpercentile(r2, [2, 98])
    low, high = max(min(low, 0), -1), min(max(high, 0.1), 1)
    reach = 2 * max(-low, high)
    return {"norm": Normalize(low, high), "cmap": ListedColormap(SKILL(np.linspace(low, high, 256) / reach + 0.5))}


def _median(values: np.ndarray, digits: int, unit: str = "") -> str:
    valued = values[np.isfinite(values)]
    if not valued.size:
        return "no cell"
    return f"median {np.median(valued):z.{digits}f} {unit}".rstrip().replace("-", "−")
