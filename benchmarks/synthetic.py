"""Synthetic prepared data sets of any size: smooth random fields in physical ranges. Nothing in them was observed.

They are written a few days at a time, so that they may be larger than memory, and are kept for the next benchmark.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import netCDF4
import numpy as np
import torch
import zarr
from jaxtyping import Float32
from scipy.signal import lfilter

from utils.common.files import whole_file
from utils.dataset.prepared import AXES, DAYS_ENCODING, VARIABLES

PATTERNS = 6  # independent fields of which a variable is made
FIRST_DAY = 5568  # 2015-03-31, days since 2000-01-01
Shape = tuple[int, int]


def path_of(folder: Path, shape: Shape, days: int, kind: str = "zarr", layout: str = "auto") -> Path:
    return folder / f"synthetic_{shape[0]}x{shape[1]}_{days}days_{layout}.{kind}"


def prepared(folder: Path, shape: Shape, days: int, kind: str = "zarr", layout: str = "auto") -> Path:
    """A data set over 54…3 °N, 72…136 °E, made if it is not in the folder yet; a third of its cells are sea.

    `kind` zarr or nc. `layout` of its chunks: auto, the library's own; days, one day's whole map; months, 32 of them,
    as the scripts that prepare leave a Zarr store; cells, 64 × 64 cells of a year; contiguous, none (nc alone).
    """
    path = path_of(folder, shape, days, kind, layout)
    if not path.exists():
        cells = tuple(map(min, (365, 64, 64), (days, *shape)))
        chunks = {"days": (1, *shape), "months": (min(32, days), *shape), "cells": cells}.get(layout)
        new = _zarr if kind == "zarr" else _netcdf
        with whole_file(path) as partial, new(partial, (days, *shape), chunks, layout == "contiguous") as variables:
            longest = days_of_chunk(variables["soil_moisture"])
            step = longest * -(-64 // longest)  # whole chunks
            for first, slabs in fields(shape, days, step):
                for name, values in slabs.items():
                    variables[name][first : first + len(values)] = values
    return path


def days_of_chunk(variable: zarr.Array | netCDF4.Variable) -> int:
    chunks = variable.chunks if isinstance(variable, zarr.Array) else variable.chunking()
    return 1 if chunks == "contiguous" else chunks[0]


def fields(
    shape: Shape, days: int, step: int, seed: int = 0
) -> Iterator[tuple[int, dict[str, Float32[np.ndarray, "time lat lon"]]]]:
    """The first day's number and the variables of `step` days at a time."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.standard_normal((1, 3 * PATTERNS + 1, 12, 15), dtype=np.float32))
    maps = torch.nn.functional.interpolate(noise, size=shape, mode="bicubic", align_corners=True)[0].numpy()
    sea = maps[-1] > np.quantile(maps[-1], 2 / 3)
    patterns = maps[:-1].reshape(3, PATTERNS, -1) / np.sqrt(np.float32(PATTERNS))
    amplitudes = {}
    for name, memory in zip(VARIABLES, (0.3, 0.95, 0.9), strict=True):  # correlation of one day with the next
        shocks = np.sqrt(1 - memory**2) * rng.standard_normal((days, PATTERNS))
        amplitudes[name] = lfilter([1], [1, -memory], shocks, axis=0).astype(np.float32)
    season = 12 * np.sin(2 * np.pi * np.arange(days, dtype=np.float32) / 365)[:, None, None]
    for first in range(0, days, step):
        part = slice(first, first + step)
        weather = {
            name: (amplitudes[name][part] @ pattern).reshape(-1, *shape)
            for name, pattern in zip(VARIABLES, patterns, strict=True)
        }
        slabs = {
            "precipitation": 10 * np.maximum(weather["precipitation"] - 0.5, 0),
            "soil_moisture": 0.25 + 0.2 * np.tanh(weather["soil_moisture"]),
            "soil_temperature": 285 + season[part] + 10 * np.tanh(weather["soil_temperature"]),
        }
        yield first, {name: np.where(sea, np.float32(np.nan), values) for name, values in slabs.items()}


def _axes(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    days, rows, columns = shape
    time = np.arange(FIRST_DAY, FIRST_DAY + days, dtype=np.int32)
    return {"time": time, "lat": np.linspace(54, 3, rows), "lon": np.linspace(72, 136, columns)}


def _attributes(name: str) -> dict[str, str]:
    if name in VARIABLES:
        return {"units": VARIABLES[name].units, **VARIABLES[name].attributes}
    return AXES[name] | ({key: DAYS_ENCODING[key] for key in ("units", "calendar")} if name == "time" else {})


ABOUT = {"Conventions": "CF-1.11", "title": "SYNTHETIC fields for benchmarks", "synthetic": "true"}


@contextmanager
def _zarr(path: Path, shape: tuple[int, int, int], chunks: tuple | None, contiguous: bool) -> Iterator[dict]:
    """The variables of a new Zarr store, to be assigned to by days."""
    group = zarr.open_group(path, mode="w", attributes=ABOUT)
    for name, values in _axes(shape).items():
        group.create_array(name, data=values, dimension_names=(name,), attributes=_attributes(name))
    about = {"shape": shape, "dtype": "float32", "fill_value": np.nan, "dimension_names": ("time", "lat", "lon")}
    yield {
        name: group.create_array(name, chunks=chunks or "auto", attributes=_attributes(name), **about)
        for name in VARIABLES
    }


@contextmanager
def _netcdf(path: Path, shape: tuple[int, int, int], chunks: tuple | None, contiguous: bool) -> Iterator[dict]:
    """The variables of a new NetCDF-4 file, to be assigned to by days; compressed as `write_prepared` compresses."""
    how = {"contiguous": True} if contiguous else {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
    with netCDF4.Dataset(path, "w") as ds:
        ds.setncatts(ABOUT)
        variables = {}
        for name, values in _axes(shape).items():
            ds.createDimension(name, len(values))
            ds.createVariable(name, values.dtype, (name,))[:] = values
            ds[name].setncatts(_attributes(name))
        for name in VARIABLES:
            variables[name] = ds.createVariable(name, "f4", ("time", "lat", "lon"), fill_value=np.nan, **how)
            variables[name].setncatts(_attributes(name))
        yield variables
