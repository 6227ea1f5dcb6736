"""What both downloads share: months to fetch, patience with servers, and a ledger that makes a second run resume."""

import calendar
import email.utils
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import requests
import tenacity
import urllib3
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.common.files import write_json

T = TypeVar("T")
_SECRET = re.compile(
    r"(?i)((?:token|key|password|secret|signature|authorization|bearer|basic)[\"']?\s*[=: ]\s*[\"']?)"
    r"(?:(?:bearer|basic)\s+)?[^\s&,;\"'}]+"
)


class CredentialsRefused(UserError):
    """The server does not accept the account, so that no further request can succeed."""


@dataclass(frozen=True)
class Patience:
    """How often a request is tried and how long the waits between are, in seconds, doubling from `first`."""

    tries: int = 6
    first: float = 5.0
    longest: float = 300.0
    poll: float = 15.0  # between looks at a job that the server is working on


@dataclass
class DownloadSettings:
    """What the download scripts of both products are told; the bounds are those of the prepare scripts."""

    start: date  # first day, UTC
    end: date  # last day, inclusive
    south: float = 3.0  # centre of the southernmost 1° cells, degrees north; half a cell more is fetched on every side
    north: float = 54.0  # centre of the northernmost cells, degrees north
    west: float = 72.0  # centre of the westernmost cells, degrees east
    east: float = 136.0  # centre of the easternmost cells, degrees east

    def box(self) -> tuple[float, float, float, float]:
        """South, north, west and east of what is fetched. Raises UserError for an impossible region or period."""
        if self.end < self.start:
            raise UserError(f"--end {self.end} lies before --start {self.start}.")
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west < self.east <= 180):
            raise UserError("the region is empty or off the Earth: --south below --north, --west below --east.")
        south, north = max(-90, self.south - 0.5), min(90, self.north + 0.5)
        return south, north, max(-180, self.west - 0.5), min(180, self.east + 0.5)


def months(start: date, end: date) -> list[tuple[date, date]]:
    """The first and last wanted day of every calendar month from `start` to `end`."""
    pieces = []
    while start <= end:
        last = start.replace(day=calendar.monthrange(start.year, start.month)[1])
        pieces.append((start, min(last, end)))
        start = last + timedelta(days=1)
    return pieces


@dataclass
class Ledger:
    """What was asked for and what has arrived, in a hidden file of the folder; survives an interruption."""

    path: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Ledger":
        """The ledger of a folder, empty where there is none. Raises UserError where it is damaged."""
        path = folder / ".downloads.json"
        try:
            return cls(path, json.loads(path.read_text()) if path.exists() else {})
        except ValueError:
            raise UserError(f"{path} is damaged; remove it, and the next run checks every file anew.") from None

    def record(self, name: str, **entry: Any) -> None:
        """Replace the entry of a request: its `job` on the server, or the `files` that arrived and their sizes."""
        self.entries[name] = entry
        write_json(self.path, self.entries)

    def complete(self, name: str) -> bool:
        """Whether everything of the entry arrived and still has the size it arrived with."""
        files = self.entries.get(name, {}).get("files", {})
        paths = {self.path.parent / file: size for file, size in files.items()}
        return bool(paths) and all(p.is_file() and p.stat().st_size == size for p, size in paths.items())


def retry(call: Callable[[], T], what: str, patience: Patience) -> T:
    """`call()`, tried again after failures that pass: dropped connections, truncated bodies, 429 and 5xx.

    Honours Retry-After. Raises CredentialsRefused at once, and UserError for other failures and when patience ends.
    """
    doubling = tenacity.wait_exponential(multiplier=patience.first, max=patience.longest)

    def wait(state: tenacity.RetryCallState) -> float:
        return _retry_after(state.outcome.exception()) or doubling(state)

    def say(state: tenacity.RetryCallState) -> None:
        tqdm.write(
            f"{what}: {safe(state.outcome.exception())}; trying again in {state.upcoming_sleep:g} s "
            f"({state.attempt_number} of {patience.tries})"
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_passes),
        stop=tenacity.stop_after_attempt(patience.tries),
        wait=wait,
        before_sleep=say,
        sleep=time.sleep,
        reraise=True,
    )
    try:
        return retrying(call)
    except UserError:
        raise
    except Exception as error:  # the clients raise their own kinds, and plain Exception too
        status = _status(error)
        if status in (401, 403):
            raise CredentialsRefused(
                f"{what}: the server refused the credentials (HTTP {status}): {safe(error)}"
            ) from None
        tries = retrying.statistics["attempt_number"]
        tried = f" after {tries} tries" if tries > 1 else ""
        raise UserError(f"{what} failed{tried}: {safe(error)}") from None


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, where it tells."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code
    # harmony-py and earthaccess put the status into words
    text = f"{type(error).__name__} {error}"
    match = re.search(r"(?:Status code:|HTTP|^\w+) (\d{3})\b", text)
    if match:
        return int(match[1])
    named = {"Unauthorized": 401, "BadAuthentication": 401, "Forbidden": 403, "LoginAttemptFailure": 401}
    return next((code for name, code in named.items() if name in text), None)


def _passes(error: BaseException) -> bool:
    """Whether the same request may well succeed later."""
    if isinstance(error, UserError):
        return False
    status = _status(error)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    truncated = type(error).__name__ in ("DownloadError", "IncompleteRead") or isinstance(error, FileNotFoundError)
    return truncated or isinstance(error, (*broken, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError))


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait, from a Retry-After of seconds or of a date."""
    value = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After")
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None


def safe(error: object) -> str:
    """An error's text on one line, without anything that looks like a credential."""
    text = re.sub(r"//[^/@\s]+@", "//", fold(error))
    return _SECRET.sub(r"\1…", text)[:400] or type(error).__name__


def conclude(failed: Sequence[str], done: int, folder: Path) -> None:
    """Say what arrived; raises UserError that names what did not, for a second run to fetch."""
    if failed:
        named = "; ".join(text.rstrip(".") for text in failed[:3])
        if len(failed) > 3:
            named += f"; and {len(failed) - 3} more"
        raise UserError(
            f"{len(failed)} of {len(failed) + done} requests failed: {named}; the same command tries them again."
        )
    print(f"{folder} is complete: {done} requests.")
