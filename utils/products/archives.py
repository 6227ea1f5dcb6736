"""ZIP archives from the internet, unpacked so that none can write outside its folder or fill the disk."""

import hashlib
import os
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from utils.common.cli import UserError, fold
from utils.common.files import whole_file
from utils.common.text import format_bytes

MAX_MEMBERS = 10_000
MAX_RATIO = 100  # NetCDF and GRIB hardly compress further; a thousand to one is a bomb
SMALL = 32 * 2**20  # bytes; below this any ratio is harmless


class Unreadable(Exception):
    """A file that is damaged or of no known kind; its text says why, without the file's name."""


class Locked(Unreadable):
    """A file that is in order as far as can be told, and cannot be opened for a lock."""


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The members of `archive`, unpacked below `folder` (once: a second call finds them there).

    Raises UserError for an archive that is unsafe or larger than the disk, Unreadable for a damaged one.
    """
    state = archive.stat()
    mark = hashlib.sha256(f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:12]
    target = folder / f"{archive.stem}-{mark}"
    if not target.is_dir():
        try:
            with zipfile.ZipFile(archive) as content:
                members = [member for member in content.infolist() if not member.is_dir()]
                refuse_unsafe(archive, members)
                _refuse_large(archive, members, folder)
                with whole_file(target) as partial:
                    partial.mkdir(parents=True)
                    for member in members:  # of which at most its stated size is written
                        path = content.extract(member, partial)
                        # the archive's own age, so that unpacking again gives the same file to whoever looks
                        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
        except (zipfile.BadZipFile, EOFError, zipfile.zlib.error, NotImplementedError) as error:
            raise Unreadable(f"a damaged ZIP: {fold(error)}") from error
    return sorted(path for path in target.rglob("*") if path.is_file())


def refuse_unsafe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises UserError where a member would leave its folder, replace another member, or ask for a password."""
    seen: set[PurePosixPath] = set()
    for member in members:
        posix, windows = PurePosixPath(member.filename), PureWindowsPath(member.filename)
        if posix in seen:
            raise UserError(f"{archive} was not unpacked: its member {member.filename!r} comes twice.")
        seen.add(posix)
        outside = posix.is_absolute() or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts)
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(
                f"{archive} was not unpacked: its member {member.filename!r} would be written outside its folder."
            )
        if member.flag_bits & 1:
            raise UserError(f"{archive} was not unpacked: its member {member.filename!r} is encrypted.")


def _refuse_large(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Raises UserError for an archive that grows too much, has too many members, or does not fit on the disk."""
    size, packed = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > MAX_MEMBERS or (size > SMALL and size > MAX_RATIO * packed):
        raise UserError(
            f"{archive} was not unpacked: its {packed / 2**20:.3g} MB would become {size / 2**20:.3g} MB in "
            f"{len(members)} files, which looks like a ZIP bomb (at most {MAX_RATIO}:1 is unpacked)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"not enough disk to unpack {archive}: {format_bytes(size)} needed, {format_bytes(free)} free.")
