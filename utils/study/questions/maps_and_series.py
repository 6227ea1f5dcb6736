"""Questions about places and days: maps, single days, single cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from utils import Drawmap
from utils.common.text import format_days, format_number, format_percent
from utils.figures.series import all_days, cells_of, draw_series, has_few_cells, place_of
from utils.scores import metrics, significance
from utils.study.html_page import Figure, Section
from utils.study.questions.forecasts_shown import Forecast, forecasts_shown, interval_of
from utils.study.results import SCRATCH, TRANSFERRED, Results


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
    error = metrics.by_cell(first)["rmse"]
    band = interval_of(results, forecasts[0])
    everything = xr.Dataset({forecast.model: run["predicted"] for forecast, run in runs.items()})
    everything["observed"] = first["observed"]
    if band is not None:
        everything["low"], everything["high"] = band
    calendar = all_days(everything)
    if has_few_cells(first):
        which = "every cell"
        shown = [_series_of(cell, place_of(cell), forecasts) for cell in cells_of(calendar)]
    else:
        which = "the cell of median error in each climate region"
        for index, region in enumerate(metrics.REGIONS):
            inside = error.where(first["region"] == index)
            if inside.notnull().any():
                distance = abs(inside - inside.median()).values
                row, column = np.unravel_index(int(np.nanargmin(distance)), distance.shape)
                cell = calendar.isel(lat=row, lon=column)
                shown.append(_series_of(cell, f"{region} cell, {place_of(cell)}", forecasts))
    path = figures / "series.png"
    title = f"{which.capitalize()}, {format_days(lead)} ahead; networks with transfer"
    draw_series(shown, results.title(title), path)
    return Section(
        "How do forecasts follow single places?",
        f"The figure shows {which}: {'; '.join(cell['name'] for cell in shown)}. Their errors stand in it.",
        [
            Figure(
                path,
                "Time series of observed and predicted soil moisture of single cells",
                "Every day of the test period.",
            )
        ],
    )


def _series_of(cell: xr.Dataset, name: str, forecasts: list[Forecast]) -> dict[str, Any]:
    """What `draw_series` shows of one cell."""
    shown = {
        "name": name,
        "time": cell["time"].values,
        "observed": cell["observed"].values,
        "forecasts": {forecast.model: cell[forecast.model].values for forecast in forecasts},
        "lines": {forecast.model: forecast.line for forecast in forecasts},
    }
    if "low" in cell:
        shown["band"] = (cell["low"].values, cell["high"].values)
    return shown
