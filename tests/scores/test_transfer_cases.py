"""Runs with and without transfer outside a study: which are compared, by which test, and how the table shows it."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from utils.scores import significance
from utils.scores.changes import compare_transfer, describe_transfer, transfer_columns
from utils.scores.score_table import show, table

DAYS = np.arange("2018-01-01", "2019-01-01", dtype="datetime64[D]")
SHAPE = (len(DAYS), 3, 4)
OBSERVED = np.random.default_rng(0).uniform(0.1, 0.4, SHAPE)


@pytest.fixture
def runs(tmp_path):
    """Makes a run directory with forecasts of this error [m3 m-3]; returns its metrics by its folder."""

    def make(name: str, experiment: str, error: float, seed: int = 0, **other) -> dict[Path, dict]:
        folder = tmp_path / name
        folder.mkdir()
        noise = np.random.default_rng([seed, len(experiment)]).normal(0, error, SHAPE)
        fields = {"observed": OBSERVED, "predicted": OBSERVED + noise, "persistence": OBSERVED + 0.05}
        axes = ("time", "lat", "lon")
        maps = {key: (axes, values) for key, values in fields.items()}
        xr.Dataset(maps, {"time": DAYS.astype("M8[ns]")}).to_netcdf(folder / "predictions.nc")
        about = {"experiment": experiment, "model": "cnn", "lead_days": 3, "seed": seed, "target_days": None}
        scored = {"data_sha256": "a", "test": [["2018-01-01", "2018-12-31"]], "max_input_age": None, "n": OBSERVED.size}
        told = {"synthetic_data": True, "input_days": 3, "rmse": error, "baselines": {"persistence": {"rmse": 0.05}}}
        return {folder: about | scored | told | other}

    return make


def test_one_run_each_is_one_row_each_of_one_table_with_the_test(runs):
    found = runs("scratch", "SMAPtest", 0.04) | runs("tuned", "finetune-SMAPtest", 0.03)
    (case,) = compare_transfer(found)
    scratch, tuned = found
    errors = [xr.open_dataset(run / "predictions.nc")["predicted"].values for run in (tuned, scratch)]
    sums = significance.daily_sums(OBSERVED, *errors, days=DAYS)
    expected = significance.estimate([sums], significance.rmse_change)
    assert case.change.value == pytest.approx(expected.value) and case.change.p == pytest.approx(expected.p)
    columns = transfer_columns(tuned, [case])
    assert columns["vs_scratch"] == "better" and columns["transfer_rmse_change"] == pytest.approx(expected.value)
    assert transfer_columns(scratch, [case]) == {}
    printed = show(table(metrics | transfer_columns(run, [case]) for run, metrics in found.items())).split("\n")
    assert [line for line in printed if "ahead" in line] == [
        "SMAPtest and finetune-SMAPtest, 3 days ahead, SYNTHETIC sample; RMSE in m³ m⁻³ with its 95 % interval"
    ]
    rows = [line.split() for line in printed if line.split()[1:2] in (["cnn"], ["persistence"])]
    assert [row[:3] for row in rows] == [
        ["SMAPtest", "persistence", "–"],
        ["SMAPtest", "cnn", "0"],
        ["finetune-SMAPtest", "cnn", "0"],
    ]
    assert f"{expected.value:+.1%}" in rows[2] and "better" in rows[2]
    (line,) = describe_transfer([case], found)
    assert line.startswith("cnn, 3 days ahead, seed 0, against cnn from scratch: better, RMSE −24.3 % (−")


def test_all_seeds_of_a_model_are_one_comparison_as_in_a_study(runs):
    found = {}
    for seed in (0, 1, 2):
        found |= runs(f"tuned{seed}", "finetune-SMAPtest", 0.03, seed)
    for seed in (0, 1):
        found |= runs(f"scratch{seed}", "SMAPtest", 0.04, seed)
    (case,) = compare_transfer(found)
    assert (len(case.tuned), len(case.scratch)) == (3, 2)
    sums = {}
    for run in found:
        with xr.open_dataset(run / "predictions.nc") as ds:
            sums[run.name] = significance.daily_sums(OBSERVED, ds.predicted.values, ds.persistence.values, days=DAYS)
    crossed = significance.cross_seeds(
        [sums[f"tuned{seed}"] for seed in range(3)], [sums[f"scratch{seed}"] for seed in range(2)]
    )
    assert case.change == significance.estimate(crossed, significance.rmse_change)
    assert transfer_columns(next(iter(found)), [case]) == {}
    (line,) = describe_transfer([case], found)
    assert line.startswith("cnn, 3 days ahead, seeds 0, 1 and 2, against cnn, seeds 0 and 1, from scratch: better")


def test_runs_that_differ_in_more_than_their_seed_are_compared_one_by_one(runs):
    found = runs("zero_shot", "finetune-SMAPtest", 0.05) | runs("full", "finetune-SMAPtest", 0.03)
    found |= runs("scratch", "SMAPtest", 0.04)
    cases = compare_transfer(found)
    assert [case.tuned[0].name for case in cases] == ["zero_shot", "full"]
    verdicts = [transfer_columns(case.tuned[0], cases)["vs_scratch"] for case in cases]
    assert verdicts == ["worse", "better"]


def test_only_the_same_model_lead_and_target_days_are_compared_and_only_on_the_same_cell_days(runs):
    found = runs("scratch", "SMAPtest", 0.04) | runs("short", "finetune-SMAPtest", 0.03, target_days=90)
    found |= runs("lead", "finetune-SMAPtest", 0.03, lead_days=5) | runs(
        "lstm", "finetune-SMAPtest", 0.03, model="lstm"
    )
    found |= runs("source", "ERA5test", 0.03)
    assert compare_transfer(found) == []
    found |= runs("short_scratch", "SMAPtest", 0.04, target_days=90)
    (line,) = describe_transfer(compare_transfer(found), found)
    assert line.startswith("cnn on 90 days, 3 days ahead, seed 0, against cnn from scratch: better")
    found = runs("own", "SMAPtest", 0.04) | runs("other", "finetune-SMAPtest", 0.03, n=7)
    (case,) = compare_transfer(found)
    assert case.change is None and transfer_columns(case.tuned[0], [case]) == {}
    assert "not compared, they were scored on different" in describe_transfer([case], found)[0]
