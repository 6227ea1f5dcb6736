"""What the README says is what the committed study and benchmarks show."""

import json
import re

import pandas as pd
import pytest
from conftest import ROOT
from scipy.stats import false_discovery_control

from utils.dataset.prepared import VARIABLES
from utils.study.budgets import CAP_STEPS, PATIENCE_STEPS
from utils.study.publish import fill_table

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = " ".join(README.split())
RESULTS = ROOT / "docs" / "results"
LEADS = (3, 5, 7)
SAMPLE = "## Results on the synthetic sample"
REAL = "REAL SMAP L3 over the United States"
SIMULATED = "soil moisture SIMULATED by a land model with real weather"
PAPERS = ["cnn", "lstm", "convlstm"]
OURS = ["compact", "change_net"]
RIVAL = "conv_mixer"
SCRATCH, TRANSFER = "SMAPtest", "finetune-SMAPtest"


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The rows of the committed study's main models and baselines."""
    table = pd.read_csv(RESULTS / "table.csv")
    return table[table.lead_days.isin(LEADS)]


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, list[str]]]:
    """The README's table of RMSE on the sample: a model or baseline, and its cells at the three leads."""
    return rows_of(README[README.index(SAMPLE) :])


def rows_of(text: str) -> list[tuple[str, list[str]]]:
    found = re.findall(r"^\| (\**\w+[^|]*) \|((?: \**0\.\d{4}[^|]* \|){3})$", text, re.MULTILINE)
    return [(name.strip("* "), re.split(r" \|", cells)[:3]) for name, cells in found]


