"""What reading in blocks costs by the chunks of the file: a pass over all blocks over one in the file's own order."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import synthetic
from bench_common import Settings, in_a_process

from utils.dataset.blocks import DataSet
from utils.dataset.prepared import open_prepared

LAYOUTS = (
    *(("zarr", layout) for layout in ("auto", "days", "months", "cells")),
    *(("nc", layout) for layout in ("auto", "contiguous")),
)
BLOCKS = 6  # read of each file; the whole pass is their mean time for each block there is


def measure(kind: str, layout: str, settings: Settings) -> dict:
    """Seconds of both passes over the values alone; nothing is scaled."""
    days = settings.days[0]
    path = synthetic.prepared(settings.folder, settings.large_shape, days, kind, layout)
    data = DataSet(path)
    blocks = data.blocks(multiple=8)
    chosen = np.random.default_rng(0).permutation(len(blocks))[:BLOCKS]

    def read(days: slice, rows: slice, columns: slice) -> float:
        start = time.perf_counter()
        with open_prepared(path) as ds:
            ds.isel(time=days, lat=rows, lon=columns).load()
        return time.perf_counter() - start

    with open_prepared(path) as ds:
        chunks = ds["soil_moisture"].encoding.get("chunksizes") or ds["soil_moisture"].encoding.get("chunks")
    step = chunks[0] * -(-64 // chunks[0]) if chunks else 64
    everywhere = (slice(None), slice(None))
    own_order = sum(read(slice(first, first + step), *everywhere) for first in range(0, days, step))
    by_block = sum(read(slice(None), *blocks[i].window) for i in chosen) / len(chosen) * len(blocks)
    return {"chunks": chunks, "blocks": len(blocks), "own_order": own_order, "by_block": by_block}


def rows(settings: Settings) -> Iterator[dict]:
    """One row for each layout; files that no other part reads are removed behind it."""
    for kind, layout in LAYOUTS:
        in_a_process(synthetic.prepared, settings.folder, settings.large_shape, settings.days[0], kind, layout)
        found = in_a_process(measure, kind, layout, settings)
        if layout != "auto":
            _remove(synthetic.path_of(settings.folder, settings.large_shape, settings.days[0], kind, layout))
        yield {"file": kind, "layout": layout, **found, "ratio": found["by_block"] / found["own_order"]}


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
