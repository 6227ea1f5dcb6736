"""Changes of RMSE in words, and those that transfer makes among some evaluated runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from utils.common.text import format_days, format_percent, join_words
from utils.scores import significance
from utils.scores.score_table import AGAINST_SCRATCH, SCRATCH, TRANSFERRED
from utils.scores.significance import Estimate

SAME_MODEL = ("model", "lead_days", "input_days", "target_days")  # in metrics.json
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


@dataclass(frozen=True)
class TransferCase:
    """Runs of one model with transfer and from scratch. Several of a kind differ in their seed alone."""

    tuned: tuple[Path, ...]
    scratch: tuple[Path, ...]
    change: Estimate | None  # of RMSE, relative; None: they were scored on different data, days or cells


def compare_transfer(runs: Mapping[Path, Mapping[str, Any]]) -> list[TransferCase]:
    """Each model with transfer against the same from scratch: of the same lead and as many target days.

    `runs` has metrics.json of evaluated run directories. All seeds of one are compared with all seeds of the other.
    Runs that differ in more than their seed are compared one by one, each with those of its seed.
    """
    alike: dict[tuple, dict[str, list[Path]]] = {}
    for run_dir, metrics in runs.items():
        key = tuple(metrics.get(name) for name in SAME_MODEL)
        alike.setdefault(key, {}).setdefault(metrics["experiment"], []).append(run_dir)
    cases = []
    for found in alike.values():
        tuned, scratch = (found.get(experiment, []) for experiment in (TRANSFERRED, SCRATCH))
        for case in _match_seeds(runs, tuned, scratch):
            cases.append(TransferCase(*case, _change(*case) if _on_same_samples(runs, *case) else None))
    return cases


Case = tuple[tuple[Path, ...], tuple[Path, ...]]


def _match_seeds(runs: Mapping[Path, Mapping[str, Any]], tuned: list[Path], scratch: list[Path]) -> list[Case]:
    """Which of these runs are compared with which."""
    seeds = {run_dir: runs[run_dir]["seed"] for run_dir in (*tuned, *scratch)}
    if not tuned or not scratch:
        return []
    if all(len({seeds[run_dir] for run_dir in part}) == len(part) for part in (tuned, scratch)):
        return [(tuple(tuned), tuple(scratch))]
    return [((one,), (other,)) for one in tuned for other in scratch if seeds[one] == seeds[other]]


def _on_same_samples(runs: Mapping[Path, Mapping[str, Any]], tuned: Sequence[Path], scratch: Sequence[Path]) -> bool:
    first, *others = ([runs[run_dir].get(name) for name in SAME_SAMPLES] for run_dir in (*tuned, *scratch))
    return all(other == first for other in others)


def _change(tuned: Sequence[Path], scratch: Sequence[Path]) -> Estimate:
    """The relative change of RMSE from runs to others on the same samples, from their predictions.nc."""
    crossed = significance.cross_seeds(list(map(_daily_sums, tuned)), list(map(_daily_sums, scratch)))
    return significance.estimate(crossed, significance.rmse_change)


def _daily_sums(run_dir: Path) -> Float[np.ndarray, "time moment"]:
    with xr.open_dataset(run_dir / "predictions.nc") as run:
        fields = (run[name].values for name in ("observed", "predicted", "persistence"))
        return significance.daily_sums(*fields, days=run["time"].values)


def transfer_columns(run_dir: Path, cases: Sequence[TransferCase]) -> dict[str, Any]:
    """The table's columns AGAINST_SCRATCH of a run with transfer; empty where not one run alone is its rival."""
    own = [case for case in cases if run_dir in case.tuned]
    if len(own) != 1 or len(own[0].tuned) > 1 or len(own[0].scratch) > 1 or own[0].change is None:
        return {}
    change = own[0].change
    values = (change.value, change.low, change.high, change.p, significance.verdict(change))
    return dict(zip(AGAINST_SCRATCH, values, strict=True))


def describe_transfer(cases: Sequence[TransferCase], runs: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """A line for each comparison; the p values are corrected for their number. `runs` has metrics.json of each run."""
    comparable = [case for case in cases if case.change is not None]
    corrected = significance.correct([case.change for case in comparable])
    changes = dict(zip(comparable, corrected, strict=True))
    lines = []
    for case in cases:
        of_tuned = [runs[run_dir] for run_dir in case.tuned]
        days = f" on {format_days(of_tuned[0]['target_days'])}" if of_tuned[0].get("target_days") else ""
        who = f"{of_tuned[0]['model']}{days}, {format_days(of_tuned[0]['lead_days'])} ahead, {_list_seeds(of_tuned)}"
        against = f"{who}, against {_name_rivals([runs[run_dir] for run_dir in case.scratch], of_tuned)} from scratch"
        if case in changes:
            said = f"{significance.verdict(changes[case])}, RMSE {format_change(changes[case])}"
        else:
            said = "not compared, they were scored on different data, days or cells"
        lines.append(f"{against}: {said}")
    return lines


def _list_seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    seeds = [str(run["seed"]) for run in runs]
    return f"seed{'s' if len(seeds) > 1 else ''} {join_words(seeds)}"


def _name_rivals(rivals: Sequence[Mapping[str, Any]], tuned: Sequence[Mapping[str, Any]]) -> str:
    """Their model, and their seeds where they are other ones."""
    seeds = _list_seeds(rivals)
    return rivals[0]["model"] + ("" if seeds == _list_seeds(tuned) else f", {seeds},")


def _format_signed(share: float) -> str:
    rounded = round(share, 3) + 0.0  # no −0.0 %
    return ("+" if rounded > 0 else "") + format_percent(rounded)
