"""Questions about the data: what each predictor is worth, and how much SMAP transfer replaces."""

from pathlib import Path

import pandas as pd

from utils.common.text import days, number
from utils.dataset.prepared import SEASON, VARIABLES
from utils.scores import metrics, significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.plan import TARGET_DAYS
from utils.study.questions import draw_curves
from utils.study.results import SCRATCH, TRANSFERRED, Results


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
    title = f"What each predictor is worth: {model} with transfer, {days(lead)} ahead"
    draw_curves.draw_predictors(pd.DataFrame(rows).dropna(subset=["rmse_change"]), results.title(title), path)
    scores, said = results.rows["rmse"], []
    for how, variant, predictor in asked:
        if results.has(TRANSFERRED, model + variant, lead):
            words = results.verdict(TRANSFERRED, model + variant, lead, rival)
            chance = "" if words in ("better", "worse") else " (n.s.)"
            rmse = number(scores[TRANSFERRED, model + variant, lead], 4)
            said.append(f"{how} {predictor.replace('_', ' ')} {rmse}{chance}")
    return Section(
        "What is each predictor worth?",
        f"RMSE (m³ m⁻³) of {model} with transfer, {days(lead)} ahead: "
        f"{number(scores[TRANSFERRED, model, lead], 4)}; {'; '.join(said)}. n.s.: not significantly different from it.",
        [Figure(path, "Change of RMSE without each predictor, permuted, and with the season added", "95 % intervals.")],
        results.reservations("Permuting shuffles windows over the test year, so the predictor's season is lost too."),
    )


def target_days(results: Results, figures: Path) -> Section | None:
    model, lead, rows = results.detail, results.lead, []
    variants = {n: f"_{n}days" for n in TARGET_DAYS if results.has(TRANSFERRED, f"{model}_{n}days", lead)}
    if not variants:
        return None
    least = "persistence" + variants[min(variants)]  # cells that the shortest record has never observed are left out
    variants[results.study["target_days"]] = ""
    for count, variant in variants.items():
        for experiment, name in ((SCRATCH, model), (TRANSFERRED, model), *((SCRATCH, b) for b in BASELINES)):
            found = results.estimate(significance.skill, experiment, name + variant, lead, cells_of=least)
            rows.append(
                {"experiment": experiment, "model": name, "target_days": count, "whole": not variant}
                | {"skill": found.value, "low": found.low, "high": found.high}
            )
    curves, path = pd.DataFrame(rows), figures / "target_days.png"
    draw_curves.draw_target_days(curves, results.title(f"How much SMAP transfer replaces, {days(lead)} ahead"), path)
    scores, rival = results.rows["rmse"], (SCRATCH, model)
    said = [
        f"{n} days {number(scores[SCRATCH, model + v, lead], 4)} and {number(scores[TRANSFERRED, model + v, lead], 4)}"
        for n, v in variants.items()
    ]
    enough = []
    for n, variant in sorted(variants.items(), reverse=True)[1:]:  # from the longest of the shorter records down
        if results.verdict(TRANSFERRED, model + variant, lead, rival) != "better":
            break
        enough.append(n)
    which = f"{min(enough)} days with transfer are" if enough else "no shorter record with transfer is"
    return Section(
        "How much SMAP does pre-training replace?",
        f"RMSE (m³ m⁻³) of {model} from scratch and with transfer, {days(lead)} ahead, by the SMAP days it learns "
        f"from: {'; '.join(said)}. {which[0].upper()}{which[1:]} significantly better than the whole record from "
        "scratch.",
        [
            Figure(
                path,
                "Skill over persistence against the number of SMAP days, with and without transfer",
                "95 % intervals.",
            )
        ],
        results.reservations(
            "Every record length gets as many training steps at most; of N days the last fifth chooses the epoch, of "
            "the whole record its last year."
        ),
    )
