"""Which files a user means by --raw: files, folders and patterns, ZIP archives looked into, damaged files named."""

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.products.archives import Unreadable, unpack

T = TypeVar("T")
SUFFIXES = {".nc", ".nc4", ".nc3", ".cdf", ".netcdf", ".grib", ".grb", ".grib1", ".grib2", ".grb2", ".zip", ".h5"} | {
    ".hdf5",
    ".hdf",
    ".he5",
}
_KINDS = {b"\x89HDF\r\n\x1a\n": "hdf5", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"CDF": "netcdf3", b"GRIB": "grib"}


@dataclass(frozen=True)
class RawFile:
    """A file to read. `path` is where it lies; `name` is what the user knows it by (archive › member)."""

    path: Path
    name: str
    kind: str  # hdf5, netcdf3 or grib

    def fingerprint(self) -> tuple:
        """Changes when the file does; where it lies does not matter."""
        state = self.path.stat()
        return self.path.name, state.st_size, state.st_mtime_ns


def find_files(patterns: Sequence[Path | str], out: Path | None = None) -> list[Path]:
    """Every file that the paths, folders (searched to the bottom) and glob patterns name, each once, sorted.

    Of folders and patterns, files of other kinds (a readme, a checksum) are passed over, and what an earlier run wrote
    to `out`. Raises UserError where nothing matches, and where `out` is one of the raw files.
    """
    found: dict[Path, Path] = {}
    target = None if out is None else out.resolve()
    for pattern in map(str, patterns):
        path = Path(pattern).expanduser()
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        files = [f for match in matches for f in (_inside(match) if match.is_dir() else [match])]
        if path.exists() and not path.is_dir():
            named = files
        else:
            named = []
            files = [f for f in files if _known(f)]
        own = [f for f in files if target is not None and target in (f.resolve(), *f.resolve().parents)]
        if own and (named or not _is_output(target)):
            raise UserError(f"--out {out} is one of the raw files or holds them; choose another name.")
        files = [f for f in files if f not in own]
        if not files:
            what = "holds no NetCDF, GRIB, HDF5 or ZIP file" if matches else "matches no file"
            raise UserError(f"--raw {pattern} {what}.")
        found |= {file.resolve(): file for file in files}
    return sorted(found.values())


def _inside(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    visible = [p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return [p for p in visible if _known(p)]


def _known(path: Path) -> bool:
    try:
        return path.suffix.lower() in SUFFIXES or kind_of(path) is not None
    except OSError:  # named later, with all that cannot be read
        return True


def _is_output(path: Path) -> bool:
    """Whether a file or Zarr store was prepared here."""
    try:
        kind = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
        with xr.open_dataset(path, **kind) as ds:
            return "prepared_from" in ds.attrs
    except Exception:  # whatever lies there was not
        return False


def kind_of(path: Path) -> str | None:
    """hdf5, netcdf3, grib or zip by the file's first bytes, whatever its name; None for anything else."""
    with path.open("rb") as stream:
        start = stream.read(8)
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)


def scan_files(paths: Iterable[Path], scan: Callable[[RawFile], T], scratch: Path, what: str) -> list[T]:
    """`scan` of every file, archives unpacked below `scratch`.

    Raises one UserError that names every damaged file and says how many others are in order.
    """
    results, damaged, count = [], [], 0
    for path in tqdm(list(paths), desc=f"looking into {what}", unit="file", leave=False, disable=None):
        try:
            files = _raw_files(path, scratch)
        except (Unreadable, OSError) as error:
            damaged.append((str(path), error))
            count += 1
            continue
        for file in files:
            count += 1
            try:
                results.append(scan(file))
            except (Unreadable, OSError) as error:
                damaged.append((file.name, error))
    if damaged:
        named = "; ".join(f"{name} ({fold(error).rstrip('.')})" for name, error in damaged[:5])
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        rest = count - len(damaged)
        others = {0: "", 1: "; the other one is in order"}.get(rest, f"; the other {rest} are in order")
        raise UserError(
            f"{len(damaged)} of {count} files cannot be read: {named}{more}{others}: download the damaged ones again, "
            "or leave them out of --raw."
        )
    return results


def _raw_files(path: Path, scratch: Path) -> list[RawFile]:
    kind = kind_of(path)
    if kind is None:
        empty = "is empty" if path.stat().st_size == 0 else "is neither NetCDF, GRIB, HDF5 nor ZIP"
        raise Unreadable(empty)
    if kind != "zip":
        return [RawFile(path.absolute(), str(path), kind)]  # workers may run in another folder
    members = [(p, kind_of(p)) for p in unpack(path, scratch)]
    for member, found in members:
        if found == "zip":
            raise Unreadable(f"its member {member.name} is a ZIP itself: unpack it first")
        if found is None and member.suffix.lower() in SUFFIXES:
            raise Unreadable(f"its member {member.name} is empty or damaged")
    files = [RawFile(p, f"{path} › {p.name}", k) for p, k in members if k]
    if not files:
        raise Unreadable("a ZIP without any NetCDF, GRIB or HDF5 file in it")
    return files
