"""From raw ERA5-Land or ERA5 files to a prepared data set: what data/prepare_era5_land.py does."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.common.files import code_hash, whole_file
from utils.products import DAY
from utils.products.era5 import Product
from utils.products.era5.assemble import assemble
from utils.products.era5.daily import as_days, complete_days, era5_month
from utils.products.era5.files import scan
from utils.products.era5.mosaic import Mosaic
from utils.products.era5.sea import sea_mask
from utils.products.monthly import Month, PrepareSettings, by_month, prepare_months, refuse_full_disk, work_folder
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


@dataclass
class ERA5PrepareSettings(PrepareSettings):
    """What data/prepare_era5_land.py is told."""

    out: Path = Path("data/era5_land.nc")  # the prepared data set: .zarr makes a Zarr store, anything else NetCDF-4
    product: Product = "era5-land"
    """What the files hold: it decides how a day's rain is made.

    era5-land: hourly ERA5-Land. A day's rain is the value stamped 00 UTC of the next day, the sum since 00 UTC.

    era5: hourly ERA5 single levels. A day's rain is the sum of 24 hourly totals, 01 UTC to 00 UTC of the next day.

    daily: daily means of soil moisture and temperature, and beside them ERA5-Land's rain at 00 UTC. A day's rain is the
    value stamped 00 UTC of the next day.

    Danger: rain that is a daily total stamped 00 UTC of its own day is put one day too early. No check notices it, and
    a forecast then sees tomorrow's rain. Move its time stamps one day on before you prepare it.
    """


def prepare_era5(settings: ERA5PrepareSettings) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input."""
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    with work_folder(settings.out) as folder:
        parts_by_file = scan_files(files, scan, folder / "unpacked", "ERA5 files")
        parts = [as_days(part, settings.product) for parts in parts_by_file for part in parts]
        mosaic = assemble(parts, target, settings.native)
        days, reasons = complete_days(mosaic, settings.product)
        shape = mosaic.cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, days=len(days), cells=shape[0] * shape[1])
        months = _months(mosaic, days, _remembered_sea(mosaic, folder), target, settings)
        reasons |= prepare_months(months, folder, settings, _attributes(settings))
        report(settings.out, reasons)


def _attributes(settings: ERA5PrepareSettings) -> dict[str, str]:
    name, source, doi = SOURCES[settings.product]
    return {
        "title": f"{name}, daily: precipitation, surface soil moisture and soil temperature",
        "source": source,
        "references": f"https://doi.org/{doi}",
        "license": "Contains modified Copernicus Climate Change Service information",
        "soil_layer": "0 to 7 cm",
        "regridding": settings.gridding(),
    }


def _months(
    mosaic: Mosaic, days: np.ndarray, sea: np.ndarray | None, target: Cells, settings: ERA5PrepareSettings
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
            settings.product,
            sea_hash,
            [axis.tolist() for axis in (target.lat, target.lon, own.cells.lat, own.cells.lon)],
            min_valid,
        )
        arguments = {
            "mosaic": own,
            "days": own_days,
            "product": settings.product,
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
        with whole_file(file) as partial, partial.open("wb") as stream:
            np.save(stream, mask)
    return mask if mask.size else None
