"""The question about transfer: which strategy helps with how many days of SMAP, what it replaces, where it hurts."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from utils.common.text import days, number
from utils.scores import significance
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.plan import COMPACT, STRATEGIES, TARGET_DAYS, suffix, variant_of
from utils.study.questions.draw_transfer import LOOKS, draw_strategies
from utils.study.results import SCRATCH, TRANSFERRED, Results

MEMORY = "ridge_memory"  # the baseline that is to be beaten
SIMPLE = (MEMORY, "persistence")
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
    "vs_ridge_memory": Column("against ridge with memory"),
    "replaces": Column("days from scratch for the same RMSE", "days"),
}


def days_from_scratch(lengths: Float[np.ndarray, "length"], rmse: Float[np.ndarray, "length"], goal: float) -> float:
    """Fewest days with which training from scratch reaches an RMSE, m3 m-3, by lines through RMSE against log days.

    `lengths` ascend. 0 where the shortest record already does, inf where none up to the longest does.
    """
    if rmse[0] <= goal:
        return 0.0
    for (few, worse), (many, better) in zip(
        zip(lengths[:-1], rmse[:-1], strict=True), zip(lengths[1:], rmse[1:], strict=True), strict=True
    ):
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
    models = [m for m in dict.fromkeys((results.detail, COMPACT)) if _days_of(results, m, results.lead)]
    for lead in results.leads:
        for model in models:
            rows += _model_rows(results, model, lead)
        if models:
            rows += _baseline_rows(results, _days_of(results, models[0], lead), lead)
    return pd.DataFrame(rows) if rows else None


def strategies(results: Results, figures: Path) -> Section | None:
    found = scores(results)
    if found is None:
        return None
    path = figures / "strategies.png"
    draw_strategies(found, results.title("Strategies of transfer by the number of SMAP days"), path)
    tried = transferred(found)
    verdicts = list(tried["vs_scratch"])
    memory = list(tried["vs_ridge_memory"])
    fewest = tried[tried["target_days"] == tried["target_days"].min()]
    said = [_words(rows) for _, rows in fewest.groupby(["model", "lead_days"], sort=False)]
    return Section(
        "Which strategy of transfer helps, with how many days of SMAP, and where does transfer hurt?",
        f"Of {len(tried)} cases (model, strategy, lead and SMAP days), {verdicts.count('better')} are significantly "
        f"better than from scratch on as many days and {verdicts.count('worse')} significantly worse; "
        f"{memory.count('better')} are significantly better than ridge with a memory on as many days and "
        f"{memory.count('worse')} significantly worse. With {fewest['target_days'].iloc[0]} days of SMAP, RMSE "
        f"(m³ m⁻³) and the days from scratch that reach it: {'; '.join(said)}. {_harm(tried)}",
        [
            Figure(
                path,
                "RMSE against the number of SMAP days for each strategy, a panel a model and lead",
                "95 % intervals. Days on a logarithmic axis; each model has its own axis of RMSE.",
            )
        ],
        results.reservations(
            "The best strategy is named after the fact, by the test itself. Days from scratch are interpolated in "
            "the logarithm of days, to where the curve first reaches the RMSE. A deep model gets as many training "
            "steps at most with every record length."
        ),
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
            f"{days(int(lead))} ahead with {', '.join(f'{n:,}' for n in part['target_days'])} SMAP days"
            for lead, part in rows.groupby("lead_days")
        ]
        said.append(f"{model}, {_name(strategy)}: {' and '.join(cases)}")
    return said


def _harm(tried: pd.DataFrame) -> str:
    found = harm(tried)
    return f"Transfer hurts significantly here: {'; '.join(found)}." if found else "Nowhere does it hurt significantly."


def _words(rows: pd.DataFrame) -> str:
    """The procedure of the paper and the best strategy of one model and lead."""
    by = rows.set_index("strategy")
    best = by["rmse"].idxmin()
    shown = dict.fromkeys(["full", best])
    said = [f"{_name(name)} {number(by.loc[name, 'rmse'], 4)} ({by.loc[name, 'replaces']})" for name in shown]
    return f"{rows['model'].iloc[0]} {days(int(rows['lead_days'].iloc[0]))} ahead: {', the best '.join(said)}"


def _name(strategy: str) -> str:
    return LOOKS[strategy][0] if strategy in LOOKS else strategy.replace("_", " ")


def _days_of(results: Results, model: str, lead: int) -> list[int | None]:
    """The SMAP days that strategies were tried with, from few to all (None)."""
    asked = (*TARGET_DAYS, None)
    return [n for n in asked if results.has(TRANSFERRED, model + variant_of("zero_shot", n), lead)]


def _model_rows(results: Results, model: str, lead: int) -> list[dict]:
    lengths = _days_of(results, model, lead)
    rows = []
    for count in lengths:
        for strategy in ("scratch", *STRATEGIES):
            name = model + (suffix(count) if strategy == "scratch" else variant_of(strategy, count))
            experiment = SCRATCH if strategy == "scratch" else TRANSFERRED
            if results.has(experiment, name, lead):
                rows.append(_row(results, (experiment, name), model, strategy, lead, count, lengths[0]))
    known = [(row["target_days"], row["rmse"]) for row in rows if row["strategy"] == "scratch"]
    curve = tuple(np.array(column, float) for column in zip(*known, strict=True))
    for row in rows:
        if row["strategy"] != "scratch":
            row["replaces"] = replaced(days_from_scratch(*curve, row["rmse"]), curve[0])
    return rows


def _baseline_rows(results: Results, lengths: list[int | None], lead: int) -> list[dict]:
    return [
        _row(results, (SCRATCH, name + suffix(count)), name, "baseline", lead, count, lengths[0])
        for name in SIMPLE
        for count in lengths
    ]


def _row(
    results: Results,
    which: tuple[str, str],
    model: str,
    strategy: str,
    lead: int,
    count: int | None,
    shortest: int | None,
) -> dict:
    """Scores of one run over its seeds, against scratch and ridge with a memory on as many days."""
    on = {"cells_of": "persistence" + suffix(shortest)}
    score = results.estimate(significance.rmse, *which, lead, **on)
    row = {"model": model, "strategy": strategy, "lead_days": lead}
    row |= {"target_days": count or results.study["target_days"], "whole": count is None}
    row |= {"rmse": score.value, "low": score.low, "high": score.high}
    if model in SIMPLE:
        return row
    if strategy != "scratch":
        against = on | {"rival": (SCRATCH, model + suffix(count))}
        change = results.estimate(significance.rmse_change, *which, lead, **against)
        tested = results.estimate(significance.mse_difference, *which, lead, **against)
        row |= {"change": 100 * change.value, "change_low": 100 * change.low, "change_high": 100 * change.high}
        row |= {"p": tested.p, "vs_scratch": significance.verdict(tested)}
    against = on | {"rival": (SCRATCH, MEMORY + suffix(count))}
    tested = results.estimate(significance.mse_difference, *which, lead, **against)
    return row | {"vs_ridge_memory": significance.verdict(tested)}
