"""From raw files of SMAP L4 to a prepared data set: what data/prepare_smap_l4.py does."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.common.files import code_hash
from utils.dataset.rain_checks import DAY_IS_CERTAIN
from utils.products import DAY
from utils.products.monthly import Month, PrepareSettings, by_month, prepare_months, refuse_full_disk, work_folder
from utils.products.raw_files import find_files, scan_files
from utils.products.regrid import Cells
from utils.products.report import report
from utils.products.smap.daily import PER_DAY, smap_month
from utils.products.smap.files import place, scan
from utils.products.smap.granules import FIELDS, Granule, version_numbers
from utils.products.smap.window import find_window


@dataclass
class SMAPPrepareSettings(PrepareSettings):
    """What data/prepare_smap_l4.py is told."""

    out: Path = Path("data/smap_l4.nc")  # the prepared data set: .zarr makes a Zarr store, anything else NetCDF-4
    min_granules: int = 8  # a day with fewer of its eight granules is left out; granules_per_day tells how many it had


def prepare_smap(settings: SMAPPrepareSettings) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input."""
    if not 1 <= settings.min_granules <= PER_DAY:
        raise UserError(f"--min-granules is {settings.min_granules}, expected 1 to {PER_DAY} of a day's granules.")
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    with work_folder(settings.out) as folder:
        found = [granule for part in scan_files(files, scan, folder / "unpacked", "SMAP files") for granule in part]
        refuse_missing_field(found, files)
        grid, granules = place(found)
        granules, notes = _newest(granules)
        rows, columns = find_window(granules, grid, target, settings.native)
        granules = _whole(granules, rows, columns)
        counts = _counts(granules)
        days = _complete_days(counts, settings.min_granules)
        cells = grid.window(rows, columns)
        shape = cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, days=len(days), cells=shape[0] * shape[1])
        reasons = _reasons(counts, settings.min_granules)
        reasons |= prepare_months(
            _months(granules, days, rows, columns, cells, target, settings),
            folder,
            settings,
            attributes=_attributes(granules, settings),
            extra=_granules_per_day(days, counts, means={str(g.time)[:10] for g in granules if g.is_daily}),
        )
        if any(granule.is_daily for granule in granules):
            notes.append("  daily means made elsewhere: of how many granules is not known (granules_per_day is 0)")
        report(settings.out, reasons, notes)


def _attributes(granules: Sequence[Granule], settings: SMAPPrepareSettings) -> dict[str, str | int]:
    versions = ", ".join(sorted({granule.version or "not named" for granule in granules}))
    return {
        "title": "SMAP L4, daily: precipitation, surface soil moisture and soil temperature",
        "product": "SMAP L4",
        "source": f"NASA/NSIDC SPL4SMGP, three-hourly; versions {versions}",
        "references": "https://doi.org/10.5067/T5RUATAD4TZN",
        "license": "NASA data, free of restriction; cite Reichle et al., SMAP L4 Global 3-hourly 9 km EASE-Grid",
        "soil_layer": "0 to 5 cm",
        "min_granules": settings.min_granules,
        DAY_IS_CERTAIN: "true",
        "regridding": settings.gridding(),
    }


def refuse_missing_field(granules: Sequence[Granule], files: Sequence[Path]) -> None:
    """Raises UserError where one of the three fields is in none of the files."""
    for name, field in FIELDS.items():
        if not any(name in granule.holds() for granule in granules):
            raise UserError(
                f"none of the {len(files)} files has the field {field.path.rsplit('/', 1)[1]} ({name}), expected all "
                "three of SMAP L4, in one file or in several."
            )


def _whole(granules: Sequence[Granule], rows: slice, columns: slice) -> list[Granule]:
    """The granules of those times at which every field covers the whole window.

    Raises UserError for a day that is there both as a daily mean and as three-hourly maps.
    """
    by_time = defaultdict(list)
    for granule in granules:
        by_time[granule.time].append(granule)
    means = {granule.time.astype("datetime64[D]") for granule in granules if granule.is_daily}
    twice = [g for g in granules if not g.is_daily and g.time.astype("datetime64[D]") in means]
    if twice:
        raise UserError(
            f"{twice[0].file.name} holds three-hourly maps of {str(twice[0].time)[:10]}, and another file the mean of "
            "that day; leave one of them out of --raw."
        )
    shape = rows.stop - rows.start, columns.stop - columns.start
    covers: dict[frozenset, bool] = {}

    def cover(pieces: frozenset) -> bool:
        if pieces not in covers:
            covered = np.zeros(shape, bool)
            for row, column, (height, width) in pieces:
                covered[max(row - rows.start, 0) : max(row + height - rows.start, 0),
                        max(column - columns.start, 0) : max(column + width - columns.start, 0)] = True  # fmt: skip
            covers[pieces] = bool(covered.all())
        return covers[pieces]

    def is_whole(own: list[Granule]) -> bool:
        return all(cover(frozenset((g.row, g.column, g.shape) for g in own if name in g.holds())) for name in FIELDS)

    return [granule for own in by_time.values() if is_whole(own) for granule in own]


