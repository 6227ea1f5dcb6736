"""The loader's share of training: seconds the loop waits for a batch, or for the next block of a large data set."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import synthetic
import torch
from bench_common import Settings, in_a_process, our_model, step_data, training_samples

from utils.common.glibc import keep_freed_memory
from utils.data_processing import Windows
from utils.training.loop import start_fabric, train_epoch

BLOCKS = 4  # of a large data set; the first of them is waited for, as in an epoch of all
MODELS = ("cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm", "pixel_lstm", "convlstm_pixel")
SIDES = {"pixel_lstm": 8, "convlstm_pixel": 64}  # cells of a patch


class Timed(Windows):
    """The samples of an epoch, and the seconds spent on them."""

    def __init__(self, samples: Windows):
        self.samples, self.blocks, self.batches = samples, 0.0, 0.0

    def shuffled(self) -> Iterator[Windows]:
        items = self.samples.shuffled()
        while windows := self.timed("blocks", lambda: next(items, None)):
            batch, windows = windows.batch, copy.copy(windows)
            windows.batch = lambda samples, batch=batch: self.timed("batches", lambda: batch(samples))
            yield windows

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        setattr(self, what, getattr(self, what) + time.perf_counter() - start)
        return done


def measure(name: str, path: Path, patch: int | None, settings: Settings) -> dict:
    """Seconds of an epoch, and of its waiting for blocks and for batches; of a large data set some blocks alone."""
    fabric = start_fabric("auto")
    keep_freed_memory()
    large = path != step_data(settings, settings.shape)
    # a quarter of a large data set's days: less to hide its reading behind than an epoch has; patches are many samples
    targets = settings.days[0] // 4 if large else 2 * settings.batch_size if patch else None
    shape = settings.large_shape if large else settings.shape
    model = our_model(name, shape, settings.input_days)
    samples = training_samples(path, settings, model, patch, targets)
    samples.blocks = samples.blocks[:BLOCKS]
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(model.parameters(), fused=True))
    shared = {"fabric": fabric, "model": wrapped, "optimiser": optimiser, "batch_size": settings.batch_size}
    if not large:
        train_epoch(training=samples, **shared)  # not measured
    timed, start = Timed(samples), time.perf_counter()
    train_epoch(training=timed, **shared)
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "batches": timed.batches / seconds, "blocks": timed.blocks / seconds}
    return found | {"share": found["batches"] + found["blocks"], "samples_per_second": samples.epoch_size / seconds}


def rows(settings: Settings) -> Iterator[dict]:
    """Whole maps and patches in memory, then blocks from disk."""
    small = step_data(settings, settings.shape)
    cases = [(name, small, None, "whole maps in memory") for name in settings.of(MODELS) if name not in SIDES]
    patched = settings.of(tuple(SIDES))
    cases += [(name, small, min(SIDES[name], settings.shape[0] // 2), "patches in memory") for name in patched]
    for kind, what in (("zarr", "blocks from Zarr"), ("nc", "blocks from NetCDF")) if patched else ():
        large = in_a_process(synthetic.prepared, settings.folder, settings.large_shape, settings.days[0], kind)
        cases += [(name, large, min(SIDES[name], settings.large_shape[0] // 2), what) for name in patched]
    for name, path, patch, what in cases:
        yield {"model": name, "data": what, "patch": patch, **in_a_process(measure, name, path, patch, settings)}
