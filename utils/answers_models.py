"""Questions about the models: their scores, what transfer changes, and the lead."""

from pathlib import Path

import pandas as pd

from utils import Drawcurves, Drawplot, significance
from utils.drawing import BASELINES
from utils.page import Figure, Section
from utils.results import SCRATCH, TRANSFERRED, Results


def how_good(results: Results, figures: Path) -> Section:
    table, path = results.main(), figures / "study.png"
    Drawplot.draw_study(table, results.title("RMSE, R² and skill over persistence"), path)
    tuned = table[(table["experiment"] == TRANSFERRED) & table["model"].isin(results.models)]
    counts = tuned["vs_persistence"].value_counts()
    smap = table[table["experiment"] == TRANSFERRED]
    best = []
    for lead in results.leads:
        means = smap[smap["lead_days"] == lead].groupby("model")["rmse"].mean()
        model = means[[m for m in results.models if m in means]].idxmin()
        best.append(f"{lead} days: {model} {means[model]:.4f}, {means.idxmin()} {means.min():.4f}")
    return Section(
        "How good are the forecasts, and are they better than simple ones?",
        f"Of {len(tuned)} runs with transfer, {counts.get('better', 0)} are significantly better than persistence, "
        f"{counts.get('worse', 0)} significantly worse, and {counts.get('not significant', 0)} not distinguishable "
        f"from it. RMSE (m³ m⁻³) of the best network and of the best of all forecasts, baselines included: "
        f"{'; '.join(best)}.",
        [
            Figure(
                path, "RMSE, R² and skill of every model and baseline by experiment and lead", "Bars: 95 % intervals."
            )
        ],
        results.reservations(),
    )


def transfer(results: Results, figures: Path) -> Section | None:
    rows = []
    for model in results.models:
        for lead in results.leads:
            if results.has(SCRATCH, model, lead) and results.has(TRANSFERRED, model, lead):
                rival = (SCRATCH, model)
                found = results.estimate(significance.rmse_change, TRANSFERRED, model, lead, rival=rival)
                tested = results.estimate(significance.mse_difference, TRANSFERRED, model, lead, rival=rival)
                percent = {n: 100 * getattr(found, "value" if n == "change" else n) for n in ("change", "low", "high")}
                rows.append({"model": model, "lead_days": lead, **percent, "significant": tested.significant})
    if not rows:
        return None
    gains, path = pd.DataFrame(rows), figures / "transfer_gain.png"
    Drawcurves.draw_transfer_gain(gains, results.title("Change of RMSE by pre-training on ERA5-Land"), path)
    better = int((gains["significant"] & (gains["change"] < 0)).sum())
    worse = int((gains["significant"] & (gains["change"] > 0)).sum())
    most, least = gains.loc[gains["change"].idxmin()], gains.loc[gains["change"].idxmax()]
    return Section(
        "Does pre-training on ERA5-Land lower the error on SMAP?",
        f"In {better} of {len(gains)} cases (model and lead) significantly, in {worse} it raises it significantly. The "
        f"change of RMSE goes from {_signed(most)} to {_signed(least)}.",
        [Figure(path, "Change of RMSE by transfer, by model and lead", "Filled: significant at 5 %.")],
        results.reservations(),
    )


def _signed(row: pd.Series) -> str:
    sign = "−" if row["change"] < 0 else "+"
    return f"{sign}{abs(row['change']):.1f} % ({row['model']}, {row['lead_days']} days)"


def scatters(results: Results, figures: Path) -> Section:
    panels = {}
    for experiment in (SCRATCH, TRANSFERRED):
        for model in results.models:
            run = results.predictions(experiment, model, results.lead, results.seeds[0])
            panels[experiment, model] = (run["observed"].values, run["predicted"].values)
    path = figures / "scatters.png"
    Drawplot.draw_scatters(panels, results.title(f"Predicted against observed, {results.lead} days ahead"), path)
    table = results.main()
    away = (table["slope"] - 1).abs()
    keys = ["model", "lead_days", "seed"]
    sides = [
        table.assign(away=away)[table["experiment"] == e].dropna(subset=["seed"]).set_index(keys)["away"]
        for e in (SCRATCH, TRANSFERRED)
    ]
    closer = int((sides[1] < sides[0]).sum())
    lead = table[(table["lead_days"] == results.lead) & (table["experiment"] != "ERA5test")]
    slope = lead.groupby(["experiment", "model"])["slope"].mean()
    said = [f"{m} {slope[SCRATCH, m]:.3f} and {slope[TRANSFERRED, m]:.3f}" for m in results.models]
    return Section(
        "Do predicted and observed soil moisture lie closer to y = x with transfer?",
        f"The slope of the fitted line is closer to 1 with transfer in {closer} of {len(sides[0])} runs. Slopes "
        f"{results.lead} days ahead without and with transfer: {'; '.join(said)}.",
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
    ours = found[found["model"] == results.best].set_index("lead_days")
    if len(ours) < 2:
        return None
    path = figures / "leads.png"
    Drawcurves.draw_leads(
        found, results.title(f"Error against lead: {results.best} with transfer, and baselines"), path
    )
    first, last = ours.index.min(), ours.index.max()
    return Section(
        "How does the error grow with the lead?",
        f"RMSE (m³ m⁻³) of {results.best} with transfer, the best model by validation: {ours.loc[first, 'rmse']:.4f} "
        f"at {first} day{'s' if first > 1 else ''}, {ours.loc[last, 'rmse']:.4f} at {last} days.",
        [Figure(path, "RMSE and skill against lead for the best model and the baselines", "Band: 95 % interval.")],
        results.reservations(),
    )
