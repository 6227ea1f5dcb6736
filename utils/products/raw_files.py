"""Which files a user means by --raw: files, folders and patterns, ZIP archives looked into, damaged files named."""

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.common.files import UNLOCK, describe_lock
from utils.dataset.recognise import columns_of, describe_service
from utils.products.archives import Locked, Unreadable, unpack

T = TypeVar("T")
SUFFIXES = {
    *(".nc", ".nc4", ".nc3", ".cdf", ".netcdf"),
    *(".grib", ".grb", ".grib1", ".grib2", ".grb2"),
    *(".h5", ".hdf5", ".hdf", ".he5"),
    *(".tif", ".tiff"),
    ".zip",
}
_KINDS = {b"\x89HDF\r\n\x1a\n": "hdf5", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"CDF": "netcdf3", b"GRIB": "grib"}
_KINDS |= {start: "tiff" for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")}


@dataclass(frozen=True)
class RawFile:
    """A file to read. `path` is where it lies; `name` is what the user knows it by (archive › member)."""

    path: Path
    name: str
    kind: str  # hdf5, netcdf3, grib or tiff

    def fingerprint(self) -> tuple:
        """Changes when the file does; where it lies does not matter."""
        state = self.path.stat()
        return self.path.name, state.st_size, state.st_mtime_ns


def find_files(patterns: Sequence[Path | str], out: Path | None = None) -> list[Path]:
    """Every file that the paths, folders (searched to the bottom) and glob patterns name, each once, sorted.

    Of folders and patterns, files of other kinds (a readme, a checksum) are passed over, and what an earlier run wrote
    to `out`. Raises UserError where nothing matches, and where `out` is one of the raw files.
    """
    files: dict[Path, Path] = {}
    for pattern in patterns:
        for file in _matches(str(pattern), out):
            files[file.resolve()] = file
    return sorted(files.values())


def _matches(pattern: str, out: Path | None) -> list[Path]:
    """The files that one path, folder or pattern names, without the output of an earlier run."""
    path = Path(pattern).expanduser()
    is_file = path.exists() and not path.is_dir()
    matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
    files = [file for match in matches for file in (_inside(match) if match.is_dir() else [match])]
    if not is_file:
        files = [file for file in files if _is_data(file)]
    if out is not None:
        own = [file for file in files if out.resolve() in (file.resolve(), *file.resolve().parents)]
        if own and (is_file or "prepared_from" not in output_attributes(out)):
            raise UserError(f"--out {out} is one of the raw files or holds them; choose another name.")
        files = [file for file in files if file not in own]
    if not files:
        what = "holds no NetCDF, GRIB, HDF5, GeoTIFF or ZIP file" if matches else "matches no file"
        raise UserError(f"--raw {pattern} {what}.")
    return files


def _inside(folder: Path) -> list[Path]:
    """All files of a folder and of its folders that are not hidden."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _is_data(path: Path) -> bool:
    """Whether a file is data by its name or content, or cannot be looked into: it is then named with the damaged."""
    try:
        return path.suffix.lower() in SUFFIXES or kind_of(path) is not None
    except OSError:
        return True


def output_attributes(path: Path) -> dict[str, Any]:
    """The attributes of a NetCDF file or Zarr store; none where there is nothing that can be read."""
    kind = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    try:
        with xr.open_dataset(path, **kind) as ds:
            return ds.attrs
    except Exception:  # whatever lies there was not prepared here
        return {}


def kind_of(path: Path) -> str | None:
    """hdf5, netcdf3, grib, tiff or zip by the file's first bytes, whatever its name; None for anything else."""
    with path.open("rb") as stream:
        start = stream.read(8)
    return next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)


def scan_files(paths: Iterable[Path], scan: Callable[[RawFile], T], scratch: Path, what: str) -> list[T]:
    """`scan` of every file, archives unpacked below `scratch`; `what` they are, for the progress bar.

    Raises one UserError that names every damaged file and says how many others are in order.
    """
    results: list[T] = []
    damaged: list[tuple[str, Exception]] = []
    for path in tqdm(list(paths), desc=f"looking into {what}", unit="file", leave=False, disable=None):
        try:
            files = _raw_files(path, scratch)
        except (Unreadable, OSError) as error:
            damaged.append((str(path), error))
            continue
        for file in files:
            try:
                results.append(scan(file))
            except (Unreadable, OSError) as error:
                damaged.append((file.name, error))
    if damaged:
        raise UserError(_damage(damaged, in_order=len(results)))
    return results


def _damage(damaged: Sequence[tuple[str, Exception]], in_order: int) -> str:
    """One sentence that names up to five files that cannot be read and counts the others."""
    named = "; ".join(f"{name} ({fold(error).rstrip('.')})" for name, error in damaged[:5])
    if len(damaged) > 5:
        named += f" and {len(damaged) - 5} more"
    if in_order == 1:
        named += "; the other one is in order"
    elif in_order > 1:
        named += f"; the other {in_order} are in order"
    if all(isinstance(error, Locked) for _, error in damaged):
        advice = UNLOCK
    else:
        advice = "download the damaged ones again, or leave them out of --raw"
    return f"{len(damaged)} of {len(damaged) + in_order} files cannot be read: {named}: {advice}."


def cannot_be_read(file: RawFile, error: Exception) -> UserError:
    """The refusal of a file whose values cannot be read, though its beginning could."""
    why = explain(file, error)
    if isinstance(why, Locked):
        return UserError(f"{file.name} cannot be read: {why}; {UNLOCK}.")
    return UserError(f"{file.name} cannot be read to its end, it may be damaged: {fold(error)}.")


def explain(file: RawFile, error: Exception) -> Unreadable:
    """Why a file could not be opened or read: its lock, its name, or that it is damaged."""
    if isinstance(error, UnicodeError):
        return Unreadable("its name or that of its folder is not written in UTF-8: rename it")
    if file.kind == "hdf5" and (lock := describe_lock(file.path, error)):
        return Locked(lock)
    return Unreadable(f"damaged or truncated: {fold(error)}")


def _raw_files(path: Path, scratch: Path) -> list[RawFile]:
    """The file itself, or the members of an archive. Raises Unreadable where one of them is empty or damaged."""
    kind = kind_of(path)
    if kind is None:
        raise Unreadable(_describe_other(path))
    if kind != "zip":
        return [RawFile(path.absolute(), str(path), kind)]  # workers may run in another folder
    files = []
    for member in unpack(path, scratch):
        kind = kind_of(member)
        if kind == "zip":
            raise Unreadable(f"its member {member.name} is a ZIP itself: unpack it first")
        if kind is not None:
            files.append(RawFile(member, f"{path} › {member.name}", kind))
        elif member.suffix.lower() in SUFFIXES:
            raise Unreadable(f"its member {member.name} is empty or damaged")
    if not files:
        raise Unreadable("a ZIP without any NetCDF, GRIB or HDF5 file in it")
    return files


def _describe_other(path: Path) -> str:
    """What a file of no known kind is, as far as its beginning tells."""
    with path.open("rb") as stream:
        start = stream.read(2048)
    if not start:
        return "is empty"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, perhaps a login page that was saved in place of the data"
    if b"\0" not in start and b"\n" in start:
        if service := describe_service(columns_of(path)):
            return f"is a CSV table of {service}; data/join.py reads the series of one site"
        heading = fold(start.splitlines()[0].decode(errors="replace"))[:80]
        return f"is a text file such as a CSV table, expected NetCDF, GRIB, HDF5, GeoTIFF or ZIP; it begins {heading!r}"
    return "is neither NetCDF, GRIB, HDF5, GeoTIFF nor ZIP"
