"""The numbers of a benchmark as Markdown."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def markdown(found: dict[str, Any]) -> str:
    """The machine, and a table for each part that was measured."""
    machine, settings = found["machine"], found["settings"]
    peaks = machine["peaks"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, {machine['memory']:.0f} GiB, "
        f"torch {machine['torch']}. Large matrix product {peaks['32-true'] / 1e9:.0f} GFLOP/s in 32 bit, "
        f"{peaks['bf16-mixed'] / 1e9:.0f} in bf16; "
        f"large copy {peaks['copy'] / 1e9:.0f} GB/s. {settings['shape'][0]} × {settings['shape'][1]} cells, "
        f"{settings['input_days']} input days, batch {settings['batch_size']}, synthetic data."
    ]
    for part, (title, columns) in TABLES.items():
        if part in found:
            lines += ["", f"**{title}**", "", *table(found[part], columns)]
    return "\n".join(lines)


def table(rows: list[Row], columns: dict[str, Callable[[Row], str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(cell(row) for cell in columns.values())} |" for row in rows),
    ]


def _bits(row: Row) -> str:
    return {"32-true": "32 bit", "bf16-mixed": "bf16"}.get(row["precision"], row["precision"])


def _step(row: Row) -> str:
    return "reference" if row["step"] == "reference" else f"ours, {_bits(row)}"


def _roofline(row: Row) -> str:
    return f"{row['roofline'] * 1e3:.0f} ({row['roofline'] / row['seconds']:.0%})" if "roofline" in row else ""


STEPS = {
    "model": lambda row: row["model"],
    "cells": lambda row: f"{row['shape'][0]} × {row['shape'][1]}",
    "step": _step,
    "ms": lambda row: f"{row['seconds'] * 1e3:.0f} [{row['fastest'] * 1e3:.0f}–{row['slowest'] * 1e3:.0f}]",
    "samples/s": lambda row: f"{row['samples_per_second']:.0f}",
    "times the reference": lambda row: f"{row['speed_up']:.2f}",
    "peak GiB": lambda row: f"{row['memory']:.2f}",
    "roofline ms (reached)": _roofline,
}
LOADER = {
    "model": lambda row: row["model"],
    "data": lambda row: row["data"] + (f", {row['patch']} × {row['patch']} cells" if row["patch"] else ""),
    "samples/s": lambda row: f"{row['samples_per_second']:.0f}",
    "gathering batches": lambda row: f"{row['batches']:.1%}",
    "waiting for blocks": lambda row: f"{row['blocks']:.1%}",
    "loader's share": lambda row: f"{row['share']:.1%}",
}
MEMORY = {
    "model": lambda row: row["model"],
    "data": lambda row: f"{row['days']} days, {row['bytes'] / 1e9:.1f} GB",
    "train, peak GiB": lambda row: f"{row['memory_train']:.2f}",
    "evaluate, peak GiB": lambda row: f"{row['memory_eval']:.2f}",
    "over the shorter record": lambda row: f"{row['ratio_train']:.3f}, {row['ratio_eval']:.3f}",
    "s": lambda row: f"{row['seconds_train']:.0f} + {row['seconds_eval']:.0f}",
}
SCALING = {
    "model": lambda row: f"{row['model']}, {_bits(row)}",
    "one process, samples/s": lambda row: f"{row['one']:.0f}",
    "two": lambda row: f"{row['two']:.0f}",
    "ratio": lambda row: f"{row['ratio']:.2f} [{row['lowest']:.2f}–{row['highest']:.2f}]",
    "sum of the gradients, ms": lambda row: f"{row['gradients'] * 1e3:.0f}",
}
LAYOUTS = {
    "file": lambda row: f"{'Zarr' if row['file'] == 'zarr' else 'NetCDF'}, {row['layout']}",
    "chunks": lambda row: " × ".join(map(str, row["chunks"])) if row["chunks"] else "none",
    "in its own order, s": lambda row: f"{row['own_order']:.1f}",
    "block by block, s": lambda row: f"{row['by_block']:.1f} ({row['blocks']} blocks)",
    "ratio": lambda row: f"{row['ratio']:.1f}",
}
TABLES = {
    "steps": ("A training step against the published one, median [fastest–slowest]", STEPS),
    "loader": ("What the loader takes of an epoch", LOADER),
    "memory": ("Memory at 0.1°, one epoch and its evaluation", MEMORY),
    "scaling": ("Two processes of one thread against one", SCALING),
    "layouts": ("One pass over a large file", LAYOUTS),
}
