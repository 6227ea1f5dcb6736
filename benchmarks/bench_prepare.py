"""How fast and in how much memory raw files become a prepared data set; synthetic files at the real sizes.

    python benchmarks/bench_prepare.py                      # about ten minutes and 12 GB of disk
    python benchmarks/bench_prepare.py --spacing 0.25 --months 1 2

Prints ratios measured within one run: preparing against plainly reading the same bytes, memory against the number of
months, China against a whole SMAP granule, and the error of two conservative regriddings.
"""

import calendar
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import tyro
import xarray as xr

ROOT = Path(__file__).parents[1]


@dataclass
class Settings:
    """What to measure, and where to put the synthetic files."""

    spacing: float = 0.1  # degrees; ERA5-Land has 0.1
    months: tuple[int, ...] = (1, 3, 6)  # numbers of months to compare the memory of
    repeat: int = 3
    folder: Path = Path(tempfile.gettempdir())


def month_file(path: Path, spacing: float, year: int, month: int) -> None:
    """An hourly month over China as the new Climate Data Store stores it: one compressed chunk an hour, NaN on sea."""
    lat = np.round(np.arange(54.5, 2.5 - spacing / 2, -spacing), 3)
    lon = np.round(np.arange(71.5, 136.5 + spacing / 2, spacing), 3)
    hours = 24 * calendar.monthrange(year, month)[1]
    rng = np.random.default_rng(month)
    noise = rng.random((len(lat), 2 * len(lon)), dtype=np.float32)
    sea = (lon[None] > 122) & (lat[:, None] < 30)
    scales = {"swvl1": (0.15, 0.2, 2e-5, "m**3 m**-3"), "stl1": (285, 10, 1e-3, "K"), "tp": (0, 2e-4, 1e-7, "m")}
    with netCDF4.Dataset(path, "w") as ds:
        for name, values in (("latitude", lat), ("longitude", lon)):
            ds.createDimension(name, len(values))
            ds.createVariable(name, "f8", (name,))[:] = values
        ds.createDimension("valid_time", hours)
        stamp = ds.createVariable("valid_time", "i8", ("valid_time",))
        stamp.units, stamp.calendar = f"hours since {year}-{month:02d}-01", "proleptic_gregorian"
        stamp[:] = np.arange(hours)
        for name, (base, spread, step, units) in scales.items():
            dims = ("valid_time", "latitude", "longitude")
            chunks = (1, len(lat), len(lon))
            variable = ds.createVariable(
                name, "f4", dims, zlib=True, complevel=1, shuffle=True, chunksizes=chunks, fill_value=np.nan
            )
            variable.units = units
            for hour in range(hours):
                shift = hour % len(lon) if name != "tp" else max(0, hour - 1) // 24
                field = base + spread * noise[:, shift : shift + len(lon)]
                if name == "tp":
                    field = field * ((hour - 1) % 24 + 1)  # grows from 01 to 24 UTC
                field = np.round(field / step) * np.float32(step)  # packed, as it came from GRIB
                field[sea] = np.nan
                variable[hour] = field


def read_plainly(path: Path, library: str) -> float:
    start = time.perf_counter()
    with (h5py.File if library == "h5py" else netCDF4.Dataset)(path) as ds:
        if library == "netCDF4":
            ds.set_auto_mask(False)
        for name in ("swvl1", "stl1", "tp"):
            for first in range(0, ds[name].shape[0], 24):
                ds[name][first : first + 24]
    return time.perf_counter() - start


