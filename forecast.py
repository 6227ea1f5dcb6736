"""Forecast maps with their uncertainty, from trained runs and a prepared data set that ends yesterday.

python forecast.py runs/finetune-SMAPtest/compact/lead*/seed0 --data latest.nc --out forecast.nc
python forecast.py RUN_DIR ... --data latest.nc --init 2021-07-01                     from a day inside the record
python forecast.py RUN_DIR ... --data latest.nc --init 2021-01-01 2021-12-31          hindcasts from each day, scored

Runs of the same lead (seeds, models) are combined; docs/forecast.md tells what the file holds and how sure it is.
"""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from utils.common.cli import UserError, one_sentence, parse
from utils.common.files import whole_file, write_errors, write_json
from utils.common.periods import spans
from utils.common.text import format_days
from utils.dataset.open import open_data_set
from utils.forecasts.cross_validation import FOLDS
from utils.forecasts.figures import draw_forecast, draw_sequence
from utils.forecasts.hindcasts import hindcast, scored
from utils.forecasts.operational import encoding, inits, is_forecast, issue, last_observed, order


@dataclass
class Settings:
    run_dirs: Positional[tuple[Path, ...]]  # trained runs of one or several leads, all trained on the same data
    data: Path  # a prepared data set, at best one that ends yesterday
    out: Path = Path("forecast.nc")  # NetCDF; figures and scores go beside it
    init: tuple[str, ...] = ()  # the last input day; none: the last day with soil moisture; START END: hindcasts
    future_from: Path | None = None  # a file of weather forecasts, for runs that know the weather ahead
    folds: int = FOLDS  # blocks of days held out in turn for the uncertainty; 0: validation days alone, without fits
    gif: bool = False  # also a moving picture of the leads
    jobs: int | None = None  # processes of a hindcast; None: one a core


def main(settings: Settings) -> None:
    if not settings.run_dirs:
        raise UserError(
            "No run is named; expected run directories, such as runs/finetune-SMAPtest/compact/lead3/seed0."
        )
    if settings.folds < 0 or settings.folds == 1:
        raise UserError(f"--folds is {settings.folds}, expected 0, or 2 or more.")
    if settings.jobs is not None and settings.jobs < 1:
        raise UserError(f"--jobs is {settings.jobs}, expected 1 or more.")
    first, last = asked_days(settings)
    single = first == last
    if settings.gif and not single:
        raise UserError("--gif shows the leads of one forecast; give --init a single date.")
    prepare_out(settings.out)
    asked = order(settings.run_dirs, settings.data, first if single else None, settings.future_from, settings.folds)
    if not single:
        made = hindcast(asked, first, last, settings.out, settings.jobs)
        left_out = int((last - first).astype(int)) + 1 - len(made)
        print(f"{settings.out}: {len(made)} inits, {left_out} days without the input days or outside the record")
        report(scored(asked, settings.out), settings.out)
        return
    ds = issue(asked, inits(asked, first, first)).isel(init_time=0)
    if not np.isfinite(ds["soil_moisture"]).any():
        raise UserError(f"{settings.data} has no soil moisture up to {first} since the last gap; nothing is forecast.")
    with whole_file(settings.out) as partial:
        ds.to_netcdf(partial, engine="netcdf4", encoding=encoding(ds))
    old = (np.datetime64(datetime.now(UTC).date()) - first).astype(int)
    leads = ", ".join(str(lead.days) for lead in asked.leads)
    if "calibration" in asked.attributes:
        print(f"note: {asked.attributes['calibration']}")
    print(f"{settings.out}: initialised on {first}, {format_days(int(old))} ago; leads of {leads} days")
    draw_forecast(ds, settings.out.with_suffix(".png"))
    print(settings.out.with_suffix(".png"))
    if settings.gif:
        draw_sequence(ds, settings.out.with_suffix(".gif"))
        print(settings.out.with_suffix(".gif"))


def prepare_out(out: Path) -> None:
    """Make its folder, and remove what an earlier forecast of this name left beside it. A UserError for other files."""
    if out.suffix != ".nc" or (out.exists() and not is_forecast(out)):
        raise UserError(f"--out is {out}, expected the name of a new file, or of an earlier forecast, ending in .nc.")
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".pdf", ".gif", ".scores.json"):
            out.with_suffix(suffix).unlink(missing_ok=True)


def asked_days(settings: Settings) -> tuple[np.datetime64, np.datetime64]:
    """First and last init. A UserError for days that the data set does not have."""
    data = open_data_set(settings.data)
    if not settings.init:
        return (last_observed(settings.data),) * 2
    if len(settings.init) > 2:
        raise UserError(f"--init has {len(settings.init)} dates, expected a date, or START END.")
    ((first, last),) = spans("init", settings.init * (3 - len(settings.init)))
    if first < data.days[0] or last > data.days[-1]:
        raise UserError(
            f"{settings.data} has the days {data.days[0]} to {data.days[-1]}, --init asks for {first} to {last}."
        )
    if first == last and first not in data.days:
        raise UserError(f"{settings.data} does not have the day {first} of --init, there is a gap in its time.")
    return first, last


def report(rows: list[dict], out: Path) -> None:
    """Print the scores of hindcasts and write them beside the file."""
    if not rows:
        print("no valid day is observed in the data set: nothing to score")
        return
    write_json(out.with_suffix(".scores.json"), {"leads": rows})
    print("RMSE in m³ m⁻³ with its 95 % interval; coverage of the 90 % interval")
    for row in rows:
        bounds = [row["rmse_low"], row["rmse_high"]]
        interval = " to ".join("–" if value is None else f"{value:.4f}" for value in bounds)
        skill = row["skill_over_persistence"]
        print(
            f"{format_days(row['lead_days'])} ahead: RMSE {row['rmse']:.4f} ({interval}), skill over persistence "
            f"{'–' if skill is None else f'{skill:+.3f}'}, coverage {100 * row['coverage_90']:.1f} %, n {row['n']}"
        )
    print(out.with_suffix(".scores.json"))


if __name__ == "__main__":
    with one_sentence():
        main(parse(Settings, sys.argv[1:], __doc__))
