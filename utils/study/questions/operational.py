"""The question about operations: what it costs that inputs come late, and whether intervals hold in an outage."""

from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.forecasts.calibration import Calibration, OutOfSample, combination_weights
from utils.forecasts.cross_validation import LONGEST_OUTAGE, InputFaults
from utils.forecasts.quantile_scores import NOMINAL, coverage_by_age
from utils.scores import significance
from utils.settings import run_folder
from utils.study.claims import format_change, read_changes
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.operational import LAGS, LATE, ON_TIME, find_held_out, find_test, with_outages
from utils.study.plan import closer_models
from utils.study.results import TRANSFERRED, Results

AGES = ((0, 0), (1, 2), (3, 7), (8, 17), (18, 25), (26, LONGEST_OUTAGE))  # days: youngest and oldest of a class
FEWEST = 2000  # cell-days that the coverage of an age is told for
KINDS = {"on time": ON_TIME, "late": LATE}  # the inputs of a forecast
LINES = {"on time": "-", "late": "--"}
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "rmse": Column("RMSE", UNITS, ".4f"),
    "low": Column("from", "", ".4f"),
    "high": Column("to", "", ".4f"),
    "change": Column("change of RMSE", "%", ".1f"),
    "change_low": Column("from", "", ".1f"),
    "change_high": Column("to", "", ".1f"),
    "coverage": Column("coverage of the 90 % interval", "%", ".1f"),
    "n": Column("cell-days"),
}
COVERED = {
    "lead_days": Column("lead", "days"),
    "coverage": Column("coverage of the 90 % interval", "%", ".1f"),
    "coverage_low": Column("from", "", ".1f"),
    "coverage_high": Column("to", "", ".1f"),
    "n": Column("cell-days"),
}


