"""Whether memory stays flat: training and evaluating on two and on four years at 0.1°, each in a process of its own.

The data set is read in full, only the days learned from and scored are few, so that an epoch takes a minute.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import synthetic
from bench_common import Settings, in_a_process

from utils.common.files import ROOT

SCRIPTS = {
    "pixel_lstm": ["SMAPtest/train_pixel_lstm.py"],
    "convlstm_pixel": ["SMAPtest/train_convlstm.py", "--head", "pixel", "--patch", "64"],
}


def run(arguments: list[str]) -> dict[str, float]:
    """Seconds and peak memory, GiB, of a script."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return {"seconds": time.perf_counter() - start, "memory": usage.ru_maxrss / unit}


def periods(days: int, learned: int, scored: int) -> list[str]:
    """The last days of the record as flags of a script: `learned` to train, half as many to validate, `scored`."""
    first = np.datetime64("2000-01-01") + synthetic.FIRST_DAY
    test = first + days - scored
    val = test - max(learned // 2, 1)
    spans = {"train": (val - learned, val - 1), "val": (val, test - 1), "test": (test, first + days - 1)}
    return [word for name, (start, end) in spans.items() for word in (f"--{name}", str(start), str(end))]


def measure(name: str, days: int, settings: Settings) -> dict:
    """One epoch and its evaluation on so many days."""
    data = in_a_process(synthetic.prepared, settings.folder, settings.large_shape, days)
    with tempfile.TemporaryDirectory() as out:
        script = [*SCRIPTS[name], "--data", str(data), "--epochs", "1", "--out", out]
        parts = {"train": run([*script, *periods(days, *settings.target_days)]), "eval": run(["SMAPtest/eval.py", out])}
    found = {f"{key}_{part}": value for part, numbers in parts.items() for key, value in numbers.items()}
    return {"model": name, "days": days, "bytes": 12 * days * math.prod(settings.large_shape)} | found


def rows(settings: Settings) -> Iterator[dict]:
    """One row for each model and length of the record, with its memory over that of the shortest."""
    for name in settings.of(tuple(SCRIPTS)):
        found = [measure(name, days, settings) for days in settings.days]
        for row in found:
            yield row | {
                f"ratio_{part}": row[f"memory_{part}"] / found[0][f"memory_{part}"] for part in ("train", "eval")
            }
