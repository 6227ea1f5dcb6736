"""ECMWF's open data by ecmwf-opendata: the run of 00 UTC, rain at the end of each day and the upper layer's moisture.

The library knows the servers, the names of the files and which run is the newest. Each file has an index beside it,
with the place and the length of every field, so that only the wanted ones are fetched; each is checked against it.
"""

import functools
import json
import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import requests
from ecmwf.opendata import Client
from tqdm import tqdm
from tyro.conf import arg

from utils.common.cli import UserError, fold
from utils.common.files import whole_file
from utils.common.text import format_bytes
from utils.products.download import Ledger, NothingThere, Patience, conclude, retry
from utils.products.weather.days import HOURS, LONGEST_LEAD

RAIN, MOISTURE = ("tp",), ("vsw", "swvl1")  # in the index; swvl1 before November 2024
TIMEOUT = 60  # seconds without a byte
MOST_FAILURES = 3  # files that may fail before the server is taken for one that does not answer
KEPT = "ECMWF's own server keeps the last days alone, --source aws and --source google keep earlier ones"


@dataclass
class WeatherDownloadSettings:
    """What data/download_weather_forecast.py is told."""

    model: Literal["ifs", "aifs-single"] = "ifs"  # ECMWF's physical model, or its learned one
    date: Annotated[
        tuple[str, ...], arg(metavar="DATE [DATE]")
    ] = ()  # of the run of 00 UTC, or START END; empty: newest
    lead_days: int = 7  # days from the start of a run to fetch
    out: Path | None = None  # folder of the files that arrive; None: data/raw/weather_<model>
    source: Annotated[str, arg(aliases=["--url"])] = "ecmwf"  # ecmwf, aws, google, azure, or an address

    @property
    def folder(self) -> Path:
        return self.out or Path(f"data/raw/weather_{self.model}")


@dataclass(frozen=True)
class Step:
    """One file to make: the fields of one model run at one time."""

    model: str
    run: date
    hour: int

    @property
    def name(self) -> str:
        return f"{self.model}_{self.run}_00z_{self.hour:03d}h"


def download_weather_forecast(
    settings: WeatherDownloadSettings,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
) -> None:
    """Fetch what is not there yet. Raises UserError naming the runs that the server lacks and the files that failed."""
    if not 1 <= settings.lead_days <= LONGEST_LEAD:
        raise UserError(f"--lead-days is {settings.lead_days}, expected 1 to {LONGEST_LEAD}.")
    server = _Server(settings, patience)
    hours = range(0, HOURS * settings.lead_days + 1, HOURS)
    everything = [Step(settings.model, run, hour) for run in server.runs(settings) for hour in hours]
    ledger = Ledger.of(settings.folder)
    todo = [step for step in everything if not ledger.complete(step.name)]
    first, last = everything[0].run, everything[-1].run
    span = f"run of {first}" if first == last else f"runs of {first} to {last}"
    print(f"{settings.model}, {span}, 00 UTC: {len(todo)} of {len(everything)} files to fetch into {settings.folder}")
    if todo:
        server.say_size(todo)
    gone, failed = set(), []
    for step in tqdm(todo, desc="downloading", unit="file", disable=None):
        if step.run in gone:
            continue
        try:
            server.fetch(step, settings.folder, ledger)
        except NothingThere:
            gone.add(step.run)
        except UserError as error:
            failed.append(fold(error))
            if len(failed) == MOST_FAILURES:
                break
    if gone:
        failed.insert(0, _describe_gone(sorted(gone), settings.source))
    conclude(failed, done=sum(ledger.complete(step.name) for step in everything), folder=settings.folder)


def _describe_gone(runs: list[date], source: str) -> str:
    named = f"{runs[0]}" if len(runs) == 1 else f"{len(runs)} days, the first {runs[0]}"
    return f"{source} does not have the run of {named} (any more, or not yet); {KEPT}"