@lru_cache(maxsize=1)
def operational(results: Results) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Scores by model, lead and inputs, and coverage by age in outages beside that; None where there are no such runs.

    The first table has the columns of COLUMNS; the second those of COVERED, and `age`.
    """
    scores, covered = [], []
    for model, lead in product(closer_models(results.detail), results.leads):
        run_dirs = [
            results.out / "runs" / run_folder(TRANSFERRED, model, lead, seed)
            for seed in results.seeds_of(TRANSFERRED, model, lead)
        ]
        if not run_dirs or not all((run_dir / "operational" / "metrics.json").exists() for run_dir in run_dirs):
            continue
        reference = None
        for kind, inputs in KINDS.items():
            row = {"model": model, "inputs": kind, "lead_days": lead}
            test, calibration, failing = _read(run_dirs, inputs)
            reference = test if reference is None else reference
            scores.append(row | _score(test, reference, calibration))
            for (youngest, oldest), (share, count) in zip(
                AGES, coverage_by_age(failing, calibration, AGES), strict=True
            ):
                age = f"{youngest}" if youngest == oldest else f"{youngest}–{oldest}"
                columns = share.to_per_cent("coverage", "coverage_low", "coverage_high")
                if count >= FEWEST:
                    covered.append(row | {"age": age} | columns | {"n": count})
    return (pd.DataFrame(scores), pd.DataFrame(covered)) if scores else None


def _read(run_dirs: list[Path], inputs: InputFaults) -> tuple[OutOfSample, Calibration, OutOfSample]:
    """Forecasts of the test days with such inputs, their calibration, and the forecasts with outages on top."""
    held = [find_held_out(run_dir, inputs) for run_dir in run_dirs]
    weights = combination_weights(held)
    outages = [find_held_out(run_dir, with_outages(inputs)) for run_dir in run_dirs]
    calibration = Calibration.of(OutOfSample.read(held, weights), OutOfSample.read(outages, weights))
    test = OutOfSample.read([find_test(run_dir, inputs) for run_dir in run_dirs], weights)
    failing = OutOfSample.read([find_test(run_dir, with_outages(inputs)) for run_dir in run_dirs], weights)
    return test, calibration, failing


def _score(test: OutOfSample, reference: OutOfSample, calibration: Calibration) -> dict[str, float]:
    """RMSE with its interval, its change against the forecasts with inputs on time, and the coverage, per cent."""
    sums = [significance.daily_sums(test.observed, test.forecast, reference.forecast, days=test.days)]
    error = significance.estimate(sums, significance.rmse)
    row = {"rmse": error.value, "low": error.low, "high": error.high}
    if test is not reference:
        change = significance.estimate(sums, significance.rmse_change)
        row |= change.to_per_cent("change", "change_low", "change_high") | {"p": change.p}
    ((share, count),) = coverage_by_age(test, calibration, [(-1, 10_000)])
    return row | {"coverage": 100 * share.value, "n": count}


def as_they_arrive(results: Results, figures: Path) -> Section | None:
    """What late inputs cost, and whether intervals hold in outages; None where no run was forecast so."""
    tables = operational(results)
    if tables is None:
        return None
    scores, covered = tables
    path = figures / "operational.png"
    draw_operational(scores, covered, results.title("Forecasts from inputs as they arrive"), path)
    lags = ", ".join(f"{name.replace('_', ' ')} after {format_days(days)}" for name, days in LAGS.items())
    behind = max(LATE.behind.values())
    return Section(
        "How good are the forecasts when inputs come late?",
        f"{_cost(scores)} RMSE ({UNITS}) with all inputs on time; with late ones, and the change:",
        [Figure(path, "RMSE by lead with inputs on time and late, and coverage by age of the last observation", "")],
        f"Late: {lags}. Lead times count from the newest soil moisture, and the other inputs are missing on the last "
        f"{format_days(behind)} before it. Outages hide soil moisture everywhere, for 1 to {LONGEST_OUTAGE} days, from "
        "the inputs alone. The intervals were made from held-out days with the same faults.",
        points=[*_points(scores), *_coverage(covered)],
        in_short=_cost(scores),
    )


def _cost(scores: pd.DataFrame) -> str:
    """What late inputs cost, in a sentence."""
    late = scores[scores["inputs"] == "late"]
    changes = read_changes(late, ("change", "change_low", "change_high", "p"))
    most = int(np.argmax([change.value for change in changes]))
    worse = sum(significance.verdict(change) == "worse" for change in changes)
    row = late.iloc[most]
    place = f"{row['model']}, {format_days(int(row['lead_days']))} ahead"
    return (
        f"Inputs that come late raise the RMSE significantly in {worse} of {len(changes)} cases; the largest change is "
        f"{format_change(changes[most], place)}."
    )


def _points(scores: pd.DataFrame) -> list[str]:
    """The errors of each model and lead in words."""
    late = scores[scores["inputs"] == "late"]
    changes = read_changes(late, ("change", "change_low", "change_high", "p"))
    on_time = scores[scores["inputs"] == "on time"].set_index(["model", "lead_days"])["rmse"]
    return [
        f"{row.model}, {format_days(int(row.lead_days))} ahead: {format_number(on_time[row.model, row.lead_days], 4)}; "
        f"{format_number(row.rmse, 4)}, {format_change(change)}"
        for row, change in zip(late.itertuples(), changes, strict=True)
    ]


def _coverage(covered: pd.DataFrame) -> list[str]:
    """What the 90 % intervals cover at each age of the last observation, in words, of each model and inputs."""
    points = []
    for (model, inputs, age), rows in covered.groupby(["model", "inputs", "age"], sort=False):
        shares = [
            f"{format_number(row.coverage, 1)} % ({format_number(row.coverage_low, 1)} to "
            f"{format_number(row.coverage_high, 1)} %; {format_days(int(row.lead_days))})"
            for row in rows.itertuples()
        ]
        points.append(f"Coverage of {model}, inputs {inputs}, last observation {age} days old: {', '.join(shares)}")
    return points


def operational_scores(results: Results) -> pd.DataFrame | None:
    """The table behind the answer; None where there are no such runs."""
    tables = operational(results)
    return None if tables is None else pd.concat(tables, ignore_index=True)


def operational_tables(results: Results) -> list[Table]:
    """The same for the page."""
    tables = operational(results)
    if tables is None:
        return []
    scores, covered = tables
    return [
        Table("Late inputs", "On the test days. The change is that by inputs that come late.", scores, COLUMNS),
        Table("Outages", "Coverage of the 90 % intervals by the age of the last observation.", covered, COVERED),
    ]


def draw_operational(scores: pd.DataFrame, covered: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE by lead, and coverage by the age of the last observation; PNG and PDF.

    `scores`: model, inputs (on time, late), lead_days, rmse, low, high (m3 m-3). `covered`: model, inputs, lead_days,
    age, coverage, coverage_low, coverage_high (per cent), of which the first lead is drawn. Raises UserError where
    there is no RMSE.
    """
    style.save(_operational_figure(scores, covered, title), path, vector=True)


