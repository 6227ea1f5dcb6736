"""The question about controls: whether transfer helps because of what the source knows, and of which part of it."""

from pathlib import Path

import pandas as pd

from utils.common.text import format_days, format_number
from utils.scores import significance
from utils.scores.significance import Estimate
from utils.study.html_page import Figure, Section
from utils.study.plan import CONTROLS
from utils.study.questions.transfer_gain import draw_transfer_gain
from utils.study.results import SCRATCH, TRANSFERRED, Results

SOURCES = {  # what stands behind a model's name → how the source is called
    "": "the study's own source",
    "_other_world": "a source of other weather",
    "_shuffled_source": "a source shuffled in time",
}
VERDICTS = {
    "better": "significantly lower than",
    "worse": "significantly higher than",
    "not significant": "not significantly different from",
    "too few days": "not tested against",
}
MEANING = {
    "other_world": "The sample's two products see one weather. Where transfer from other weather helps as much, it is "
    "soils and climate that are transferred, and not the weather of shared days.",
    "shuffled_source": "A shuffled source keeps the mean and the spread of each cell, and no relation between days. "
    "It should not help; what it helps comes from the map of the means.",
}


def why_transfer_helps(results: Results, figures: Path) -> Section | None:
    """Transfer from the study's source beside transfer from controls; None where the study has none."""
    lead, models = results.lead, results.models
    controls = [name for name in CONTROLS if any(results.has(TRANSFERRED, f"{m}_{name}", lead) for m in models)]
    if not controls:
        return None
    rows = pd.DataFrame(
        [
            {"model": model, "source": source, "estimate": estimate_gain(results, model, source)}
            for model in models
            for source in ("", *(f"_{name}" for name in controls))
            if results.has(TRANSFERRED, f"{model}_{controls[0]}", lead)
        ]
    )
    path = figures / "controls.png"
    draw_transfer_gain(_prepare_figure(rows, lead), results.title("Change of RMSE by transfer from each source"), path)
    return Section(
        "Does transfer help for the right reason?",
        f"Change of RMSE {format_days(lead)} ahead against no transfer, with its 95 % interval:",
        [Figure(path, "Change of RMSE by transfer from the study's source and from controls", "Left of 0: it helps.")],
        " ".join(MEANING[name] for name in controls),
        points=[_describe(results, str(model), part) for model, part in rows.groupby("model", sort=False)],
    )


def estimate_gain(results: Results, model: str, source: str) -> Estimate:
    """Change of RMSE by transfer from a source against no transfer."""
    rival = (SCRATCH, model)
    return results.estimate(significance.rmse_change, TRANSFERRED, model + source, results.lead, rival=rival)


def _prepare_figure(rows: pd.DataFrame, lead: int) -> pd.DataFrame:
    """The table that the figure of transfer takes: a row for each model and source."""
    names = [f"{model}, {SOURCES[source]}" for model, source in zip(rows["model"], rows["source"], strict=True)]
    numbers = [[100 * e.value, 100 * e.low, 100 * e.high] for e in rows["estimate"]]
    table = pd.DataFrame(numbers, columns=["change", "low", "high"])
    return table.assign(model=names, lead_days=lead)


def _describe(results: Results, model: str, rows: pd.DataFrame) -> str:
    """The gains of one model, and how each control compares with transfer from the study's own source."""
    parts = []
    for source, gain in zip(rows["source"], rows["estimate"], strict=True):
        low, value, high = (format_number(100 * number, 1) for number in (gain.low, gain.value, gain.high))
        text = f"{value} % ({low} to {high} %) from {SOURCES[source]}"
        if source:
            verdict = results.verdict(TRANSFERRED, model + source, results.lead, rival=(TRANSFERRED, model))
            text += f", an error {VERDICTS[verdict]} that from the study's own source"
        parts.append(text)
    return f"{model}: {'; '.join(parts)}"
