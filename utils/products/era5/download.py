"""ERA5-Land or ERA5 from the Climate Data Store through cdsapi: one month a request, queued, resumed and verified."""

import contextlib
import logging
import shutil
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import cdsapi
import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
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
from utils.products.era5.files import scan
from utils.products.era5.part import RAW
from utils.products.raw_files import kind_of, scan_files

DATASETS = {"era5-land": ("reanalysis-era5-land", 0.1), "era5": ("reanalysis-era5-single-levels", 0.25)}
LATENCY = timedelta(days=6)  # both products reach the archive about five days late
VARIABLES = ("precipitation", "soil_moisture", "soil_temperature")


@dataclass
class ERA5DownloadSettings(DownloadSettings):
    """What data/download_era5_land.py is told."""

    out: Path = Path("data/raw/era5_land")  # folder of the files that arrive
    product: Literal["era5-land", "era5"] = "era5-land"  # ERA5-Land on 0.1° cells, or ERA5 single levels on 0.25° cells
    queue: int = 4  # requests that wait on the server at a time


@dataclass(frozen=True)
class Piece:
    """One request: the hours of a month, or the single hour that closes the last day."""

    name: str
    request: dict[str, Any]
    hours: np.ndarray  # datetime64[m] that must arrive


def pieces(product: str, start: date, end: date, box: tuple[float, float, float, float]) -> list[Piece]:
    """Every month's request, and 00 UTC of the day after `end`, which the last day's precipitation needs.

    `box`: south, north, west, east, in degrees.
    """
    prefix = product.replace("-", "_")
    requests = []
    for first, last in months(start, end):
        whole = first.day == 1 and (last + timedelta(days=1)).day == 1
        name = f"{prefix}_{first:%Y-%m}" + ("" if whole else f"_{first:%d}-{last:%d}")
        requests.append(_piece(name, product, first, last, range(24), box))
    closing = end + timedelta(days=1)
    name = f"{prefix}_{closing:%Y-%m}-{closing:%d}T00"
    return [*requests, _piece(name, product, closing, closing, range(1), box)]


def _piece(
    name: str, product: str, first: date, last: date, hours: range, box: tuple[float, float, float, float]
) -> Piece:
    days = [first + timedelta(days=k) for k in range((last - first).days + 1)]
    south, north, west, east = box
    request = {
        "variable": [RAW[variable].names[1] for variable in VARIABLES],
        "year": [f"{first:%Y}"],
        "month": [f"{first:%m}"],
        "day": [f"{day:%d}" for day in days],
        "time": [f"{hour:02d}:00" for hour in hours],
        "area": [north, west, south, east],
        "data_format": "netcdf",
        "download_format": "unarchived",
    }
    if product == "era5":
        request["product_type"] = ["reanalysis"]
    stamps = np.array([f"{day}T{hour:02d}:00" for day in days for hour in hours], "datetime64[m]")
    return Piece(name, request, stamps)


def download_era5(settings: ERA5DownloadSettings, patience: Patience = Patience()) -> None:  # noqa: B008 (frozen)
    """Fetch what is not there yet into `settings.out`. Raises UserError naming every request that failed."""
    box = settings.box()
    dataset, spacing = DATASETS[settings.product]
    newest = datetime.now(UTC).date() - LATENCY
    if settings.end > newest:
        raise UserError(f"--end {settings.end} is not in the archive yet, which now reaches to about {newest}.")
    everything = pieces(settings.product, settings.start, settings.end, box)
    ledger = Ledger.of(settings.out)
    todo = [piece for piece in everything if not ledger.complete(piece.name)]
    south, north, west, east = box
    cells = (round((north - south) / spacing) + 1) * (round((east - west) / spacing) + 1)
    size = sum(len(piece.hours) for piece in todo) * cells * 3 * 2 / 2**30  # about two bytes a value, compressed
    print(f"{dataset}: {len(todo)} of {len(everything)} requests to make, about {size:.3g} GB, into {settings.out}")
    if not todo:
        return
    queue = _Queue(
        client=_client(patience),
        dataset=dataset,
        folder=settings.out,
        ledger=ledger,
        patience=patience,
        length=settings.queue,
    )
    failed = queue.run(todo)
    conclude(failed, done=len(everything) - len(failed), folder=settings.out)


