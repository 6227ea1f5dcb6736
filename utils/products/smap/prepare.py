"""From raw SMAP L4 granules to a prepared data set: the road that data/prepare_smap_l4.py takes."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.dataset.prepared import PACKING_NOISE, VARIABLES
from utils.products.era5.daily import RAIN_NOISE
from utils.products.era5.mosaic import AGREEMENT, DAY
from utils.products.monthly import Month, by_month, prepare_months, refuse_full_disk, regridded, work_folder
from utils.products.raw_files import find_files, scan_files
from utils.products.regrid import Cells
from utils.products.report import report
from utils.products.smap.granules import FIELDS, SHAPE, Granule, read, scan, window_cells

PER_DAY = 8


def prepare_smap(settings: Any) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input."""
    if not 1 <= settings.min_granules <= PER_DAY:
        raise UserError(f"--min-granules is {settings.min_granules}, expected 1 to {PER_DAY} of a day's granules.")
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    with work_folder(settings.out) as folder:
        granules = scan_files(files, scan, folder / "unpacked", "granules")
        granules, notes = _newest(granules)
        rows, columns = _window(granules, target, settings.native)
        cells = window_cells(rows, columns)
        counts = _counts(granules)
        enough = np.array([d for d, n in counts.items() if n >= settings.min_granules], "datetime64[D]")
        reasons = _reasons(counts, settings.min_granules)
        if not len(enough):
            fullest = max(counts, key=counts.get)
            raise UserError(
                f"no day has --min-granules {settings.min_granules}: {fullest}, the fullest of {len(counts)}, has "
                f"{counts[fullest]} of {PER_DAY} granules."
            )
        shape = cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, len(enough), shape[0] * shape[1])
        min_valid = None if settings.native else settings.min_valid_fraction
        by_day = defaultdict(list)
        for granule in granules:
            by_day[granule.time.astype("datetime64[D]")].append(granule)
        months = [
            _month(name, {d: by_day[d] for d in days}, (rows, columns), target, min_valid)
            for name, days in by_month(enough).items()
        ]
        attributes = {
            "title": "SMAP L4, daily: precipitation, surface soil moisture and soil temperature",
            "source": f"NASA/NSIDC SPL4SMGP, three-hourly; versions {', '.join(sorted({g.version for g in granules}))}",
            "references": "https://doi.org/10.5067/T5RUATAD4TZN",
            "license": "NASA data, free of restriction; cite Reichle et al., SMAP L4 Global 3-hourly 9 km EASE-Grid",
            "soil_layer": "0 to 5 cm",
            "min_granules": settings.min_granules,
            "regridding": settings.gridding(),
        }
        reasons |= prepare_months(months, folder, settings, attributes, _granules_per_day(enough, counts))
        report(settings.out, reasons, notes)


def _window(granules: Sequence[Granule], target: Cells, native: bool) -> tuple[slice, slice]:
    """The global rows and columns that the target needs; UserError where a granule does not hold them."""
    # longitudes −180…180 as the grid has them
    if target.lon.max() > 180:
        raise UserError(f"the region reaches {target.lon.max():g} °E, expected −180 to 180 for SMAP.")
    globe = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    if native:
        windows = []
        for centres, wanted in ((globe.lat, target.lat), (globe.lon, target.lon)):
            inside = np.flatnonzero((centres >= wanted.min()) & (centres <= wanted.max()))
            if len(inside) < 2:
                raise UserError("the region holds fewer than two rows and two columns of the 9 km grid.")
            windows.append(slice(int(inside[0]), int(inside[-1]) + 1))
    else:
        windows = list(globe.overlapping(target))
    # cells at the region's rim that a cut file lacks are done without, as long as it reaches every target centre
    for axis, (first, name, centres, wanted) in enumerate(
        (("row", "latitude", globe.lat_edges, target.lat), ("column", "longitude", globe.lon_edges, target.lon))
    ):
        start = max(getattr(g, first) for g in granules)
        stop = min(getattr(g, first) + g.shape[axis] for g in granules)
        held = centres[[start, stop]] if start < stop else np.array([np.nan, np.nan])
        if not (held.min() <= wanted.min() + 1e-6 and held.max() >= wanted.max() - 1e-6):
            worst = max(granules, key=lambda g: getattr(g, first))
            raise UserError(
                f"the region lies outside the data: {name} {wanted.min():g} to {wanted.max():g} is wanted, the "
                f"granules all hold {held.min():.2f} to {held.max():.2f} (such as {worst.file.name}); choose --south "
                "--north --west --east within them."
            )
        windows[axis] = slice(max(windows[axis].start, start), min(windows[axis].stop, stop))
    return windows[0], windows[1]


