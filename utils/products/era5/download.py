"""ERA5-Land or ERA5 from the Climate Data Store through cdsapi: one month a request, queued, resumed and verified."""

import contextlib
import logging
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    RequestTooLarge,
    ServerBusy,
    WaitingLines,
    conclude,
    refuse_web_page,
    retry,
    safe,
)
from utils.products.era5.files import scan
from utils.products.era5.part import RAW
from utils.products.era5.pieces import Piece, pieces
from utils.products.raw_files import kind_of, scan_files

DATASETS = {"era5-land": ("reanalysis-era5-land", 0.1), "era5": ("reanalysis-era5-single-levels", 0.25)}
LATENCY = timedelta(days=6)  # both products reach the archive about five days late


@dataclass
class ERA5DownloadSettings(DownloadSettings):
    """What data/download_era5_land.py is told."""

    out: Path = Path("data/raw/era5_land")  # folder of the files that arrive
    product: Literal["era5-land", "era5"] = "era5-land"  # ERA5-Land on 0.1° cells, or ERA5 single levels on 0.25° cells
    queue: int = 4  # requests that wait on the server at a time


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
    done = sum(ledger.complete(piece.name) for piece in everything)
    conclude(failed, done=done, folder=settings.out)


def _client(patience: Patience) -> Any:
    """cdsapi's client, silent, with its own retries off: `retry` does them and honours Retry-After."""
    logging.getLogger("multiurl").setLevel(logging.ERROR)
    place = "put url and key from your profile page at https://cds.climate.copernicus.eu into ~/.cdsapirc"
    try:
        url, key, _ = cdsapi.api.get_url_key_verify(None, None, None)
        old_form = ":" in key or url.rstrip("/").endswith("/v2")
        if not old_form:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return cdsapi.Client(
                    quiet=True, progress=False, wait_until_complete=False, retry_max=1, sleep_max=patience.poll
                )
    except Exception as error:  # cdsapi raises plain Exception where it finds no credentials
        raise UserError(f"the Climate Data Store's credentials are not set up ({safe(error)}): {place}.") from None
    raise UserError(
        "the Climate Data Store's credentials are of the form before 2024 (a key UID:key, or a url that ends in /v2), "
        f"which it no longer accepts: {place}."
    )


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
        self.failed: list[str] = []
        self.waiting: list[Piece] = []
        self.jobs: dict[str, tuple[Piece, Any]] = {}  # those that the server works on, by the piece's name
        self.add(todo)
        lines = WaitingLines(self.patience.report)
        with tqdm(total=len(todo), desc="downloading", unit="request", disable=None) as self.progress:
            while self.waiting or self.jobs:
                free = self.length - len(self.jobs)
                starting, self.waiting = self.waiting[:free], self.waiting[free:]
                for piece in starting:
                    self._try(piece, self._start)
                for piece, _ in list(self.jobs.values()):
                    self._try(piece, self._look_after)
                if self.jobs:
                    lines.say(f"waiting for the server's queue, {len(self.jobs) + len(self.waiting)} requests to go")
                    time.sleep(self.patience.poll)
        return self.failed

    def add(self, pieces: list[Piece]) -> None:
        """Put pieces at the head of the line, or the smaller ones that an earlier run had to make of them."""
        for piece in reversed(pieces):
            if self.ledger.complete(piece.name):
                continue
            if "parts" in self.ledger.entries.get(piece.name, {}):
                self.add(piece.smaller())
            else:
                self.waiting.insert(0, piece)

    def _try(self, piece: Piece, step: Callable[[Piece], bool]) -> None:
        """A step with a piece that may fail; the piece leaves the queue when it is done or has failed."""
        try:
            finished = step(piece)
        except CredentialsRefused:
            raise
        except ServerBusy as error:
            finished = not self.jobs  # while it works on others of ours it may take this one later
            if finished:
                self._give_up(piece, error)
            else:
                self.waiting.append(piece)
        except RequestTooLarge as error:
            finished = self._split(piece, error)
        except UserError as error:
            finished = self._give_up(piece, error)
        if finished:
            self.jobs.pop(piece.name, None)
            self.progress.update()

    def _start(self, piece: Piece) -> bool:
        self.jobs[piece.name] = piece, self._job(piece)
        return False

    def _look_after(self, piece: Piece) -> bool:
        """Fetch the piece's file if the server has made it."""
        _, job = self.jobs[piece.name]
        if not retry(lambda: self._is_ready(job), f"asking after {piece.name}", self.patience):
            return False
        self._fetch(piece, job)
        return True

    def _split(self, piece: Piece, error: RequestTooLarge) -> bool:
        """Put smaller requests in the piece's place."""
        smaller = piece.smaller()
        if not smaller:
            return self._give_up(piece, error)
        names = [part.name for part in smaller]
        tqdm.write(f"{piece.name}: too large for the server, asked for as {', '.join(names)}")
        self.ledger.record(piece.name, parts=names)
        self.add(smaller)
        self.progress.total += len(smaller)
        return True

    def _give_up(self, piece: Piece, error: UserError) -> bool:
        """Forget the piece's job, which is of no more use, and note why it failed."""
        self.ledger.record(piece.name)
        self.failed.append(f"{piece.name}: {fold(error)}")
        return True

    def _job(self, piece: Piece) -> Any:
        """The piece's job on the server: the one of an earlier run, if it is still there, or a new one."""
        remembered = self.ledger.entries.get(piece.name, {}).get("job")
        if remembered:
            with contextlib.suppress(UserError):  # jobs are deleted on the server after a while
                job = retry(
                    lambda: self.client.client.get_remote(remembered), f"finding {piece.name}'s job", self.patience
                )
                status = retry(lambda: job.status, f"asking after {piece.name}", self.patience)
                if status in ("accepted", "running", "successful"):
                    return job
        job = retry(
            lambda: self.client.retrieve(self.dataset, piece.request), f"asking for {piece.name}", self.patience
        )
        self.ledger.record(piece.name, job=job.request_id)
        return job

    @staticmethod
    def _is_ready(job: Any) -> bool:
        """Whether the job's file is there. Raises UserError with the service's reason for a job that has failed."""
        status = job.status
        if status in ("accepted", "running", "successful"):
            return status == "successful"
        raise UserError(f"the server's job is {status}: {_reason(job)}")

    def _fetch(self, piece: Piece, job: Any) -> None:
        partial = self.folder / f".{piece.name}.partial"
        try:
            retry(lambda: job.download(str(partial)), f"downloading {piece.name}", self.patience)
            refuse_web_page(partial, piece.name)
            suffix = {"zip": ".zip", "grib": ".grib"}.get(kind_of(partial), ".nc")
            verify(partial, piece)
            file = self.folder / f"{piece.name}{suffix}"
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        self.ledger.record(piece.name, files={file.name: file.stat().st_size})


