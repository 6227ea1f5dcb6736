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

from utils.common.cli import UserError
from utils.figures.map_panels import DOT, MINUS, Panel, ascending, colour_bar, find_region, key, map_figure
from utils.figures.style import STYLE, UNITS, save

Day = tuple[str, xr.DataArray, dict[str, xr.DataArray]]  # label, observed, forecasts by name
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
    save(_days_figure([("", observed, {"": predicted})], title), path)


def draw_days(days: Sequence[Day], title: str, path: Path) -> None:
    """Draw several days as `draw_maps` does one, a row each under its label, in the same colours; PNG and PDF.

    `days`: label, observed, and one or several forecasts by name [lat, lon], m3 m-3, all on one grid. The first
    forecast is shown itself, and the difference from the observed of every one. A day without a cell that has both
    values gets no RMSE; raises UserError when that is so on every day.
    """
    save(_days_figure(days, title), path, vector=True)


def draw_cell_maps(columns: dict[str, xr.Dataset], title: str, path: Path) -> None:
    """Draw each cell's R² over time (upper row) and RMSE (lower row), one column per forecast; PNG and PDF.

    `columns`: name → data set with `r2` and `rmse` (m3 m-3), [lat, lon], NaN where too few days are scored, all on one
    grid; two to four columns fit the page. A row has one colour scale. That of R² has zero in its middle and ends at ±1
    at the latest; a minus sign marks cells below zero. Each panel says the median of its cells. Raises UserError when
    no cell has a score.
    """
    save(_cells_figure(columns, title), path, vector=True)


def draw_transfer_maps(changes: dict[str, xr.Dataset], title: str, path: Path) -> None:
    """Draw what transfer changes in each cell's R² (left) and RMSE (right), a row a model; PNG and PDF.

    `changes`: model → `r2` and `rmse` (m3 m-3), with transfer − without, [lat, lon], NaN where not scored; `better` and
    `worse`, boolean [lat, lon]: significant after control of the false discovery rate. The test is of squared errors,
    so dots stand in the map of RMSE. Blue means in both maps that transfer helps; a minus sign marks cells that lose
    more than a quarter of the limit. Shares are of the cells with a change of RMSE.
    Raises UserError when there is none.
    """
    save(_transfer_figure(changes, title), path, vector=True)


@rc_context(STYLE)
def _days_figure(days: Sequence[Day], title: str) -> Figure:
    """Axes in order: the maps of each day (over all China each followed by its inset), the two colour bars."""
    names = list(days[0][2])
    lat, lon, maps = ascending(m for _, obs, forecasts in days for m in (obs, *forecasts.values()))
    stack = np.array(maps).reshape(len(days), 1 + len(names), *maps[0].shape)
    observed, predicted = stack[:, 0], stack[:, 1:]
    difference = predicted - observed[:, None]
    both = np.isfinite(difference[:, 0])
    if not both.any():
        which = "that day" if len(days) == 1 else "any of the days"
        raise UserError(f"No map can be drawn: no cell has both an observed and a predicted soil moisture on {which}.")
    shown = stack[:, :2][np.stack([both, both], axis=1)]
    moisture, centred = sequential_colours(shown, MOISTURE), centred_colours(difference, DIFFERENCE)
    rows = []
    for (label, *_), obs, forecasts, differences in zip(days, observed, predicted, difference, strict=True):
        row = [Panel("observed", obs, moisture, heading=label)]
        row.append(Panel("predicted", forecasts[0], moisture, heading=names[0]))
        for name, diff in zip(names, differences, strict=True):
            row.append(Panel(_error(diff, short=bool(name)), diff, centred, _too_dry(diff, centred), heading=name))
        rows.append(row)
    figure, panels = map_figure(find_region(lat, lon, maps, both), rows, title, bottom=0.92)
    colour_bar(figure, panels[:, :2].flat, moisture, stack[:, :2], f"soil moisture ({UNITS})")
    colour_bar(figure, panels[:, 2:].flat, centred, difference, f"predicted − observed ({UNITS})")
    key(figure, {"too dry by over ¼ of the scale": MINUS})
    return figure


def _error(difference: np.ndarray, short: bool) -> str:
    """The name of a panel of differences: their root mean square."""
    valued = difference[np.isfinite(difference)]
    rmse = f"RMSE {np.sqrt(np.mean(valued**2)):.4f}" if valued.size else ""
    if short:
        return rmse or "no value"
    return f"difference, {rmse} {UNITS}" if rmse else "difference"


