"""The long table of scores: one row a run, and one row a baseline on the same samples.

Its columns follow from METRICS and BASELINES.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from utils.common.text import format_days, join_words
from utils.dataset.prepared import SYNTHETIC
from utils.scores.baselines import BASELINES
from utils.scores.metrics import METRICS

SCRATCH, TRANSFERRED = "SMAPtest", "finetune-SMAPtest"  # experiments
FIRST = ("rmse", "mse", "r2", "skill_over_persistence", "n")  # of the metrics; the others stand behind
INTERVALS = ("rmse_low", "rmse_high", "r2_low", "r2_high", "skill_low", "skill_high")
NESTED = {  # column: where metrics.json has it
    "rmse_area_weighted": ("area_weighted", "rmse"),
    "r2_area_weighted": ("area_weighted", "r2"),
    "rmse_median_cell": ("median_cell", "rmse"),
    "r2_median_cell": ("median_cell", "r2"),
    "skill_median_cell": ("median_cell", "skill_over_persistence"),
}
LESS_THAN_A_YEAR = "the scored days span less than a year: the tests cannot tell season from noise"
AGAINST_SCRATCH = (  # of a fine-tuned run against the same model, lead and seed from scratch
    "transfer_rmse_change",  # relative: −0.1 is a tenth less
    "transfer_low",
    "transfer_high",
    "transfer_p",
    "vs_scratch",
)
CELLS = ("cells_gain", "cells_better", "cells_worse")  # shares of the cells tested, against scratch too
AGAINST_MATCHED = (  # against scratch with as many steps as pre-training and fine-tuning took together
    "matched_rmse_change",
    "matched_low",
    "matched_high",
    "matched_p",
    "vs_matched",
)
TRANSFER = (*AGAINST_SCRATCH, *CELLS, *AGAINST_MATCHED)
TRAINING = (  # how far the training went and how it ended: Checkpoint.training
    "epochs",
    "best_epoch",
    "steps",  # of the optimiser
    "training_seconds",
    "stopped",  # validation, cap or planned
    "dead_channels_start",  # closed by the ReLU before the dense map
    "dead_channels",
    "relu_channels",  # so many there are
)


def metric_columns() -> list[str]:
    """The metrics of the table in its order: FIRST, then the others as METRICS has them."""
    return [*FIRST, *(name for name, row in METRICS.items() if row.in_table and name not in FIRST)]


def verdict_columns() -> dict[str, str]:
    """Column → baseline whose test against a forecast it tells."""
    return {f"vs_{name}": name for name in BASELINES}


def columns() -> list[str]:
    """All columns of the table, in order."""
    more = [name for name in metric_columns() if name not in FIRST]
    return [
        *("experiment", "model", "lead_days", "seed", *FIRST, *INTERVALS),
        *verdict_columns(),
        *TRANSFER,
        *(*more, "slope", "intercept", *NESTED),
        *("input_days", "target_days", "max_input_age", *TRAINING, "data", "note"),
    ]


def table(all_metrics: Iterable[dict[str, Any]], baselines: Iterable[dict[str, Any]] = ()) -> pd.DataFrame:
    """Long form from the content of metrics.json files; a baseline stands once for each set of samples.

    `baselines` are files of baselines alone, at leads where no model was run.
    """
    rows = []
    for metrics in all_metrics:
        kind = _kind(metrics)
        about = ("experiment", "lead_days", "input_days", "target_days", "max_input_age")
        common = {name: metrics.get(name) for name in about}
        common |= {"data": kind}
        notes = metrics.get("note") or ("" if metrics.get("finished", True) else "training not finished")
        short = "" if metrics.get("spans_a_year", True) else LESS_THAN_A_YEAR
        # weather ahead is never passed over in silence
        note = "; ".join(filter(None, [metrics.get("future"), notes, short, _warn_of_closed_channels(metrics)]))
        compared = {name: metrics.get(name) for name in TRANSFER}
        rows.append(_row(metrics) | compared | common | {"note": note})
        suffix = metrics.get("baseline_suffix", "")
        rows += [
            _row(scores) | common | {"model": name + suffix, "seed": None, "note": scores.get("note", "")}
            for name, scores in metrics["baselines"].items()
        ]
    for metrics in baselines:
        kind = _kind(metrics)
        rows.append(_row(metrics) | {"seed": None, "data": kind, "note": metrics.get("note", "")})
    numbers = set(("seed", "n", "target_days", "max_input_age", *TRAINING)) - {"training_seconds", "stopped"}
    long = pd.DataFrame(rows, columns=columns()).astype(dict.fromkeys(numbers, "Int64"))
    # a baseline is the same for every model on the same samples, but for the rounding of another machine
    again = long.duplicated(["experiment", "model", "lead_days", "input_days", "n"]) & long["seed"].isna()
    return long[~again].reset_index(drop=True)


def _warn_of_closed_channels(metrics: dict[str, Any]) -> str:
    """A note where no input can reach the forecast; empty elsewhere."""
    count = metrics.get("relu_channels")
    if not count or metrics["dead_channels"] < count:
        return ""
    return f"all {count} channels before the dense map are closed: the forecast is the same map every day"


def _kind(metrics: dict[str, Any]) -> str:
    if metrics["synthetic_data"]:
        return SYNTHETIC
    return metrics.get("label") or "data of the user"


def _row(metrics: dict[str, Any]) -> dict[str, Any]:
    """The columns that metrics.json has of a run or of a baseline; None for the others."""
    row = {name: metrics.get(name) for name in columns()}
    for column, (part, score) in NESTED.items():
        row[column] = metrics.get(part, {}).get(score)
    for column, rival in verdict_columns().items():
        row[column] = metrics.get("comparisons", {}).get(rival, {}).get("verdict")
    return row


def show(long: pd.DataFrame) -> str:
    """The table as text for a terminal, runs and baselines side by side, notes below."""
    lines = []
    together = long["experiment"].replace(TRANSFERRED, SCRATCH)  # with and without transfer
    for (_, lead_days, kind), rows in long.groupby([together, "lead_days", "data"], sort=False):
        experiments = join_words(list(rows["experiment"].unique()))
        lines.append(f"\n{experiments}, {format_days(lead_days)} ahead, {kind}; RMSE in m³ m⁻³ with its 95 % interval")
        # the baselines of both experiments are the same
        again = rows.assign(rmse=rows["rmse"].round(7)).duplicated(["model", "input_days", "n", "rmse"])
        rows = rows[~(again & rows["seed"].isna())]
        rows = rows.sort_values("seed", na_position="first", kind="stable")  # what is to be beaten comes first
        if pd.notna(oldest := rows["max_input_age"].iloc[0]):
            lines.append(f"Scored where the last observation is at most {format_days(int(oldest))} old.")
        short = rows[["model", "seed", "rmse", "rmse_low", "rmse_high", "r2", "bias", "skill_over_persistence", "n"]]
        short = short.assign(**{"against persistence": rows["vs_persistence"], "epoch": rows["best_epoch"]})
        short = short.rename(columns={"skill_over_persistence": "skill", "rmse_low": "from", "rmse_high": "to"})
        if rows["experiment"].nunique() > 1:
            short.insert(0, "experiment", rows["experiment"])
        if rows["vs_scratch"].notna().any():
            compared = {"RMSE by transfer": rows["transfer_rmse_change"], "against scratch": rows["vs_scratch"]}
            short = short.assign(**compared)
        lines.append(without_na(short).to_string(index=False, formatters=_FORMATS))
        notes = [f"{model}: {note}" for model, note in zip(rows["model"], rows["note"], strict=True) if note]
        lines += dict.fromkeys(notes)  # with and without transfer, most are the same
    return "\n".join(lines)


def without_na(long: pd.DataFrame) -> pd.DataFrame:
    """The table with a dash where there is no value, for people to read."""
    return long.astype(object).where(long.notna(), "–")


def _number(form: str) -> Callable[[Any], str]:
    return lambda value: value if isinstance(value, str) else form.format(value)


_FORMATS = {name: _number("{:.4f}") for name in ("rmse", "from", "to")}
_FORMATS |= {"bias": _number("{:+.4f}"), "r2": _number("{:.3f}"), "skill": _number("{:+.3f}")}
_FORMATS["RMSE by transfer"] = _number("{:+.1%}")
