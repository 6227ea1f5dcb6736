"""The question about transfer: which strategy helps with how many days of SMAP, what it replaces, where it hurts."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Plot
from matplotlib.lines import Line2D

from utils.common.cli import UserError
from utils.common.text import format_days, format_number
from utils.figures import forest, style
from utils.figures.style import UNITS
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.claims import count_verdicts, format_range, read_changes
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.plan import STRATEGIES, TARGET_DAYS, closer_models, suffix, variant_of
from utils.study.questions.forecasts_shown import SIMPLE
from utils.study.results import SCRATCH, TRANSFERRED, Results

MEMORY = "ridge_memory"  # the baseline that is to be beaten
COMPARED = {  # rival: columns of the change of RMSE, %, of its interval, and of p
    "scratch": ("change", "change_low", "change_high", "p"),
    MEMORY: ("memory_change", "memory_low", "memory_high", "memory_p"),
}
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "target_days": Column("SMAP days", "days"),
    "rmse": Column("RMSE", "m³ m⁻³", ".4f"),
    "low": Column("from", "", ".4f"),
    "high": Column("to", "", ".4f"),
    "change": Column("change against scratch", "%", ".1f"),
    "change_low": Column("from", "", ".1f"),
    "change_high": Column("to", "", ".1f"),
    "p": Column("p", "", ".3f"),
    "vs_scratch": Column("against scratch"),
    "vs_ridge_memory": Column("against ridge_memory"),
    "replaces": Column("days from scratch for the same RMSE", "days"),
}

LOOKS = {  # strategy: name, colour, marker, line style
    "scratch": ("from scratch", "black", "s", (0, (4, 1.5))),
    "zero_shot": ("zero-shot", "#cc79a7", "X", (0, (1, 1))),
    "full": ("full", "#0072b2", "o", "solid"),
    "mean_variance": ("full, matched", "#56b4e9", "D", (0, (5, 1, 1, 1))),
    "head": ("head", "#e69f00", "^", "solid"),
    "gradual": ("gradual", "#d55e00", "v", (0, (3, 1))),
    "discriminative": ("discriminative", "#009e73", "P", "solid"),
    "l2sp": ("L2-SP", "#b59a00", "*", (0, (2, 1, 1, 1))),
}
_MARKED = {"markersize": 3.8, "markeredgecolor": "0.2", "markeredgewidth": 0.4, "linewidth": 1}


@dataclass(frozen=True)
class Case:
    """A model or a baseline that learned from the last `days` days of SMAP (None: from all) at one lead."""

    model: str
    strategy: str  # of STRATEGIES, "scratch" or "baseline"
    lead: int
    days: int | None

    @property
    def experiment(self) -> str:
        return TRANSFERRED if self.strategy in STRATEGIES else SCRATCH

    @property
    def name(self) -> str:
        """The model as its run is called."""
        return self.model + (variant_of(self.strategy, self.days) if self.strategy in STRATEGIES else suffix(self.days))


def days_from_scratch(lengths: Float[np.ndarray, "length"], rmse: Float[np.ndarray, "length"], goal: float) -> float:
    """Fewest days with which training from scratch reaches an RMSE, m3 m-3, by lines through RMSE against log days.

    `lengths` ascend. 0 where the shortest record already does, inf where none up to the longest does.
    """
    if rmse[0] <= goal:
        return 0.0
    for (few, worse), (many, better) in pairwise(zip(lengths, rmse, strict=True)):
        if better <= goal:
            share = (worse - goal) / (worse - better)
            return float(np.exp(np.log(few) + share * (np.log(many) - np.log(few))))
    return float("inf")


def replaced(found: float, lengths: Float[np.ndarray, "length"]) -> str:
    """In words, within the range of lengths that were tried."""
    if found == 0:
        return f"{lengths[0]:,.0f} or fewer"
    return f"{found:,.0f}" if np.isfinite(found) else f"more than {lengths[-1]:,.0f}"


@lru_cache(maxsize=1)
def scores(results: Results) -> pd.DataFrame | None:
    """Each strategy of each model, and the baselines, by lead and SMAP days; None where there are no such runs.

    All on the cells that have been observed in the shortest record, so that lengths can be compared.
    """
    rows = []
    models = [m for m in closer_models(results.detail) if _days_of(results, m, results.lead)]
    for lead in results.leads:
        for model in models:
            rows += _model_rows(results, model, lead)
        if models:
            rows += _baseline_rows(results, _days_of(results, models[0], lead), lead)
    return pd.DataFrame(rows) if rows else None


def strategies(results: Results, figures: Path) -> Section | None:
    table = scores(results)
    if table is None:
        return None
    path = figures / "strategies.png"
    title = f"Strategies of transfer by the number of SMAP days, {format_days(results.lead)} ahead"
    draw_strategies(table[table["lead_days"] == results.lead], results.title(title), path)
    tried = transferred(table)
    scratch, memory = (read_changes(tried, COMPARED[rival]) for rival in ("scratch", MEMORY))
    tried = tried.assign(vs_scratch=list(map(significance.verdict, scratch)))
    names = [_case(row) for row in tried.itertuples()]
    compared = {"from scratch on as many days of SMAP": scratch, f"{MEMORY} on as many days": memory}
    fewest = tried[tried["target_days"] == tried["target_days"].min()]
    said = [_words(rows) for _, rows in fewest.groupby(["model", "lead_days"], sort=False)]
    return Section(
        "Which strategy of transfer helps, with how many days of SMAP, and where does transfer hurt?",
        "A case is a model, strategy, lead and number of SMAP days here. "
        + "".join(
            f"{count_verdicts(changes, subject='transfer', rival=rival)} {format_range(changes, names)} "
            for rival, changes in compared.items()
        )
        + f"{_harm(tried)} With {fewest['target_days'].iloc[0]} days of SMAP, RMSE (m³ m⁻³) and in brackets the days "
        "from scratch that reach it:",
        [Figure(path, "RMSE of each strategy by the number of SMAP days", "Other leads are in the table.")],
        "The best strategy is chosen on the test days themselves. Days from scratch are interpolated in the logarithm "
        "of days, to where the curve first reaches the RMSE. With fewer days a deep model gets at most as many "
        "training steps as with the whole record.",
        points=said,
    )


def strategy_tables(results: Results) -> list[Table]:
    """The tables behind the answer; none where there are no such runs."""
    found = scores(results)
    if found is None:
        return []
    tried = transferred(found)
    shown = found.assign(strategy=found["strategy"].map(_name))[["model", "strategy", *COLUMNS]]
    unclear = (found["vs_scratch"] == "not significant").to_numpy()
    wide = tried.assign(strategy=tried["strategy"].map(_name)).pivot_table(
        index=["model", "strategy", "lead_days"],
        columns="target_days",
        values="replaces",
        aggfunc="first",
        sort=False,
    )
    wide = wide[sorted(wide.columns)].rename(columns=lambda count: f"as by {count} days").reset_index()
    note = "95 % intervals, over all seeds, on the cells that the shortest record has observed."
    return [
        Table("Strategies of transfer", f"{note} n.s.: against scratch on as many days.", shown, COLUMNS, unclear),
        Table(
            "Days of SMAP that pre-training replaces",
            "Days from scratch that reach the RMSE which the strategy reaches with the days above the column.",
            wide,
            {"lead_days": Column("lead", "days")},
        ),
    ]


def transferred(found: pd.DataFrame) -> pd.DataFrame:
    """The rows that started from the source's weights."""
    return found[found["strategy"].isin(STRATEGIES)]


