"""From raw ERA5-Land or ERA5 files to a prepared data set: what data/prepare_era5_land.py does."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.common.files import code_hash, whole_file
from utils.dataset.rain_checks import DAY_IS_CERTAIN, measure_timing
from utils.products import DAY
from utils.products.era5 import Product, RainStamp
from utils.products.era5.accumulation import HOURLY, which_accumulation
from utils.products.era5.assemble import assemble
from utils.products.era5.daily import complete_days, era5_month
from utils.products.era5.files import refuse_missing_variable, scan
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.part import Part
from utils.products.era5.rules import DayRule, as_days, has_hourly_rain, rule_of_daily_rain
from utils.products.era5.sea import sea_mask
from utils.products.monthly import Month, PrepareSettings, by_month, prepare_months, refuse_full_disk, work_folder
from utils.products.raw_files import RawFile, find_files, scan_files
from utils.products.regrid import Cells
from utils.products.report import report

SOURCES = {
    "era5-land": (
        "ERA5-Land",
        "Copernicus Climate Change Service: reanalysis-era5-land, hourly",
        "10.24381/cds.e2161bac",
    ),
    "era5": (
        "ERA5",
        "Copernicus Climate Change Service: reanalysis-era5-single-levels, hourly",
        "10.24381/cds.adbb2d47",
    ),
    "daily": (
        "ERA5-Land",
        "Copernicus Climate Change Service: derived-era5-land-daily-statistics and reanalysis-era5-land at 00 UTC",
        "10.24381/cds.e9c9c792",
    ),
    "earth-engine": (
        "ERA5-Land",
        "Copernicus Climate Change Service: ERA5-Land as daily aggregates of Google Earth Engine",
        "10.24381/cds.e2161bac",
    ),
}


@dataclass
class ERA5PrepareSettings(PrepareSettings):
    """What data/prepare_era5_land.py is told."""

    out: Path = Path("data/era5_land.nc")  # the prepared data set: .zarr makes a Zarr store, anything else NetCDF-4
    product: Product = "era5-land"
    """What the files hold: it decides how a day's rain is made.

    era5-land: hourly ERA5-Land. A day's rain is the value stamped 00 UTC of the next day, the sum since 00 UTC.

    era5: hourly ERA5 single levels. A day's rain is the sum of 24 hourly totals, 01 UTC to 00 UTC of the next day.

    daily: daily means of soil moisture and temperature, and beside them hourly rain, or one value of it a day. Where
    the files do not tell which day that value belongs to, --rain-stamp must.

    earth-engine: ECMWF/ERA5_LAND/DAILY_AGGR of Google Earth Engine, as GeoTIFF. A day's rain is that of its own stamp.

    Where rain comes hour by hour, the rain itself shows whether each hour is its own total or a sum since 00 UTC.
    """
    rain_stamp: RainStamp | None = None
    """Which day one value of rain a day belongs to: next-day where the value stamped 00 UTC is the total of the day
    before, as in hourly ERA5-Land; same-day where it is the total of its own day, as from cdo daysum.
    """


def prepare_era5(settings: ERA5PrepareSettings) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input."""
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    scanned: list[RawFile] = []

    def look_into(file: RawFile) -> list[Part]:
        scanned.append(file)
        _refuse_other_product(file, settings.product)
        return scan(file)

    with work_folder(settings.out) as folder:
        parts = [part for found in scan_files(files, look_into, folder / "unpacked", "ERA5 files") for part in found]
        refuse_missing_variable(parts, scanned)
        mosaic, rule = _arrange(parts, target, settings)
        days, reasons = complete_days(mosaic, rule)
        shape = mosaic.cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, days=len(days), cells=shape[0] * shape[1])
        months = _months(mosaic, days, _remembered_sea(mosaic, folder), target, settings, rule)
        check = None if rule.is_certain else _refuse_early_rain
        reasons |= prepare_months(months, folder, settings, _attributes(settings, rule), check=check)
        report(settings.out, reasons, notes=[f"  {rule}"])


def _refuse_other_product(file: RawFile, product: Product) -> None:
    if file.kind == "tiff" and product != "earth-engine":
        raise UserError(
            f"{file.name} is a GeoTIFF, as Earth Engine exports ECMWF/ERA5_LAND/DAILY_AGGR: say --product earth-engine."
        )


