"""From raw ERA5-Land or ERA5 files to a prepared data set: the road that data/prepare_era5_land.py takes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from utils.common.files import whole_file
from utils.dataset.prepared import VARIABLES
from utils.products.era5.daily import Product, as_days, check_accumulation, complete_days, daily_values, sea_mask
from utils.products.era5.files import scan
from utils.products.era5.mosaic import DAY, Source, source_of
from utils.products.monthly import Month, by_month, prepare_months, refuse_full_disk, regridded, work_folder
from utils.products.raw_files import find_files, scan_files
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
}


def prepare_era5(settings: Any) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input."""
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    with work_folder(settings.out) as folder:
        found = scan_files(files, scan, folder / "unpacked", "ERA5 files")
        parts = [as_days(part, settings.product) for parts in found for part in parts]
        source = source_of(parts, target, settings.native)
        days, reasons = complete_days(source, settings.product)
        shape = source.cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, len(days), shape[0] * shape[1])
        sea = _remembered_sea(source, folder)
        min_valid = None if settings.native else settings.min_valid_fraction
        months = [
            _month(name, source, some, settings.product, sea, target, min_valid)
            for name, some in by_month(days).items()
        ]
        name, origin, doi = SOURCES[settings.product]
        attributes = {
            "title": f"{name}, daily: precipitation, surface soil moisture and soil temperature",
            "source": origin,
            "references": f"https://doi.org/{doi}",
            "license": "Contains modified Copernicus Climate Change Service information",
            "soil_layer": "0 to 7 cm",
            "regridding": settings.gridding(),
        }
        reasons |= prepare_months(months, folder, settings, attributes)
        report(settings.out, reasons)


def _month(
    name: str, source: Source, days: np.ndarray, product: Product, sea: np.ndarray | None, target: Cells, min_valid: Any
) -> Month:
    own = source.between(days[0].astype("datetime64[m]"), (days[-1] + DAY).astype("datetime64[m]"))
    made_from = (
        sorted({p.file.fingerprint() for p in own.parts}),
        days.astype(str).tolist(),
        product,
        hashlib.sha256(b"" if sea is None else np.packbits(sea).tobytes()).hexdigest(),
        [axis.tolist() for axis in (target.lat, target.lon, own.cells.lat, own.cells.lon)],
        min_valid,
    )
    return Month(name, made_from, era5_month, (own, days, product, sea, target, min_valid))


def era5_month(
    source: Source, days: np.ndarray, product: Product, sea: np.ndarray | None, target: Cells, min_valid: float | None
) -> xr.Dataset:
    """The complete `days` of one month on the target cells (on the source's own where `min_valid` is None)."""
    decided = check_accumulation(source, days, product)
    values = {variable: daily_values(source, variable, days, product, sea) for variable in VARIABLES}
    return regridded(values, days, source.cells, target, min_valid).assign_attrs(decided=json.dumps(decided))


def _remembered_sea(source: Source, folder: Path) -> np.ndarray | None:
    """`sea_mask`, kept in the work folder, since finding it may mean reading all soil moisture once."""
    made_from = (
        sorted({p.file.fingerprint() for p in source.parts}),
        source.cells.lat.tolist(),
        source.cells.lon.tolist(),
    )
    file = folder / f"sea-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.npy"
    if file.exists():
        sea = np.load(file)
    else:
        found = sea_mask(source)
        sea = np.zeros(0, bool) if found is None else found
        with whole_file(file) as partial, partial.open("wb") as stream:
            np.save(stream, sea)
    return sea if sea.size else None
