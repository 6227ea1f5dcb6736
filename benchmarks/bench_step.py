"""How fast a training step is on this machine, and in how much memory: every model against the published step.

    python benchmarks/bench_step.py                      # about ten minutes on two cores
    python benchmarks/bench_step.py --quick              # a small grid, one round: does it run?
    python benchmarks/bench_step.py --models convlstm --rounds 7

Reference and ours run in turns, each time in a process of its own, on the same synthetic days. Beside the times stands
the roofline: what the step's products and its weights' way through memory would take at the speed of a large matrix
product and of a large copy.
"""

import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import published
import torch
import tyro
import xarray as xr
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from utils.data_processing import Record, Statistics, Windows
from utils.files import write_json
from utils.forecasting import load_script
from utils.prepared_data import Grid
from utils.settings import ROOT, Split
from utils.training import keep_freed_memory, start_fabric, train_epoch

BYTES = 36  # a weight's way through memory: read (4), its gradient (4), Adam reads four and writes three values (28)


@dataclass
class Settings:
    """What to measure, how often, and where to put the numbers."""

    models: tuple[str, ...] = tuple(published.MODELS)
    precisions: tuple[str, ...] = ("auto", "32-true")  # of ours; the reference is in 32 bit
    shape: tuple[int, int] = (52, 65)
    input_days: int = 3
    batch_size: int = 128
    steps: int = 5  # measured in each process, after two that are not
    rounds: int = 5  # processes of each kind
    quick: bool = False  # a smoke test: 12 × 14 cells, batches of 8, one round
    out: Path = ROOT / "results" / "bench.json"


def synthetic_days(settings: Settings) -> xr.Dataset:
    """Enough days for one epoch of `steps` batches, a third of the cells sea."""
    rng = np.random.default_rng(0)
    days = settings.batch_size * settings.steps + settings.input_days + 10
    sea = rng.random(settings.shape) < 1 / 3
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(days) * np.timedelta64(1, "D"),
        "lat": np.linspace(54, 3, settings.shape[0]),
        "lon": np.linspace(72, 136, settings.shape[1]),
    }
    names = ("precipitation", "soil_moisture", "soil_temperature")
    maps = {name: np.where(sea, np.nan, rng.random((days, *settings.shape))).astype("f4") for name in names}
    return xr.Dataset({name: (("time", "lat", "lon"), values) for name, values in maps.items()}, coords)


def training_windows(settings: Settings) -> Windows:
    """Windows of the synthetic days: `steps` batches."""
    ds = synthetic_days(settings)
    day = ds["time"].values.astype("datetime64[D]")
    first, last = day[settings.input_days + 2], day[settings.input_days + 1 + settings.batch_size * settings.steps]
    split = Split(((first, last),), ((last + 1, last + 1),), ((last + 2, last + 2),))
    return Windows(Record(ds, Statistics.fit(ds, split)), split.train, 3, settings.input_days, "training")


def our_model(name: str, settings: Settings) -> torch.nn.Module:
    script, _, head = (name, "", "") if (ROOT / "SMAPtest" / f"train_{name}.py").exists() else name.rpartition("_")
    module = load_script(ROOT / "SMAPtest" / f"train_{script}.py")
    chosen = module.Settings(input_days=settings.input_days, **({"head": head} if head else {}))
    return module.build(chosen, Grid(np.linspace(54, 3, settings.shape[0]), np.linspace(72, 136, settings.shape[1])))


def measure_ours(name: str, precision: str, settings: Settings) -> dict:
    """Seconds a step of `train_epoch`, as the scripts run it."""
    windows = training_windows(settings)
    fabric = start_fabric(precision)
    keep_freed_memory()
    model = our_model(name, settings)
    wrapped, optimiser = fabric.setup(model, torch.optim.Adam(model.parameters(), fused=True))
    bar = tqdm(disable=True)
    two_batches = ((windows.valid_time[0], windows.valid_time[2 * settings.batch_size - 1]),)
    few = Windows(windows.record, two_batches, 3, settings.input_days, "warm-up")

    def epoch(chosen: Windows) -> float:
        start = time.perf_counter()
        train_epoch(fabric, wrapped, optimiser, chosen, settings.batch_size, bar)
        return (time.perf_counter() - start) * settings.batch_size / len(chosen)

    epoch(few)
    seconds = epoch(windows)
    peak = peak_memory()
    with FlopCounterMode(display=False) as counter:
        epoch(few)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "seconds": seconds,
        "memory": peak,
        "precision": fabric._precision.precision,
        "flops": counter.get_total_flops() / 2,
        "parameters": parameters,
    }


