"""Preparing a long record month by month: in parallel, resumable, and with memory that does not grow with its length.

Each month's result is a small file in a hidden folder beside the output, named after what it was made from: files,
settings and code. A run that was interrupted finds the finished months there. At the end they become one data set and
the folder is removed.
"""

import contextlib
import functools
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
import numpy as np
import psutil
import xarray as xr
from tqdm import tqdm

from utils.common.cli import UserError
from utils.common.files import hold_lock, is_store, whole_file
from utils.common.parallel import Job, cluster, cores, finish, finish_here, processes
from utils.common.text import format_bytes
from utils.dataset.prepared import write_prepared
from utils.products import SameInEveryMonth
from utils.products.raw_files import output_attributes
from utils.products.regrid import MIN_VALID_FRACTION, Cells, region_cells

WORKER_MEMORY = 1.5 * 2**30  # bytes a month may need; as many run side by side as the machine holds
LOCK = "lock"  # names in the work folder
FINISHED_MONTHS = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-*.nc"  # such as 2015-04-0123456789abcdef.nc


@dataclass
class PrepareSettings:
    """What the prepare scripts of both products are told."""

    raw: tuple[Path, ...]  # files, folders (searched to the bottom) or quoted glob patterns; ZIPs are looked into
    out: Path  # the prepared data set: .zarr makes a Zarr store, anything else NetCDF-4
    south: float = 3.0  # centre of the southernmost row of cells, degrees north
    north: float = 54.0  # centre of the northernmost row of cells, degrees north
    west: float = 72.0  # centre of the westernmost column of cells, degrees east
    east: float = 136.0  # centre of the easternmost column of cells, degrees east
    resolution: float | Literal["native"] = 1.0  # size of a cell, degrees; native: the source's own cells in the region
    min_valid_fraction: float = MIN_VALID_FRACTION  # a cell with valid data on less of its area than this is missing
    workers: int | None = None  # processes on this machine; None: as many as its cores and memory allow
    dask_scheduler: str = ""  # address of a Dask cluster that sees the same files (tcp://host:8786); empty: none

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
        if self.south > self.north or self.west > self.east:
            raise UserError("the region is empty: --south must not be above --north, nor --west east of --east.")
        bounds = np.array([self.north, self.south]), np.array([self.west, self.east])
        return Cells(*bounds, *bounds)

    @property
    def native(self) -> bool:
        """Whether the source's own cells are kept."""
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
    """One month to prepare: `function(**arguments)` gives its days as a data set [time, lat, lon]."""

    name: str  # 2015-04
    made_from: object  # files, settings and code that its result depends on, in a form whose text is stable
    function: Callable[..., xr.Dataset]
    arguments: dict[str, Any]

    @property
    def file_name(self) -> str:
        """Another one when the files, the settings or the code have changed."""
        mark = hashlib.sha256(repr(self.made_from).encode()).hexdigest()[:16]
        return f"{self.name}-{mark}.nc"


@contextlib.contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """The hidden folder beside `out` that holds finished months.

    It is removed when all went well, and when the input was refused before any month was finished. Raises UserError
    where another run is using it, and where `out` is nothing that may be written or replaced.
    """
    _refuse_name(out)
    folder = out.absolute().with_name(f".{out.name}.work")
    with hold_lock(folder / LOCK, out):
        try:
            yield folder
        except UserError:  # what was unpacked is of no use for input that was refused
            if not list(folder.glob(FINISHED_MONTHS)):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except BaseException:  # after an interruption it serves the next run
            if not [file for file in folder.iterdir() if file.name != LOCK]:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


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
            f"not enough disk for {out}: preparing {days} days needs up to {format_bytes(needed)}, "
            f"{format_bytes(free)} are free in {folder}."
        )


def prepare_months(
    months: Sequence[Month],
    folder: Path,
    settings: PrepareSettings,
    attributes: dict,
    extra: xr.Dataset | None = None,
    check: Callable[[xr.Dataset], None] | None = None,
) -> dict[str, str]:
    """Prepare the months not there yet and write them all to `settings.out`, unless it holds exactly them already.

    `extra` brings further variables along time, such as granules_per_day. `check` looks at the whole record before it
    is written, and raises UserError where it cannot be right. Returns the days left out while preparing, and why.
    """
    contents = repr(([month.file_name for month in months], sorted(attributes.items())))
    made_from = hashlib.sha256(contents.encode()).hexdigest()[:16]
    earlier = output_attributes(settings.out)
    if earlier.get("prepared_from") == made_from and "left_out" in earlier:
        print(f"{settings.out} holds all {len(months)} months already")
        return json.loads(earlier["left_out"])
    files = _run(months, folder, settings)
    history = "python " + shlex.join(sys.argv)
    return _assemble(files, settings.out, attributes | {"prepared_from": made_from, "history": history}, extra, check)


