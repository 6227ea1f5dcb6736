"""What the README says is what the committed study and benchmarks show."""

import json
import re

import pandas as pd
import pytest
from conftest import ROOT

from utils.dataset.prepared import VARIABLES

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = " ".join(README.split())
RESULTS = ROOT / "docs" / "results"
LEADS = (3, 5, 7)
PAPERS = ["cnn", "lstm", "convlstm", "convlstm_conv", "conv3d_lstm"]
SCRATCH, TRANSFER = "SMAPtest", "finetune-SMAPtest"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The rows of the committed study's main models and baselines."""
    table = pd.read_csv(RESULTS / "table.csv")
    return table[table.lead_days.isin(LEADS)]


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, list[str]]]:
    """The README's table of RMSE: a model or baseline, and its cells at the three leads."""
    found = re.findall(r"^\| (\**\w+[^|]*) \|((?: \**0\.\d{4}[^|]* \|){3})$", README, re.MULTILINE)
    return [(name.strip("* "), re.split(r" \|", cells)[:3]) for name, cells in found]


def run_of(table: pd.DataFrame, experiment: str, model: str, lead_days: int) -> pd.Series:
    chosen = table[(table.experiment == experiment) & (table.model == model) & (table.lead_days == lead_days)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_numbers_are_those_of_the_committed_table(table, rows):
    assert len(rows) == 11
    for name, cells in rows:
        model = name.split()[0]
        for lead_days, cell in zip(LEADS, cells, strict=True):
            experiments = (SCRATCH, TRANSFER) if model in (*PAPERS, "compact") else (SCRATCH,)
            expected = [f"{run_of(table, experiment, model, lead_days).rmse:.4f}" for experiment in experiments]
            assert re.findall(r"0\.\d{4}", cell) == expected, (model, lead_days)


def test_the_row_in_bold_is_the_best(rows):
    bold = [line for line in README.splitlines() if line.startswith("| **")]
    assert len(bold) == 1 and bold[0].startswith("| **compact")
    for lead in range(3):
        errors = {name: min(map(float, re.findall(r"0\.\d{4}", cells[lead]))) for name, cells in rows}
        assert min(errors, key=errors.get).startswith("compact")


def test_transfer_helps_as_often_as_it_says(table):
    of_paper = table[(table.experiment == TRANSFER) & table.model.isin(PAPERS)]
    assert len(of_paper) == 15 and (of_paper.transfer_rmse_change < 0).all()
    verdicts = of_paper.vs_scratch.value_counts()
    assert f"in every case (model and lead), significantly in {verdicts['better']} of 15 cases" in TEXT
    assert "It does nothing for `compact`" in TEXT
    assert verdicts.get("worse", 0) == 0


def test_networks_and_persistence(table):
    of_paper = table[(table.experiment == TRANSFER) & table.model.isin(PAPERS)]
    counts = of_paper.vs_persistence.value_counts()
    words = f"significantly better than persistence in {counts['better']} of {len(of_paper)} cases and worse in"
    assert f"{words} {counts['worse']}" in TEXT
    both = table[table.experiment.isin([SCRATCH, TRANSFER]) & table.model.isin(PAPERS)]
    assert len(both) == 30 and (both.vs_ridge_memory == "worse").all()
    assert "All are significantly worse than `ridge_memory`" in TEXT


def test_compact_beats_the_baselines_by_as_much_as_it_says():
    compared = pd.read_csv(RESULTS / "comparisons.csv")
    compact = compared[(compared.model == "compact") & compared.lead_days.isin(LEADS)]
    persistence, memory = (compact[compact.against == name] for name in ("persistence", "ridge_memory"))
    assert len(persistence) == len(memory) == 6
    assert (persistence.verdict == "better").all() and (memory.verdict != "worse").all()
    low, high = -persistence.rmse_change.max(), -persistence.rmse_change.min()
    assert f"has a {low:.0f} to {high:.0f} % lower RMSE than persistence at every lead" in TEXT
    low, high = -memory.rmse_change.max(), -memory.rmse_change.min()
    assert f"it gains {low:.0f} to {high:.0f} %, significantly at 3 and 7 days" in TEXT
    assert set(memory[memory.verdict == "better"].lead_days) == {3, 7}


def test_skill_and_verdict_agree_in_every_row_of_the_committed_table():
    table = pd.read_csv(RESULTS / "table.csv")
    rivals = table[table.model != "persistence"]
    assert len(rivals) > 200
    assert ((rivals.skill_low > 0) == (rivals.vs_persistence == "better")).all()
    assert ((rivals.skill_high < 0) == (rivals.vs_persistence == "worse")).all()


def test_the_rmse_of_persistence_is_known_to_a_tenth(table):
    row = run_of(table, SCRATCH, "persistence", 3)
    assert row.rmse_high - row.rmse < 0.1 * row.rmse and row.rmse - row.rmse_low < 0.1 * row.rmse


def test_compact_is_better_than_each_network_of_the_paper_and_transfer_does_nothing_for_it(table):
    compared = pd.read_csv(RESULTS / "comparisons.csv")
    compact = compared[(compared.model == "compact") & compared.lead_days.isin(LEADS)]
    against_paper = compact[compact.against.isin(PAPERS)]
    assert len(against_paper) == 30 and (against_paper.verdict == "better").all()
    against_itself = compact[compact.against == "compact without transfer"]
    assert len(against_itself) == 3 and (against_itself.verdict == "not significant").all()
    assert (against_itself.rmse_change.abs() < 0.1).all()  # per cent


def test_the_limits_are_those_of_the_study(table):
    """Different numbers of epochs, and networks from scratch that more epochs would have helped."""
    scratch = table[(table.experiment == SCRATCH) & table.model.isin(PAPERS)]
    cut = int((scratch.best_epoch == scratch.epochs).sum())
    assert f"In {cut} of {len(scratch)} cases, a from-scratch network was best at its last epoch" in TEXT
    epochs = [int(run_of(table, name, "convlstm_conv", 3).epochs) for name in (SCRATCH, TRANSFER)]
    assert "`convlstm_conv` has {} from scratch and {} with transfer".format(*epochs) in TEXT
    study = json.loads((RESULTS / "provenance.json").read_text())
    assert study["seeds"] == [0] and not study["full"]
    assert "one seed, cells of 2°, and at most a third of the published epochs" in TEXT


def test_training_steps_are_as_fast_as_it_says():
    steps = json.loads((RESULTS / "bench.json").read_text())["steps"]
    ours = [row["speed_up"] for row in steps if row["step"] != "reference" and row["precision"] == "bf16-mixed"]
    assert f"speed ({min(ours):.0f} to {max(ours):.0f} times the published step)" in TEXT


def test_its_status_and_its_data_stand_on_the_first_screen():
    screen = README[: README.index("## ")]
    for claim in ("not yet run on real SMAP L4 or against the live download servers", "SYNTHETIC", "make reproduce"):
        assert claim in screen, claim


def test_the_example_of_own_data_has_the_required_variables_and_units():
    example = README[README.index("$ ncdump -h") :]
    for name, variable in VARIABLES.items():
        assert f"float {name}(time, lat, lon)" in example and f'{name}:units = "{variable.units}"' in example
