"""Samples per second of one process of one thread, and of two that torchrun starts; beside them the time of sending.

torchrun --nproc-per-node 2 benchmarks/bench_scaling.py JSON        what a process of it does
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from bench_common import Settings, our_model, step_data, training_samples
from machine import fastest

from utils.common.glibc import keep_freed_memory
from utils.training.loop import start_fabric, train_epoch

MODELS = ("lstm", "convlstm", "convlstm_pixel", "pixel_lstm")
SIDES = {"pixel_lstm": 8}  # cells of a patch; whole maps else
ROUNDS = 3
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def measure(name: str, settings: Settings) -> dict:
    """Of this process: samples per second of all processes together, and seconds to sum gradients over them."""
    fabric = start_fabric("auto")
    keep_freed_memory()
    model = our_model(name, settings.shape, settings.input_days)
    samples = training_samples(step_data(settings, settings.shape), settings, model, SIDES.get(name))
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(model.parameters(), fused=True))

    def epoch() -> float:
        start = time.perf_counter()
        train_epoch(fabric=fabric, model=wrapped, optimiser=optimiser, training=samples, batch_size=settings.batch_size)
        return samples.epoch_size / (time.perf_counter() - start)

    epoch()
    found = {"samples_per_second": epoch(), "precision": fabric._precision.precision, "gradients": 0.0}
    if fabric.world_size > 1:
        gradients = torch.zeros(sum(p.numel() for p in model.parameters()))
        found["gradients"] = fastest(lambda: torch.distributed.all_reduce(gradients), repeat=3)
    return found | {"processes": fabric.world_size, "rank": fabric.global_rank}


def in_processes(count: int, name: str, settings: Settings) -> dict:
    """What the first of `count` processes of one thread found; a single one without torchrun."""
    worker = [__file__, json.dumps([name, asdict(settings)], default=str)]
    command = [sys.executable, *(TORCHRUN if count > 1 else []), *([str(count)] if count > 1 else []), *worker]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def rows(settings: Settings) -> Iterator[dict]:
    """One row for each model: medians of processes in turns."""
    for name in settings.of(MODELS):
        step_data(settings, settings.shape)
        rounds = min(settings.rounds, ROUNDS)
        found = [[in_processes(count, name, settings) for count in (1, 2)] for _ in range(rounds)]
        one, two = (median(turn[i]["samples_per_second"] for turn in found) for i in (0, 1))
        gradients = median(turn[1]["gradients"] for turn in found)
        row = {"model": name, "precision": found[0][0]["precision"], "one": one, "two": two, "ratio": two / one}
        ratios = [b["samples_per_second"] / a["samples_per_second"] for a, b in found]
        yield row | {"gradients": gradients, "lowest": min(ratios), "highest": max(ratios)}


if __name__ == "__main__":
    chosen, given = json.loads(sys.argv[1])
    given |= {key: Path(given[key]) for key in ("folder", "out")}
    given |= {key: tuple(given[key]) for key in ("shape", "large_shape", "days", "target_days")}
    measured = measure(chosen, Settings(**given))
    if not measured["rank"]:
        print(json.dumps(measured))