def _arrange(parts: list[Part], target: Cells, settings: ERA5PrepareSettings) -> tuple[Mosaic, DayRule]:
    """The parts as one mosaic, and the rule by which their hours or values make days."""
    product = settings.product
    if not has_hourly_rain(parts):
        rule = rule_of_daily_rain(parts, product, settings.rain_stamp)
        return assemble([as_days(part, rule, product) for part in parts], target, settings.native), rule
    if settings.rain_stamp:
        raise UserError("--rain-stamp is about one value of precipitation a day, but the files hold it hour by hour.")
    rule = DayRule(soil_daily=product == "daily", rain="hourly", is_from_hours=True)
    mosaic = assemble([as_days(part, rule, product) for part in parts], target, settings.native)
    if product == "era5":
        return mosaic, rule
    touched = np.unique(rule.day_of(mosaic.stamps("precipitation"), "precipitation"))
    seen = which_accumulation(mosaic, touched)
    if seen is not None and seen.kind == HOURLY:
        print(f"{seen.file}: precipitation is {HOURLY}: {seen.evidence}")
        return mosaic, rule
    return mosaic, replace(rule, rain="next-day")


def _refuse_early_rain(record: xr.Dataset) -> None:
    """Raises UserError where daily rain, of which nobody has said the day, goes better with the next day's moisture."""
    timing = measure_timing(record)
    if timing is not None and timing.is_proof:
        raise UserError(
            f"{timing}: it looks stamped with its own day, and would be put a day too early; say --rain-stamp "
            "same-day, or --rain-stamp next-day if you are sure."
        )


def _attributes(settings: ERA5PrepareSettings, rule: DayRule) -> dict[str, str]:
    name, source, doi = SOURCES[settings.product]
    return {
        "title": f"{name}, daily: precipitation, surface soil moisture and soil temperature",
        "product": name,
        "source": source,
        "references": f"https://doi.org/{doi}",
        "license": "Contains modified Copernicus Climate Change Service information",
        "soil_layer": "0 to 7 cm",
        "rain_stamp": str(rule),
        DAY_IS_CERTAIN: str(rule.is_from_hours).lower(),
        "regridding": settings.gridding(),
    }


def _months(
    mosaic: Mosaic,
    days: np.ndarray,
    sea: np.ndarray | None,
    target: Cells,
    settings: ERA5PrepareSettings,
    rule: DayRule,
) -> list[Month]:
    """The months to prepare, each with its own part of the mosaic."""
    code = code_hash(era5_month.__module__) + code_hash(Mosaic.__module__) + code_hash(assemble.__module__)
    min_valid = None if settings.native else settings.min_valid_fraction
    sea_hash = hashlib.sha256(b"" if sea is None else np.packbits(sea).tobytes()).hexdigest()
    months = []
    for name, own_days in by_month(days).items():
        start, end = own_days[0].astype("datetime64[m]"), (own_days[-1] + DAY).astype("datetime64[m]")
        own = mosaic.between(start, end)
        made_from = (
            code,
            sorted({part.file.fingerprint() for part in own.parts}),
            own_days.astype(str).tolist(),
            str(rule),
            rule.soil_daily,
            sea_hash,
            [axis.tolist() for axis in (target.lat, target.lon, own.cells.lat, own.cells.lon)],
            min_valid,
        )
        arguments = {
            "mosaic": own,
            "days": own_days,
            "rule": rule,
            "sea": sea,
            "target": target,
            "min_valid": min_valid,
        }
        months.append(Month(name, made_from, era5_month, arguments))
    return months


def _remembered_sea(mosaic: Mosaic, folder: Path) -> np.ndarray | None:
    """`sea_mask`, kept in the work folder, since finding it may mean reading all soil moisture once."""
    made_from = (
        code_hash(sea_mask.__module__),
        sorted({part.file.fingerprint() for part in mosaic.parts}),
        mosaic.cells.lat.tolist(),
        mosaic.cells.lon.tolist(),
    )
    file = folder / f"sea-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.npy"
    if file.exists():
        mask = np.load(file)
    else:
        mask = sea_mask(mosaic)
        mask = np.zeros(0, bool) if mask is None else mask
        with whole_file(file) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, mask)
    return mask if mask.size else None
