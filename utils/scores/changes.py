"""Changes of RMSE in words, and those that transfer makes among some evaluated runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from utils.common.text import format_days, format_percent
from utils.scores import significance
from utils.scores.significance import Estimate

SCRATCH, TRANSFERRED = "SMAPtest", "finetune-SMAPtest"  # experiments
SAME_MODEL = ("model", "lead_days", "seed")  # in metrics.json
SAME_SAMPLES = ("data_sha256", "test", "max_input_age", "n")


def format_change(change: Estimate, name: str = "") -> str:
    """A relative change of RMSE with its 95 % interval and p: "−3.6 % (−5.0 % to −2.2 %, p < 0.001)"."""
    said = format_p(change.p)
    if np.isfinite(change.p):
        said = f"{_format_signed(change.low)} to {_format_signed(change.high)}, {said}"
    return f"{_format_signed(change.value)} ({said}{'; ' if name else ''}{name})"


def format_p(p: float) -> str:
    if not np.isfinite(p):
        return "too few days for a test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def compare_with_scratch(runs: Mapping[Path, Mapping[str, Any]], names: Mapping[Path, str]) -> list[str]:
    """A line for each run with transfer beside each run of the same model, lead and seed without it.

    `runs` has metrics.json of evaluated run directories, `names` what each is called. The p values are corrected for
    the number of comparisons. Runs that were scored on other cell-days are said not to be comparable.
    """
    pairs = [
        (tuned, scratch)
        for tuned, scratch in ((one, other) for one in runs for other in runs)
        if runs[tuned]["experiment"] == TRANSFERRED and runs[scratch]["experiment"] == SCRATCH
        if all(runs[tuned][name] == runs[scratch][name] for name in SAME_MODEL)
    ]
    same = [pair for pair in pairs if all(runs[pair[0]].get(name) == runs[pair[1]].get(name) for name in SAME_SAMPLES)]
    changes = significance.correct([_change(tuned, scratch) for tuned, scratch in same])
    said = dict(zip(same, changes, strict=True))
    lines = []
    for tuned, scratch in pairs:
        who = f"{names[tuned]}, {format_days(runs[tuned]['lead_days'])} ahead, seed {runs[tuned]['seed']}"
        against = f"{who}, against {names[scratch]} from scratch"
        if (tuned, scratch) in said:
            change = said[tuned, scratch]
            lines.append(f"{against}: {significance.verdict(change)}, RMSE {format_change(change)}")
        else:
            lines.append(f"{against}: not compared, they were scored on different data, days or cells")
    return lines


def _change(tuned: Path, scratch: Path) -> Estimate:
    """The relative change of RMSE from a run to another on the same samples, from their predictions.nc."""
    with xr.open_dataset(tuned / "predictions.nc") as one, xr.open_dataset(scratch / "predictions.nc") as other:
        fields = (one["observed"].values, one["predicted"].values, other["predicted"].values)
        sums = significance.daily_sums(*fields, days=one["time"].values)
    return significance.estimate([sums], significance.rmse_change)


def _format_signed(share: float) -> str:
    rounded = round(share, 3) + 0.0  # no −0.0 %
    return ("+" if rounded > 0 else "") + format_percent(rounded)
