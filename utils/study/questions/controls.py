"""The question about controls: whether transfer helps because of what the source knows, and of which part of it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from utils.common.text import format_days
from utils.scores.significance import Estimate
from utils.study.claims import format_change
from utils.study.html_page import Figure, Section
from utils.study.plan import CONTROLS
from utils.study.questions.transfer_gain import draw_transfer_gain
from utils.study.results import SCRATCH, TRANSFERRED, Comparison, Results

SOURCES = {  # what stands behind a model's name → how its source is called
    "": "own source",
    "_other_world": "other weather",
    "_shuffled_source": "shuffled source",
}
MEANING = {
    "other_world": "The sample's two products see one weather. Where transfer from other weather helps as much, soils "
    "and climate are transferred, and not the weather of shared days.",
    "shuffled_source": "A shuffled source keeps the mean and the spread of each cell, and no relation between days. "
    "It should not help; what it helps comes from the map of the means.",
}


def why_transfer_helps(results: Results, figures: Path) -> Section | None:
    """Transfer from the study's source beside transfer from controls; None where the study has none."""
    lead = results.lead
    cases = [(m, s) for m in results.models for s in SOURCES if results.has(TRANSFERRED, m + s, lead)]
    controlled = [(model, source) for model, source in cases if source]
    if not controlled:
        return None
    cases = [(model, source) for model, source in cases if model in dict(controlled)]
    gains = results.compare([Comparison(TRANSFERRED, m + s, lead, (SCRATCH, m)) for m, s in cases])
    changes = results.compare([Comparison(TRANSFERRED, m + s, lead, (TRANSFERRED, m)) for m, s in controlled])
    path = figures / "controls.png"
    title = results.title("Change of RMSE by transfer from the study's own source and from controls")
    draw_transfer_gain(_tabulate(cases, gains, lead), title, path)
    return Section(
        "Does transfer help for the right reason?",
        f"Change of RMSE {format_days(lead)} ahead, against no transfer and against transfer from the own source:",
        [
            Figure(
                path, "Change of RMSE by transfer from the study's own source and from controls", "Left of 0: it helps."
            )
        ],
        " ".join(MEANING[name] for name in CONTROLS if f"_{name}" in dict.fromkeys(s for _, s in controlled)),
        points=[
            *_describe(cases, gains, rival="no transfer"),
            *_describe(controlled, changes, rival="transfer from the own source"),
        ],
    )


def _tabulate(cases: Sequence[tuple[str, str]], gains: Sequence[Estimate], lead: int) -> pd.DataFrame:
    """The table that the figure of transfer takes: a row for each model and source."""
    numbers = [[100 * gain.value, 100 * gain.low, 100 * gain.high] for gain in gains]
    table = pd.DataFrame(numbers, columns=["change", "low", "high"])
    return table.assign(model=[f"{model}, {SOURCES[source]}" for model, source in cases], lead_days=lead)


def _describe(cases: Sequence[tuple[str, str]], changes: Sequence[Estimate], rival: str) -> list[str]:
    """A sentence a case."""
    return [
        f"{model}, {SOURCES[source]}, against {rival}: {format_change(change)}"
        for (model, source), change in zip(cases, changes, strict=True)
    ]
