"""How fast, how flat in memory and how wide the training is on this machine.

    python benchmarks/bench.py                              # about twenty minutes on two cores
    python benchmarks/bench.py --quick                      # small maps, one round: does it run?
    python benchmarks/bench.py --parts steps --models convlstm --rounds 7
    python benchmarks/bench.py --table results/bench.json   # the numbers as Markdown

Numbers are written as JSON after every part; a part that is not measured this time keeps those of this machine.
"""

import time

import bench_layouts
import bench_loader
import bench_memory
import bench_scaling
import bench_steps
import machine
import tyro
from bench_common import Settings, in_a_process
from bench_tables import TABLES, markdown, table
from tqdm import tqdm

from utils.common.files import read_json, write_json


def main(settings: Settings) -> None:
    if settings.table:
        print(markdown(read_json(settings.table)))
        return
    this = in_a_process(machine.describe, settings.quick)
    before = read_json(settings.out)
    found = before if before.get("machine", {}).get("processor") == this["processor"] else {}
    names = ("shape", "input_days", "batch_size", "steps", "rounds", "large_shape", "target_days")
    found |= {"machine": this, "settings": {name: getattr(settings, name) for name in names}}
    parts = {
        "steps": lambda: bench_steps.rows(settings, this["peaks"]),
        "loader": lambda: bench_loader.rows(settings),
        "memory": lambda: bench_memory.rows(settings),
        "scaling": lambda: bench_scaling.rows(settings),
        "layouts": lambda: bench_layouts.rows(settings),
    }
    for part in settings.parts:
        title, columns = TABLES[part]
        start = time.perf_counter()
        found[part] = [row for row in found.get(part, ()) if row.get("model") not in settings.models]
        for row in tqdm(parts[part](), desc=part, unit="row", disable=None):
            found[part].append(row)
        write_json(settings.out, found)
        lines = "\n".join(table(found[part], columns))
        print(f"\n{title} ({time.perf_counter() - start:.0f} s)\n\n{lines}", flush=True)
    print(f"\n{settings.out}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
