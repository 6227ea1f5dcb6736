"""ERA5-Land or ERA5 from the Climate Data Store through cdsapi: one month a request, queued, resumed and verified."""

import contextlib
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import cdsapi
import numpy as np
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable
from utils.products.download import Ledger, Patience, conclude, months, patiently, safe
from utils.products.era5.files import RAW, scan
from utils.products.raw_files import kind_of, scan_files

DATASETS = {"era5-land": ("reanalysis-era5-land", 0.1), "era5": ("reanalysis-era5-single-levels", 0.25)}
LATENCY = timedelta(days=6)  # both products reach the archive about five days late
VARIABLES = ("precipitation", "soil_moisture", "soil_temperature")


@dataclass(frozen=True)
class Piece:
    """One request: the hours of a month, or the single hour that closes the last day."""

    name: str
    request: dict[str, Any]
    hours: np.ndarray  # datetime64[m] that must arrive


def pieces(product: str, start: date, end: date, box: tuple[float, float, float, float]) -> list[Piece]:
    """Every month's request, and 00 UTC of the day after `end`, which the last day's precipitation needs."""
    out = []
    wanted = [(first, last, range(24)) for first, last in months(start, end)]
    wanted.append((end + timedelta(days=1), end + timedelta(days=1), range(1)))
    for first, last, hours in wanted:
        days = [first + timedelta(days=k) for k in range((last - first).days + 1)]
        south, north, west, east = box
        request = {
            "variable": [RAW[v].names[1] for v in VARIABLES],
            "year": [f"{first:%Y}"],
            "month": [f"{first:%m}"],
            "day": [f"{d:%d}" for d in days],
            "time": [f"{h:02d}:00" for h in hours],
            "area": [north, west, south, east],
            "data_format": "netcdf",
            "download_format": "unarchived",
        }
        if product == "era5":
            request["product_type"] = ["reanalysis"]
        stamps = np.array([f"{d}T{h:02d}:00" for d in days for h in hours], "datetime64[m]")
        name = f"{product.replace('-', '_')}_{first:%Y-%m}" + ("" if len(hours) > 1 else f"-{first:%d}T00")
        name += (
            f"_{first:%d}-{last:%d}" if len(hours) > 1 and (first.day > 1 or (last + timedelta(days=1)).day > 1) else ""
        )
        out.append(Piece(name, request, stamps))
    return out


def download_era5(settings: Any, patience: Patience = Patience()) -> None:  # noqa: B008 (frozen)
    """Fetch what is not there yet into `settings.out`. Raises UserError naming every request that failed."""
    box = settings.box()
    dataset, spacing = DATASETS[settings.product]
    newest = datetime.now(UTC).date() - LATENCY
    if settings.end > newest:
        raise UserError(f"--end {settings.end} is not in the archive yet, which now reaches to about {newest}.")
    everything = pieces(settings.product, settings.start, settings.end, box)
    ledger = Ledger.of(settings.out)
    todo = [p for p in everything if not ledger.complete(p.name)]
    cells = (round((box[1] - box[0]) / spacing) + 1) * (round((box[3] - box[2]) / spacing) + 1)
    size = sum(len(p.hours) for p in todo) * cells * 3 * 2 / 2**30  # about two bytes a value, compressed
    print(f"{dataset}: {len(todo)} of {len(everything)} requests to make, about {size:.3g} GB, into {settings.out}")
    if not todo:
        return
    failed = _Queue(_client(patience), dataset, settings.out, ledger, patience, settings.queue).run(todo)
    conclude(failed, len(everything) - len(failed), settings.out)


def _client(patience: Patience) -> Any:
    """cdsapi's client, silent, with its own retries off: `patiently` does them and honours Retry-After."""
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
        """Fetch the pieces; returns a sentence for each that failed. Refused credentials end it at once."""
        waiting, active, failed = list(todo), {}, []
        with tqdm(total=len(todo), desc="downloading", unit="request", disable=None) as progress:
            while waiting or active:
                while waiting and len(active) < self.length:
                    piece = waiting.pop(0)
                    with self._noting(piece, failed, progress):
                        active[piece.name] = piece, self._job(piece)
                for name, (piece, job) in list(active.items()):
                    ready = False
                    with self._noting(piece, failed, progress, lambda name=name: active.pop(name)):
                        ready = patiently(lambda job=job: job.results_ready, f"asking after {name}", self.patience)
                        if ready:
                            self._fetch(piece, job)
                            active.pop(name)
                            progress.update()
                if active:
                    time.sleep(self.patience.poll)
        return failed

    @contextlib.contextmanager
    def _noting(self, piece: Piece, failed: list[str], progress: tqdm, forget: Callable = lambda: None):
        try:
            yield
        except UserError as error:
            if "refused the credentials" in str(error):
                raise
            failed.append(f"{piece.name}: {fold(error)}")
            self.ledger.record(piece.name)  # the job is of no more use
            forget()
            progress.update()

    def _job(self, piece: Piece) -> Any:
        remembered = self.ledger.entries.get(piece.name, {}).get("job")
        if remembered:
            with contextlib.suppress(UserError):  # jobs are deleted on the server after a while
                job = patiently(
                    lambda: self.client.client.get_remote(remembered), f"finding {piece.name}'s job", self.patience
                )
                if job.status in ("accepted", "running", "successful"):
                    return job
        job = patiently(
            lambda: self.client.retrieve(self.dataset, piece.request), f"asking for {piece.name}", self.patience
        )
        self.ledger.record(piece.name, job=job.request_id)
        return job

    def _fetch(self, piece: Piece, job: Any) -> None:
        partial = self.folder / f".{piece.name}.partial"
        try:
            patiently(lambda: job.download(str(partial)), f"downloading {piece.name}", self.patience)
            suffix = {"zip": ".zip", "grib": ".grib"}.get(kind_of(partial), ".nc")
            verify(partial, piece)
            file = self.folder / f"{piece.name}{suffix}"
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        self.ledger.record(piece.name, files={file.name: file.stat().st_size})


def verify(file: Path, piece: Piece) -> None:
    """Raises UserError where the file is not readable or lacks an hour of a variable."""
    import shutil

    scratch = file.with_name(f"{file.name}.unpacked")
    try:
        parts = [part for found in scan_files([file], scan, scratch, piece.name) for part in found]
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