def run_of(table: pd.DataFrame, experiment: str, model: str, lead_days: int) -> pd.Series:
    chosen = table[(table.experiment == experiment) & (table.model == model) & (table.lead_days == lead_days)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_numbers_are_those_of_the_committed_table(table, rows):
    assert len(rows) == 13
    for name, cells in rows:
        model = name.split()[0]
        for lead_days, cell in zip(LEADS, cells, strict=True):
            experiments = (SCRATCH, TRANSFER) if model in (*PAPERS, RIVAL, *OURS) else (SCRATCH,)
            expected = [f"{run_of(table, experiment, model, lead_days).rmse:.4f}" for experiment in experiments]
            assert re.findall(r"0\.\d{4}", cell) == expected, (model, lead_days)


def test_numbers_of_real_smap_are_those_of_the_committed_table():
    table = pd.read_csv(RESULTS / "conus" / "7-days" / "table.csv")
    found = rows_of(README[: README.index(SAMPLE)])
    assert [name for name, _ in found] == [
        "persistence",
        "ridge_memory",
        "convlstm",
        "compact",
        "change_net",
    ]
    for model, cells in found:
        experiments = (SCRATCH, TRANSFER) if model in ("convlstm", *OURS) else (SCRATCH,)
        for lead_days, cell in zip(LEADS, cells, strict=True):
            expected = [f"{run_of(table, name, model, lead_days).rmse:.4f}" for name in experiments]
            assert re.findall(r"0\.\d{4}", cell) == expected, (model, lead_days)
    assert set(table.data) == {REAL, SIMULATED} and (table.max_input_age == 7).all()
    compared = pd.read_csv(RESULTS / "conus" / "7-days" / "comparisons.csv")
    networks = compared[(compared.experiment == TRANSFER) & (compared.against == "persistence")]
    networks = networks[networks.model.isin(PAPERS) & networks.lead_days.isin(LEADS)]
    higher = f"{networks.rmse_change.min():.0f} to {networks.rmse_change.max():.0f} % higher RMSE than persistence"
    assert len(networks) == 9 and f"have a {higher}, not significantly." in TEXT
    assert (false_discovery_control(networks.p) > 0.05).all()


def test_the_table_of_real_smap_is_what_publishing_makes_of_it(tmp_path):
    """It stands on the first screen, says which days were scored, and `make docs-conus` fills it, the year too."""
    page = tmp_path / "README.md"
    page.write_text(README, encoding="utf-8")
    fill_table(page, RESULTS / "conus" / "7-days")
    assert page.read_text(encoding="utf-8") == README
    study = json.loads((RESULTS / "conus" / "7-days" / "provenance.json").read_text())
    first, last = study["periods"][SCRATCH]["test"]
    assert f"| {REAL}, {first} to {last} |" in README[: README.index("## ")]
    assert "Scores of earlier versions on that year were told, and informed which designs were tried." in TEXT


def test_the_row_in_bold_is_the_best(rows):
    bold = [line for line in README.splitlines() if line.startswith("| **")]
    assert len(bold) == 1 and bold[0].startswith("| **change_net")
    for lead in range(3):
        errors = {name: min(map(float, re.findall(r"0\.\d{4}", cells[lead]))) for name, cells in rows}
        assert min(errors, key=errors.get).startswith("change_net")


def bounds(changes: pd.Series) -> str:
    """The smallest and the largest gain, in the words of the page."""
    return f"{-changes.max():.0f} to {-changes.min():.0f} %"


def test_transfer_helps_as_often_and_as_much_as_it_says(table):
    matched = pd.read_csv(RESULTS / "evidence" / "matched" / "table.csv")
    of_paper = matched[(matched.experiment == TRANSFER) & matched.model.isin(PAPERS)]
    better, worse = ((of_paper.vs_matched == verdict).sum() for verdict in ("better", "worse"))
    gain = f"lowers the RMSE of the networks of the paper by {bounds(100 * of_paper.matched_rmse_change)}"
    assert len(of_paper) == 9 and worse == 0
    assert f"{gain}, significantly in {better} of 9 cases" in TEXT
    ours = 100 * table[(table.experiment == TRANSFER) & table.model.isin(OURS)].transfer_rmse_change
    change = f"{ours.min():.1f} to {ours.max():.1f} %".replace("-", "−")
    lengths = pd.read_csv(RESULTS / "evidence" / "details" / "record_lengths.csv")
    few = lengths[(lengths.experiment == TRANSFER) & (lengths.model == "change_net") & ~lengths.whole]
    assert few.target_days.tolist() == [30, 90, 180, 365] and few.of_two.all() and (few.change_high < 0).all()
    gains = ", ".join(f"{-change:.0f}" for change in few.change)
    assert f"it lowers that of `change_net` by {gains.replace(', 1', ' and 1')} %" in TEXT
    assert len(ours) == 6 and f"It changes that of `compact` and `change_net` by {change}" in TEXT


def test_networks_and_baselines(table):
    of_paper = table[(table.experiment == TRANSFER) & table.model.isin(PAPERS)]
    counts = of_paper.vs_persistence.value_counts()
    words = f"significantly better than persistence in {counts['better']} of {len(of_paper)} cases and worse in"
    assert f"{words} {counts['worse']}" in TEXT
    both = table[table.experiment.isin([SCRATCH, TRANSFER]) & table.model.isin(PAPERS)]
    assert len(both) == 18 and (both.vs_ridge_memory_train == "worse").all()
    assert "All are significantly worse than `ridge_memory_train`" in TEXT


def test_change_net_beats_its_rivals_by_as_much_as_it_says():
    compared = pd.read_csv(RESULTS / "comparisons.csv")
    compared = compared[compared.lead_days.isin(LEADS) & (compared.experiment != "ERA5test")]
    ours = compared[compared.model == "change_net"]
    persistence, memory, networks, compact = (
        ours[ours.against.isin(names)] for names in (["persistence"], ["ridge_memory"], PAPERS, ["compact"])
    )
    assert len(persistence) == len(memory) == 6 and len(networks) == 18
    assert (pd.concat([persistence, memory, networks]).verdict == "better").all() and "All of it is significant" in TEXT
    assert f"has a {bounds(persistence.rmse_change)} lower RMSE than persistence at every lead" in TEXT
    low, high = bounds(networks.rmse_change).split(" to ")
    assert f"a {low} to {high} lower one than each network of the paper" in TEXT
    assert f"it gains {bounds(memory.rmse_change)}" in TEXT
    better = (compact.verdict == "better").sum()
    gain = f"{-compact.rmse_change.max():.1f} to {-compact.rmse_change.min():.1f} %"
    assert f"RMSE is {gain} below that of `compact`, significantly in {better} of {len(compact)} cases" in TEXT
    boosting = ours[ours.against == "boosting"]
    assert f"Against `boosting`, the strongest baseline, it gains {bounds(boosting.rmse_change)}" in TEXT
    assert ((boosting.verdict == "better") == (boosting.lead_days < 7)).all()
    assert "significantly at 3 and 5 days" in TEXT


def test_other_worlds_say_what_it_says():
    worlds = pd.read_csv(RESULTS / "evidence" / "worlds" / "worlds.csv")
    means = worlds[(worlds.world == "mean") & (worlds.model == "change_net") & (worlds.experiment == TRANSFER)]
    means = means.set_index("against").loc[["compact", "boosting"]]
    assert (means.verdict == "better").all() and (means.worlds == 5).all()
    compact, boosting = -means.rmse_change
    assert f"better than `compact` by {compact:.1f} % and than `boosting` by {boosting:.0f} %, both signif" in TEXT


def test_skill_and_verdict_agree_in_every_row_of_the_committed_table():
    table = pd.read_csv(RESULTS / "table.csv")
    rivals = table[table.model != "persistence"]
    assert len(rivals) > 70
    assert ((rivals.skill_low > 0) == (rivals.vs_persistence == "better")).all()
    assert ((rivals.skill_high < 0) == (rivals.vs_persistence == "worse")).all()


def test_the_rmse_of_persistence_is_known_to_a_tenth(table):
    row = run_of(table, SCRATCH, "persistence", 3)
    assert row.rmse_high - row.rmse < 0.1 * row.rmse and row.rmse - row.rmse_low < 0.1 * row.rmse


def test_the_limits_are_those_of_the_study(table):
    networks = table[table.experiment.isin([SCRATCH, TRANSFER]) & table.model.isin(PAPERS)]
    assert (networks.stopped == "validation").all() and networks.steps.max() < CAP_STEPS
    assert f"The paper's networks stop after {PATIENCE_STEPS} steps without a better validation error" in TEXT
    assert f"none reached the cap of {CAP_STEPS:,} steps" in TEXT
    study = json.loads((RESULTS / "provenance.json").read_text())
    assert study["seeds"] == [0] and not study["full"] and "One seed, cells of 2°, one synthetic world" in TEXT


def test_training_steps_are_as_fast_as_it_says():
    steps = json.loads((RESULTS / "bench.json").read_text())["steps"]
    steps = [row for row in steps if row["step"] != "reference" and row["precision"] == "bf16-mixed"]
    ours = [row["speed_up"] for row in steps if row["model"] != "change_net"]  # which has no published step
    assert f"speed ({min(ours):.0f} to {max(ours):.0f} times the published step)" in TEXT


def test_its_status_and_its_data_stand_on_the_first_screen():
    screen = README[: README.index("## ")]
    for claim in ("not yet run on real SMAP L4 or against the live download servers", "SYNTHETIC", "make reproduce"):
        assert claim in screen, claim


def test_the_example_of_own_data_has_the_required_variables_and_units():
    example = README[README.index("$ ncdump -h") :]
    for name, variable in VARIABLES.items():
        assert f"float {name}(time, lat, lon)" in example and f'{name}:units = "{variable.units}"' in example