@rc_context(style.STYLE)
def _operational_figure(scores: pd.DataFrame, covered: pd.DataFrame, title: str) -> Plot:
    """Axes in order: RMSE, coverage."""
    scores = style.finite_rows(scores, "rmse")
    if scores.empty:
        raise UserError("What late inputs cost cannot be drawn: the table holds no RMSE.")
    names = list(dict.fromkeys(scores["model"]))
    cases = list(product(names, KINDS))
    looks = {
        (name, kind): style.line_of(name, names) | style.EDGE | {"linestyle": LINES[kind], "marker": mark}
        for (name, kind), mark in zip(cases, style.MARKERS * len(cases), strict=False)
    }
    figure = style.new_figure(style.DOUBLE, 2.7, title)
    error, coverage = figure.subplots(1, 2)
    lead = scores["lead_days"].min()
    for turn, (case, look) in enumerate(looks.items()):
        dodge = 0.06 * (turn - (len(cases) - 1) / 2)
        rows = _rows_of(scores, case)
        error.errorbar(rows["lead_days"] + dodge, rows["rmse"], _bars(rows, "rmse", "low", "high"), **look)
        if len(covered):
            rows = _rows_of(covered[covered["lead_days"] == lead], case)
            _draw_coverage(coverage, rows, dodge, look)
    error.set(title="(a) RMSE", xlabel="lead (d)", ylabel=f"RMSE ({UNITS})")
    error.set_xticks(sorted(scores["lead_days"].unique()))
    coverage.axhline(100 * NOMINAL, color="0.4", linewidth=0.6)
    coverage.set(
        title=f"(b) coverage of the 90 % intervals, {format_days(int(lead))} ahead",
        xlabel="age of the last observation (d)",
        ylabel="observations inside (%)",
    )
    for ax in (error, coverage):
        ax.grid(**style.GRID)
    handles = [Line2D([], [], label=f"{name}, inputs {kind}", **look) for (name, kind), look in looks.items()]
    style.legend(figure, handles, [forest.INTERVAL])
    return figure


def _rows_of(table: pd.DataFrame, case: tuple[str, str]) -> pd.DataFrame:
    return table[(table["model"] == case[0]) & (table["inputs"] == case[1])]


def _bars(rows: pd.DataFrame, value: str, low: str, high: str) -> np.ndarray:
    """Lengths of the error bars below and above."""
    return np.abs(rows[[low, high]].to_numpy(float) - rows[[value]].to_numpy(float)).T


def _draw_coverage(ax: Axes, rows: pd.DataFrame, dodge: float, look: dict) -> None:
    classes = [f"{youngest}" if youngest == oldest else f"{youngest}–{oldest}" for youngest, oldest in AGES]
    x = np.array([classes.index(age) for age in rows["age"]]) + dodge
    bars = _bars(rows, "coverage", "coverage_low", "coverage_high")
    ax.errorbar(x, rows["coverage"], bars, **look)
    ax.set_xticks(range(len(classes)), classes)
