"""The printed table of some evaluated runs, one row a run, and what transfer changes among them."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.common.cli import UserError, fold
from utils.scores.changes import compare_transfer, describe_transfer, transfer_columns
from utils.scores.score_table import show, table


def print_table(run_dirs: Sequence[Path], score: Callable[[Path], dict[str, Any]]) -> None:
    """Print one table of runs, whose metrics `score` gives, and what transfer changes among them.

    Raises UserError, in the end, where a run was refused.
    """
    run_dirs, done = list(dict.fromkeys(run_dirs)), {}
    for run_dir in tqdm(run_dirs, unit="run", disable=None):
        try:
            done[run_dir] = score(run_dir)
        except UserError as error:  # the other runs still count
            if len(run_dirs) == 1:
                raise
            print(f"error: {fold(error)}", file=sys.stderr)
    if done:
        named, compared = name_apart(done), compare_transfer(done)
        print(show(table(metrics | transfer_columns(run_dir, compared) for run_dir, metrics in named.items())))
        if lines := describe_transfer(compared, named):
            print("\n".join(["", "With transfer against from scratch, on the same cell-days:", *lines]))
    if failed := len(run_dirs) - len(done):
        raise UserError(f"{failed} of {len(run_dirs)} runs could not be evaluated.")


def name_apart(all_metrics: dict[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """The metrics of runs, by run directory, for a table.

    Where several runs would have the same row names, the model's name is followed by the run's folder.
    """
    alike: dict[tuple, list[Path]] = defaultdict(list)
    for run_dir, metrics in all_metrics.items():
        row = tuple(metrics[name] for name in ("experiment", "model", "lead_days", "seed"))
        alike[row].append(run_dir)
    named = dict(all_metrics)
    for run_dirs in alike.values():
        if len(run_dirs) > 1:
            above = os.path.commonpath([run_dir.resolve().parent for run_dir in run_dirs])
            for run_dir in run_dirs:
                folder = run_dir.resolve().relative_to(above)
                named[run_dir] = all_metrics[run_dir] | {"model": f"{all_metrics[run_dir]['model']} ({folder})"}
    return named
