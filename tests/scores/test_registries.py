"""One row a metric, one row a baseline: a row that is added appears wherever scores are shown; old scores are stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import PERIODS

from utils.common.files import write_json
from utils.common.periods import spans
from utils.evaluation import current_metrics
from utils.scores.baseline_runs import evaluate_baselines
from utils.scores.baselines import BASELINES, Baseline, persistence
from utils.scores.metrics import METRICS, Metric
from utils.scores.run_table import name_apart
from utils.scores.score_table import columns, show, table
from utils.scores.scoring import SOURCES, hash_scoring
from utils.study.report import tabulate_scores
from utils.training.checkpoint import load_checkpoint


def toy_ratio(means):
    return means.mean["p"] / means.mean["o"]


def toy_wet(fitting):
    return persistence(fitting) + np.float32(0.05)


@pytest.fixture
def toy_rows(monkeypatch):
    """A metric and a baseline that the project does not have."""
    metric = Metric(
        name="ratio", unit="1", long_name="ratio of means", formula=toy_ratio, heading="ratio", by_cell=True
    )
    baseline = Baseline(
        name="wet", long_name="0.05 wetter", forecast=toy_wet, colour="k", line="dotted", heading="against wet"
    )
    monkeypatch.setitem(METRICS, "ratio", metric)
    monkeypatch.setitem(BASELINES, "wet", baseline)


@pytest.fixture
def run_dir(tmp_path, smap, script):
    """A run that is trained and not evaluated."""
    folder = tmp_path / "run"
    assert script("SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1, "--out", folder).code == 0
    return folder


def test_one_row_is_enough_for_metrics_json_table_csv_and_the_report(toy_rows, run_dir, script, tmp_path):
    result = script("SMAPtest/eval.py", run_dir)
    assert result.code == 0, result.err
    assert "wet" in result.out
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["ratio"] > 0 and metrics["by_season"]["JJA"]["ratio"] > 0
    assert metrics["baselines"]["wet"]["bias"] == pytest.approx(
        metrics["baselines"]["persistence"]["bias"] + 0.05, abs=1e-6
    )
    assert metrics["comparisons"]["wet"]["verdict"] in ("better", "worse", "not significant")

    table([metrics]).to_csv(tmp_path / "table.csv")
    long = pd.read_csv(tmp_path / "table.csv").set_index("model")
    assert long.loc["cnn", "ratio"] == pytest.approx(metrics["ratio"])
    assert long.loc["wet", "rmse"] == pytest.approx(metrics["baselines"]["wet"]["rmse"])
    assert long.loc["cnn", "vs_wet"] == metrics["comparisons"]["wet"]["verdict"]

    shown = tabulate_scores(table([metrics]))
    assert {"ratio", "against wet"} <= {column.label for column in shown.columns.values()}
    assert {"ratio", "vs_wet"} <= set(shown.frame) and "wet" in set(shown.frame["model"])


def test_one_row_is_enough_for_a_studys_baselines(toy_rows, smap, tmp_path):
    periods = zip(("train", "val", "test"), (1, 4, 7), strict=True)
    samples = {name: spans(name, tuple(PERIODS[i : i + 2])) for name, i in periods}
    samples |= {"data": smap, "lead_days": 3, "input_days": 3, "start": None}
    evaluate_baselines(tmp_path / "runs", suffix="", attributes={"experiment": "SMAPtest"}, **samples)
    assert {folder.parent.name for folder in (tmp_path / "runs").glob("*/lead3")} == set(BASELINES)
    assert "ratio" in json.loads((tmp_path / "runs" / "wet" / "lead3" / "metrics.json").read_text())


def test_without_toys_the_columns_of_the_table_are_those_of_the_contract():
    assert columns() == [
        *("experiment", "model", "lead_days", "seed", "rmse", "mse", "r2", "skill_over_persistence", "n"),
        *("rmse_low", "rmse_high", "r2_low", "r2_high", "skill_low", "skill_high"),
        *("vs_persistence", "vs_damped_persistence", "vs_climatology", "vs_ridge"),
        *("vs_ridge_memory_train", "vs_ridge_memory", "vs_boosting"),
        *("transfer_rmse_change", "transfer_low", "transfer_high", "transfer_p", "vs_scratch"),
        *("cells_gain", "cells_better", "cells_worse"),
        *("matched_rmse_change", "matched_low", "matched_high", "matched_p", "vs_matched"),
        *("bias", "ubrmse", "pearson_r", "kge", "acc", "skill_over_climatology", "slope", "intercept"),
        *("rmse_area_weighted", "r2_area_weighted", "rmse_median_cell", "r2_median_cell", "skill_median_cell"),
        *("input_days", "target_days", "max_input_age", "epochs", "best_epoch", "steps", "training_seconds", "stopped"),
        *("dead_channels_start", "dead_channels", "relu_channels", "data", "note"),
    ]


def test_a_changed_formula_makes_old_scores_stale_and_so_does_a_version_before_the_hash(run_dir, script, monkeypatch):
    assert script("SMAPtest/eval.py", run_dir).code == 0
    checkpoint = load_checkpoint(run_dir)
    metrics = current_metrics(run_dir, checkpoint)
    assert metrics["scoring"] == hash_scoring()
    with monkeypatch.context() as change:
        change.setitem(METRICS, "bias", replace(METRICS["bias"], formula=lambda means: -means.bias))
        assert current_metrics(run_dir, checkpoint) == {}
    with monkeypatch.context() as change:
        change.setitem(BASELINES, "ridge", replace(BASELINES["ridge"], forecast=toy_wet))
        assert current_metrics(run_dir, checkpoint) == {}
    assert current_metrics(run_dir, checkpoint) == metrics
    write_json(run_dir / "metrics.json", metrics | {"scoring": 2})
    assert current_metrics(run_dir, checkpoint) == {}


@pytest.mark.parametrize("name", SOURCES)
def test_a_change_of_any_file_that_makes_scores_changes_the_hash(name, tmp_path, monkeypatch):
    import utils.scores.scoring

    before = hash_scoring()
    for source in SOURCES:
        copy = tmp_path / source
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((utils.scores.scoring.ROOT / source).read_bytes())
    monkeypatch.setattr(utils.scores.scoring, "ROOT", tmp_path)
    assert hash_scoring() == before
    (tmp_path / name).write_text((tmp_path / name).read_text() + "CHANGED = 1\n")
    assert hash_scoring() != before


def test_the_printed_table_names_the_folders_of_runs_that_look_alike(run_dir, script, tmp_path):
    assert script("SMAPtest/eval.py", run_dir).code == 0
    metrics = json.loads((run_dir / "metrics.json").read_text())
    folders = [tmp_path / "zero_shot", tmp_path / "tuned" / "a", tmp_path / "other"]
    named = name_apart({folders[0]: metrics, folders[1]: metrics, folders[2]: metrics | {"seed": 1}}).values()
    assert [row["model"] for row in named] == ["cnn (zero_shot)", "cnn (tuned/a)", "cnn"]
    printed = show(table(named))
    assert "cnn (zero_shot)" in printed and "cnn (tuned/a)" in printed