def harm(tried: pd.DataFrame) -> list[str]:
    """Where transfer is significantly worse than scratch on as many days: a phrase a model and strategy."""
    said = []
    worse = tried[tried["vs_scratch"] == "worse"]
    for (model, strategy), rows in worse.groupby(["model", "strategy"], sort=False):
        cases = [
            f"{format_days(int(lead))} ahead with {', '.join(f'{n:,}' for n in part['target_days'])} SMAP days"
            for lead, part in rows.groupby("lead_days")
        ]
        said.append(f"{model}, {_name(strategy)}: {' and '.join(cases)}")
    return said


def _case(row: Any) -> str:
    """A row of the table in words."""
    return f"{row.model}, {_name(row.strategy)}, {format_days(row.lead_days)}, {row.target_days:,} SMAP days"


def _harm(tried: pd.DataFrame) -> str:
    return f"Transfer hurts significantly in {'these cases: ' + '; '.join(harm(tried)) if harm(tried) else 'no case'}."


def _words(rows: pd.DataFrame) -> str:
    """The procedure of the paper and the best strategy of one model and lead."""
    by = rows.set_index("strategy")
    shown = dict.fromkeys(["full", by["rmse"].idxmin()])
    said = [f"{_name(name)} {format_number(by.loc[name, 'rmse'], 4)} ({by.loc[name, 'replaces']})" for name in shown]
    return f"{rows['model'].iloc[0]} {format_days(int(rows['lead_days'].iloc[0]))} ahead: {', the best '.join(said)}"


