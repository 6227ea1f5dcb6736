"""Files that appear whole or not at all, locks, and fingerprints of files and of code."""

import ast
import contextlib
import errno
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from utils.common.cli import UserError, fold

ROOT = Path(__file__).resolve().parents[2]  # of the repository
CLOCK_TICK = 2.0  # seconds: the coarsest clock of a file system
UNLOCK = "wait for the other process, or set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
# system errors of a lock that another process holds, and of a file system that knows no locks
_HELD, _NO_LOCKS = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}, {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well and vanishes when it does not.

    Works for a file and for a directory (a Zarr store). Raises UserError when the disk is full or not writable, and
    where `path` is a folder that is no Zarr store: that is never removed.
    """
    if path.is_dir() and not is_store(path):
        raise UserError(f"{path} is a folder, expected the name of a file or of a Zarr store; it was left as it is.")
    partial = path.with_name(f".{path.name}.partial")
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            yield partial
            if partial.is_file():
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            if path.is_dir() and is_store(path):
                _remove(path)
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(partial)
            raise


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the errors of writing to `path` into their one sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (mended := _write_error(path, error)) is not error:
            raise mended from error
        raise


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, or empty: one that may be replaced."""
    return any((path / name).exists() for name in ("zarr.json", ".zgroup")) or not any(path.iterdir())


def _write_error(path: Path, error: BaseException) -> BaseException:
    """The sentence for a failed write, or the error itself where it is not about the disk.

    Libraries wrap the system's error (torch) or lose it (netCDF4), so the chain of causes and the disk are asked.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    folder = next((p for p in path.parents if p.is_dir()), Path("."))
    if getattr(cause, "errno", None) in _FULL or shutil.disk_usage(folder).free < 2**20:
        return UserError(f"{path} could not be written, the disk or quota is full; nothing was left half-written.")
    if isinstance(cause, OSError):
        return UserError(f"{path} could not be written: {fold(cause.strerror or cause)}.")
    return error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """`content` as indented JSON, written whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; {} where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


@contextlib.contextmanager
def hold_lock(lock_file: Path, what: Path) -> Iterator[None]:
    """Keep `what` for this process alone; the operating system frees it when the process ends, however.

    Raises UserError where another living process holds it, and where the lock's folder cannot be written.
    """
    lock = FileLock(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{what} is in use by another process; wait for it or give another --out.") from None
    except (OSError, NotImplementedError) as error:
        reason = fold(getattr(error, "strerror", None) or error)
        raise UserError(f"{what} cannot be written: {reason}; give another --out.") from error
    try:
        yield
    finally:
        lock.release()


def describe_lock(path: Path, error: Exception | None = None) -> str:
    """Why the lock of an HDF5 file keeps it from being read; empty where it is no lock that does.

    `error` is what reading it raised. netCDF4 hides the system's error, h5py keeps it.
    """
    number = getattr(error, "errno", None)
    if number not in _HELD | _NO_LOCKS and path.is_file():
        import h5py

        try:
            h5py.File(path, "r").close()
        except Exception as second:  # h5py raises many kinds for damaged files
            number = getattr(second, "errno", None)
    if number in _HELD:
        return "another process has it open for writing, and holds its lock"
    if number in _NO_LOCKS:
        return "its file system, perhaps a network drive, has no locks"
    return ""


def refuse_locked(path: Path) -> None:
    """Raises UserError where the lock of a NetCDF or HDF5 file keeps it from being read: it is not damaged."""
    if lock := describe_lock(path):
        raise UserError(f"{path} cannot be read: {lock}; {UNLOCK}.")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all the files of a Zarr store in the order of their names.

    Kept while this process finds the same files unchanged: a study asks for it before and after every run. A file that
    was written within the last two seconds is read again: another write may not move its times.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    stamps = tuple((file, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for file, s in states)
    newest = max((s.st_ctime for _, s in states), default=0)
    if time.time() - newest < CLOCK_TICK:
        return _hash_of.__wrapped__(path, stamps)
    return _hash_of(path, stamps)


@functools.lru_cache(maxsize=16)
def _hash_of(path: Path, states: tuple[tuple, ...]) -> str:
    digest = hashlib.sha256()
    for file, *_ in states:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while block := stream.read(2**22):
                digest.update(block)
    return digest.hexdigest()


@functools.cache
def code_hash(module: str) -> str:
    """SHA-256 of what a module of this project does: its code, and that of every module of ours that it imports.

    It changes when a result may. Comments, docstrings and line breaks do not count. Raises ValueError for any other
    module.
    """
    if _source_of(module) is None:
        raise ValueError(f"{module} is no module of this project")
    return hashlib.sha256(repr(sorted(_trees(module).items())).encode()).hexdigest()


def _trees(module: str) -> dict[str, str]:
    """The syntax tree of a module, as text, and of every module of ours that it imports, directly or not."""
    trees: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _source_of(name)
        if name in trees or file is None:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        trees[name] = _without_docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return trees


def _source_of(module: str) -> Path | None:
    """The file of a module of this project; None for any other name."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if module.split(".")[0] == "utils" and file.is_file()), None)


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
