"""Sentences about comparisons: their grammar, their numbers, and what they leave out."""

import numpy as np
import pandas as pd
import pytest

from utils.scores.significance import Estimate
from utils.study.claims import count_verdicts, format_change, format_range, read_changes

WORSE = Estimate(0.1234, low=0.05, high=0.2, p=0.0004)
BETTER = Estimate(-0.036, low=-0.05, high=-0.022, p=0.04)
UNCLEAR = Estimate(-0.0001, low=-0.01, high=0.0102, p=0.98)
SHORT = Estimate(-0.01, low=np.nan, high=np.nan, p=np.nan)


def test_a_change_stands_with_its_interval_and_p():
    assert format_change(BETTER) == "−3.6 % (−5.0 % to −2.2 %, p = 0.04)"
    assert format_change(WORSE, "cnn, 3 days") == "+12.3 % (+5.0 % to +20.0 %, p < 0.001; cnn, 3 days)"
    assert format_change(UNCLEAR) == "0.0 % (−1.0 % to +1.0 %, p = 0.98)"
    assert format_change(SHORT) == "−1.0 % (too few days for a test)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([WORSE, BETTER, BETTER, UNCLEAR, SHORT], "In 2 of 5 cases a model is significantly better than x, in 1"),
        ([UNCLEAR], "In 0 of 1 case a model is significantly better than x, in 0"),
    ],
)
def test_cases_are_counted(changes, said):
    assert count_verdicts(changes, subject="a model", rival="x") == f"{said} significantly worse."


def test_the_lowest_and_the_highest_change_say_whose_they_are():
    found = format_range([UNCLEAR, WORSE, BETTER], ["a", "b", "c"])
    assert found == f"The change of RMSE goes from {format_change(BETTER, 'c')} to {format_change(WORSE, 'b')}."
    assert format_range([BETTER], ["c"]) == f"The change of RMSE is {format_change(BETTER, 'c')}."


def test_changes_of_a_table_are_corrected_for_their_number():
    table = pd.DataFrame({"at": [-10.0, 5.0], "from": [-12.0, 1.0], "to": [-8.0, 9.0], "p": [0.001, 0.04], "x": 1})
    first, second = read_changes(table, ("at", "from", "to", "p"))
    assert first == Estimate(-0.1, low=-0.12, high=-0.08, p=0.002)
    assert second == Estimate(0.05, low=0.01, high=0.09, p=0.04)