class _Server:
    """A server of ECMWF's open data."""

    def __init__(self, settings: WeatherDownloadSettings, patience: Patience):
        logging.getLogger("ecmwf.opendata").setLevel(logging.ERROR)  # it greets every user with a paragraph
        self.source, self.model, self.patience = settings.source, settings.model, patience
        self.client = retry(self._open, f"asking {self.source} for access", patience)
        self.client.session.request = functools.partial(self.client.session.request, timeout=TIMEOUT)

    def _open(self) -> Client:
        try:
            # `retry` repeats what fails, with its own limits: the library would wait for hours
            return Client(source=self.source, model=self.model, maximum_retries=1)
        except ValueError as error:
            raise UserError(
                f"--source is {self.source!r}, expected ecmwf, aws, google, azure or an http address."
            ) from error

    def _newest(self, hours: int) -> date:
        try:
            return self.client.latest(time=0, type="fc", step=hours).date()
        except ValueError as error:  # what the library says is made of the parts of an address
            raise NothingThere(
                f"{self.source} has no run of 00 UTC of today or yesterday with {hours} hours; give --date, or another "
                "--source."
            ) from error

    def runs(self, settings: WeatherDownloadSettings) -> list[date]:
        """The days of the runs to fetch. Raises UserError where the dates are none, or no newest run is found."""
        if not settings.date:
            hours = HOURS * settings.lead_days
            return [retry(lambda: self._newest(hours), f"asking {self.source} for its newest run", self.patience)]
        if len(settings.date) > 2:
            raise UserError(f"--date has {len(settings.date)} dates, expected a date, or START END.")
        try:
            first, last = (date.fromisoformat(text) for text in (settings.date[0], settings.date[-1]))
        except ValueError:
            raise UserError(f"--date is {' '.join(settings.date)}, expected ISO dates such as 2026-11-25.") from None
        if last < first:
            raise UserError(f"--date ends on {last}, before it starts on {first}.")
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]

    def say_size(self, todo: list[Step]) -> None:
        """Print about how much is to be fetched, by the fields of the newest run's last file."""
        try:
            _, fields = self._index(todo[-1])
        except NothingThere:
            return  # which run is not there is said when its files are asked for
        size = sum(entry["_length"] for entry in fields)
        print(f"about {format_bytes(size * len(todo))} in all, {format_bytes(size)} a file")

    def fetch(self, step: Step, folder: Path, ledger: Ledger) -> None:
        """Write the step's fields to one file. Raises NothingThere where the server lacks the run."""
        url, fields = self._index(step)
        if not fields:  # nothing has rained at the start of a run, and not every model has soil moisture
            ledger.record(step.name, empty="no soil moisture")
            return
        messages = [retry(lambda entry=entry: self._message(url, entry), step.name, self.patience) for entry in fields]
        file = folder / f"{step.name}.grib2"
        with whole_file(file) as partial:
            partial.write_bytes(b"".join(messages))
        ledger.record(step.name, files={file.name: file.stat().st_size})

    def _index(self, step: Step) -> tuple[str, list[dict[str, Any]]]:
        """The address of a step's file, and the lines of its index that are of wanted fields.

        Raises NothingThere where there is no such file, UserError where it has no rain.
        """
        start = datetime(step.run.year, step.run.month, step.run.day)
        # the library tells addresses by no public name
        (url,) = self.client._get_urls(date=start, time=0, type="fc", step=step.hour).urls

        def get() -> list[dict[str, Any]]:
            response = self.client.session.get(f"{url.removesuffix('.grib2')}.index")
            if response.status_code == requests.codes.not_found:
                raise NothingThere(f"{url} is not there.")
            response.raise_for_status()
            entries = [json.loads(line) for line in response.text.splitlines() if line.strip()]
            return [entry for entry in entries if _is_wanted(entry, step.hour)]

        fields = retry(get, f"the index of {step.name}", self.patience)
        if step.hour and not any(entry["param"] in RAIN for entry in fields):
            raise UserError(f"{url} has no total precipitation (tp).")
        return url, fields

    def _message(self, url: str, entry: dict[str, Any]) -> bytes:
        """One field, checked. Raises ConnectionError where it did not arrive whole, for `retry` to try again."""
        first, length = entry["_offset"], entry["_length"]
        headers = {"Range": f"bytes={first}-{first + length - 1}"}
        response = self.client.session.get(url, headers=headers)
        response.raise_for_status()
        content = response.content
        if response.status_code != requests.codes.partial_content:  # the server sends whole files alone
            content = content[first : first + length]
        if len(content) != length or not content.startswith(b"GRIB") or not content.endswith(b"7777"):
            raise ConnectionError(
                f"{entry['param']} arrived with {len(content)} bytes that are no whole GRIB message of {length}"
            )
        return content


def _is_wanted(entry: dict[str, Any], hour: int) -> bool:
    """Whether a line of the index is of rain, or of soil moisture of the uppermost layer."""
    if entry["param"] in RAIN:
        return hour > 0
    return entry["param"] in MOISTURE and entry.get("levelist", "1") == "1"
