"""Questions about places and days: maps, single days, single cells."""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils import Drawmap
from utils.common.cli import UserError
from utils.common.text import format_days, format_number, format_percent
from utils.figures import style
from utils.figures.style import UNITS
from utils.scores import metrics, significance
from utils.study.html_page import Figure, Section
from utils.study.questions.forecasts_shown import Forecast, forecasts_shown, interval_of
from utils.study.results import SCRATCH, TRANSFERRED, Results

DAY = np.timedelta64(1, "D")
_OBSERVED = {"marker": "o", "linestyle": "none", "color": "0.2", "markersize": 1.2, "markeredgewidth": 0, "zorder": 1.5}


def cells(results: Results, figures: Path) -> Section:
    """Where forecasts are good: a map of each cell's R² over time."""
    lead, maps, said = results.lead, {}, []
    for shown in forecasts_shown(results):
        maps[shown.name] = metrics.by_cell(shown.read(results, lead))
        row = results.rows.loc[(shown.experiment, shown.model, lead)]
        said.append(f"{shown.name}: {format_number(row['r2_median_cell'], 3)} against {format_number(row['r2'], 3)}")
    path = figures / "cells.png"
    title = f"R² and RMSE over time in each cell, {format_days(lead)} ahead"
    Drawmap.draw_cell_maps(maps, results.title(title), path)
    return Section(
        "Where are the forecasts good, once each cell is held against its own mean?",
        "The R² of a cell is over time, against the cell's own mean. The pooled R² is mostly high because deserts are "
        "dry and humid regions are not. Median R² of the cells against pooled R²:",
        [Figure(path, "Maps of R² and RMSE per cell", f"Cells with at least {metrics.MIN_DAYS} days.")],
        points=said,
    )


def where_transfer_helps(results: Results, figures: Path) -> Section:
    """In which cells transfer lowers or raises the error, and where that is significant."""
    lead, seed, changes = results.lead, results.seeds[0], {}
    for model in dict.fromkeys((results.detail, results.best)):
        tuned = metrics.by_cell(results.predictions(TRANSFERRED, model, lead, seed))
        scratch = metrics.by_cell(results.predictions(SCRATCH, model, lead, seed))
        tests = results.transfer_by_cell(model, lead)
        tests = tests[["better", "worse"]].where(tests["tested"])
        changes[model] = (tuned - scratch)[["r2", "rmse"]].merge(tests)
    path, ahead = figures / "transfer_cells.png", f"{format_days(lead)} ahead"
    Drawmap.draw_transfer_maps(changes, results.title(f"What transfer changes in each cell, {ahead}"), path)
    rows = results.rows.loc[[(TRANSFERRED, name, lead) for name in results.models]]
    if rows["cells_gain"].isna().all():
        said = []
        answer = f"No cell has been scored on {significance.CELL_DAYS} days, as a test of a single cell needs."
    else:
        said = _count_cells(rows)
        answer = (
            f"Share of cells whose error is lower with transfer, {ahead}; share where it is significantly lower; share "
            "where it is significantly higher (of the significant cells, at most 5 % are expected to be false):"
        )
    return Section(
        "Where does transfer help?",
        answer,
        [
            Figure(
                path,
                "Maps of the change of R² and RMSE by transfer",
                "Dots: significant after false-discovery control.",
            )
        ],
        points=said,
    )


def _count_cells(rows: pd.DataFrame) -> list[str]:
    """The shares of each model's cells where transfer helps, helps significantly, and hurts significantly."""
    shares = rows[["cells_gain", "cells_better", "cells_worse"]].map(format_percent)
    return [f"{name}: {', '.join(own)}" for (_, name, _), own in zip(rows.index, shares.to_numpy(), strict=True)]


