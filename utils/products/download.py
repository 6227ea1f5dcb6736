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


# What servers say with HTTP 400 and 403: they use one status for several reasons and give no code, so words decide.
_WORDS = {
    "too large": r"cost limit|too large|too many items|reduce (your|the) (selection|request)|limited to process only",
    "licence": r"licen[cs]e|terms of use|terms and conditions|\beula\b",
    "busy": r"temporarily|queued requests|rate limit|too many requests|try again|throttl|quota",
    "empty": r"no matching granules|no data (is )?available",
    "credentials": r"authenti|authori[sz]|credential|\bkey\b|token|password|permission|not allowed|access denied",
}
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class CredentialsRefused(UserError):
    """The server does not accept the account, so that no further request can succeed."""


class LicenceMissing(CredentialsRefused):
    """The account has not accepted the licence of the data set, so that no further request for it can succeed."""


class RequestTooLarge(UserError):
    """The server refuses the request for its size; smaller ones may succeed."""


class ServerBusy(UserError):
    """The server takes no more requests for now, and patience has ended."""


class NothingThere(UserError):
    """The server has no data for the request."""


@dataclass(frozen=True)
class Patience:
    """How often a request is tried and how long the waits between are, in seconds, doubling from `first`."""

    tries: int = 6
    first: float = 5.0
    longest: float = 300.0
    poll: float = 15.0  # between looks at a job that the server is working on
    report: float = 60.0  # between lines about jobs that are waited for


@dataclass
class WaitingLines:
    """A line now and then while the server works, so that nobody takes waiting for a fault."""

    every: float  # seconds
    started: float = field(default_factory=time.monotonic)
    latest: float = field(default_factory=time.monotonic)

    def say(self, what: str) -> None:
        """Write how long `what` has been waited for, where the last line is old enough."""
        now = time.monotonic()
        if now - self.latest < self.every:
            return
        self.latest = now
        minutes = (now - self.started) / 60
        tqdm.write(f"{what}: {minutes:.0f} min so far; Ctrl-C stops, and the same command goes on from here")


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
        """Replace the entry of a request.

        It says one of these: its `job` on the server, the `files` that arrived and their sizes, the smaller requests
        (`parts`) that took its place, or why it is `empty`.
        """
        self.entries[name] = entry
        write_json(self.path, self.entries)

    def complete(self, name: str) -> bool:
        """Whether everything of the entry arrived and still has the size it arrived with, or is known to be empty."""
        entry = self.entries.get(name, {})
        if "empty" in entry:
            return True
        if parts := entry.get("parts"):
            return all(self.complete(part) for part in parts)
        files = entry.get("files", {})
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
        raise _refusal(error, what, tries=retrying.statistics["attempt_number"]) from None


def _refusal(error: Exception, what: str, tries: int) -> UserError:
    """What a failure that does not pass, or has outlasted patience, means for the user."""
    words, meaning = safe(error), _meaning(error)
    tried = f" after {tries} tries" if tries > 1 else ""
    if meaning == "credentials":
        return CredentialsRefused(f"{what}: the server refused the credentials (HTTP {_status(error)}): {words}")
    if meaning == "licence":
        return LicenceMissing(
            f"{what}: the licence of the data set is not accepted; log in on the data set's page and accept it there, "
            f"then give the same command again: {words}"
        )
    if meaning == "too large":
        return RequestTooLarge(f"{what}: the server refuses a request of this size: {words}")
    if meaning == "empty":
        return NothingThere(f"{what}: the server has no data: {words}")
    if meaning == "busy":
        return ServerBusy(f"{what} failed{tried}, the server takes no more requests for now: {words}")
    return UserError(f"{what} failed{tried}: {words}")


def _meaning(error: BaseException) -> str | None:
    """Why a server refused: a key of _WORDS; None for any other failure."""
    status = _status(error)
    if status == 401:
        return "credentials"
    if status in (408, 425, 429):
        return "busy"
    if status == 413:
        return "too large"
    if status not in (400, 403, 404, 422):
        return None
    body = f"{_body(error)} {error}".lower()
    named = next((meaning for meaning, words in _WORDS.items() if re.search(words, body)), None)
    if named == "credentials" and (status != 403 or "<html" in body):
        named = None  # a page of the web server, not an answer of the service
    # a 403 without a reason: servers answer so for a while after many requests
    return "busy" if status == 403 and named is None else named


def _body(error: BaseException) -> str:
    """The text of a server's answer; empty where there is none."""
    response = getattr(error, "response", None)
    try:
        return "" if response is None else response.text
    except Exception:  # the connection of a streamed answer may be closed by now
        return ""


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
    named |= {"Bad Request": 400, "Too Many Requests": 429}
    return next((code for name, code in named.items() if name in text), None)


def _passes(error: BaseException) -> bool:
    """Whether the same request may well succeed later."""
    if isinstance(error, UserError):
        return False
    if _meaning(error) == "busy":
        return True
    status = _status(error)
    if status is not None:
        return status >= 500
    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    # a client that looks for something in an answer that came incomplete raises KeyError
    incomplete = (KeyError, json.JSONDecodeError, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)
    truncated = type(error).__name__ in ("DownloadError", "IncompleteRead") or isinstance(error, FileNotFoundError)
    return truncated or isinstance(error, (*broken, *incomplete))


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait: a Retry-After of seconds or of a date, or a number in its answer."""
    value = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After")
    if not value:
        return _wait_in_words(f"{_body(error)} {error}") if _meaning(error) == "busy" else None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None


def _wait_in_words(text: str) -> float | None:
    """The seconds in an answer such as "try again in 2 minutes" or {"retry_after": 37}; an hour at most."""
    match = re.search(r"(?i)(?:retry|again|wait)[^\d\n]{0,40}?(\d+)[\s\"]*([smh]?)", text)
    return None if match is None else min(3600.0, float(match[1]) * _SECONDS.get(match[2].lower(), 1))


def safe(error: object) -> str:
    """An error's text on one line, without anything that looks like a credential."""
    if isinstance(error, KeyError):
        error = f"the server's answer is incomplete, it lacks {error}"
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


def refuse_web_page(path: Path, name: str) -> None:
    """Raises UserError where a server sent a web page in place of data, such as the form to log in by."""
    with path.open("rb") as stream:
        start = stream.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{name}: the server sent a web page and no data, perhaps its login page; check the account and log in "
            "there once by hand."
        )
