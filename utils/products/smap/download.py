"""SMAP L4 from NASA: cut to the three fields and the box on the server (Harmony), or whole granules (earthaccess)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products import DAY
from utils.products.download import (
    CredentialsRefused,
    DownloadSettings,
    Ledger,
    NothingThere,
    Patience,
    RequestTooLarge,
    conclude,
    months,
    refuse_web_page,
)
from utils.products.raw_files import scan_files
from utils.products.regrid import region_cells
from utils.products.smap.files import scan
from utils.products.smap.granules import SHAPE, window_cells
from utils.products.smap.services import VARIABLES, CutGranules, MonthRequest, WholeGranules

SETTLED = 60  # days after which a month without granules stays without


@dataclass
class SMAPDownloadSettings(DownloadSettings):
    """What data/download_smap_l4.py is told."""

    out: Path = Path("data/raw/smap_l4")  # folder of the granules that arrive
    collection: str = "SPL4SMGP"  # or the concept id of one version, as NASA's Earthdata Search shows it
    whole_granules: bool = False  # fetch whole granules through earthaccess instead of having them cut by Harmony


def download_smap(
    settings: SMAPDownloadSettings,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    system: Any = None,
) -> None:
    """Fetch the months not there yet into `settings.out`; `system` names another NASA environment than production.

    Raises UserError naming every month that failed.
    """
    box = settings.box()
    ledger = Ledger.of(settings.out)
    everything = [
        MonthRequest(first, last, settings.whole_granules) for first, last in months(settings.start, settings.end)
    ]
    todo = [request for request in everything if not ledger.complete(request.name)]
    _announce(todo, len(everything), settings)
    if not todo:
        return
    _refuse_unwritable(settings.out)  # before anything is asked of the server
    service: CutGranules | WholeGranules
    if settings.whole_granules:
        service = WholeGranules(system, patience)
    else:
        service = CutGranules(settings.collection, box, system, patience)
    failed = []
    for request in tqdm(todo, desc="downloading", unit="month", disable=None):
        try:
            _bring(request, service, ledger, settings.out)
        except CredentialsRefused:
            raise
        except UserError as error:
            failed.append(f"{request.name}: {fold(error)}")
    done = [request.name for request in everything if ledger.complete(request.name)]
    for name in done:
        if reason := ledger.entries[name].get("empty"):
            print(f"{name} is empty: {reason}")
    conclude(failed, done=len(done), folder=settings.out)


def _bring(request: MonthRequest, service: CutGranules | WholeGranules, ledger: Ledger, out: Path) -> None:
    """Fetch a month's granules into `out`, in halves where the server processes only some of them at a time.

    Raises UserError where they cannot be had. A month without granules is recorded as empty, with the reason.
    """
    if "parts" in ledger.entries.get(request.name, {}):
        _bring_halves(request, service, ledger, out)
        return
    partial = out / f".{request.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    try:
        granules = service.fetch(request, partial, ledger)
        ledger.record(request.name, files=_accept(granules, request, partial, out))
    except NothingThere as error:
        rmtree(partial)
        if (date.today() - request.last).days < SETTLED:
            raise
        ledger.record(request.name, empty=fold(error))
    except RequestTooLarge:
        if not request.halves():
            raise
        ledger.record(request.name, parts=[half.name for half in request.halves()])
        _bring_halves(request, service, ledger, out)


def _bring_halves(request: MonthRequest, service: CutGranules | WholeGranules, ledger: Ledger, out: Path) -> None:
    for half in request.halves():
        if not ledger.complete(half.name):
            _bring(half, service, ledger, out)


def _announce(todo: Sequence[MonthRequest], total: int, settings: SMAPDownloadSettings) -> None:
    """Print how many months are missing and about how large they are."""
    granules = sum(request.granules for request in todo)
    region = region_cells(settings.south, settings.north, settings.west, settings.east, resolution=1.0)
    rows, columns = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1])).overlapping(region)
    cut = 4 * len(VARIABLES) * (rows.stop - rows.start) * (columns.stop - columns.start) / 2**20 / 2  # MB, compressed
    size = granules * (140 if settings.whole_granules else cut) / 1024
    kind = "whole granules" if settings.whole_granules else "granules cut on the server"
    print(
        f"SPL4SMGP: {len(todo)} of {total} months to fetch, about {granules} {kind}, {size:.3g} GB, into {settings.out}"
    )


def _refuse_unwritable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"--out {folder} cannot be written: it must be a folder of yours.")


def _accept(granules: Sequence[Path], request: MonthRequest, partial: Path, out: Path) -> dict[str, int]:
    """Verify what arrived and move it to `out`; returns names and sizes. Says which days have fewer than eight.

    Raises UserError for a damaged file (which is removed, for the next run to fetch again), NothingThere for none.
    """
    times = []
    for path in granules:
        try:
            refuse_web_page(path, path.name)
            (found,) = scan_files([path], scan, partial / "unpacked", path.name)
        except UserError:
            path.unlink()
            raise
        times += [granule.time for granule in found]
    if not times:
        raise NothingThere(f"the server has no granule from {request.first} to {request.last}.")
    days = np.array(times).astype("datetime64[D]")
    for day in np.arange(request.first, request.last + DAY, dtype="datetime64[D]"):
        count = int((days == day).sum())
        if count < 8:
            tqdm.write(f"{day}: {count} of 8 granules exist")
    sizes = {}
    for path in granules:
        path.replace(out / path.name)
        sizes[path.name] = (out / path.name).stat().st_size
    rmtree(partial)
    return sizes