def _run(months: Sequence[Month], folder: Path, settings: PrepareSettings) -> list[Path]:
    """The months' files in order, those that are missing made: in this process, in several, or on a Dask cluster.

    Raises one UserError for all months that failed, when the others are finished.
    """
    jobs = [
        Job(month.name, functools.partial(_make, month, folder))
        for month in months
        if not (folder / month.file_name).exists()
    ]
    if len(jobs) < len(months):
        print(f"{len(months) - len(jobs)} of {len(months)} months are finished already")
    failed: dict[str, UserError] = {}
    with tqdm(total=len(jobs), desc="preparing", unit="month", disable=None) as progress:

        def on_result(job: Job, refusal: UserError | None) -> tuple[()]:
            progress.update()
            if refusal is not None:
                failed[job.name] = refusal
            return ()

        _finish(jobs, settings, on_result)
    if failed:
        raise UserError(_describe_failures(failed, len(months)))
    return [folder / month.file_name for month in months]


def _finish(jobs: Sequence[Job], settings: PrepareSettings, on_result: Callable) -> None:
    if settings.dask_scheduler:
        with cluster(settings.dask_scheduler) as executor:
            finish(jobs, executor, on_result=on_result)
        return
    workers = min(settings.workers or _workers_that_fit(), len(jobs))
    if workers < 2:
        finish_here(jobs, on_result)
        return
    with processes(workers) as executor:
        finish(jobs, executor, at_once=workers, on_result=on_result)


def _workers_that_fit() -> int:
    """As many processes as cores and memory allow."""
    return min(cores(), max(1, int(psutil.virtual_memory().total // WORKER_MEMORY)))


def _describe_failures(failed: dict[str, UserError], count: int) -> str:
    """What went wrong in the months of a record of `count` months."""
    refusals = [failed[name] for name in sorted(failed)]
    general = [refusal for refusal in refusals if isinstance(refusal, SameInEveryMonth)]
    own = [refusal for refusal in refusals if not isinstance(refusal, SameInEveryMonth)]
    causes = list(dict.fromkeys(str(refusal).rstrip(".") for refusal in [*general[:1], *own]))
    if count == 1:
        return f"{causes[0]}."
    more = f" and {len(causes) - 5} more" if len(causes) > 5 else ""
    rest = count - len(failed)
    others = ""
    if rest == 1:
        others = "; the other one is finished"
    elif rest > 1:
        others = f"; the other {rest} are finished"
    return f"{len(failed)} of {count} months failed: {'; '.join(causes[:5])}{more}{others}."


def _make(month: Month, folder: Path) -> UserError | None:
    """Write the month's file; the UserError if its input is refused, so that the other months go on."""
    # xarray would ask dask for a scheduler, and find the worker's own
    with dask.config.set(scheduler="synchronous"):
        try:
            days = month.function(**month.arguments)
            with whole_file(folder / month.file_name) as partial:
                days.to_netcdf(partial, engine="netcdf4", encoding={"time": {"units": "days since 2000-01-01"}})
        except UserError as refusal:
            return refusal
    return None


def _assemble(
    files: Sequence[Path],
    out: Path,
    attributes: dict[str, str],
    extra: xr.Dataset | None,
    check: Callable[[xr.Dataset], None] | None,
) -> dict[str, str]:
    """Write the months as one prepared data set, streamed; returns the days left out while preparing and why."""
    left_out: dict[str, str] = {}
    decided: dict[str, bool] = {}
    for file in files:
        with xr.open_dataset(file) as month:
            left_out |= json.loads(month.attrs["left_out"])
            for name, by_this_month in json.loads(month.attrs.get("decided", "{}")).items():
                decided[name] = decided.get(name, False) or by_this_month
    attributes = attributes | {"left_out": json.dumps(left_out)}
    undecided = sorted(name for name, yes in decided.items() if not yes)
    if undecided:
        more = f" and {len(undecided) - 5} more" if len(undecided) > 5 else ""
        attributes["accumulation_not_checked"] = ", ".join(undecided[:5]) + more
    # one month's maps at a time, also for Zarr, whose chunks are all of one size
    with (
        dask.config.set(scheduler="synchronous"),
        xr.open_mfdataset(files, combine="nested", concat_dim="time", chunks={"time": 31}, join="override") as ds,
    ):
        if not ds.sizes["time"]:
            first_reason = next(iter(left_out.values()), "")
            raise UserError(f"no day with valid values is left for {out}: {first_reason}.")
        if check is not None:
            check(ds)
        ds = ds.chunk(time=32).drop_encoding()
        if extra is not None:
            ds = ds.assign(extra.sel(time=ds["time"]).variables)
        ds.attrs = attributes
        write_prepared(ds, out)
    return left_out


def by_month(days: np.ndarray) -> dict[str, np.ndarray]:
    """Days (datetime64[D], sorted) grouped by calendar month, named like 2015-04."""
    months = days.astype("datetime64[M]")
    return {str(m): days[months == m] for m in np.unique(months)}
