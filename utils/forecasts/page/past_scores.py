"""How good such forecasts have been: from the scores of hindcasts, or from the runs' own test period."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from utils.common.cli import UserError
from utils.common.files import read_json
from utils.common.periods import overlap
from utils.common.text import format_days, format_number, format_percent
from utils.forecasts.calibration import LEVELS, OutOfSample
from utils.forecasts.forecast_file import NEWEST
from utils.forecasts.numerical_model import NAME as NUMERICAL_MODEL
from utils.forecasts.request import ForecastRequest, LeadEnsemble
from utils.training.checkpoint import load_checkpoint


@dataclass(frozen=True)
class PastScores:
    """A row a lead, its cells as texts, and the sentences that say what the rows are of."""

    origin: list[str]
    rows: list[dict[str, str]]


def describe_hindcasts(file: Path) -> dict[str, Any]:
    """Of which initial days, inputs, runs and data the scores of a file of hindcasts are."""
    with xr.open_dataset(file, engine="netcdf4") as ds:
        days = ds["init_time"].values.astype("datetime64[D]")
        newest = {name: ds[name].values.astype("datetime64[D]") for name in ds.coords if name.startswith(NEWEST)}
        behind = {name.removeprefix(NEWEST): int((days - day).max().astype(int)) for name, day in newest.items()}
        return {
            "behind": {name: count for name, count in behind.items() if count > 0},
            "first_init": str(days[0]),
            "last_init": str(days[-1]),
            "source": ds.attrs["source"],
            "data": ds.attrs["data"],
        }


def read_past_scores(request: ForecastRequest, scores: Path | None) -> PastScores:
    """From the OUT.scores.json of hindcasts, or without one from the runs' test period.

    Raises UserError where the file is no such file, or has none of the lead times.
    """
    return _test_period(request) if scores is None else _hindcasts(request, scores)


def read_scores_file(scores: Path) -> dict[str, Any]:
    """The OUT.scores.json of hindcasts. Raises UserError for any other file."""
    content = read_json(scores)
    try:
        for row in content["leads"]:
            _row(row)
            _describe_rival(row)
    except (KeyError, TypeError):
        raise UserError(
            f"{scores} is no file of hindcast scores; expected the OUT.scores.json that forecast.py writes beside "
            "hindcasts."
        ) from None
    return content


def _hindcasts(request: ForecastRequest, scores: Path) -> PastScores:
    """The rows of the file for the lead times of the forecast."""
    content, wanted = read_scores_file(scores), [lead.days for lead in request.leads]
    rows = {row["lead_days"]: row for row in content["leads"]}
    kept = [rows[days] for days in wanted if days in rows]
    if not kept:
        raise UserError(f"{scores} has scores of {list(rows)} days ahead; the forecast is of {wanted}.")
    said = _describe_period(request, content, scores.name) + [_describe_rival(row) for row in kept]
    return PastScores([sentence for sentence in said if sentence], [_row(row) for row in kept])


def _describe_rival(scores: Mapping[str, Any]) -> str:
    """How a lead's forecasts compare with the weather model's own soil moisture; empty where that was not given."""
    if NUMERICAL_MODEL not in scores:
        return ""
    rival = scores[NUMERICAL_MODEL]
    ours, theirs = (format_number(rmse, 4) for rmse in (rival["forecast"]["rmse"], rival["rmse"]))
    return (
        f"{format_days(scores['lead_days'])} ahead, their RMSE is {ours}, and that of the weather model's own soil "
        f"moisture, rescaled, {theirs} on the same days and cells ({rival['forecast']['verdict']})."
    )


def _describe_period(request: ForecastRequest, content: Mapping[str, Any], name: str) -> list[str]:
    """What the page says of hindcasts: their period and runs, and whether the runs had learned from that period."""
    if "first_init" not in content:
        return [f"Scores of hindcasts, from {name}. That file does not say from which days they are."]
    first, last = (np.datetime64(content[end], "D") for end in ("first_init", "last_init"))
    said = [f"Scores of hindcasts from each day, {first} to {last}, with data of {content['data']} ({name})."]
    if content["source"] != request.attributes["source"]:
        said.append("They were made by other runs, or with other weights, than this forecast.")
    if content.get("behind", {}) != request.known.days_behind(request.end):
        said.append("In them, the inputs other than soil moisture were older, or newer, than in this forecast.")
    leads = [lead.days for lead in request.leads]
    learned = [span for run in request.run_dirs for span in _days_of_learning(run)]
    if overlap(((first + min(leads), last + max(leads)),), tuple(learned)) is not None:
        said.append("The runs have learned from days of this period: the scores are better than those of new days.")
    return said


def _days_of_learning(run_dir: Path) -> list[tuple[np.datetime64, np.datetime64]]:
    periods = load_checkpoint(run_dir).periods
    return [*periods.train, *periods.val]


def _test_period(request: ForecastRequest) -> PastScores:
    """The scores of each run on its own test period, with the coverage of the forecast's intervals there."""
    rows, periods, on_time = [], set(), not request.known.days_behind(request.end)
    for lead in request.leads:
        coverage = _cover_test_period(lead) if on_time else None
        for run_dir in lead.run_dirs:
            metrics = read_json(run_dir / "metrics.json")
            if not metrics.get("test"):  # not evaluated
                continue
            periods.add(", ".join(f"{start} to {end}" for start, end in metrics["test"]))
            row = _row({"lead_days": lead.days, "coverage_90": coverage, **metrics})
            alone = len(lead.run_dirs) == 1
            rows.append(row if alone else row | {"run": f"{metrics['model']}, seed {metrics['seed']}"})
    if not rows:
        return PastScores(["No scores: the runs have not been evaluated. Run eval.py, or give --scores."], [])
    said = [f"Scores on the test period of the runs, {' and '.join(sorted(periods))}. They have not learned from it."]
    if not on_time:
        said.append("Their inputs were on time; those of this forecast are late, so expect larger errors than these.")
    if any("run" in row for row in rows):
        said.append("RMSE and skill are those of each run alone; the coverage is that of all runs together.")
    return PastScores(said, rows)


