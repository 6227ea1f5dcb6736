"""From raw SMAP L4 granules to a prepared data set: what data/prepare_smap_l4.py does."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.common.files import code_hash
from utils.products import DAY
from utils.products.monthly import Month, PrepareSettings, by_month, prepare_months, refuse_full_disk, work_folder
from utils.products.raw_files import find_files, scan_files
from utils.products.regrid import Cells
from utils.products.report import report
from utils.products.smap.daily import PER_DAY, smap_month
from utils.products.smap.granules import SHAPE, Granule, scan, version_numbers, window_cells


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
        granules = scan_files(files, scan, folder / "unpacked", "granules")
        granules, notes = _newest(granules)
        rows, columns = _window(granules, target, settings.native)
        counts = _counts(granules)
        days = _complete_days(counts, settings.min_granules)
        shape = window_cells(rows, columns).shape if settings.native else target.shape
        refuse_full_disk(settings.out, days=len(days), cells=shape[0] * shape[1])
        reasons = _reasons(counts, settings.min_granules)
        reasons |= prepare_months(
            _months(granules, days, rows, columns, target, settings),
            folder,
            settings,
            attributes=_attributes(granules, settings),
            extra=_granules_per_day(days, counts),
        )
        report(settings.out, reasons, notes)


def _attributes(granules: Sequence[Granule], settings: SMAPPrepareSettings) -> dict[str, str | int]:
    versions = ", ".join(sorted({granule.version for granule in granules}))
    return {
        "title": "SMAP L4, daily: precipitation, surface soil moisture and soil temperature",
        "source": f"NASA/NSIDC SPL4SMGP, three-hourly; versions {versions}",
        "references": "https://doi.org/10.5067/T5RUATAD4TZN",
        "license": "NASA data, free of restriction; cite Reichle et al., SMAP L4 Global 3-hourly 9 km EASE-Grid",
        "soil_layer": "0 to 5 cm",
        "min_granules": settings.min_granules,
        "regridding": settings.gridding(),
    }


def _window(granules: Sequence[Granule], target: Cells, native: bool) -> tuple[slice, slice]:
    """The global rows and columns that the target needs; UserError where a granule does not hold them."""
    if target.lon.max() > 180:  # longitudes −180…180 as the grid has them
        raise UserError(f"the region reaches {target.lon.max():g} °E, expected −180 to 180 for SMAP.")
    globe = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    if native:
        rows, columns = _between(globe.lat, target.lat), _between(globe.lon, target.lon)
    else:
        rows, columns = globe.overlapping(target)
    rows = _held_by_all(granules, "row", rows, edges=globe.lat_edges, wanted=target.lat)
    columns = _held_by_all(granules, "column", columns, edges=globe.lon_edges, wanted=target.lon)
    return rows, columns


def _between(centres: np.ndarray, wanted: np.ndarray) -> slice:
    """The global rows or columns whose centres lie between the outermost wanted ones."""
    inside = np.flatnonzero((centres >= wanted.min()) & (centres <= wanted.max()))
    if len(inside) < 2:
        raise UserError("the region holds fewer than two rows and two columns of the 9 km grid.")
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _held_by_all(granules: Sequence[Granule], axis: str, needed: slice, edges: np.ndarray, wanted: np.ndarray) -> slice:
    """The needed rows or columns that every granule holds.

    Cells at the region's rim that a cut file lacks are done without, as long as it reaches every target centre.
    """
    name, dimension = {"row": ("latitude", 0), "column": ("longitude", 1)}[axis]
    start = max(getattr(granule, axis) for granule in granules)
    stop = min(getattr(granule, axis) + granule.shape[dimension] for granule in granules)
    held = edges[[start, stop]] if start < stop else np.array([np.nan, np.nan])
    if not (held.min() <= wanted.min() + 1e-6 and held.max() >= wanted.max() - 1e-6):
        worst = max(granules, key=lambda granule: getattr(granule, axis))
        raise UserError(
            f"the region lies outside the data: {name} {wanted.min():g} to {wanted.max():g} is wanted, the "
            f"granules all hold {held.min():.2f} to {held.max():.2f} (such as {worst.file.name}); choose --south "
            "--north --west --east within them."
        )
    return slice(max(needed.start, start), min(needed.stop, stop))


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
    """How many of its eight granules each day has, from the first to the last day."""
    times = np.unique(np.array([g.time for g in granules]))
    days = times.astype("datetime64[D]")
    return {d: int((days == d).sum()) for d in np.arange(days[0], days[-1] + DAY, dtype="datetime64[D]")}


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


def _granules_per_day(days: np.ndarray, counts: dict[np.datetime64, int]) -> xr.Dataset:
    attrs = {"units": "1", "long_name": "three-hourly granules that made the daily means, of 8"}
    values = np.array([counts[d] for d in days], np.int8)
    return xr.Dataset({"granules_per_day": ("time", values, attrs)}, {"time": days.astype("datetime64[ns]")})


def _months(
    granules: Sequence[Granule],
    days: np.ndarray,
    rows: slice,
    columns: slice,
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
            [(g.file.fingerprint(), g.row, g.column) for of_day in own.values() for g in of_day],
            [str(day) for day in own],
            [(s.start, s.stop) for s in (rows, columns)],
            [axis.tolist() for axis in (target.lat, target.lon)],
            min_valid,
        )
        arguments = {"by_day": own, "rows": rows, "columns": columns, "target": target, "min_valid": min_valid}
        months.append(Month(name, made_from, smap_month, arguments))
    return months
