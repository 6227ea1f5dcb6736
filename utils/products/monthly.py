"""Preparing a long record month by month: in parallel, resumable, and with memory that does not grow with its length.

Each month's result is a small file in a hidden folder beside the output, named after what it was made from. A run that
was interrupted finds the finished months there; at the end they become one data set and the folder is removed.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dask
import filelock
import numpy as np
import psutil
import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.common.files import is_store, whole_file
from utils.dataset.prepared import write_prepared
from utils.products.regrid import MIN_VALID_FRACTION, Cells, Regridder, region_cells

WORKER_MEMORY = 1.5 * 2**30  # bytes a month may need; as many run side by side as the machine holds
# netCDF4 is not safe with threads, and a Dask worker may have several; it also bounds the memory of a process
_ONE_MONTH = threading.Lock()
RECIPE = 2  # part of every month's fingerprint: raise it when the code gives other results


@dataclass
class PrepareSettings:
    """What both products' prepare scripts are told."""

    raw: tuple[Path, ...]  # files, folders (searched to the bottom) or quoted glob patterns; ZIPs are looked into
    out: Path  # .zarr makes a Zarr store, anything else NetCDF-4
    south: float = 3.0  # the bounds are the centres of the outermost cells, degrees
    north: float = 54.0
    west: float = 72.0
    east: float = 136.0
    resolution: float | Literal["native"] = 1.0  # degrees; native keeps the source's own cells within the bounds
    min_valid_fraction: float = MIN_VALID_FRACTION  # a cell with less valid area than this share becomes missing
    workers: int | None = None  # processes on this machine; None: as many as its cores and memory allow
    dask_scheduler: str = ""  # such as tcp://host:8786: a Dask cluster that sees the same files; empty: this machine

    def target(self) -> Cells:
        """The cells to fill; for `native`, cells that only tell the bounds. Raises UserError for impossible ones."""
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers is {self.workers}, expected 1 or more.")
        if not 0 <= self.min_valid_fraction <= 1:
            raise UserError(f"--min-valid-fraction is {self.min_valid_fraction:g}, expected 0 to 1.")
        if self.resolution != "native":
            return region_cells(self.south, self.north, self.west, self.east, self.resolution)
        if not np.isfinite([self.south, self.north, self.west, self.east]).all():
            raise UserError("--south, --north, --west and --east must be finite numbers of degrees.")
        if self.south >= self.north or self.west >= self.east:
            raise UserError("the region is empty: --south must be below --north and --west below --east.")
        bounds = np.array([self.north, self.south]), np.array([self.west, self.east])
        return Cells(*bounds, *bounds)

    @property
    def native(self) -> bool:
        return self.resolution == "native"

    def gridding(self) -> str:
        """The regridding in words, for the data set's attributes."""
        if self.native:
            return "the source's own cells"
        return (
            f"conservative (area-weighted mean of the valid source cells) to {self.resolution:g} degree; missing where "
            f"less than {self.min_valid_fraction:g} of the cell's area within the source is valid"
        )


@dataclass(frozen=True)
class Month:
    """One month to prepare: `function(*arguments)` gives its days as a data set [time, lat, lon]."""

    name: str  # 2015-04
    made_from: object  # everything its result depends on, in a form whose text is stable
    function: Callable[..., xr.Dataset]
    arguments: tuple

    @property
    def file_name(self) -> str:
        mark = hashlib.sha256(repr((RECIPE, self.made_from)).encode()).hexdigest()[:16]
        return f"{self.name}-{mark}.nc"


