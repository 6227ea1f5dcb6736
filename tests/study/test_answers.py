"""The answers in short: each sentence from estimates made by hand."""

import numpy as np
import pandas as pd
import pytest

from utils.scores.significance import Estimate
from utils.study.questions.maps_and_series import _count_cells
from utils.study.questions.models import _against_yardsticks
from utils.study.questions.record_length import _where_it_pays
from utils.study.questions.uncertainty import _describe_coverage
from utils.study.questions.weather_forecasts import _worth
from utils.study.results import Results


@pytest.fixture
def results() -> Results:
    """A study without files: two models at one lead."""
    results = Results.__new__(Results)
    results.models, results.leads, results.seeds = ["cnn", "compact"], [3], [0]
    results.study = {"runs": {}}
    return results


def change(value: float, p: float = 0.01) -> Estimate:
    return Estimate(value, low=value - 0.02, high=value + 0.02, p=p)


def test_a_model_has_to_beat_every_yardstick(results, monkeypatch):
    """The compact model with transfer gains on all four, the one from scratch on three: one case of four."""
    gains = {
        ("SMAPtest", "cnn"): (0.1, 0.2, 0.3, 0.3),
        ("SMAPtest", "compact"): (-0.2, -0.1, 0.05, -0.1),
        ("finetune-SMAPtest", "cnn"): (-0.01, 0.2, 0.3, 0.3),
        ("finetune-SMAPtest", "compact"): (-0.3, -0.2, -0.07, -0.1),
    }
    rivals = ("persistence", "ridge", "ridge_memory", "boosting")

    def compare(asked):
        return [change(gains[case.experiment, case.model][rivals.index(case.rival[1])]) for case in asked]

    monkeypatch.setattr(results, "compare", compare)
    said = _against_yardsticks(results)
    assert said.startswith(
        "In 1 of 4 cases a model, from scratch or with transfer, is significantly better than each of"
    )
    assert "compact with transfer, 3 days, has the largest gain on the strongest of them: −7.0 %" in said
    assert said.endswith("against ridge_memory.")


@pytest.mark.parametrize(
    ("p", "said"),
    [
        ((0.01, 0.01, 0.3, 0.2), "for convlstm with 30 and 90 days."),
        ((0.01, 0.3, 0.01, 0.2), "for convlstm with 30 days; it is significantly worse for compact with 30 days."),
        ((0.3, 0.3, 0.3, 0.2), "in none of 4 cases."),
    ],
)
def test_the_days_with_which_transfer_pays_are_named(p, said):
    models, days = pd.Series(["convlstm", "convlstm", "compact", "compact"]), pd.Series([90, 30, 30, 90])
    p = (p[1], p[0], *p[2:])  # as given: 30 days before 90
    changes = [change(value, p=own) for value, own in zip((-0.1, -0.1, 0.1, 0.1), p, strict=True)]
    start = "Transfer is significantly better than training from scratch on as many SMAP days "
    assert _where_it_pays(models, days, changes) == start + said


def test_what_known_weather_is_worth_counts_each_kind_by_itself():
    rows = [
        {"kind": kind, "lead_days": lead, "rmse": 0.04, "change": c, "change_low": c - 1, "change_high": c + 1, "p": p}
        for kind, lead, c, p in (
            ("perfect", 3, -10.0, 0.001),
            ("perfect", 7, -20.0, 0.001),
            ("degraded", 3, -2.0, 0.4),
            ("degraded", 7, -5.0, 0.001),
        )
    ]
    said = _worth("compact", pd.DataFrame([*rows, {"kind": "none", "lead_days": 3, "rmse": 0.05}]))
    perfect = "−20.0 % (−21.0 % to −19.0 %, p = 0.0013; 7 days ahead)"
    assert f"in 2 of 2 cases with perfect forecasts, where the largest change is {perfect}, and" in said
    assert "in 1 of 2 cases with degraded forecasts, where the largest change is −5.0 %" in said


def test_the_coverage_stands_with_its_interval_and_its_test():
    rows = pd.DataFrame(
        {
            "model": ["compact", "convlstm"],
            "lead_days": [3, 3],
            "coverage": [88.0, 93.5],
            "coverage_low": [85.0, 92.0],
            "coverage_high": [91.0, 95.0],
            "coverage_p": [0.2, 0.001],
        }
    )
    assert _describe_coverage(rows) == (
        "The 90 % intervals contain 88.0 % (85.0 % to 91.0 %, p = 0.2; compact, 3 days) to 93.5 % (92.0 % to 95.0 %, "
        "p = 0.002; convlstm, 3 days) of the observations of the test days, which in 1 of 2 cases is significantly "
        "other than 90 %."
    )


def test_less_than_a_year_is_a_warning_above_all_answers(results, monkeypatch):
    results.__dict__["table"] = pd.DataFrame({"model": ["cnn"], "stopped": ["validation"]})
    for spans, expected in ((False, True), (True, False)):
        monkeypatch.setattr(results, "_read_any_metrics", lambda experiment, spans=spans: {"spans_a_year": spans})
        assert ("The scored days span less than a year" in results.caveats) == expected


@pytest.mark.parametrize(
    ("label", "name"),
    [("a land model", "a land model"), ("SYNTHETIC sample", "ERA5-Land"), ("", "ERA5-Land")],
)
def test_the_source_is_called_by_its_own_label(results, monkeypatch, label, name):
    monkeypatch.setattr(results, "_read_any_metrics", lambda experiment: {"label": label})
    assert results.source_name == name


def test_without_a_cell_that_can_be_tested_there_is_no_share_of_cells(results, monkeypatch):
    cells = {name: np.zeros((2, 2), bool) for name in ("better", "worse", "tested")} | {"mse": np.full((2, 2), -1.0)}
    monkeypatch.setattr(results, "has", lambda *case: case[1] == "cnn")
    monkeypatch.setattr(results, "estimate", lambda *case, **more: change(-0.1))
    for tested, expected in ((0, "– %, – %, – %"), (4, "100.0 %, 0.0 %, 0.0 %")):
        cells["tested"] = np.arange(4).reshape(2, 2) < tested
        monkeypatch.setattr(results, "transfer_by_cell", lambda model, lead: cells)
        row = results._compare_with_scratch("finetune-SMAPtest", "cnn", 3)
        rows = pd.DataFrame([row], index=pd.MultiIndex.from_tuples([("finetune-SMAPtest", "cnn", 3)]))
        assert _count_cells(rows) == [f"cnn: {expected}"]