def _newest(granules: Sequence[Granule]) -> tuple[list[Granule], list[str]]:
    """The granules sorted by time, of each time only those of the newest version; notes on versions for the report.

    Several files of one time and version stay: they must agree.
    """
    newest: dict[np.datetime64, str] = {}
    for granule in granules:
        newest[granule.time] = max(newest.get(granule.time, ""), granule.version)
    kept = sorted((g for g in granules if g.version == newest[g.time]), key=lambda g: (g.time, g.file.name))
    notes = []
    if len(kept) < len(granules):
        notes.append(
            f"  {len(granules) - len(kept)} granules of older versions were replaced by newer ones of their time"
        )
    science = {g.version.split("_")[0] for g in kept}
    if len(science) > 1:
        notes.append(f"  granules of several science versions are mixed: {', '.join(sorted(science))}")
    return kept, notes


def _counts(granules: Sequence[Granule]) -> dict[np.datetime64, int]:
    """How many of its eight granules each day has, from the first to the last day."""
    times = np.unique(np.array([g.time for g in granules]))
    days = times.astype("datetime64[D]")
    return {d: int((days == d).sum()) for d in np.arange(days[0], days[-1] + DAY, dtype="datetime64[D]")}


def _reasons(counts: dict[np.datetime64, int], least: int) -> dict[str, str]:
    return {str(d): f"{n} of {PER_DAY} granules" for d, n in counts.items() if n < least}


def _granules_per_day(days: np.ndarray, counts: dict[np.datetime64, int]) -> xr.Dataset:
    attrs = {"units": "1", "long_name": "three-hourly granules that made the daily means, of 8"}
    values = np.array([counts[d] for d in days], np.int8)
    return xr.Dataset({"granules_per_day": ("time", values, attrs)}, {"time": days.astype("datetime64[ns]")})


def _month(
    name: str, by_day: dict[np.datetime64, list[Granule]], window: tuple, target: Cells, min_valid: float | None
) -> Month:
    made_from = (
        [(g.file.fingerprint(), g.row, g.column) for own in by_day.values() for g in own],
        [str(day) for day in by_day],
        [(s.start, s.stop) for s in window],
        [axis.tolist() for axis in (target.lat, target.lon)],
        min_valid,
    )
    return Month(name, made_from, smap_month, (by_day, window, target, min_valid))


def smap_month(
    by_day: dict[np.datetime64, list[Granule]], window: tuple, target: Cells, min_valid: float | None
) -> xr.Dataset:
    """The days of one month: means over each day's granules; a cell missing in one of them is missing that day."""
    cells = window_cells(*window)
    values = {name: np.empty((len(by_day), *cells.shape), np.float32) for name in FIELDS}
    for k, own in enumerate(by_day.values()):
        times = sorted({g.time for g in own})
        total = {name: np.zeros(cells.shape, np.float64) for name in FIELDS}
        for time in times:
            for name, field in _one_time([g for g in own if g.time == time], window).items():
                total[name] += field
        for name in FIELDS:
            values[name][k] = total[name] / len(times)
    return regridded(values, np.array(list(by_day)), cells, target, min_valid)


def _one_time(granules: Sequence[Granule], window: tuple) -> dict[str, np.ndarray]:
    """The fields of one time, packing noise set to 0. Raises UserError for contradicting copies, impossible values."""
    first, *others = granules
    fields = read(first, *window)
    for other in others:
        for name, field in read(other, *window).items():
            tolerance = AGREEMENT[name] * (1000 if name == "precipitation" else 1)
            if not np.allclose(fields[name], field, rtol=0, atol=tolerance, equal_nan=True):
                raise UserError(
                    f"{first.file.name} and {other.file.name} contradict each other: {name} differs at {first.time} "
                    "UTC; leave one of them out of --raw."
                )
    for name, field in fields.items():
        low, high = VARIABLES[name].limits
        noise = {"soil_moisture": PACKING_NOISE, "precipitation": -RAIN_NOISE}.get(name, low)
        bad = (field < noise) | (field > high)
        if bad.any():
            raise UserError(
                f"{first.file.name}: {name} is {field[bad][0]:g} {VARIABLES[name].units} in {int(bad.sum())} cells, "
                f"outside its physical limits {low:g} to {high:g}, or the file's fill value."
            )
        field[field < low] = low
    return fields
