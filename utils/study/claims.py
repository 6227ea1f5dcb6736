"""How the study's comparisons are put into words: how often one forecast is better, and by how much.

The p values of the changes are corrected for their number before they come here (Results.compare).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils.scores import significance
from utils.scores.changes import format_change
from utils.scores.significance import Estimate


def count_verdicts(changes: Sequence[Estimate], *, subject: str, rival: str) -> str:
    """A sentence: "In 4 of 18 cases a model is significantly better than persistence, in 8 significantly worse."."""
    verdicts = [significance.verdict(change) for change in changes]
    better, worse = (verdicts.count(word) for word in ("better", "worse"))
    cases = f"{len(changes)} case{'' if len(changes) == 1 else 's'}"
    return f"In {better} of {cases} {subject} is significantly better than {rival}, in {worse} significantly worse."


def format_range(changes: Sequence[Estimate], names: Sequence[str]) -> str:
    """A sentence with the lowest and the highest change, and whose they are."""
    order = np.argsort([change.value for change in changes])
    lowest, highest = (format_change(changes[at], names[at]) for at in (order[0], order[-1]))
    if len(changes) == 1:
        return f"The change of RMSE is {lowest}."
    return f"The change of RMSE goes from {lowest} to {highest}."


def read_changes(table: pd.DataFrame, columns: Sequence[str]) -> list[Estimate]:
    """Relative changes from a table: its columns of value, low and high, %, and p, which is corrected here."""
    rows = table[list(columns)].to_numpy(float)
    return significance.correct([Estimate(value / 100, low / 100, high / 100, p) for value, low, high, p in rows])
