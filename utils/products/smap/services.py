"""Two ways to SMAP L4 granules: cut on the server by Harmony, or whole ones through earthaccess."""

import contextlib
import io
import os
import time
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from utils.common.cli import UserError
from utils.products.download import (
    CredentialsRefused,
    Ledger,
    NothingThere,
    Patience,
    RequestTooLarge,
    WaitingLines,
    retry,
    safe,
)
from utils.products.smap.granules import FIELDS

VARIABLES = [field.path for field in FIELDS.values()] + ["cell_lat", "cell_lon"]  # x and y come along by themselves
NO_ACCOUNT = (
    "Earthdata credentials are not set up: put a line 'machine urs.earthdata.nasa.gov login NAME password WORD' into "
    "~/.netrc (free account: https://urs.earthdata.nasa.gov)."
)


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

    @property
    def granules(self) -> int:
        """How many granules it has if none is missing."""
        return 8 * ((self.last - self.first).days + 1)

    def halves(self) -> list["MonthRequest"]:
        """The same days in two requests; empty for a single day."""
        if self.first == self.last:
            return []
        middle = self.first + (self.last - self.first) // 2
        return [replace(self, last=middle), replace(self, first=middle + timedelta(days=1))]


def refuse_missing_account(environment: Any) -> None:
    """Raises UserError where no Earthdata account is set up, before anything is asked of a server."""
    variables = ("EARTHDATA_TOKEN", "EARTHDATA_USERNAME", "EDL_USERNAME")
    in_netrc = requests.utils.get_netrc_auth("https://urs.earthdata.nasa.gov")
    if environment is None and not in_netrc and not any(os.environ.get(name) for name in variables):
        raise UserError(NO_ACCOUNT)


class CutGranules:
    """Harmony cuts a month's granules on the server; the job is remembered in the ledger."""

    def __init__(self, collection: str, box: tuple[float, float, float, float], environment: Any, patience: Patience):
        refuse_missing_account(environment)
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
        remembered = ledger.entries.get(request.name, {}).get("job")
        job = remembered or self._submit(request, ledger)
        try:
            urls = self._wait(job, request)
        except CredentialsRefused:
            raise
        except UserError:
            ledger.record(request.name)  # the next time asks anew
            if remembered:  # by an earlier run, and of no more use
                return self.fetch(request, folder, ledger)
            raise
        return [self._download(url, folder) for url in tqdm(urls, desc=request.name, leave=False, disable=None)]

    def _submit(self, request: MonthRequest, ledger: Ledger) -> str:
        wanted = self._harmony_request(request)
        job = retry(lambda: self.client.submit(wanted), f"asking for {request.name}", self.patience)
        ledger.record(request.name, job=job)
        return job

    def _wait(self, job: str, request: MonthRequest) -> list[str]:
        """The addresses of a job's files, once it has ended.

        Raises UserError with the service's words for a job that fails or loses granules, RequestTooLarge where it takes
        only some of them at a time, and NothingThere for one without granules.
        """
        lines = WaitingLines(self.patience.report)
        what = f"waiting for {request.name}"
        while True:
            state = retry(lambda: self.client.status(job), what, self.patience)
            status, words = state["status"], safe(state["message"])
            if status not in ("accepted", "running", "running_with_errors", "previewing"):
                break
            lines.say(f"waiting for {request.name}, {state['progress']} % made on the server")
            time.sleep(self.patience.poll)
        if status not in ("successful", "complete_with_errors"):  # failed, canceled or paused
            raise UserError(f"the server's job failed, it is {status}: {words}")
        urls = retry(lambda: list(self.client.result_urls(job, allow_incomplete=True)), what, self.patience)
        granules = state["num_input_granules"]
        if "limited to process only" in words and granules < request.granules:
            raise RequestTooLarge(f"the server takes {granules} granules at a time: {words}")
        if not urls and not granules:
            raise NothingThere(f"the server has no granule from {request.first} to {request.last}.")
        if len(urls) < granules:
            reasons = "; ".join(dict.fromkeys(safe(e.get("message", e)) for e in state.get("errors", [])[:3])) or words
            raise UserError(f"the server's job gave {len(urls)} of {granules} granules: {reasons}")
        return urls

    def _harmony_request(self, request: MonthRequest) -> Any:
        south, north, west, east = self.box
        return self.harmony.Request(
            collection=self.harmony.Collection(id=self.collection),
            spatial=self.harmony.BBox(west, south, east, north),
            temporal={
                "start": datetime.combine(request.first, clock.min),
                "stop": datetime.combine(request.last, clock.max),
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
        refuse_missing_account(system)
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
        if not results:
            raise NothingThere(f"the server has no granule from {request.first} to {request.last}.")
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