def _newest(granules: Sequence[Granule]) -> tuple[list[Granule], list[str]]:
    """The granules sorted by time, of each time only those of the newest version; notes on versions for the report.

    Several files of one time and version stay: they must agree.
    """
    newest: dict[np.datetime64, str] = {}
    for granule in granules:
        newest[granule.time] = max(newest.get(granule.time, ""), granule.version, key=version_numbers)
    kept = sorted((g for g in granules if g.version == newest[g.time]), key=lambda g: (g.time, g.file.name))
    notes = []
    if len(kept) < len(granules):
        notes.append(
            f"  {len(granules) - len(kept)} granules of older versions were replaced by newer ones of their time"
        )
    science = {g.version.split("_")[0] for g in kept}
    if len(science) > 1:
        mixed = ", ".join(sorted(science, key=version_numbers))
        notes.append(f"  granules of several science versions are mixed: {mixed}")
    return kept, notes


def _counts(granules: Sequence[Granule]) -> dict[np.datetime64, int]:
    """How many of its eight granules each day has, from the first to the last day; eight where it is a daily mean."""
    if not granules:
        raise UserError("at no time do the files hold all three fields of the whole region.")
    times = np.unique(np.array([g.time for g in granules]))
    days = times.astype("datetime64[D]")
    counts = {d: int((days == d).sum()) for d in np.arange(days[0], days[-1] + DAY, dtype="datetime64[D]")}
    return counts | {g.time.astype("datetime64[D]"): PER_DAY for g in granules if g.is_daily}


def _complete_days(counts: dict[np.datetime64, int], least: int) -> np.ndarray:
    """The days with at least this many granules; UserError where there is none."""
    days = np.array([day for day, count in counts.items() if count >= least], "datetime64[D]")
    if not len(days):
        fullest = max(counts, key=counts.get)
        raise UserError(
            f"no day has --min-granules {least}: {fullest}, the fullest of {len(counts)}, has "
            f"{counts[fullest]} of {PER_DAY} granules."
        )
    return days


def _reasons(counts: dict[np.datetime64, int], least: int) -> dict[str, str]:
    return {str(d): f"{n} of {PER_DAY} granules" for d, n in counts.items() if n < least}


def _granules_per_day(days: np.ndarray, counts: dict[np.datetime64, int], means: set[str]) -> xr.Dataset:
    """How many granules made each day; 0 for the days `means`, which came as daily means."""
    attrs = {"units": "1", "long_name": "three-hourly granules that made the daily means, of 8; 0: not known"}
    values = np.array([0 if str(d) in means else counts[d] for d in days], np.int8)
    return xr.Dataset({"granules_per_day": ("time", values, attrs)}, {"time": days.astype("datetime64[ns]")})


def _months(
    granules: Sequence[Granule],
    days: np.ndarray,
    rows: slice,
    columns: slice,
    cells: Cells,
    target: Cells,
    settings: SMAPPrepareSettings,
) -> list[Month]:
    """The months to prepare, each with its own granules."""
    code = code_hash(smap_month.__module__)
    min_valid = None if settings.native else settings.min_valid_fraction
    by_day = defaultdict(list)
    for granule in granules:
        by_day[granule.time.astype("datetime64[D]")].append(granule)
    months = []
    for name, own_days in by_month(days).items():
        own = {day: by_day[day] for day in own_days}
        made_from = (
            code,
            [(g.file.fingerprint(), g.row, g.column, repr(g.places)) for of_day in own.values() for g in of_day],
            [str(day) for day in own],
            [(s.start, s.stop) for s in (rows, columns)],
            [axis.tolist() for axis in (cells.lat, cells.lon, target.lat, target.lon)],
            min_valid,
        )
        arguments = {"by_day": own, "rows": rows, "columns": columns, "cells": cells, "target": target}
        months.append(Month(name, made_from, smap_month, arguments | {"min_valid": min_valid}))
    return months
