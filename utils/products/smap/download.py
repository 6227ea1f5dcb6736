"""SMAP L4 from NASA: cut to the three fields and the box on the server (Harmony), or whole granules (earthaccess)."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products import DAY
from utils.products.download import (
    CredentialsRefused,
    DownloadSettings,
    Ledger,
    Patience,
    conclude,
    months,
    retry,
    safe,
)
from utils.products.raw_files import scan_files
from utils.products.regrid import region_cells
from utils.products.smap.granules import FIELDS, SHAPE, scan, window_cells

VARIABLES = [field.path for field in FIELDS.values()] + ["cell_lat", "cell_lon"]  # x and y come along by themselves
NO_ACCOUNT = (
    "Earthdata credentials are not set up: put a line 'machine urs.earthdata.nasa.gov login NAME password WORD' into "
    "~/.netrc (free account: https://urs.earthdata.nasa.gov)."
)


@dataclass
class SMAPDownloadSettings(DownloadSettings):
    """What data/download_smap_l4.py is told."""

    out: Path = Path("data/raw/smap_l4")  # folder of the granules that arrive
    collection: str = "SPL4SMGP"  # or the concept id of one version, as NASA's Earthdata Search shows it
    whole_granules: bool = False  # fetch whole granules through earthaccess instead of having them cut by Harmony


@dataclass(frozen=True)
class MonthRequest:
    """A month, or a part of one, to fetch."""

    first: date
    last: date
    whole_granules: bool

    @property
    def name(self) -> str:
        """What the ledger and messages call it."""
        return f"smap_l4_{self.first}_{self.last}{'_whole' if self.whole_granules else ''}"


class Service(Protocol):
    """A way to fetch granules from NASA."""

    def fetch(self, request: MonthRequest, folder: Path, ledger: Ledger) -> list[Path]:
        """The month's granules, put into `folder`. Raises UserError where they cannot be had."""


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
    service: Service
    if settings.whole_granules:
        service = WholeGranules(system, patience)
    else:
        service = CutGranules(settings.collection, box, system, patience)
    failed = []
    for request in tqdm(todo, desc="downloading", unit="month", disable=None):
        partial = settings.out / f".{request.name}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        try:
            granules = service.fetch(request, partial, ledger)
            ledger.record(request.name, files=_accept(granules, request, partial, settings.out))
        except CredentialsRefused:
            raise
        except UserError as error:
            failed.append(f"{request.name}: {fold(error)}")
    conclude(failed, done=len(everything) - len(failed), folder=settings.out)


def _announce(todo: Sequence[MonthRequest], total: int, settings: SMAPDownloadSettings) -> None:
    """Print how many months are missing and about how large they are."""
    granules = sum(8 * ((request.last - request.first).days + 1) for request in todo)
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

    Raises UserError for a damaged file (which is removed, for the next run to fetch again) and for none at all.
    """
    times = []
    for path in granules:
        try:
            (granule,) = scan_files([path], scan, partial / "unpacked", path.name)
        except UserError:
            path.unlink()
            raise
        times.append(granule.time)
    if not times:
        raise UserError(f"the server has no granule from {request.first} to {request.last}.")
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


class CutGranules:
    """Harmony cuts a month's granules on the server; the job is remembered in the ledger."""

    def __init__(self, collection: str, box: tuple[float, float, float, float], environment: Any, patience: Patience):
        import harmony

        os.environ["VERBOSE"] = "false"  # harmony-py prints every file's name otherwise
        self.harmony, self.collection, self.box, self.patience = harmony, collection, box, patience
        where = environment or harmony.Environment.PROD
        self.client = retry(
            lambda: harmony.Client(env=where, check_interval=patience.poll, download_timeout=60),
            "logging in to Earthdata",
            patience,
        )

    def fetch(self, request: MonthRequest, folder: Path, ledger: Ledger) -> list[Path]:
        """The month's granules, cut, put into `folder`. Raises UserError where the job fails on the server."""
        job = ledger.entries.get(request.name, {}).get("job")
        if job is None:
            wanted = self._harmony_request(request)
            job = retry(lambda: self.client.submit(wanted), f"asking for {request.name}", self.patience)
            ledger.record(request.name, job=job)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                urls = retry(lambda: list(self.client.result_urls(job)), f"waiting for {request.name}", self.patience)
        except CredentialsRefused:
            raise
        except UserError as error:
            ledger.record(request.name)  # the next run asks anew
            raise UserError(f"the server's job failed: {fold(error)}") from None
        return [self._download(url, folder) for url in tqdm(urls, desc=request.name, leave=False, disable=None)]

    def _harmony_request(self, request: MonthRequest) -> Any:
        south, north, west, east = self.box
        return self.harmony.Request(
            collection=self.harmony.Collection(id=self.collection),
            spatial=self.harmony.BBox(west, south, east, north),
            temporal={
                "start": datetime.combine(request.first, time.min),
                "stop": datetime.combine(request.last, time.max),
            },
            variables=VARIABLES,
            skip_preview=True,
        )

    def _download(self, url: str, folder: Path) -> Path:
        file = url.split("?")[0].rsplit("/", 1)[-1]
        path = retry(lambda: self.client.download(url, str(folder)).result(), f"downloading {file}", self.patience)
        return Path(path)


class WholeGranules:
    """earthaccess finds and fetches a month's whole granules."""

    def __init__(self, system: Any, patience: Patience):
        import earthaccess

        self.earthaccess, self.patience = earthaccess, patience
        with contextlib.redirect_stdout(io.StringIO()):
            account = retry(lambda: self._login(system), "logging in to Earthdata", patience)
        if not account.authenticated:
            raise UserError(NO_ACCOUNT)

    def _login(self, system: Any) -> Any:
        try:
            return self.earthaccess.login(strategy="all", system=system or self.earthaccess.PROD)
        except EOFError:  # earthaccess asks at the terminal where it finds no credentials
            raise UserError(NO_ACCOUNT) from None

    def fetch(self, request: MonthRequest, folder: Path, ledger: Ledger) -> list[Path]:
        """The month's granules, put into `folder`. Raises UserError where some do not arrive."""
        period = f"{request.first}T00:00:00", f"{request.last}T23:59:59"
        results = retry(
            lambda: self.earthaccess.search_data(short_name="SPL4SMGP", temporal=period),
            f"looking for {request.name}",
            self.patience,
        )
        size = sum(result["size"] for result in results) / 1024
        tqdm.write(f"{request.name}: {len(results)} granules, {size:.3g} GB")
        granules = []
        for result in tqdm(results, desc=request.name, leave=False, disable=None):
            granules += [path for path in self._download(result, folder) if path.suffix == ".h5"]
        if len(granules) < len(results):  # earthaccess logs what went wrong and gives what it has
            raise UserError(f"only {len(granules)} of {len(results)} granules arrived.")
        return granules

    def _download(self, result: Any, folder: Path) -> list[Path]:
        name = safe(result["meta"]["native-id"])
        paths = retry(
            lambda: self.earthaccess.download([result], local_path=folder, show_progress=False),
            f"downloading {name}",
            self.patience,
        )
        return [Path(path) for path in paths]
