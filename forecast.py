"""Forecast maps of the days ahead, with their uncertainty, from trained runs and a prepared data set.

    python forecast.py runs/finetune-SMAPtest/compact/lead*/seed0 --data latest.nc --out forecast.nc
    python forecast.py RUN_DIR ... --data latest.nc --init 2021-07-01               from a day inside the record
    python forecast.py RUN_DIR ... --data latest.nc --init 2021-01-01 2021-12-31    hindcasts from each day, scored
    python forecast.py RUN_DIR ... --data latest.nc --issue 2021-07-04 --lag soil_moisture=3 precipitation=5

Runs of the same lead time (seeds or models) are combined into one forecast. docs/forecast.md describes the file and its
uncertainty.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import xarray as xr
from tyro.conf import Positional, arg

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import whole_file, write_errors, write_json
from utils.common.text import format_days
from utils.dataset.open import open_data_set
from utils.figures.series import has_few_cells
from utils.forecasts.cross_validation import FOLDS
from utils.forecasts.figures import draw_forecast, draw_sequence
from utils.forecasts.forecast_file import OLD_INPUTS, SHORT_RECORD, encoding, is_forecast
from utils.forecasts.gis import find_pixels, name_bands, remove_gis_files, write_geotiffs
from utils.forecasts.hindcasts import score_hindcasts, write_hindcasts
from utils.forecasts.issue import Issue, find_issue
from utils.forecasts.numerical_model import NAME as NUMERICAL_MODEL
from utils.forecasts.numerical_model import describe_rival
from utils.forecasts.operational import find_inits, forecast_maps
from utils.forecasts.page.cells import describe_cell, read_last_days
from utils.forecasts.page.past_scores import describe_hindcasts, read_past_scores
from utils.forecasts.page.write import check_page_settings, write_page
from utils.forecasts.request import ForecastRequest, make_request

RECENT = 60  # days before a forecast that the figure of a few cells shows
Dates = Annotated[tuple[str, ...], arg(aliases=["--start"], metavar="DATE [DATE]")]
Words = Annotated[tuple[str, ...], arg(metavar="NAME=DAYS ...")]


@dataclass
class Settings:
    run_dirs: Positional[tuple[Path, ...]]  # trained runs of one or several lead times, trained on the same data
    data: Path  # a prepared data set; its last day with soil moisture is the initial day
    out: Path = Path("forecast.nc")  # NetCDF; figures and scores are written beside it
    init: Dates = ()  # initial day (the last input day), as DATE; START END: hindcasts from each day
    issue: str | None = None  # day of issue, as DATE: the initial day and the lag of soil moisture after it
    lag: Words = ()  # days until the values of a day are there, as NAME=DAYS; else those of the data's product
    future_from: Path | None = None  # weather forecasts, for runs that know the weather ahead; and a rival of hindcasts
    folds: int = FOLDS  # blocks of the cross-validation behind the intervals; 0: the validation days alone, quicker
    gif: bool = False  # also write an animation of the lead times
    geotiff: bool = False  # also write cloud-optimised GeoTIFF files, one a lead time and layer
    html: bool = False  # also write a page for a browser: maps, and the series of each cell
    point: tuple[float, float] | None = None  # latitude and longitude: print the forecast there; the page opens there
    scores: Path | None = None  # OUT.scores.json of hindcasts, which the page shows; None: scores of the test period
    jobs: int | None = None  # processes for hindcasts; None: one for each core


def main(settings: Settings) -> None:
    if not settings.run_dirs:
        raise UserError(
            "No run is named; expected run directories, such as runs/finetune-SMAPtest/compact/lead3/seed0."
        )
    if settings.folds < 0 or settings.folds == 1:
        raise UserError(f"--folds is {settings.folds}, expected 0, or 2 or more.")
    if settings.jobs is not None and settings.jobs < 1:
        raise UserError(f"--jobs is {settings.jobs}, expected 1 or more.")
    issue = find_issue(settings.run_dirs, settings.data, settings.init, settings.issue, settings.lag)
    first, last = issue.first, issue.last
    for flag in ("gif", "geotiff"):
        if getattr(settings, flag) and not issue.is_single:
            raise UserError(f"--{flag} shows the leads of one forecast; give --init a single date.")
    if settings.geotiff:
        find_pixels(open_data_set(settings.data).grid, settings.data)  # refused before the work is done
    check_page_settings(settings.html, settings.point, settings.scores, settings.data, issue.is_single)
    prepare_out(settings.out, settings.scores)
    request = make_request(
        settings.run_dirs,
        settings.data,
        end=first if issue.is_single else None,
        future_from=settings.future_from,
        folds=settings.folds,
        known=issue.known,
        history=issue.history,
    )
    if request.warnings:
        print(f"note: intervals are calibrated {request.calibration_note}")
    if issue.is_single:
        write_forecast(request, issue, settings)
        return
    inits = write_hindcasts(request, first, last, settings.out, settings.jobs)
    remove_earlier(settings.out)
    print_notes(settings.out)
    left_out = int((last - first).astype(int)) + 1 - len(inits)
    print(f"{settings.out}: {len(inits)} inits, {left_out} days without the input days or outside the record")
    report_scores(score_hindcasts(request, settings.out), settings.out)


def write_forecast(request: ForecastRequest, issue: Issue, settings: Settings) -> None:
    """Write the forecast from one day, and its figures."""
    init = issue.first
    ds = forecast_maps(request, find_inits(request, init, init)).isel(init_time=0)
    if not np.isfinite(ds["soil_moisture"]).any():
        raise UserError(f"{settings.data} has no soil moisture up to {init} since the last gap; nothing is forecast.")
    remove_earlier(settings.out)
    with whole_file(settings.out) as partial:
        ds.to_netcdf(partial, engine="netcdf4", encoding=encoding(ds))
    name_bands(ds, settings.out)
    print_notes(settings.out)
    if issue.advice:
        print(f"note: {issue.advice}")
    leads = ", ".join(str(lead.days) for lead in request.leads)
    print(f"{settings.out}: initialised on {init}, {issue.describe()}; leads of {leads} days")
    draw_forecast(ds, settings.out.with_suffix(".png"), recent=read_recent(settings.data, init, ds))
    print(settings.out.with_suffix(".png"))
    if settings.gif:
        draw_sequence(ds, settings.out.with_suffix(".gif"))
        print(settings.out.with_suffix(".gif"))
    if settings.geotiff:
        files = write_geotiffs(ds, settings.out, find_pixels(request.grid, settings.data))
        print(f"{len(files)} GeoTIFF files, the first {files[0]}")
    if settings.point:
        print("\n".join(describe_cell(ds, settings.point)))
    if settings.html:
        scores = read_past_scores(request, settings.scores)
        write_page(settings.out.with_suffix(".html"), ds, settings.data, scores, settings.point)
        print(settings.out.with_suffix(".html"))


def read_recent(data: Path, init: np.datetime64, forecast: xr.Dataset) -> xr.DataArray | None:
    """Soil moisture of the days before a forecast of a few cells, which its figure shows; None for a map."""
    if not has_few_cells(forecast):
        return None
    return read_last_days(data, init, RECENT)


def print_notes(out: Path) -> None:
    """Say it where the record is short or inputs are old, as the forecast file has it."""
    with xr.open_dataset(out, engine="netcdf4") as ds:
        for name in (SHORT_RECORD, OLD_INPUTS):
            if note := ds.attrs.get(name):
                print(f"note: {note}")


def prepare_out(out: Path, scores: Path | None) -> None:
    """Make the folder. A UserError for files that are not ours, and for scores that the forecast would replace."""
    if out.suffix != ".nc" or (out.exists() and not is_forecast(out)):
        raise UserError(f"--out is {out}, expected the name of a new file, or of an earlier forecast, ending in .nc.")
    if scores and scores.resolve() == out.with_suffix(".scores.json").resolve():
        raise UserError(f"--scores is {scores}, which belongs to the hindcasts in {out}; give another --out.")
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def remove_earlier(out: Path) -> None:
    """Remove what an earlier forecast of this name has left beside it."""
    with write_errors(out):
        for suffix in (".png", ".pdf", ".gif", ".html", ".scores.json"):
            out.with_suffix(suffix).unlink(missing_ok=True)
        remove_gis_files(out)
        for suffix in (".csv", ".groups.csv", ".png", ".pdf"):  # of validate_stations.py
            out.with_suffix(f".stations{suffix}").unlink(missing_ok=True)


def report_scores(rows: list[dict], out: Path) -> None:
    """Print the scores of hindcasts and write them beside the file."""
    if not rows:
        print("no valid day is observed in the data set: nothing to score")
        return
    write_json(out.with_suffix(".scores.json"), {"leads": rows} | describe_hindcasts(out))
    print("RMSE in m³ m⁻³ with its 95 % interval; coverage of the 90 % interval")
    for row in rows:
        low, high = format_score(row["rmse_low"], ".4f"), format_score(row["rmse_high"], ".4f")
        skill = format_score(row["skill_over_persistence"], "+.3f")
        print(
            f"{format_days(row['lead_days'])} ahead: RMSE {row['rmse']:.4f} ({low} to {high}), "
            f"skill over persistence {skill}, coverage {100 * row['coverage_90']:.1f} %, n {row['n']}"
        )
        for name in [event for event in ("dry", "wet") if event in row]:
            print(f"    chance of unusually {name} soil: {describe_skill(row[name])}")
        if NUMERICAL_MODEL in row:
            print(f"    {describe_rival(row[NUMERICAL_MODEL])}")
    print(out.with_suffix(".scores.json"))


def describe_skill(scores: dict) -> str:
    """The Brier skill of a chance, its interval, and how often the event came."""
    low, high = (format_score(scores[name], "+.3f") for name in ("skill_low", "skill_high"))
    came = f"it came in {100 * scores['share_observed']:.1f} % of the cell-days"
    return f"Brier skill over climatology {scores['skill']:+.3f} ({low} to {high}); {came}"


def format_score(value: float | None, form: str) -> str:
    """A score as text; a dash where it is not defined."""
    return "–" if value is None else format(value, form)


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