def days(results: Results, figures: Path) -> Section:
    """What a forecast looks like: maps of the wettest day, the driest, and one of median error."""
    runs = {shown.model: shown.read(results, results.lead) for shown in forecasts_shown(results)[:-1]}
    run = next(iter(runs.values()))
    observed, predicted = run["observed"], run["predicted"]
    covered = observed.notnull().sum(("lat", "lon"))
    enough = covered.copy(data=metrics.well_covered(covered.values))
    moisture = observed.mean(("lat", "lon")).where(enough)
    error = np.sqrt(((predicted - observed) ** 2).mean(("lat", "lon"))).where(enough)
    picked = {
        "wettest": int(moisture.argmax("time")),
        "driest": int(moisture.argmin("time")),
        "median error": int(abs(error - error.median()).argmin("time")),
    }
    dates = {name: str(run["time"].values[day])[:10] for name, day in picked.items()}
    shown = [
        (f"{name}\n{dates[name]}", observed[day], {model: one["predicted"][day] for model, one in runs.items()})
        for name, day in picked.items()
    ]
    path, ahead = figures / "days.png", f"{format_days(results.lead)} ahead"
    title = f"The wettest day, the driest, and one of median error {ahead}; networks with transfer"
    Drawmap.draw_days(shown, results.title(title), path)
    return Section(
        "What does a forecast look like?",
        f"The wettest day of the test period is {dates['wettest']}, the driest {dates['driest']} (mean over cells). On "
        f"{dates['median error']} the error over all cells is the median one.",
        [Figure(path, "Observed, predicted and error maps of three days", "One colour scale for all days.")],
    )


def series(results: Results, figures: Path) -> Section:
    """How forecasts follow single places: the cell of median error in each climate region, over time."""
    lead, shown = results.lead, []
    forecasts = forecasts_shown(results)[:-1]  # persistence is the observed line, later
    runs = {forecast: forecast.read(results, lead) for forecast in forecasts}
    first = next(iter(runs.values()))
    error, time = metrics.by_cell(first)["rmse"], first["time"].values
    band = interval_of(results, forecasts[0])
    everything = xr.Dataset({forecast.model: run["predicted"] for forecast, run in runs.items()})
    everything["observed"] = first["observed"]
    if band is not None:
        everything["low"], everything["high"] = band
    calendar = everything.reindex(time=np.arange(time[0], time[-1] + DAY, DAY))  # lines break where days are missing
    for index, region in enumerate(metrics.REGIONS):
        inside = error.where(first["region"] == index)
        if inside.notnull().any():
            distance = abs(inside - inside.median()).values
            row, column = np.unravel_index(int(np.nanargmin(distance)), distance.shape)
            shown.append(_series_of(calendar.isel(lat=row, lon=column), region, forecasts))
    path = figures / "series.png"
    title = f"The cell of median error in each climate region, {format_days(lead)} ahead; networks with transfer"
    draw_series(shown, results.title(title), path)
    return Section(
        "How do forecasts follow single places?",
        f"The figure shows the cell of median error in each region: {'; '.join(cell['name'] for cell in shown)}. Their "
        "errors stand in it.",
        [
            Figure(
                path,
                "Time series of observed and predicted soil moisture of three cells",
                "Every day of the test period.",
            )
        ],
    )


def _series_of(cell: xr.Dataset, region: str, forecasts: list[Forecast]) -> dict[str, Any]:
    """What `draw_series` shows of one cell."""
    shown = {
        "name": f"{region} cell, {_degrees(cell['lat'], 'N', 'S')} {_degrees(cell['lon'], 'E', 'W')}",
        "time": cell["time"].values,
        "observed": cell["observed"].values,
        "forecasts": {forecast.model: cell[forecast.model].values for forecast in forecasts},
        "lines": {forecast.model: forecast.line for forecast in forecasts},
    }
    if "low" in cell:
        shown["band"] = (cell["low"].values, cell["high"].values)
    return shown


def _degrees(value: xr.DataArray, positive: str, negative: str) -> str:
    value = (float(value) + 180) % 360 - 180
    return f"{abs(value):g}° {positive if value >= 0 else negative}"


def draw_series(cells: list[dict[str, Any]], title: str, path: Path) -> None:
    """Draw observed and forecast soil moisture, m3 m-3, of a few cells over time, a panel a cell.

    Each cell: name, time (datetime64, daily, gaps allowed), observed, forecasts (name → values), lines (name → look)
    and, if known, band: the ends of the first forecast's 90 % interval. No line crosses a missing day. Each panel says
    the RMSE and bias of each forecast. Raises UserError when no cell has an observed value.
    """
    style.save(_series_figure(cells, title), path, vector=True)


@rc_context(style.STYLE)
def _series_figure(cells: list[dict[str, Any]], title: str) -> Plot:
    """Axes in order: one panel per cell."""
    cells = [cell for cell in cells if np.isfinite(np.asarray(cell["observed"], float)).any()]
    if not cells:
        raise UserError("No time series can be drawn: no cell has an observed value.")
    lines = {name: look for cell in cells for name, look in cell["lines"].items()}
    times = np.concatenate([np.asarray(cell["time"], "datetime64[D]") for cell in cells])
    figure = style.new_figure(style.DOUBLE, 0.5 + 1.6 * len(cells), title)
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
