"""What a machine can do at best, and what a process of it has used."""

import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from utils.common.glibc import keep_freed_memory


def describe(quick: bool) -> dict[str, Any]:
    """Processor, memory, versions and the measured peaks; in a process of its own."""
    return {
        "processor": processor(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total / 2**30,
        "torch": torch.__version__,
        "peaks": peaks(quick),
    }


def peaks(quick: bool) -> dict[str, float]:
    """Operations per second of a large matrix product in 32 and 16 bit, bytes per second of a large copy."""
    keep_freed_memory()
    size = 256 if quick else 3072
    found = {}
    for name, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
        found[name] = 2 * size**3 / fastest(lambda a=one, b=other: a @ b.T)
    source = torch.randn(2**20 if quick else 2**26)
    target = torch.empty_like(source)
    return {**found, "copy": 2 * 4 * source.numel() / fastest(lambda: target.copy_(source))}


def fastest(work: Callable[[], Any], repeat: int = 7) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def processor() -> str:
    """The processor's name as the system knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def peak_memory() -> float:
    """The most memory this process has held so far, GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process was forked from
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