def _client(patience: Patience) -> Any:
    """cdsapi's client, silent, with its own retries off: `retry` does them and honours Retry-After."""
    logging.getLogger("multiurl").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cdsapi.Client(
                quiet=True, progress=False, wait_until_complete=False, retry_max=1, sleep_max=patience.poll
            )
    except Exception as error:  # cdsapi raises plain Exception where it finds no credentials
        raise UserError(
            f"the Climate Data Store's credentials are not set up ({safe(error)}): put url and key from your "
            "profile page at https://cds.climate.copernicus.eu into ~/.cdsapirc."
        ) from None


@dataclass
class _Queue:
    """A few jobs at a time on the server; each month's job is remembered, so that a second run finds it."""

    client: Any
    dataset: str
    folder: Path
    ledger: Ledger
    patience: Patience
    length: int

    def run(self, todo: list[Piece]) -> list[str]:
        """Fetch the pieces; returns a sentence for each that failed. Raises CredentialsRefused at once."""
        waiting, failed = list(todo), []
        jobs: dict[str, tuple[Piece, Any]] = {}  # those that the server works on, by the piece's name
        with tqdm(total=len(todo), desc="downloading", unit="request", disable=None) as progress:
            while waiting or jobs:
                free = self.length - len(jobs)
                starting, waiting = waiting[:free], waiting[free:]
                for piece in starting:
                    try:
                        jobs[piece.name] = piece, self._job(piece)
                    except CredentialsRefused:
                        raise
                    except UserError as error:
                        failed.append(self._give_up(piece, error))
                        progress.update()
                for piece, job in list(jobs.values()):
                    try:
                        if not self._is_ready(piece, job):
                            continue
                        self._fetch(piece, job)
                    except CredentialsRefused:
                        raise
                    except UserError as error:
                        failed.append(self._give_up(piece, error))
                    del jobs[piece.name]
                    progress.update()
                if jobs:
                    time.sleep(self.patience.poll)
        return failed

    def _give_up(self, piece: Piece, error: UserError) -> str:
        """Forget the piece's job, which is of no more use; returns the sentence of the failure."""
        self.ledger.record(piece.name)
        return f"{piece.name}: {fold(error)}"

    def _job(self, piece: Piece) -> Any:
        """The piece's job on the server: the one of an earlier run, if it is still there, or a new one."""
        remembered = self.ledger.entries.get(piece.name, {}).get("job")
        if remembered:
            with contextlib.suppress(UserError):  # jobs are deleted on the server after a while
                job = retry(
                    lambda: self.client.client.get_remote(remembered), f"finding {piece.name}'s job", self.patience
                )
                if job.status in ("accepted", "running", "successful"):
                    return job
        job = retry(
            lambda: self.client.retrieve(self.dataset, piece.request), f"asking for {piece.name}", self.patience
        )
        self.ledger.record(piece.name, job=job.request_id)
        return job

    def _is_ready(self, piece: Piece, job: Any) -> bool:
        return retry(lambda: job.results_ready, f"asking after {piece.name}", self.patience)

    def _fetch(self, piece: Piece, job: Any) -> None:
        partial = self.folder / f".{piece.name}.partial"
        try:
            retry(lambda: job.download(str(partial)), f"downloading {piece.name}", self.patience)
            suffix = {"zip": ".zip", "grib": ".grib"}.get(kind_of(partial), ".nc")
            verify(partial, piece)
            file = self.folder / f"{piece.name}{suffix}"
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        self.ledger.record(piece.name, files={file.name: file.stat().st_size})


def verify(file: Path, piece: Piece) -> None:
    """Raises UserError where the file is not readable or lacks an hour of a variable."""
    scratch = file.with_name(f"{file.name}.unpacked")
    try:
        parts = [part for parts in scan_files([file], scan, scratch, piece.name) for part in parts]
    except Unreadable as error:
        raise UserError(f"{piece.name} arrived damaged: {fold(error)}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for variable in VARIABLES:
        stamps = [p.stamps for p in parts if p.variable == variable]
        missing = np.setdiff1d(piece.hours, np.concatenate(stamps) if stamps else [])
        if len(missing):
            raise UserError(
                f"{piece.name} arrived without {len(missing)} of {len(piece.hours)} hours of {RAW[variable].short}, "
                f"the first {missing[0]}."
            )
