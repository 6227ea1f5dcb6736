"""The question about uncertainty: whether the intervals of forecast.py hold on the test days."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from utils.common.text import days, number
from utils.forecasts.calibration import LEVELS, Calibration, OutOfSample, combination_weights
from utils.forecasts.quantile_scores import QuantileScores
from utils.scores import significance
from utils.settings import run_folder
from utils.study.html_page import Column, Figure, Section, Table
from utils.study.plan import COMPACT
from utils.study.questions.draw_reliability import draw_reliability
from utils.study.results import TRANSFERRED, Results

SIMPLE = ("persistence", "climatology")
COLUMNS = {
    "lead_days": Column("lead", "days"),
    "crps": Column("CRPS", "m³ m⁻³", ".4f"),
    "against_climatology": Column("CRPS less climatology's", "m³ m⁻³", ".4f"),
    "low": Column("from", "", ".4f"),
    "high": Column("to", "", ".4f"),
    "coverage": Column("coverage of the 90 % interval", "%", ".1f"),
    **{f"coverage_{season}": Column(season, "%", ".1f") for season in ("DJF", "MAM", "JJA", "SON")},
    "width": Column("width of the 90 % interval", "m³ m⁻³", ".3f"),
    "n": Column("cell-days"),
}


@lru_cache(maxsize=1)
def probabilities(results: Results) -> pd.DataFrame | None:
    """A row for each lead and forecast: models with transfer, simple ones; `reliability` by LEVELS. None: no runs."""
    rows = []
    for lead in results.leads:
        found: dict[str, QuantileScores] = {}
        for model in dict.fromkeys((results.detail, COMPACT)):
            folders = [
                results.out / "runs" / run_folder(TRANSFERRED, model, lead, seed)
                for seed in results.seeds_of(TRANSFERRED, model, lead)
            ]
            held = [folder / "held_out" / "predictions.nc" for folder in folders]
            if not held or not all(path.exists() for path in held):
                continue
            weights = combination_weights(held)
            names = {model: "predicted"} | ({name: name for name in SIMPLE} if not found else {})
            for name, variable in names.items():
                calibration = Calibration.of(OutOfSample.read(held, weights, variable))
                tested = OutOfSample.read([folder / "predictions.nc" for folder in folders], weights, variable)
                found[name] = QuantileScores.of(tested, calibration)
        for name, scores in found.items():
            change = significance.estimate([scores.daily_sums(found["climatology"])], significance.mse_difference)
            rows.append(
                {"model": name, "lead_days": lead, "crps": scores.mean_crps, "against_climatology": change.value}
                | {"low": change.low, "high": change.high, "coverage": 100 * scores.coverage}
                | {f"coverage_{season}": 100 * share for season, share in scores.by_season.items()}
                | {"width": scores.width, "n": int(scores.n.sum()), "reliability": scores.below}
            )
    return pd.DataFrame(rows) if rows else None


def how_sure(results: Results, figures: Path) -> Section | None:
    found = probabilities(results)
    if found is None:
        return None
    path = figures / "reliability.png"
    draw_reliability(found, LEVELS, results.title("Reliability of the quantiles, and CRPS, on the test days"), path)
    models, seasons = found[~found["model"].isin(SIMPLE)], [f"coverage_{name}" for name in ("DJF", "MAM", "JJA", "SON")]
    said = []
    for model, rows in models.groupby("model", sort=False):
        shares = [f"{days(int(row['lead_days']))} {number(row['coverage'], 1)} %" for _, row in rows.iterrows()]
        extremes = [number(end, 0) for end in (np.nanmin(rows[seasons]), np.nanmax(rows[seasons]))]
        said.append(f"{model} {', '.join(shares)} ({extremes[0]} to {extremes[1]} % in single seasons)")
    scores = []
    for lead, rows in found.groupby("lead_days"):
        rows = rows.sort_values("crps")
        scores.append(
            f"{days(int(lead))}: " + ", ".join(f"{row['model']} {number(row['crps'], 4)}" for _, row in rows.iterrows())
        )
    return Section(
        "How sure are the forecasts?",
        f"Of the observations of the test days, the 90 % intervals contain: {'; '.join(said)}. CRPS (m³ m⁻³), lower is "
        f"better: {'; '.join(scores)}.",
        [Figure(path, "Observed frequency of less soil moisture than each quantile, and CRPS by lead", "")],
        results.reservations(
            "With transfer. Intervals are conformal, from forecasts of training and validation days by models that had "
            "not seen them, in four blocks of time; persistence and climatology are treated in the same way."
        ),
    )


def scores_of_quantiles(results: Results) -> pd.DataFrame | None:
    """The table behind the answer; None where there are no such runs."""
    found = probabilities(results)
    return None if found is None else found.drop(columns="reliability")


def probability_tables(results: Results) -> list[Table]:
    """The same for the page."""
    found = scores_of_quantiles(results)
    caption = "Conformal quantiles on the test days. CRPS less climatology's with its 95 % interval."
    return [] if found is None else [Table("Uncertainty", caption, found, COLUMNS)]