def _cover_test_period(lead: LeadEnsemble) -> float | None:
    """The share of the observations of the test period inside the 90 % interval; None where it is not known."""
    files = [run_dir / "predictions.nc" for run_dir in lead.run_dirs]
    try:
        test = OutOfSample.read(files, lead.weights)
    except UserError:  # not evaluated, or on other days
        return None
    ends = (0, len(LEVELS) - 1)
    low, high = lead.calibration.quantiles(test.forecast, test.age, test.days, ends)
    observed = np.isfinite(test.observed)
    inside = (low <= test.observed) & (test.observed <= high)
    return float(inside[observed].mean()) if observed.any() else None


def _row(scores: Mapping[str, Any]) -> dict[str, str]:
    """The scores of a lead as the page writes them. Raises KeyError where one is missing."""
    return {
        "lead": str(scores["lead_days"]),
        "rmse": _with_interval(scores["rmse"], scores["rmse_low"], scores["rmse_high"], digits=4),
        "skill": _with_interval(scores["skill_over_persistence"], scores["skill_low"], scores["skill_high"], digits=2),
        "coverage": format_percent(scores["coverage_90"]),
        "dry": _brier_skill(scores, "dry"),
        "wet": _brier_skill(scores, "wet"),
        "n": f"{scores['n']:,}",
    }


def _with_interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    return "{} ({} to {})".format(*(format_number(number, digits) for number in (value, low, high)))


def _brier_skill(scores: Mapping[str, Any], event: str) -> str:
    if event not in scores:
        return ""
    skill = scores[event]
    return _with_interval(skill["skill"], skill["skill_low"], skill["skill_high"], digits=2)
