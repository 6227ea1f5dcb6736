"""Questions about places and days: maps, single days, single cells."""

from pathlib import Path

import numpy as np
import xarray as xr

from utils import Drawmap
from utils.common.text import days as ahead
from utils.common.text import number, percent
from utils.scores import metrics
from utils.study.html_page import Figure, Section
from utils.study.questions import draw_curves
from utils.study.results import SCRATCH, TRANSFERRED, Results

DAY = np.timedelta64(1, "D")


def cells(results: Results, figures: Path) -> Section:
    model = results.detail
    runs = {f"{model}, SMAP alone": SCRATCH, f"{model}, with transfer": TRANSFERRED}
    shown = {
        name: metrics.by_cell(results.predictions(experiment, model, results.lead, results.seeds[0]))
        for name, experiment in runs.items()
    }
    shown["persistence"] = metrics.by_cell(results.predictions(SCRATCH, "persistence", results.lead))
    path = figures / "cells.png"
    Drawmap.draw_cell_maps(
        shown, results.title(f"R² and RMSE over time in each cell, {ahead(results.lead)} ahead"), path
    )
    said = []
    for name, which in zip(shown, [(SCRATCH, model), (TRANSFERRED, model), (SCRATCH, "persistence")], strict=True):
        row = results.rows.loc[(*which, results.lead)]
        said.append(f"{name} {number(row['r2_median_cell'], 3)} against {number(row['r2'], 3)}")
    return Section(
        "Where are the forecasts good, once each cell is held against its own mean?",
        "The median over cells of R² over time, against the pooled R², which mostly knows that deserts are dry: "
        f"{'; '.join(said)}.",
        [Figure(path, "Maps of R² and RMSE per cell", f"Cells with at least {metrics.MIN_DAYS} days.")],
        results.reservations(f"Seed {results.seeds[0]}."),
    )


def where_transfer_helps(results: Results, figures: Path) -> Section:
    model, lead = results.detail, results.lead
    tuned, scratch = (
        metrics.by_cell(results.predictions(e, model, lead, results.seeds[0])) for e in (TRANSFERRED, SCRATCH)
    )
    tested = results.transfer_by_cell(model, lead)
    change = xr.Dataset(
        {n: tuned[n] - scratch[n] for n in ("r2", "rmse")} | {n: tested[n] for n in ("better", "worse")}
    )
    path = figures / "transfer_cells.png"
    Drawmap.draw_transfer_maps(change, results.title(f"What transfer changes: {model}, {ahead(lead)} ahead"), path)
    said = []
    for name in results.models:
        row = results.rows.loc[(TRANSFERRED, name, lead)]
        said.append(
            f"{name} {percent(row['cells_gain'])} ({percent(row['cells_better'])} significantly; "
            f"{percent(row['cells_worse'])} lose significantly)"
        )
    return Section(
        "Where does transfer help?",
        f"Share of cells whose error it lowers, {ahead(lead)} ahead: {'; '.join(said)}. False discoveries are held at "
        "5 % of the cells named significant.",
        [
            Figure(
                path,
                "Maps of the change of R² and RMSE by transfer",
                "Dots: significant after false-discovery control.",
            )
        ],
        results.reservations(f"Seed {results.seeds[0]}."),
    )


def days(results: Results, figures: Path) -> Section:
    run = results.predictions(TRANSFERRED, results.detail, results.lead, results.seeds[0])
    observed, predicted = run["observed"], run["predicted"]
    covered = observed.notnull().sum(("lat", "lon"))
    enough = covered.copy(data=metrics.well_covered(covered.values))
    moisture = observed.mean(("lat", "lon")).where(enough)
    error = np.sqrt(((predicted - observed) ** 2).mean(("lat", "lon"))).where(enough)
    middle = abs(error - error.median())
    picked = {"wettest": moisture.argmax("time"), "driest": moisture.argmin("time")}
    picked["median error"] = middle.argmin("time")
    dates = {name: str(run["time"].values[int(i)])[:10] for name, i in picked.items()}
    shown = [(f"{n}, {dates[n]}", observed[int(i)], predicted[int(i)]) for n, i in picked.items()]
    path = figures / "days.png"
    title = f"The wettest, the driest and a middling day: {results.detail} with transfer, {ahead(results.lead)} ahead"
    Drawmap.draw_days(shown, results.title(title), path)
    return Section(
        "What does a forecast look like?",
        f"The wettest day of the test period is {dates['wettest']}, the driest {dates['driest']} (mean over cells); on "
        f"{dates['median error']} the error over all cells is the median one.",
        [Figure(path, "Observed, predicted and error maps of three days", "One colour scale for all days.")],
        results.reservations(f"Seed {results.seeds[0]}."),
    )


def series(results: Results, figures: Path) -> Section:
    model, lead = results.detail, results.lead
    run = results.predictions(TRANSFERRED, model, lead, results.seeds[0])
    error = metrics.by_cell(run)["rmse"]
    time = run["time"].values
    calendar, shown = run.reindex(time=np.arange(time[0], time[-1] + DAY, DAY)), []  # lines break where days miss
    for index, region in enumerate(metrics.REGIONS):
        inside = error.where(run["region"] == index)
        if not inside.notnull().any():
            continue
        middle = abs(inside - inside.median())
        row, column = np.unravel_index(int(np.nanargmin(middle.values)), middle.shape)
        cell = calendar.isel(lat=row, lon=column)
        forecasts = {f"{model} with transfer": cell["predicted"].values, "persistence": cell["persistence"].values}
        observed = cell["observed"].values
        rmse = {name: float(np.sqrt(np.nanmean((values - observed) ** 2))) for name, values in forecasts.items()}
        place = f"{region} cell, {_degrees(cell['lat'], 'N', 'S')} {_degrees(cell['lon'], 'E', 'W')}"
        shown.append(
            {"name": place, "time": cell["time"].values, "observed": observed, "forecasts": forecasts, "rmse": rmse}
        )
    path = figures / "series.png"
    draw_curves.draw_series(shown, results.title(f"One cell in each climate region, {ahead(lead)} ahead"), path)
    return Section(
        "How do forecasts follow single places?",
        "In each region the cell whose error is the region's median: "
        f"{'; '.join(cell['name'] for cell in shown)}. Their errors stand in the figure.",
        [
            Figure(
                path,
                "Time series of observed and predicted soil moisture of three cells",
                "Every day of the test year.",
            )
        ],
        results.reservations(f"Seed {results.seeds[0]}."),
    )


def _degrees(value: xr.DataArray, positive: str, negative: str) -> str:
    value = (float(value) + 180) % 360 - 180
    return f"{abs(value):g}° {positive if value >= 0 else negative}"
