"""From raw files of SMAP L3 to daily soil moisture: what data/prepare_smap_l3.py does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.common.cli import UserError
from utils.common.files import code_hash
from utils.products import DAY
from utils.products.monthly import Month, PrepareSettings, by_month, prepare_months, refuse_full_disk, work_folder
from utils.products.raw_files import find_files, scan_files
from utils.products.regrid import Cells
from utils.products.report import report
from utils.products.smap.ease_grid import NINE_KM
from utils.products.smap.granules import version_numbers
from utils.products.smap.l3 import L3Granule, Overpass, l3_month, newest_of_each_day, scan
from utils.products.smap.window import find_window


@dataclass
class SMAPL3PrepareSettings(PrepareSettings):
    """What data/prepare_smap_l3.py is told."""

    out: Path = Path("data/smap_l3.nc")  # daily soil moisture: .zarr makes a Zarr store, anything else NetCDF-4
    overpass: Overpass = "morning"  # at 06:00 local time, at 18:00, or the mean of both where there are two
    recommended: bool = True  # only retrievals of recommended quality: bit 0 of retrieval_qual_flag is clear


def prepare_smap_l3(settings: SMAPL3PrepareSettings) -> None:
    """Prepare `settings.raw` into `settings.out`; print and draw the report. Raises UserError for bad input.

    Every day from the first to the last is there; what no overpass has seen is missing.
    """
    target = settings.target()
    files = find_files(settings.raw, settings.out)
    with work_folder(settings.out) as folder:
        granules = scan_files(files, scan, folder / "unpacked", "SMAP L3 files")
        grid = granules[0].grid
        if other := next((granule for granule in granules if granule.grid != grid), None):
            raise UserError(
                f"mixed grids: {granules[0].file.name} and {other.file.name} are of 36 and of 9 km; prepare them apart."
            )
        by_day = newest_of_each_day(granules, version_numbers)
        rows, columns = find_window(list(by_day.values()), grid.cells(), target, settings.native)
        cells = grid.cells().window(rows, columns)
        days = np.arange(min(by_day), max(by_day) + DAY, dtype="datetime64[D]")
        shape = cells.shape if settings.native else target.shape
        refuse_full_disk(settings.out, days=len(days), cells=shape[0] * shape[1])
        months = _months(by_day, days, (rows, columns), cells, target, settings)
        prepare_months(months, folder, settings, _attributes(by_day, settings))
        without = [str(day) for day in days if day not in by_day]
        named = f" ({', '.join(without[:3])}{' …' if len(without) > 3 else ''})" if without else ""
        notes = [f"  {len(without)} of {len(days)} days have no file and are missing throughout{named}"]
        notes.append("  Precipitation and soil temperature come from another product: data/join.py joins them.")
        report(settings.out, {}, notes)


def _attributes(by_day: dict[np.datetime64, L3Granule], settings: SMAPL3PrepareSettings) -> dict[str, str]:
    granules = list(by_day.values())
    name = "SPL3SMP_E, 9 km" if granules[0].grid == NINE_KM else "SPL3SMP, 36 km"
    versions = ", ".join(sorted({granule.version.split("_")[0] for granule in granules}))
    quality = "recommended quality alone" if settings.recommended else "any quality"
    return {
        "title": f"SMAP L3 ({name}), daily: surface soil moisture",
        "product": "SMAP L3",
        "source": f"NASA/NSIDC {name}; {settings.overpass} overpass, retrievals of {quality}; versions {versions}",
        "license": "NASA data, free of restriction; cite O'Neill et al., SMAP L3 Radiometer Soil Moisture",
        "soil_layer": "0 to 5 cm",
        "overpass": settings.overpass,
        "regridding": settings.gridding(),
    }


def _months(
    by_day: dict[np.datetime64, L3Granule],
    days: np.ndarray,
    window: tuple[slice, slice],
    cells: Cells,
    target: Cells,
    settings: SMAPL3PrepareSettings,
) -> list[Month]:
    """The months to prepare, each with its own files."""
    code = code_hash(l3_month.__module__)
    choice = {
        "min_valid": None if settings.native else settings.min_valid_fraction,
        "overpass": settings.overpass,
        "recommended": settings.recommended,
    }
    months = []
    for name, own_days in by_month(days).items():
        own = {day: by_day[day] for day in own_days if day in by_day}
        made_from = (
            code,
            [(g.file.fingerprint(), g.row, g.column) for g in own.values()],
            own_days.astype(str).tolist(),
            [axis.tolist() for axis in (cells.lat, cells.lon, target.lat, target.lon)],
            choice,
        )
        arguments = {"by_day": own, "days": own_days, "rows": window[0], "columns": window[1]}
        months.append(Month(name, made_from, l3_month, arguments | {"cells": cells, "target": target} | choice))
    return months