def _too_dry(difference: np.ndarray, colours: dict[str, Any]) -> np.ndarray:
    """Which cells are too dry by over a quarter of the scale."""
    return difference < colours["norm"].vmin / 4


@rc_context(STYLE)
def _cells_figure(columns: dict[str, xr.Dataset], title: str) -> Figure:
    """Axes in order: the R² maps, the RMSE maps (each followed by its inset), their colour bars."""
    lat, lon, maps = ascending(scores[name] for name in ("r2", "rmse") for scores in columns.values())
    r2, rmse = np.array(maps[: len(columns)]), np.array(maps[len(columns) :])
    if not (np.isfinite(r2).any() and np.isfinite(rmse).any()):
        raise UserError("No map can be drawn: no cell has scores over time; the forecasts cover too few days.")
    skill, error = centred_colours(r2, SKILL, most=1), sequential_colours(rmse, ERROR, ends=(0.5, 99.5))
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
def _transfer_figure(changes: dict[str, xr.Dataset], title: str) -> Figure:
    """Axes in order: each model's maps of R² and of RMSE (over all China each followed by its inset), colour bars."""
    fields = ("r2", "rmse", "better", "worse")
    lat, lon, maps = ascending(change[name] for change in changes.values() for name in fields)
    r2, rmse, better, worse = np.array(maps).reshape(len(changes), len(fields), *maps[0].shape).swapaxes(0, 1)
    valued = np.isfinite(rmse)
    if not valued.any():
        raise UserError("No map can be drawn: no cell has a score both with transfer and without it.")
    tested = np.isfinite(better) & valued
    better, worse = (better == 1) & valued, (worse == 1) & valued
    skill, error = centred_colours(r2, SKILL, most=1), centred_colours(rmse, SKILL.reversed())
    rows = []
    for turn, model in enumerate(changes):
        significant = better[turn] | worse[turn]
        first = Panel("R²", r2[turn], skill, minus=r2[turn] < skill["norm"].vmin / 4, heading=model)
        hurts = rmse[turn] > error["norm"].vmax / 4
        rows.append([first, Panel("RMSE", rmse[turn], error, minus=hurts, dots=significant)])
    bottom = 1.0 + 0.13 * len(changes)
    figure, panels = map_figure(find_region(lat, lon, [*r2, *rmse], valued), rows, title, bottom=bottom)
    colour_bar(figure, panels[:, 0], skill, r2, "change of R² (–); transfer helps →")
    colour_bar(figure, panels[:, 1], error, rmse, f"← transfer helps; change of RMSE ({UNITS})")
    said = []
    for turn, model in enumerate(changes):
        tests = (better[turn], worse[turn]) if tested[turn].any() else ()
        said.append(_shares(model, valued[turn], rmse[turn] < 0, *tests))
    marks = {"transfer hurts by over ¼ of the scale": MINUS, "significant (false discoveries controlled)": DOT}
    key(figure, marks, title="\n".join(said))
    return figure


def _shares(model: str, valued: np.ndarray, *parts: np.ndarray) -> str:
    """In how many of the valued cells transfer lowers the error; where it was tested, how often that is significant."""
    gain, *tests = (f"{100 * part[valued].mean():.1f} %" for part in parts)
    lowers = f"{model}: transfer lowers the RMSE in {gain} of {valued.sum():,} cells"
    if not tests:
        return f"{lowers}; too few days were scored to test a cell."
    more, less = tests
    return f"{lowers}, significantly in {more}; it raises it significantly in {less}."


def sequential_colours(values: np.ndarray, cmap: str, ends: tuple[float, float] = (2, 98)) -> dict[str, Any]:
    """Colours from one percentile of the values to another."""
    low, high = np.nanpercentile(values, ends)
    return {"norm": Normalize(low, max(high, low + 0.001)), "cmap": cmap}


def centred_colours(values: np.ndarray, cmap: Colormap, most: float = math.inf) -> dict[str, Any]:
    """Colours with zero in the middle; no limit beyond `most`."""
    valued = np.abs(values[np.isfinite(values)])
    spread = min(max(np.percentile(valued, 98) if valued.size else 0, 0.001), most)
    return {"norm": Normalize(-spread, spread), "cmap": cmap}


def _median(values: np.ndarray, digits: int, unit: str = "") -> str:
    valued = values[np.isfinite(values)]
    if not valued.size:
        return "no cell"
    return f"median {np.median(valued):z.{digits}f} {unit}".rstrip().replace("-", "−")
