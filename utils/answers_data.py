"""Questions about the data: what each predictor is worth, and how much SMAP transfer replaces."""

from pathlib import Path

import pandas as pd

from utils import Drawcurves, metrics, significance
from utils.drawing import BASELINES
from utils.page import Figure, Section
from utils.prepared_data import VARIABLES
from utils.results import SCRATCH, TRANSFERRED, Results
from utils.settings import SEASON
from utils.study import TARGET_DAYS


def predictors(results: Results, figures: Path) -> Section | None:
    model, lead, rows = results.detail, results.lead, []
    rival = (TRANSFERRED, model)
    asked = [("retrained without", f"_without_{name}", name) for name in VARIABLES]
    asked += [("permuted", f"_permuted_{name}", name) for name in VARIABLES]
    asked += [("added", "_with_season", SEASON)]
    for how, variant, predictor in asked:
        if results.has(TRANSFERRED, model + variant, lead):
            for season in ("all", *metrics.SEASONS):
                which = (TRANSFERRED, model + variant, lead)
                kept = None if season == "all" else season
                found = results.estimate(significance.rmse_difference, *which, rival=rival, season=kept)
                rows.append(
                    {"how": how, "predictor": predictor, "season": season}
                    | {"rmse_change": found.value, "low": found.low, "high": found.high}
                )
    if not rows:
        return None
    path = figures / "predictors.png"
    title = f"What each predictor is worth: {model} with transfer, {lead} days ahead"
    Drawcurves.draw_predictors(pd.DataFrame(rows).dropna(subset=["rmse_change"]), results.title(title), path)
    scores = results.table[(results.table["experiment"] == TRANSFERRED) & (results.table["lead_days"] == lead)]
    scores = scores.groupby("model")["rmse"].mean()
    said = [f"{how} {_words(p)} {scores[model + v]:.4f}" for how, v, p in asked if model + v in scores]
    return Section(
        "What is each predictor worth?",
        f"RMSE (m³ m⁻³) of {model} with transfer, {lead} days ahead: {scores[model]:.4f}; {'; '.join(said)}.",
        [Figure(path, "Change of RMSE without each predictor, permuted, and with the season added", "95 % intervals.")],
        results.reservations("Permuting shuffles windows over the test year, so the predictor's season is lost too."),
    )


def _words(predictor: str) -> str:
    return predictor.replace("_", " ")


def target_days(results: Results, figures: Path) -> Section | None:
    model, lead, rows = results.detail, results.lead, []
    variants = {n: f"_{n}days" for n in TARGET_DAYS if results.has(TRANSFERRED, f"{model}_{n}days", lead)}
    if not variants:
        return None
    variants[results.study["target_days"]] = ""
    for count, variant in variants.items():
        for experiment, name in ((SCRATCH, model), (TRANSFERRED, model), *((SCRATCH, b) for b in BASELINES)):
            found = results.estimate(significance.skill, experiment, name + variant, lead)
            rows.append(
                {"experiment": experiment, "model": name, "target_days": count, "whole": not variant}
                | {"skill": found.value, "low": found.low, "high": found.high}
            )
    curves, path = pd.DataFrame(rows), figures / "target_days.png"
    Drawcurves.draw_target_days(curves, results.title(f"How much SMAP transfer replaces, {lead} days ahead"), path)
    scores = results.table[results.table["lead_days"] == lead].groupby(["experiment", "model"])["rmse"].mean()
    said = [
        f"{n} days {scores[SCRATCH, model + v]:.4f} and {scores[TRANSFERRED, model + v]:.4f}"
        for n, v in variants.items()
    ]
    rival = (SCRATCH, model)
    tested = {
        n: significance.verdict(
            results.estimate(significance.mse_difference, TRANSFERRED, model + v, lead, rival=rival)
        )
        for n, v in variants.items()
        if v
    }
    enough = [n for n, words in tested.items() if words in ("better", "not significant")]
    least = f"{min(enough)} days with transfer are" if enough else "none of the shorter records with transfer is"
    return Section(
        "How much SMAP does pre-training replace?",
        f"RMSE (m³ m⁻³) of {model} from scratch and with transfer, {lead} days ahead, by the SMAP days it learns from: "
        f"{'; '.join(said)}. Against the whole record from scratch, {least} not significantly worse.",
        [
            Figure(
                path,
                "Skill over persistence against the number of SMAP days, with and without transfer",
                "95 % intervals.",
            )
        ],
        results.reservations(
            "Every record length gets as many training steps; the last fifth of the days chooses the epoch."
        ),
    )