@contextlib.contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """The hidden folder beside `out` that holds finished months; removed when all went well, and when the input was
    refused before any month was finished.

    Raises UserError where another run is using it, and where `out` is nothing that may be written or replaced.
    """
    _refuse_name(out)
    folder = out.absolute().with_name(f".{out.name}.work")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {fold(error.strerror or error)}.") from error
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"{out} is being prepared by another run; wait for it or choose another --out.") from None
    except OSError as error:
        raise UserError(f"{out} cannot be written: {fold(error.strerror or error)}.") from error
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException as error:
        # what was unpacked serves the next run after an interruption, but not after input that was refused
        if not any(folder.glob("[0-9]*.nc" if isinstance(error, UserError) else "[!l]*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def _refuse_name(out: Path) -> None:
    """Raises UserError where writing `out` would replace something else than an earlier output."""
    if out.name in ("", ".."):
        raise UserError(f"--out {out} is a folder, expected a file name (.nc) or a Zarr store (.zarr).")
    if out.is_dir() and not (out.suffix == ".zarr" and is_store(out)):
        raise UserError(f"{out} is a folder, expected a file name (.nc) or a Zarr store (.zarr).")
    if out.suffix == ".zarr" and out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, expected a Zarr store or a new name.")


def refuse_full_disk(out: Path, days: int, cells: int) -> None:
    """Raises UserError where the months and the output (at most, uncompressed) do not fit on the disk."""
    needed = 2 * days * cells * 3 * 4
    folder = next(p for p in (out.parent, *out.parent.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"not enough disk for {out}: preparing {days} days needs up to {needed / 2**30:.2g} GB, "
            f"{free / 2**30:.2g} GB are free in {folder}."
        )


def prepare_months(
    months: Sequence[Month], folder: Path, settings: PrepareSettings, attributes: dict, extra: xr.Dataset | None = None
) -> dict[str, str]:
    """Prepare the months not there yet and write them all to `settings.out`, unless it holds exactly them already.

    `extra` brings further variables along time, such as granules_per_day. Returns the days left out while preparing,
    and why.
    """
    listed = repr(([m.file_name for m in months], sorted(attributes.items())))
    attributes = attributes | {"prepared_from": hashlib.sha256(listed.encode()).hexdigest()[:16]}
    finished = _finished(settings.out, attributes["prepared_from"])
    if finished is not None:
        print(f"{settings.out} holds all {len(months)} months already")
        return finished
    files = _run(months, folder, settings.dask_scheduler, settings.workers)
    attributes["history"] = "python " + shlex.join(sys.argv)
    return _assemble(files, settings.out, attributes, extra)


def _finished(out: Path, made_from: str) -> dict[str, str] | None:
    """The days left out of `out` if it was made from exactly this, else None."""
    if not out.exists():
        return None
    try:
        kind = {"engine": "zarr", "consolidated": False} if out.is_dir() else {"engine": "netcdf4"}
        with xr.open_dataset(out, **kind) as ds:
            return json.loads(ds.attrs["left_out"]) if ds.attrs.get("prepared_from") == made_from else None
    except Exception:  # whatever lies there is no finished output
        return None


def _run(months: Sequence[Month], folder: Path, scheduler: str, workers: int | None) -> list[Path]:
    """The months' files in order, those not there yet prepared: in this process, on its own workers, or on the Dask
    cluster at the address `scheduler` (whose workers must see the same files). Raises one UserError for all months that
    failed, when the others are finished.
    """
    todo = [m for m in months if not (folder / m.file_name).exists()]
    if len(todo) < len(months):
        print(f"{len(months) - len(todo)} of {len(months)} months are finished already")
    workers = workers or min(os.cpu_count() or 1, max(1, int(psutil.virtual_memory().total // WORKER_MEMORY)))
    with tqdm(total=len(todo), desc="preparing", unit="month", disable=None) as progress:
        if not scheduler and (workers == 1 or len(todo) < 2):
            results = _one_by_one(todo, folder)
        else:
            results = _distributed(todo, folder, scheduler, min(workers, len(todo)))
        failed = {}
        for month, error in results:
            progress.update()
            if error is not None:
                failed[month.name] = str(error).rstrip(".")
    if failed:
        raise UserError(_sentence(failed, len(months)))
    return [folder / month.file_name for month in months]


def _sentence(failed: dict[str, str], count: int) -> str:
    """What went wrong in the months of a record of `count` months."""
    causes = list(dict.fromkeys(failed[name] for name in sorted(failed)))
    if count == 1:
        return f"{causes[0]}."
    more = f" and {len(causes) - 5} more" if len(causes) > 5 else ""
    rest = count - len(failed)
    others = {0: "", 1: "; the other one is finished"}.get(rest, f"; the other {rest} are finished")
    return f"{len(failed)} of {count} months failed: {'; '.join(causes[:5])}{more}{others}."


def _one_by_one(todo: Sequence[Month], folder: Path) -> Iterator[tuple[Month, UserError | None]]:
    for month in todo:
        try:
            _make(month, folder)
        except UserError as error:
            yield month, error
        else:
            yield month, None


def _distributed(
    todo: Sequence[Month], folder: Path, scheduler: str, workers: int
) -> Iterator[tuple[Month, UserError | None]]:
    import distributed

    quiet = {"distributed.admin.log-format": "%(message)s", "logging.distributed": "error"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(quiet))
        if not scheduler:
            cluster = distributed.LocalCluster(
                workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0, silence_logs="CRITICAL"
            )
            scheduler = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(distributed.Client(scheduler, timeout="20s"))
        except (OSError, ValueError) as error:
            raise UserError(f"no Dask scheduler answers at {scheduler}: {fold(error)}.") from error
        futures = {client.submit(_make, month, folder, pure=False): month for month in todo}
        for future in distributed.as_completed(futures):
            error = future.exception() if future.status == "error" else None
            if error is not None and not isinstance(error, UserError):
                client.cancel(list(futures))
                raise error
            yield futures[future], error


def _make(month: Month, folder: Path) -> None:
    # xarray would ask dask for a scheduler, and find the worker's own
    with _ONE_MONTH, dask.config.set(scheduler="synchronous"):
        days = month.function(*month.arguments)
        with whole_file(folder / month.file_name) as partial:
            days.to_netcdf(partial, engine="netcdf4", encoding={"time": {"units": "days since 2000-01-01"}})


def regridded(
    values: dict[str, np.ndarray], days: np.ndarray, source: Cells, target: Cells, min_valid: float | None
) -> xr.Dataset:
    """Daily fields [days, rows, columns] on the target cells; `min_valid` None keeps the source's own cells.

    Days without any valid value of a variable are left out and named in the attribute `left_out`.
    """
    blank = {name: ~np.isfinite(v).any((1, 2)) for name, v in values.items()}
    kept = ~np.any(list(blank.values()), axis=0)
    left_out = {
        str(days[i]): "no valid value of " + ", ".join(n for n in blank if blank[n][i]) for i in np.flatnonzero(~kept)
    }
    if min_valid is not None:
        regrid = Regridder(source, target, min_valid)
        values = {name: regrid(v) for name, v in values.items()}
    cells = source if min_valid is None else target
    return xr.Dataset(
        {name: (("time", "lat", "lon"), v[kept]) for name, v in values.items()},
        {"time": days[kept].astype("datetime64[ns]"), "lat": cells.lat, "lon": cells.lon},
        {"left_out": json.dumps(left_out)},
    )


def _assemble(files: Sequence[Path], out: Path, attributes: dict[str, str], extra: xr.Dataset | None) -> dict[str, str]:
    """Write the months as one prepared data set, streamed; returns the days left out while preparing and why."""
    left_out: dict[str, str] = {}
    decided: dict[str, bool] = {}
    for file in files:
        with xr.open_dataset(file) as month:
            left_out |= json.loads(month.attrs["left_out"])
            for name, yes in json.loads(month.attrs.get("decided", "{}")).items():
                decided[name] = decided.get(name, False) or yes
    # one month's maps at a time, also for Zarr, whose chunks are all of one size
    with (
        dask.config.set(scheduler="synchronous"),
        xr.open_mfdataset(files, combine="nested", concat_dim="time", chunks={"time": 31}, join="override") as ds,
    ):
        if not ds.sizes["time"]:
            raise UserError(f"no day with valid values is left for {out}: {'; '.join(list(left_out.values())[:1])}.")
        ds = ds.chunk(time=32).drop_encoding()
        if extra is not None:
            ds = ds.assign(extra.sel(time=ds["time"]).variables)
        ds.attrs = attributes | {"left_out": json.dumps(left_out)}
        if undecided := sorted(name for name, yes in decided.items() if not yes):
            more = f" and {len(undecided) - 5} more" if len(undecided) > 5 else ""
            ds.attrs["accumulation_not_checked"] = ", ".join(undecided[:5]) + more
        write_prepared(ds, out)
    return left_out


def by_month(days: np.ndarray) -> dict[str, np.ndarray]:
    """Days (datetime64[D], sorted) grouped by calendar month, named like 2015-04."""
    months = days.astype("datetime64[M]")
    return {str(m): days[months == m] for m in np.unique(months)}