def _name(strategy: str) -> str:
    return LOOKS[strategy][0] if strategy in LOOKS else strategy.replace("_", " ")


def _days_of(results: Results, model: str, lead: int) -> list[int | None]:
    """The SMAP days that strategies were tried with, from few to all (None)."""
    lengths = (*TARGET_DAYS, None)
    return [n for n in lengths if results.has(TRANSFERRED, model + variant_of("zero_shot", n), lead)]


def _model_rows(results: Results, model: str, lead: int) -> list[dict]:
    lengths = _days_of(results, model, lead)
    cases = [Case(model, strategy, lead, days) for days in lengths for strategy in ("scratch", *STRATEGIES)]
    there = [case for case in cases if results.has(case.experiment, case.name, lead)]
    rows = [_row(results, case, shortest=lengths[0]) for case in there]
    scratch = pd.DataFrame(row for row in rows if row["strategy"] == "scratch")
    days, rmse = scratch["target_days"].to_numpy(float), scratch["rmse"].to_numpy(float)
    for row in rows:
        if row["strategy"] != "scratch":
            row["replaces"] = replaced(days_from_scratch(days, rmse, goal=row["rmse"]), days)
    return rows


def _baseline_rows(results: Results, lengths: list[int | None], lead: int) -> list[dict]:
    cases = [Case(name, "baseline", lead, days) for name in SIMPLE for days in lengths]
    return [_row(results, case, shortest=lengths[0]) for case in cases]


def _row(results: Results, case: Case, shortest: int | None) -> dict:
    """Scores of one case over its seeds, against scratch and ridge_memory on as many days."""

    def estimate(score, rival: str | None = None) -> significance.Estimate:
        return results.estimate(
            score,
            case.experiment,
            case.name,
            case.lead,
            rival=(SCRATCH, rival + suffix(case.days)) if rival else None,
            cells_of="persistence" + suffix(shortest),
        )

    rmse = estimate(significance.rmse)
    row = {"model": case.model, "strategy": case.strategy, "lead_days": case.lead}
    row |= {"target_days": case.days or results.study["target_days"], "whole": case.days is None}
    row |= {"rmse": rmse.value, "low": rmse.low, "high": rmse.high}
    if case.strategy == "baseline":
        return row
    rivals = {MEMORY: MEMORY} if case.strategy == "scratch" else {"scratch": case.model, MEMORY: MEMORY}
    for rival, name in rivals.items():
        change = estimate(significance.rmse_change, rival=name)
        *columns, p = COMPARED[rival]
        row |= change.to_per_cent(*columns) | {p: change.p, f"vs_{rival}": significance.verdict(change)}
    return row


