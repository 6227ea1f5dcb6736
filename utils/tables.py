"""The long table of scores: one row a run, and one row a baseline on the same samples."""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

COLUMNS = [
    "experiment",
    "model",
    "lead_days",
    "seed",
    "rmse",
    "mse",
    "r2",
    "skill_over_persistence",
    "n",
    "input_days",
    "epochs",
    "best_epoch",
    "data",
    "note",
]


def table(all_metrics: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Long form from the content of metrics.json files; a baseline stands once for each set of samples."""
    rows = []
    for metrics in all_metrics:
        kind = "SYNTHETIC sample" if metrics["synthetic_data"] else "data of the user"
        common = {name: metrics[name] for name in ("experiment", "lead_days", "input_days")} | {"data": kind}
        rows.append({**metrics, **common, "note": "" if metrics["finished"] else "training not finished"})
        rows += [{"note": "", **scores, **common, "model": name} for name, scores in metrics["baselines"].items()]
    long = pd.DataFrame(rows, columns=COLUMNS).astype({name: "Int64" for name in ("seed", "epochs", "best_epoch", "n")})
    # a baseline is the same for every model on the same samples, but for the rounding of another machine
    return long.drop_duplicates(["experiment", "model", "lead_days", "input_days", "seed", "n"], ignore_index=True)


def show(long: pd.DataFrame) -> str:
    """The table as text for a terminal, runs and baselines side by side, notes below."""
    lines = []
    for (experiment, lead_days, kind), rows in long.groupby(["experiment", "lead_days", "data"], sort=False):
        lines.append(f"\n{experiment}, {lead_days} days ahead, {kind}; RMSE in m³ m⁻³")
        rows = rows.sort_values("seed", na_position="first", kind="stable")  # what is to be beaten comes first
        short = rows[["model", "seed", "rmse", "r2", "skill_over_persistence", "n", "best_epoch", "epochs"]]
        short = short.rename(columns={"skill_over_persistence": "skill over persistence"})
        lines.append(without_na(short).to_string(index=False, formatters=_FORMATS))
        lines += [f"{model}: {note}" for model, note in zip(rows["model"], rows["note"], strict=True) if note]
    return "\n".join(lines)


def without_na(long: pd.DataFrame) -> pd.DataFrame:
    """The table with a dash where there is no value, for people to read."""
    return long.astype(object).where(long.notna(), "–")


def _number(form: str) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, str) else form.format(value)


_FORMATS = {"rmse": _number("{:.4f}"), "r2": _number("{:.3f}"), "skill over persistence": _number("{:+.3f}")}
