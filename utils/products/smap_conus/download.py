"""The public files of SMAP over the United States: fetched from one fixed commit, each checked by its SHA-256."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import whole_file
from utils.products.download import Patience, retry

COMMIT = "11e7831fce181abc01f26772a6dd066beb9d34df"
FOLDER = "example/SMAP/data/CONUSv4f1"
URL = f"https://raw.githubusercontent.com/fkwai/geolearn/{COMMIT}/{FOLDER}"
BY_HAND = f"https://github.com/fkwai/geolearn/tree/{COMMIT}/{FOLDER}"
MEGABYTES = 35  # of all files together
TIMEOUT = 60  # seconds without a byte


@dataclass
class CONUSDownloadSettings:
    """What data/download_smap_conus.py is told."""

    out: Path = Path("data/raw/smap_conus")  # folder of the files that arrive
    raw: Path | None = None  # a copy of the published folder that is there already; nothing is fetched then


def published_files() -> dict[str, str]:
    """The SHA-256 of every published file, by its path below the folder, such as 2015/SMAP_AM.csv."""
    lines = Path(__file__).with_name("SHA256SUMS").read_text().splitlines()
    return {path.split("/", 1)[1]: digest for digest, path in (line.split() for line in lines)}


def download_conus(
    settings: CONUSDownloadSettings,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    url: str = URL,
) -> None:
    """Bring every published file into `settings.out`. Files that are there and intact stay as they are.

    With `settings.raw` they are copied from there, and those that it lacks are named. Raises UserError for a file that
    cannot be had or is not the published one; the next call goes on from there.
    """
    files = published_files()
    todo = [name for name, digest in files.items() if not is_intact(settings.out / name, digest)]
    origin = settings.raw or "github.com/fkwai/geolearn"
    print(f"{len(files)} files, {MEGABYTES} MB in all; {len(todo)} of them come from {origin} into {settings.out}.")
    absent = []
    for name in tqdm(todo, desc="files", unit="file", disable=None):
        if settings.raw:
            source = folder_of(settings.raw) / name
            if not source.exists():
                absent.append(name)
                continue
            content = source.read_bytes()
        else:
            content = _fetch(f"{url}/{name}", name, patience)
        _refuse_altered(content, name, files[name], origin=settings.raw or url)
        (settings.out / name).parent.mkdir(parents=True, exist_ok=True)
        with whole_file(settings.out / name) as partial:
            partial.write_bytes(content)
    _conclude(absent, files, settings)


def folder_of(folder: Path) -> Path:
    """The published folder itself, where `folder` is the one around it. Raises UserError where neither is one."""
    for candidate in (folder, folder / "CONUSv4f1"):
        if (candidate / "crd.csv").exists():
            return candidate
    raise UserError(f"{folder} does not hold crd.csv, expected the published folder CONUSv4f1 ({BY_HAND}).")


def is_intact(path: Path, digest: str) -> bool:
    """Whether a file is there and is the published one."""
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _fetch(url: str, name: str, patience: Patience) -> bytes:
    """The content of a file on the server. Raises UserError once patience ends."""

    def get() -> bytes:
        response = requests.get(url, timeout=TIMEOUT)
        response.raise_for_status()
        return response.content

    try:
        return retry(get, name, patience)
    except UserError as error:
        raise UserError(
            f"{str(error).rstrip('.')}; the same command goes on from here, or take the folder by hand from {BY_HAND} "
            "and give it with --raw."
        ) from None


def _refuse_altered(content: bytes, name: str, digest: str, origin: Path | str) -> None:
    """A UserError where the content is not the published one."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(
            f"{name} from {origin} has {len(content)} bytes that are not the published ones (SHA-256), it may be "
            f"truncated or altered; the published folder is {BY_HAND}."
        )


def _conclude(absent: list[str], files: dict[str, str], settings: CONUSDownloadSettings) -> None:
    """Say what is there and which years are not. Raises UserError where something all years need is absent."""
    years = sorted({name.split("/")[0] for name in absent if name[:4].isdigit()})
    if needed := [name for name in absent if not name[:4].isdigit()]:
        raise UserError(f"{settings.raw} lacks {needed[0]}, expected the published folder ({BY_HAND}).")
    there = len(files) - len(absent)
    print(f"{settings.out}: {there} of {len(files)} files, each with the published SHA-256.")
    for year in years:
        print(f"The year from April {year} is not complete in {settings.raw}; the data sets leave it out.")