def _reason(job: Any) -> str:
    """Why the service failed, rejected or dropped a job, in its own words: of the results, the job and its log."""
    said = []
    try:
        _ = job.results_ready
    except Exception as error:  # what the client makes of the results
        said.append(str(error))
    with contextlib.suppress(Exception):  # of an answer in another form nothing can be told
        answer = job.json
        metadata = answer.get("metadata", {})
        results = metadata.get("results") or {}
        said += [answer.get("message"), *(results.get(key) for key in ("title", "detail", "message", "traceback"))]
        said += [line for _, line in metadata.get("log", [])[-2:]]
    words = dict.fromkeys(safe(text) for text in said if text)
    return "; ".join(words) or "it gives no reason"


def verify(file: Path, piece: Piece) -> None:
    """Raises UserError where the file is not readable or lacks an hour of a variable."""
    scratch = file.with_name(f"{file.name}.unpacked")
    try:
        parts = [part for parts in scan_files([file], scan, scratch, piece.name) for part in parts]
    except Unreadable as error:
        raise UserError(f"{piece.name} arrived damaged: {fold(error)}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for variable in piece.variables:
        stamps = [p.stamps for p in parts if p.variable == variable]
        missing = np.setdiff1d(piece.hours, np.concatenate(stamps) if stamps else [])
        if len(missing):
            raise UserError(
                f"{piece.name} arrived without {len(missing)} of {len(piece.hours)} hours of {RAW[variable].short}, "
                f"the first {missing[0]}."
            )