def measure_reference(name: str, settings: Settings) -> dict:
    """Seconds a step of the published kind."""
    record = training_windows(settings).record
    features, target = published.windows(record.features.numpy(), settings.input_days, 3)
    model = published.MODELS[name](settings.shape, settings.input_days, 3)
    optimiser = torch.optim.Adam(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.npy"
        np.save(mask, record.statistics.scored)
        order = np.random.default_rng(0).permutation(settings.batch_size * settings.steps)
        batches = order.reshape(settings.steps, -1)

        def epoch(chosen: np.ndarray) -> float:
            start = time.perf_counter()
            for samples in chosen:
                published.step(model, optimiser, features, target, samples, mask)
            return (time.perf_counter() - start) / len(chosen)

        epoch(batches[:2])
        return {"seconds": epoch(batches), "memory": peak_memory()}


def peak_memory() -> float:
    """The most memory this process has held so far, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def measure_peaks(settings: Settings) -> dict:
    """Operations per second of a large matrix product in 32 and 16 bit, bytes per second of a large copy."""
    keep_freed_memory()
    size = 256 if settings.quick else 3072

    def fastest(work, repeat: int = 7) -> float:
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    peaks = {}
    for name, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
        peaks[name] = 2 * size**3 / fastest(lambda a=one, b=other: a @ b.T)
    source = torch.randn(2**20 if settings.quick else 2**26)
    target = torch.empty_like(source)
    return {**peaks, "copy": 2 * 4 * source.numel() / fastest(lambda: target.copy_(source))}


def in_a_process(kind: list[str], settings: Settings) -> dict:
    """The numbers of one worker."""
    options = {"shape": settings.shape, "input_days": settings.input_days, "batch_size": settings.batch_size}
    options |= {"steps": settings.steps, "quick": settings.quick}
    command = [sys.executable, __file__, "--worker", json.dumps([kind, options])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def work(kind: list[str], settings: Settings) -> dict:
    match kind:
        case ["peaks"]:
            return measure_peaks(settings)
        case [name, "reference"]:
            return measure_reference(name, settings)
        case [name, precision]:
            return measure_ours(name, precision, settings)


def summary(measured: list[dict]) -> dict:
    """Median and spread over the processes, and what is the same in all of them."""
    seconds = [one["seconds"] for one in measured]
    spread = {"seconds": median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    return measured[0] | spread | {"memory": max(one["memory"] for one in measured)}


def main(settings: Settings) -> None:
    if settings.quick:
        settings.shape, settings.batch_size, settings.steps, settings.rounds = (12, 14), 8, 2, 1
    peaks = in_a_process(["peaks"], settings)
    machine = {
        "processor": processor(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total / 2**30,
        "torch": torch.__version__,
        "peaks": peaks,
    }
    print(f"{machine['processor']}, {machine['threads']} threads, torch {torch.__version__}")
    print(
        f"matrix product {peaks['32-true'] / 1e9:.0f} GFLOP/s in 32 bit, {peaks['bf16-mixed'] / 1e9:.0f} in bf16; "
        f"copy {peaks['copy'] / 1e9:.0f} GB/s"
    )
    print(f"grid {settings.shape}, {settings.input_days} input days, batch {settings.batch_size}; median [spread]\n")
    print(
        f"{'model':14}{'step':12}{'ms':>6}  {'spread':14}{'samples/s':>10}{'speed-up':>9}{'GiB':>6}{'roofline ms':>13}"
    )
    rows = []
    for name in settings.models:
        measured: dict[str, list[dict]] = {kind: [] for kind in ("reference", *settings.precisions)}
        for _ in range(settings.rounds):
            for kind, found in measured.items():
                found.append(in_a_process([name, kind], settings))
        reference = median(one["seconds"] for one in measured["reference"])
        for kind, found in measured.items():
            row = {"model": name, "step": kind, **summary(found)}
            row["samples_per_second"] = settings.batch_size / row["seconds"]
            row["speed_up"] = reference / row["seconds"]
            if kind != "reference":
                row["step"] = row.pop("precision")
                row["roofline"] = row["flops"] / peaks[row["step"]] + BYTES * row["parameters"] / peaks["copy"]
            rows.append(row)
            spread = f"[{row['fastest'] * 1e3:.0f}–{row['slowest'] * 1e3:.0f}]"
            print(
                f"{name:14}{row['step']:12}{row['seconds'] * 1e3:6.0f}  {spread:14}{row['samples_per_second']:10.0f}"
                f"{row['speed_up']:9.2f}{row['memory']:6.2f}{row.get('roofline', float('nan')) * 1e3:10.0f}",
                flush=True,
            )
    options = {name: getattr(settings, name) for name in ("shape", "input_days", "batch_size", "steps", "rounds")}
    write_json(settings.out, {"machine": machine, "settings": options, "steps": rows})
    print(f"\n{settings.out}")


def processor() -> str:
    """The processor's name as the system knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        chosen, given = json.loads(sys.argv[2])
        print(json.dumps(work(chosen, Settings(**{**given, "shape": tuple(given["shape"])}))))
    else:
        main(tyro.cli(Settings, description=__doc__))
