"""SMAP L4 from NASA: cut to the three fields and the box on the server (Harmony), or whole granules (earthaccess)."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products.download import Ledger, Patience, conclude, months, patiently, safe
from utils.products.raw_files import scan_files
from utils.products.regrid import region_cells
from utils.products.smap.granules import FIELDS, SHAPE, scan, window_cells

VARIABLES = [field.path for field in FIELDS.values()] + ["cell_lat", "cell_lon"]  # x and y come along by themselves
NO_ACCOUNT = (
    "Earthdata credentials are not set up: put a line 'machine urs.earthdata.nasa.gov login NAME password WORD' into "
    "~/.netrc (free account: https://urs.earthdata.nasa.gov)."
)


def download_smap(settings: Any, patience: Patience = Patience(), system: Any = None) -> None:  # noqa: B008 (frozen)
    """Fetch the months not there yet into `settings.out`; `system` names another NASA environment than production.

    Raises UserError naming every month that failed.
    """
    box = settings.box()
    ledger = Ledger.of(settings.out)
    everything = months(settings.start, settings.end)
    todo = [m for m in everything if not ledger.complete(_name(*m, settings.whole_granules))]
    granules = sum(8 * ((last - first).days + 1) for first, last in todo)
    rows, columns = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1])).overlapping(
        region_cells(settings.south, settings.north, settings.west, settings.east, 1.0)
    )
    cut = 4 * len(VARIABLES) * (rows.stop - rows.start) * (columns.stop - columns.start) / 2**20 / 2  # compressed
    size = granules * (140 if settings.whole_granules else cut) / 1024
    kind = "whole granules" if settings.whole_granules else "granules cut on the server"
    print(
        f"SPL4SMGP: {len(todo)} of {len(everything)} months to fetch, about {granules} {kind}, {size:.3g} GB, into "
        f"{settings.out}"
    )
    if not todo:
        return
    try:  # before anything is asked of the server
        settings.out.mkdir(parents=True, exist_ok=True)
        writable = os.access(settings.out, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"--out {settings.out} cannot be written: it must be a folder of yours.")
    fetch = _whole(system, patience) if settings.whole_granules else _cut(settings.collection, box, system, patience)
    failed = []
    for first, last in tqdm(todo, desc="downloading", unit="month", disable=None):
        name = _name(first, last, settings.whole_granules)
        partial = settings.out / f".{name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        try:
            files = fetch(name, first, last, partial, ledger)
            ledger.record(name, files=_accept(files, first, last, partial, settings.out))
        except UserError as error:
            if "credentials" in str(error):
                raise
            failed.append(f"{name}: {fold(error)}")
    conclude(failed, len(everything) - len(failed), settings.out)


def _name(first: date, last: date, whole: bool) -> str:
    return f"smap_l4_{first}_{last}{'_whole' if whole else ''}"


def _accept(files: Sequence[Path], first: date, last: date, partial: Path, out: Path) -> dict[str, int]:
    """Verify what arrived and move it to `out`; returns names and sizes. Says which days have fewer than eight.

    Raises UserError for a damaged file (which is removed, for the next run to fetch again) and for none at all.
    """
    arrived = {}
    for path in files:
        try:
            (granule,) = scan_files([path], scan, partial / "unpacked", path.name)
        except UserError:
            path.unlink()
            raise
        arrived[path] = granule
    if not arrived:
        raise UserError(f"the server has no granule from {first} to {last}.")
    days = np.array([g.time for g in arrived.values()]).astype("datetime64[D]")
    for day in np.arange(first, last + np.timedelta64(1, "D"), dtype="datetime64[D]"):
        if (count := int((days == day).sum())) < 8:
            tqdm.write(f"{day}: {count} of 8 granules exist")
    sizes = {}
    for path in arrived:
        path.replace(out / path.name)
        sizes[path.name] = (out / path.name).stat().st_size
    rmtree(partial)
    return sizes


def _cut(collection: str, box: tuple, environment: Any, patience: Patience) -> Callable[..., list[Path]]:
    """A function that lets Harmony cut a month and fetches the pieces; the job is remembered in the ledger."""
    import harmony

    os.environ["VERBOSE"] = "false"  # harmony-py prints every file's name otherwise
    south, north, west, east = box
    where = environment or harmony.Environment.PROD
    client = patiently(
        lambda: harmony.Client(env=where, check_interval=patience.poll, download_timeout=60),
        "logging in to Earthdata",
        patience,
    )

    def fetch(name: str, first: date, last: date, partial: Path, ledger: Ledger) -> list[Path]:
        request = harmony.Request(
            collection=harmony.Collection(id=collection),
            spatial=harmony.BBox(west, south, east, north),
            temporal={"start": datetime.combine(first, time.min), "stop": datetime.combine(last, time.max)},
            variables=VARIABLES,
            skip_preview=True,
        )
        job = ledger.entries.get(name, {}).get("job")
        if job is None:
            job = patiently(lambda: client.submit(request), f"asking for {name}", patience)
            ledger.record(name, job=job)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                urls = patiently(lambda: list(client.result_urls(job)), f"waiting for {name}", patience)
        except UserError as error:
            ledger.record(name)  # the next run asks anew
            raise UserError(f"the server's job failed: {fold(error)}") from None
        return [_fetched(client, url, partial, patience) for url in tqdm(urls, desc=name, leave=False, disable=None)]

    return fetch


def _fetched(client: Any, url: str, partial: Path, patience: Patience) -> Path:
    file = url.split("?")[0].rsplit("/", 1)[-1]
    return Path(patiently(lambda: client.download(url, str(partial)).result(), f"downloading {file}", patience))


def _whole(system: Any, patience: Patience) -> Callable[..., list[Path]]:
    """A function that finds and fetches a month's whole granules."""
    import earthaccess

    def login() -> Any:
        try:
            return earthaccess.login(strategy="all", system=system or earthaccess.PROD)
        except EOFError:  # earthaccess asks at the terminal where it finds no credentials
            raise UserError(NO_ACCOUNT) from None

    with contextlib.redirect_stdout(io.StringIO()):
        logged_in = patiently(login, "logging in to Earthdata", patience)
    if not logged_in.authenticated:
        raise UserError(NO_ACCOUNT)

    def fetch(name: str, first: date, last: date, partial: Path, ledger: Ledger) -> list[Path]:
        wanted = {"short_name": "SPL4SMGP", "temporal": (f"{first}T00:00:00", f"{last}T23:59:59")}
        found = patiently(lambda: earthaccess.search_data(**wanted), f"looking for {name}", patience)
        tqdm.write(f"{name}: {len(found)} granules, {sum(g['size'] for g in found) / 1024:.3g} GB")
        files = []
        for granule in tqdm(found, desc=name, leave=False, disable=None):
            get = lambda granule=granule: earthaccess.download(  # noqa: E731
                [granule], local_path=partial, show_progress=False
            )
            files += [Path(p) for p in patiently(get, f"downloading {safe(granule['meta']['native-id'])}", patience)]
        granules = [p for p in files if p.suffix == ".h5"]
        if len(granules) < len(found):  # earthaccess logs what went wrong and gives what it has
            raise UserError(f"only {len(granules)} of {len(found)} granules arrived.")
        return granules

    return fetch
