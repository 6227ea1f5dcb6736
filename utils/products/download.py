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
import urllib3
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.common.files import write_json

T = TypeVar("T")
_SECRET = re.compile(
    r"(?i)((?:token|key|password|secret|signature|authorization|bearer|basic)[\"']?\s*[=: ]\s*[\"']?)"
    r"(?:(?:bearer|basic)\s+)?[^\s&,;\"'}]+"
)


@dataclass(frozen=True)
class Patience:
    """How often a request is tried and how long the waits between are, in seconds, doubling from `first`."""

    tries: int = 6
    first: float = 5.0
    longest: float = 300.0
    poll: float = 15.0  # between looks at a job that the server is working on


@dataclass
class DownloadSettings:
    """What both products' download scripts are told; the bounds are those of the prepare scripts."""

    start: date  # first day, UTC
    end: date  # last day, inclusive
    south: float = 3.0  # centres of the outermost 1° cells, degrees; half a cell more is fetched on every side
    north: float = 54.0
    west: float = 72.0
    east: float = 136.0

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
        path = folder / ".downloads.json"
        try:
            return cls(path, json.loads(path.read_text()) if path.exists() else {})
        except ValueError:
            raise UserError(f"{path} is damaged; remove it, and the next run checks every file anew.") from None

    def record(self, name: str, **entry: Any) -> None:
        self.entries[name] = entry
        write_json(self.path, self.entries)

    def complete(self, name: str) -> bool:
        """Whether everything of the entry arrived and still has the size it arrived with."""
        files = self.entries.get(name, {}).get("files", {})
        paths = {self.path.parent / file: size for file, size in files.items()}
        return bool(paths) and all(p.is_file() and p.stat().st_size == size for p, size in paths.items())


def patiently(call: Callable[[], T], what: str, patience: Patience) -> T:
    """`call()`, tried again after failures that pass: dropped connections, truncated bodies, 429 and 5xx.

    Honours Retry-After. Raises UserError for refused credentials at once, and when patience ends.
    """
    for attempt in range(1, patience.tries + 1):
        try:
            return call()
        except UserError:
            raise
        except Exception as error:  # the clients raise their own kinds, and plain Exception too
            status = _status(error)
            if status in (401, 403):
                raise UserError(f"{what}: the server refused the credentials (HTTP {status}): {safe(error)}") from None
            if not _passes(error, status) or attempt == patience.tries:
                tried = f" after {attempt} tries" if attempt > 1 else ""
                raise UserError(f"{what} failed{tried}: {safe(error)}") from None
            wait = _retry_after(error) or min(patience.longest, patience.first * 2 ** (attempt - 1))
            tqdm.write(f"{what}: {safe(error)}; trying again in {wait:g} s ({attempt} of {patience.tries})")
        time.sleep(wait)
    raise AssertionError("unreachable: the last try returns or raises")


def _status(error: Exception) -> int | None:
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


def _passes(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    truncated = type(error).__name__ in ("DownloadError", "IncompleteRead") or isinstance(error, FileNotFoundError)
    return truncated or isinstance(error, (*broken, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError))


def _retry_after(error: Exception) -> float | None:
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
        named = "; ".join(text.rstrip(".") for text in failed[:3]) + (
            f"; and {len(failed) - 3} more" * (len(failed) > 3)
        )
        raise UserError(
            f"{len(failed)} of {len(failed) + done} requests failed: {named}; the same command tries them again."
        )
    print(f"{folder} is complete: {done} requests.")