def draw_strategies(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw RMSE against the number of SMAP days and its change against scratch on as many days, a row of both a model.

    `table`: model (or baseline), strategy (of LOOKS), target_days, whole (true for the whole record), rmse (m3 m-3),
    and of strategies change, change_low, change_high (per cent, 95 %; negative is better). A value that would ruin an
    axis is an arrow on its edge. Raises UserError when the table holds no model with an RMSE.
    """
    style.save(_strategies_figure(table, title), path, vector=True)


@rc_context(style.STYLE)
def _strategies_figure(table: pd.DataFrame, title: str) -> Plot:
    """Axes in order: each model's RMSE and change."""
    table = style.finite_rows(table, "rmse", "change", "change_low", "change_high")
    fitted, simple = table[~table["model"].isin(BASELINES)], table[table["model"].isin(BASELINES)]
    if fitted.empty:
        raise UserError("Strategies of transfer cannot be drawn: the table holds no model with an RMSE.")
    lengths = table.groupby("target_days")["whole"].any()
    labels = {n: f"{n}\n(all)" if whole else str(n) for n, whole in lengths.items()}
    used = [name for name in LOOKS if name in set(fitted["strategy"])]
    counts = fitted.groupby("model", sort=False)["strategy"].nunique()
    heights = [max(len(lengths) * (forest.GAP + forest.PITCH * count), 1.8) for count in counts]
    figure = style.new_figure(style.DOUBLE, 0.9 + sum(heights) + 0.3 * len(counts), title)
    panels = figure.subplots(len(counts), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
    clipped = False
    for turn, (model, (errors, changes)) in enumerate(zip(counts.index, panels, strict=True)):
        rows = fitted[fitted["model"] == model]
        errors.set_title(f"({ascii_lowercase[2 * turn]}) {model}, RMSE")
        changes.set_title(f"({ascii_lowercase[2 * turn + 1]}) {model}, against scratch")
        clipped |= _draw_errors(errors, rows, simple, used)
        clipped |= _draw_changes(changes, rows, labels)
        errors.set_xticks(list(labels), list(labels.values()))
        errors.set_xticks([], minor=True)
    panels[-1, 0].set_xlabel("training days of the target (d)")
    panels[-1, 1].set_xlabel("change of RMSE on as many days (%)\nnegative is better")
    keys = [Line2D([], [], **_look(name)) for name in used]
    for name in dict.fromkeys(simple["model"]):
        keys.append(Line2D([], [], label=name, **style.baseline_line(name, width=1.2)))
    notes = [*forest.NOTES, style.CLIPPED] if clipped else forest.NOTES
    style.legend(figure, *style.in_rows([*keys, *notes], 4))
    return figure


def _draw_errors(ax: Axes, fitted: pd.DataFrame, simple: pd.DataFrame, used: list[str]) -> bool:
    """A line a strategy and baseline; returns whether any RMSE lies off the axis."""
    shown = pd.concat([fitted["rmse"], simple["rmse"]])
    usual = shown[shown < 3 * shown.median()]  # the result with few days is not hidden
    ax.set(xscale="log", ylim=style.axis_limits(shown.to_numpy(), inside=usual), ylabel=f"RMSE ({UNITS})")
    ax.grid(**style.GRID)
    clipped = False
    for name, rows in simple.sort_values("target_days").groupby("model", sort=False):
        line = style.baseline_line(name, width=1.2)
        clipped |= style.draw_line(ax, rows["target_days"], rows["rmse"], label=name, **line)
    for name in used:
        rows = fitted[fitted["strategy"] == name].sort_values("target_days")
        if len(rows):  # else this model does not have it
            clipped |= style.draw_line(ax, rows["target_days"], rows["rmse"], zorder=4, **_look(name))
    return clipped


def _draw_changes(ax: Axes, fitted: pd.DataFrame, labels: dict[int, str]) -> bool:
    """A forest plot with a row for each number of days; returns whether any change lies off the axis."""
    ends = {"change": "value", "change_low": "low", "change_high": "high"}
    points = fitted[["strategy", "target_days", *ends]].rename(columns={"target_days": "row", **ends})
    points = points.dropna(subset="value").astype({"row": str})
    looks = [forest.Look(name, *LOOKS[name][:3]) for name in LOOKS if name in set(points["strategy"])]
    if points.empty:
        return False
    ax.set_xlim(forest.percent_limits(points))
    forest.prepare_rows(ax, [label.replace("\n", " ") + " days" for label in labels.values()])
    return forest.draw_points(ax, points, [str(days) for days in labels], looks, by="strategy")


def _look(strategy: str) -> dict:
    """Name, colour, marker and line of a strategy."""
    label, color, marker, line = LOOKS[strategy]
    return {"label": label, "color": color, "marker": marker, "linestyle": line, **_MARKED}
