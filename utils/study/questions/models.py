"""Questions about the models: their scores, what transfer changes, and the lead."""

from pathlib import Path

import pandas as pd

from utils.common.text import days, number, percent
from utils.figures import scatter
from utils.scores import significance
from utils.scores.baselines import BASELINES
from utils.study.html_page import Figure, Section
from utils.study.plan import PAPERS_BEST
from utils.study.questions import draw_curves
from utils.study.results import SCRATCH, TRANSFERRED, Results


def how_good(results: Results, figures: Path) -> Section:
    table, rows, path = results.main(), results.rows, figures / "study.png"
    for score in ("rmse", "r2", "skill"):  # of the model over its seeds, not of one of them
        for end in ("low", "high"):
            means = [rows[f"{score}_{end}"].get(key) for key in zip(*(table[n] for n in rows.index.names), strict=True)]
            table = table.assign(**{f"{score}_{end}": means})
    scatter.draw_study(
        table[table["seed"].notna() | table["model"].isin(BASELINES)],
        results.title("RMSE, R² and skill over persistence"),
        path,
    )
    cases = [(model, lead) for model in results.models for lead in results.leads]
    verdicts = [rows.loc[(TRANSFERRED, *case), "vs_persistence"] for case in cases]
    memory = [rows.loc[(TRANSFERRED, *case), "vs_ridge_memory"] for case in cases]
    best = []
    for lead in results.leads:
        found = {m: rows.loc[(TRANSFERRED, m, lead), "rmse"] for m in [*results.models, *BASELINES]}
        network = min(results.models, key=found.get)
        simple = min(BASELINES, key=found.get)
        best.append(f"{days(lead)}: {network} {number(found[network], 4)}, {simple} {number(found[simple], 4)}")
    return Section(
        "How good are the forecasts, and are they better than simple ones?",
        f"Of {len(cases)} cases (model and lead) with transfer, {verdicts.count('better')} are significantly better "
        f"than persistence and {verdicts.count('worse')} significantly worse; {memory.count('better')} are "
        f"significantly better than ridge with a memory and {memory.count('worse')} significantly worse. "
        f"Lowest RMSE (m³ m⁻³) of the networks and of the baselines: {'; '.join(best)}. {_papers_claim(results)}",
        [Figure(path, "RMSE, R² and skill of all models and baselines, by lead", "Bars: 95 % intervals.")],
        results.reservations(),
    )


def _papers_claim(results: Results) -> str:
    """Whether the ConvLSTM with transfer is the best of the networks, as the paper has it."""
    others = [model for model in results.models if model != PAPERS_BEST]
    if PAPERS_BEST not in results.models or not others:
        return ""
    cases = [(lead, model) for lead in results.leads for model in others]
    found = [results.verdict(TRANSFERRED, PAPERS_BEST, lead, (TRANSFERRED, model)) for lead, model in cases]
    return (
        f"The {PAPERS_BEST} with transfer, the paper's best, is significantly better than another network with "
        f"transfer in {found.count('better')} of {len(found)} comparisons and significantly worse in "
        f"{found.count('worse')}."
    )


def transfer(results: Results, figures: Path) -> Section | None:
    cases = [(m, lead) for m in results.models for lead in results.leads if results.has(TRANSFERRED, m, lead)]
    rows = results.rows.loc[[(TRANSFERRED, *case) for case in cases]].reset_index()
    if rows["transfer_rmse_change"].isna().all():
        return None
    gains = rows[["model", "lead_days"]].assign(significant=rows["vs_scratch"].isin(["better", "worse"]))
    for name, column in (("change", "transfer_rmse_change"), ("low", "transfer_low"), ("high", "transfer_high")):
        gains[name] = 100 * rows[column]
    path = figures / "transfer_gain.png"
    draw_curves.draw_transfer_gain(gains, results.title("Change of RMSE by pre-training on ERA5-Land"), path)
    verdicts = list(rows["vs_scratch"])
    said = [
        f"{percent(row['transfer_rmse_change'])} ({row['model']}, {days(int(row['lead_days']))})"
        for row in (rows.loc[rows["transfer_rmse_change"].idxmin()], rows.loc[rows["transfer_rmse_change"].idxmax()])
    ]
    return Section(
        "Does pre-training on ERA5-Land lower the error on SMAP?",
        f"It lowers it significantly in {verdicts.count('better')} of {len(cases)} cases (model and lead) and raises "
        f"it significantly in {verdicts.count('worse')}. The change of RMSE goes from {said[0]} to {said[1]}.",
        [Figure(path, "Change of RMSE by transfer, by model and lead", "Filled: significant at 5 %.")],
        results.reservations(),
    )


def scatters(results: Results, figures: Path) -> Section:
    panels = {}
    for experiment in (SCRATCH, TRANSFERRED):
        for model in results.models:
            run = results.predictions(experiment, model, results.lead, results.seeds[0])
            panels[experiment, model] = (run["observed"].values, run["predicted"].values)
    path = figures / "scatters.png"
    scatter.draw_scatters(panels, results.title(f"Predicted against observed, {days(results.lead)} ahead"), path)
    rows = results.rows["slope"]
    pairs = [
        [rows[e, model, lead] for e in (SCRATCH, TRANSFERRED)] for model in results.models for lead in results.leads
    ]
    closer = sum(abs(tuned - 1) < abs(scratch - 1) for scratch, tuned in pairs)
    slope = {(e, m): number(rows[e, m, results.lead], 3) for e in (SCRATCH, TRANSFERRED) for m in results.models}
    said = [f"{m} {slope[SCRATCH, m]} and {slope[TRANSFERRED, m]}" for m in results.models]
    return Section(
        "Do predicted and observed soil moisture lie closer to y = x with transfer?",
        f"The slope of the fitted line is closer to 1 with transfer in {closer} of {len(pairs)} cases. Slopes "
        f"{days(results.lead)} ahead without and with transfer: {'; '.join(said)}.",
        [Figure(path, "Density of predicted against observed soil moisture of all models", "Colour: cell-days.")],
        results.reservations(f"Seed {results.seeds[0]}."),
    )


def leads(results: Results, figures: Path) -> Section | None:
    rows = []
    for name, experiment in [(b, SCRATCH) for b in BASELINES] + [(results.best, TRANSFERRED)]:
        for lead in results.study["all_leads"]:
            if name in BASELINES or results.has(experiment, name, lead):
                error = results.estimate(significance.rmse, experiment, name, lead)
                skill = results.estimate(significance.skill, experiment, name, lead)
                rows.append(
                    {"model": name, "lead_days": lead, "rmse": error.value, "low": error.low, "high": error.high}
                )
                rows[-1]["skill"] = skill.value
    found = pd.DataFrame(rows)
    ours, memory = (found[found["model"] == m].set_index("lead_days")["rmse"] for m in (results.best, "ridge_memory"))
    if len(ours) < 2:
        return None
    path = figures / "leads.png"
    draw_curves.draw_leads(
        found, results.title(f"Error against lead: {results.best} with transfer, and baselines"), path
    )
    first, last = ours.index.min(), ours.index.max()
    return Section(
        "How does the error grow with the lead?",
        f"RMSE (m³ m⁻³) of {results.best} with transfer, the best model by validation: {number(ours.loc[first], 4)} at "
        f"{days(int(first))}, {number(ours.loc[last], 4)} at {days(int(last))}; of ridge with a memory "
        f"{number(memory.loc[first], 4)} and {number(memory.loc[last], 4)}.",
        [Figure(path, "RMSE and skill against lead for the best model and the baselines", "Band: 95 % interval.")],
        results.reservations(),
    )
