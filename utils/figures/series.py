"""Time series of single cells: observed and forecast, a panel a cell."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.common.cli import UserError
from utils.common.grid import FEW_CELLS
from utils.figures import style
from utils.figures.style import UNITS

_OBSERVED = {"marker": "o", "linestyle": "none", "color": "0.2", "markersize": 1.2, "markeredgewidth": 0, "zorder": 1.5}


DAY = np.timedelta64(1, "D")


def has_few_cells(grid: xr.Dataset | xr.DataArray) -> bool:
    """Whether each cell is shown as a time series instead of all as a map."""
    return grid.sizes["lat"] * grid.sizes["lon"] <= FEW_CELLS


def place_of(cell: xr.Dataset) -> str:
    """Where a cell is: 40.7° N 14.72° E."""
    return f"{_degrees(cell['lat'], 'N', 'S')} {_degrees(cell['lon'], 'E', 'W')}"


def _degrees(value: xr.DataArray, positive: str, negative: str) -> str:
    value = (round(float(value), 4) + 180) % 360 - 180
    return f"{abs(value):g}° {positive if value >= 0 else negative}"


def all_days(ds: xr.Dataset) -> xr.Dataset:
    """The data set with every day from its first to its last, so that lines break where days are missing."""
    time = ds["time"].values
    return ds.reindex(time=np.arange(time[0], time[-1] + DAY, DAY))


def cells_of(ds: xr.Dataset) -> list[xr.Dataset]:
    """The single cells of a data set with a value of `observed`, in its own order."""
    cells = (ds.isel(lat=row, lon=column) for row, column in np.ndindex(ds.sizes["lat"], ds.sizes["lon"]))
    return [cell for cell in cells if cell["observed"].notnull().any()]


def draw_run(run: xr.Dataset, title: str, path: Path) -> None:
    """Draw `observed` and `predicted` [time, lat, lon] of every cell of a run; PNG and PDF.

    Raises UserError when no cell has an observed value.
    """
    look = {"predicted": {"color": style.FORECASTS[0], "linewidth": 1.0}}
    cells = [
        {
            "name": place_of(cell),
            "time": cell["time"].values,
            "observed": cell["observed"].values,
            "forecasts": {"predicted": cell["predicted"].values},
            "lines": look,
        }
        for cell in cells_of(all_days(run))
    ]
    draw_series(cells, title, path)


def draw_series(cells: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw observed and forecast soil moisture, m3 m-3, of a few cells over time, a panel a cell.

    Each cell: name, time (datetime64, daily, gaps allowed), observed, forecasts (name → values), lines (name → look)
    and, if known, band: the ends of the first forecast's 90 % interval. No line crosses a missing day. Each panel says
    the RMSE and bias of each forecast. Raises UserError when no cell has an observed value.
    """
    style.save(_series_figure(cells, title), path, vector=True)


@rc_context(style.STYLE)
def _series_figure(cells: list[dict[str, Any]], title: str) -> Figure:
    """Axes in order: one panel per cell."""
    cells = [cell for cell in cells if np.isfinite(np.asarray(cell["observed"], float)).any()]
    if not cells:
        raise UserError("No time series can be drawn: no cell has an observed value.")
    lines = {name: look for cell in cells for name, look in cell["lines"].items()}
    times = np.concatenate([np.asarray(cell["time"], "datetime64[D]") for cell in cells])
    height = min(1.6, (style.TALLEST - 1.0) / len(cells))
    figure = style.new_figure(style.DOUBLE, 0.5 + height * len(cells), title)
    panels = figure.subplots(len(cells), 1, sharex=True, squeeze=False)[:, 0]
    for ax, cell, letter in zip(panels, cells, ascii_lowercase, strict=False):
        ax.set_title(f"({letter}) {cell['name']}\n{_errors(cell)}")
        _draw_cell(ax, cell)
        ax.set(xlim=(times.min(), times.max()), ylabel=f"soil moisture\n({UNITS})")
        ax.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    locator = AutoDateLocator(minticks=5)
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
    figure.align_ylabels()
    keys = [Line2D([], [], label="observed", **_OBSERVED | {"markersize": 2.5})]
    keys += [Line2D([], [], label=name, **look) for name, look in lines.items()]
    if any("band" in cell for cell in cells):
        first = next(iter(lines))
        keys.append(Patch(facecolor=lines[first]["color"], alpha=0.2, label=f"90 % interval of {first}"))
    style.legend(figure, *style.in_rows(keys, 5 if len(keys) == 5 else 4))
    return figure


def _draw_cell(ax: Axes, cell: dict[str, Any]) -> None:
    """The lines of one cell; a missing day is a gap."""
    columns = {"observed": cell["observed"], **cell["forecasts"]}
    if "band" in cell:
        columns |= dict(zip(("low", "high"), cell["band"], strict=True))
    values = pd.DataFrame(columns, pd.DatetimeIndex(cell["time"])).astype(float).resample("D").mean()
    if "band" in cell:
        color = next(iter(cell["lines"].values()))["color"]
        ax.fill_between(values.index, values["low"], values["high"], color=color, alpha=0.2, linewidth=0)
    ax.plot(values.index, values["observed"], label="observed", **_OBSERVED)
    for name in reversed(cell["forecasts"]):
        ax.plot(values.index, values[name], label=name, **cell["lines"][name])


def _errors(cell: dict[str, Any]) -> str:
    """RMSE and bias of each forecast, in as many lines as a panel needs."""
    observed = np.asarray(cell["observed"], float)
    said = []
    for name, values in cell["forecasts"].items():
        error = np.asarray(values, float) - observed
        bias = f"{np.nanmean(error):+.3f}".replace("-", "−")
        said.append(f"{name} {np.sqrt(np.nanmean(error**2)):.3f}, {bias}")
    return "\n".join(style.wrap(f"RMSE, bias ({UNITS}): {'; '.join(said)}", width=style.DOUBLE - 0.8, size=7))