def prepare(files: list[Path], out: Path) -> tuple[float, float]:
    """Seconds and peak memory [GB] of the whole script, one worker."""
    command = [sys.executable, "data/prepare_era5_land.py", "--raw", *map(str, files), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    out.unlink(missing_ok=True)  # a finished output is not made again
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workers", "1"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def bench_era5(settings: Settings, folder: Path) -> None:
    files = []
    for k in range(max(settings.months)):
        files.append(folder / f"era5_land_2015_{k + 1:02d}.nc")
        month_file(files[-1], settings.spacing, 2015, k + 1)
    print(f"\none hourly month at {settings.spacing:g}°, {files[0].stat().st_size / 1e9:.2f} GB on disk")
    print("| repeat | h5py [s] | netCDF4 [s] | prepare [s] | ratio to h5py | ratio to netCDF4 | peak [GB] |")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    for k in range(settings.repeat):
        plain = [read_plainly(files[0], library) for library in ("h5py", "netCDF4")]
        seconds, peak = prepare(files[:1], folder / "out.nc")
        ratios.append([seconds / p for p in plain])
        print(
            f"| {k + 1} | {plain[0]:.1f} | {plain[1]:.1f} | {seconds:.1f} | {ratios[-1][0]:.2f} | {ratios[-1][1]:.2f} "
            f"| {peak:.2f} |"
        )
    middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
    print(f"median ratio: {middle[0]:.2f} to h5py, {middle[1]:.2f} to netCDF4")
    print("\n| months | peak memory [GB] | seconds a month |\n|---|---|---|")
    for count in settings.months:
        seconds, peak = prepare(files[:count], folder / "out.nc")
        print(f"| {count} | {peak:.2f} | {seconds / count:.1f} |")


def bench_smap(settings: Settings, folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from smap_granules import PATHS, granule

    from utils.products.raw_files import RawFile
    from utils.products.regrid import region_cells
    from utils.products.smap.granules import SHAPE, read, scan, window_cells

    print("\n| SMAP chunks | share of chunks | China / whole, median | allowed (1.3 × share) |\n|---|---|---|---|")
    for chunks in ((406, 482), (203, 241), (116, 241)):
        path = granule(folder, "2015-03-31T01:30", chunks=chunks)
        found = scan(RawFile(path, path.name, "hdf5"))
        rows, columns = window_cells(slice(0, SHAPE[0]), slice(0, SHAPE[1])).overlapping(
            region_cells(3, 54, 72, 136, 1)
        )
        share = 1.0
        for window, chunk, length in zip((rows, columns), chunks, SHAPE, strict=True):
            share *= ((window.stop - 1) // chunk - window.start // chunk + 1) / -(-length // chunk)
        ratios = []
        for _ in range(5 * settings.repeat):
            start = time.perf_counter()
            with h5py.File(path) as file:
                for where, _unit in PATHS.values():
                    file[where][:]
            middle = time.perf_counter()
            read(found, rows, columns)
            ratios.append((time.perf_counter() - middle) / (middle - start))
        print(f"| {chunks} | {share:.3f} | {statistics.median(ratios):.3f} | {1.3 * share:.3f} |")


def bench_regridding() -> None:
    import xarray_regrid  # noqa: F401

    from utils.products.regrid import Regridder, ease_cells, latlon_cells, region_cells
    from utils.products.smap.granules import CELL, X_FIRST, Y_FIRST

    target = region_cells(3, 54, 72, 136, 1.0)
    ease = ease_cells(X_FIRST + CELL * np.arange(2600, 3500), Y_FIRST - CELL * np.arange(60, 800))
    sources = {
        "0.1° latitude–longitude": latlon_cells(np.arange(55.0, 1.95, -0.1), np.arange(71.0, 137.05, 0.1)),
        "0.25° latitude–longitude": latlon_cells(np.arange(55.0, 1.9, -0.25), np.arange(71.0, 137.1, 0.25)),
        "EASE-Grid 2.0, 9 km": ease,
    }
    print(
        "\nrelative error of the total over the region of a field that is 1 in one source row of cells and 0 elsewhere,"
    )
    print("root mean square over the rows\n\n| source | ours | xarray-regrid |\n|---|---|---|")
    areas = np.outer(np.abs(np.diff(np.sin(np.deg2rad(target.lat_edges)))), np.abs(np.diff(target.lon_edges)))
    for name, source in sources.items():
        inside = [i for i, v in enumerate(source.lat) if 5 < v < 52]
        heights = np.abs(np.diff(np.sin(np.deg2rad(source.lat_edges))))
        errors = []
        for i in inside[::7]:
            field = np.zeros((1, *source.shape), np.float32)
            field[0, i] = 1
            wanted = heights[i] * np.abs(target.lon_edges[-1] - target.lon_edges[0])
            ours = Regridder(source, target)(field)[0]
            array = xr.DataArray(field[0], {"lat": source.lat, "lon": source.lon}, ("lat", "lon"), name="v")
            grid = xr.Dataset(coords={"lat": target.lat, "lon": target.lon})
            theirs = array.regrid.conservative(grid, latitude_coord="lat").values
            errors.append([np.nansum(v * areas) / wanted - 1 for v in (ours, theirs)])
        print(f"| {name} | {np.sqrt(np.mean(np.square(errors), axis=0))[0]:.1e} | "
              f"{np.sqrt(np.mean(np.square(errors), axis=0))[1]:.1e} |")  # fmt: skip


if __name__ == "__main__":
    chosen = tyro.cli(Settings, description=__doc__)
    work = Path(tempfile.mkdtemp(prefix="bench_prepare_", dir=chosen.folder))
    try:
        bench_regridding()
        bench_smap(chosen, work)
        bench_era5(chosen, work)
    finally:
        shutil.rmtree(work)
