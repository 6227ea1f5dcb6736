"""The study of transfer: its runs are what their names say, and its figures are those of a reckoning by hand."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import ROOT, tiny
from figure_checks import assert_tidy_plot, curve, forest_points, marks

from utils.common.cli import UserError
from utils.common.files import file_hash
from utils.dataset.prepared import write_prepared
from utils.settings import EXPERIMENTS
from utils.study import plan
from utils.study.jobs import Study
from utils.study.plan import OF_OURS, STRATEGIES, TARGET_DAYS, Plan, plan_strategies, plan_weather
from utils.study.questions import record_length, transfer_strategies
from utils.study.questions.transfer_strategies import LOOKS, _strategies_figure, days_from_scratch, harm, replaced
from utils.training.checkpoint import load_checkpoint
from utils.training.inference import load_script

LENGTHS = np.array([30.0, 90.0, 365.0, 1096.0])


# --- by hand


def test_days_from_scratch_lie_on_straight_lines_in_the_logarithm_of_days():
    rmse = np.array([0.09, 0.07, 0.05, 0.04])
    assert days_from_scratch(LENGTHS, rmse, 0.08) == pytest.approx(np.sqrt(30 * 90))  # half way down the first line
    assert days_from_scratch(LENGTHS, rmse, 0.065) == pytest.approx(90**0.75 * 365**0.25)
    assert days_from_scratch(LENGTHS, rmse, 0.07) == pytest.approx(90)
    assert days_from_scratch(LENGTHS, rmse, 0.04) == pytest.approx(1096)


def test_days_from_scratch_are_bounded_by_what_was_tried():
    rmse = np.array([0.09, 0.07, 0.05, 0.04])
    assert replaced(days_from_scratch(LENGTHS, rmse, 0.039), LENGTHS) == "more than 1,096"
    assert replaced(days_from_scratch(LENGTHS, rmse, 0.09), LENGTHS) == "30 or fewer"
    assert replaced(days_from_scratch(LENGTHS, rmse, 0.2), LENGTHS) == "30 or fewer"
    assert replaced(days_from_scratch(LENGTHS, rmse, 0.04), LENGTHS) == "1,096"


def test_of_a_curve_that_rises_again_the_first_crossing_counts():
    rmse = np.array([0.08, 0.06, 0.07, 0.05])
    assert days_from_scratch(LENGTHS, rmse, 0.07) == pytest.approx(np.sqrt(30 * 90))
    assert days_from_scratch(LENGTHS, rmse, 0.055) == pytest.approx(365**0.25 * 1096**0.75)


def test_harm_is_what_is_significantly_worse_and_nothing_else():
    rows = [
        ("convlstm", "full", 3, 30, "better"),
        ("convlstm", "full", 3, 1096, "worse"),
        ("convlstm", "full", 7, 365, "worse"),
        ("convlstm", "full", 7, 1096, "worse"),
        ("convlstm", "l2sp", 3, 30, "not significant"),
        ("compact", "zero_shot", 3, 365, "worse"),
        ("compact", "head", 3, 30, "too few days"),
    ]
    table = pd.DataFrame(rows, columns=["model", "strategy", "lead_days", "target_days", "vs_scratch"])
    assert harm(table) == [
        "convlstm, full: 3 days ahead with 1,096 SMAP days and 7 days ahead with 365, 1,096 SMAP days",
        "compact, zero-shot: 3 days ahead with 365 SMAP days",
    ]
    assert harm(table[table["vs_scratch"] != "worse"]) == []


# --- tasks


def test_every_strategy_days_and_lead_is_one_task_with_a_name_of_its_own():
    tasks = plan_strategies("convlstm", (3, 5, 7), (0,), 1096)
    assert len(tasks) == 3 * (1 + 5 * (1 + len(STRATEGIES)))
    assert len({task.folder for task in tasks}) == len(tasks)
    names = {task.model + task.variant for task in tasks}
    assert {"convlstm", "convlstm_90days", "convlstm_l2sp", "convlstm_l2sp_90days", "convlstm_zero_shot_30days"} < names
    compact = plan_strategies("compact", (3,), (0,), 1096)
    assert {task.strategy for task in compact} == set(OF_OURS["compact"]) and len(compact) == 1 + 5 * 4
    assert {task.target_days for task in plan_strategies("cnn", (3,), (0,), 181)} == {30, 90, 180, None}


def test_every_strategy_starts_from_one_pretraining_and_known_weather_from_its_own():
    tasks = plan_strategies("convlstm", (3,), (0,), 1096)
    sources = {task.source.folder.as_posix() for task in tasks if task.experiment == "finetune-SMAPtest"}
    assert sources == {"ERA5test/convlstm/lead3/seed0"}
    known = plan_weather("convlstm", (3,), (0,))
    assert len({task.folder for task in known}) == len(known) == 6
    assert {task.source.folder for task in known} == {task.folder for task in known if task.experiment == "ERA5test"}


def test_strategies_and_weather_are_in_a_study_where_asked_for_and_nowhere_else(tmp_path):
    periods = {"train": ("2015-03-31", "2017-03-30"), "val": ("2017-03-31", "2018-03-30")}
    periods["test"] = ("2018-03-31", "2019-03-30")
    plan = Plan(dict.fromkeys(EXPERIMENTS, tmp_path), dict.fromkeys(EXPERIMENTS, periods), False, tmp_path / "runs")
    asked = plan, ("convlstm", "compact", "change_net"), (3, 5, 7), (0,), False
    plain, both = Study(*asked), Study(*asked, strategies=True, weather=True)
    assert len(plain.runs) == 27 and not any("zero_shot" in name for name in plain.runs)
    assert len(both.runs) == 3 * (41 + 21 + 16 + 3 * 4)
    alone = Study(plan, ("convlstm",), (3,), (0,), False, strategies=True).runs
    assert not any("compact" in name or "change_net" in name for name in alone)
    assert set(plain.runs) < set(both.runs)
    closer = Study(plan, ("convlstm", "compact"), (3,), (0,), details=True).runs
    learned = {name: row["target_days"] for name, row in closer.items() if "target_days" in row}
    for model in ("convlstm", "compact"):
        for days, way in product(TARGET_DAYS, ("SMAPtest", "finetune-SMAPtest")):
            assert learned[f"{way}/{model}_{days}days/lead3/seed0"] == days
    names = [job.name for job in both.jobs()]
    assert len(names) == len(set(names)) and all(set(job.needs) <= set(names) for job in both.jobs())
    baselines = {name for name in names if name.startswith("SMAPtest/boosting")}
    assert baselines == {
        f"SMAPtest/boosting{days}/lead{lead}"
        for days in ("", *(f"_{n}days" for n in TARGET_DAYS))
        for lead in (3, 5, 7)
    }


# --- the whole of it, with 30 days and all of them, in this process


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of strategies and known weather on a tiny pair, and what it printed."""
    folder = tmp_path_factory.mktemp("transfer")
    write_prepared(tiny(days=1200, start="2012-06-01", shape=(4, 5), seed=1), folder / "era5.nc")
    write_prepared(tiny(days=900, start="2014-01-01", shape=(4, 5)), folder / "smap.nc")
    given = {"era5_land": folder / "era5.nc", "smap": folder / "smap.nc", "out": folder / "results"}
    given |= {"models": ("cnn", "compact"), "lead_days": (1,), "epochs": 10, "strategies": True, "weather": True}
    with pytest.MonkeyPatch.context() as patch:
        for module in (plan, record_length, transfer_strategies):
            patch.setattr(module, "TARGET_DAYS", (30,))
        script = load_script(ROOT / "reproduce.py")
        patch.setattr(script, "processes", lambda number: ThreadPoolExecutor(1))
        patch.setattr("sys.argv", ["reproduce.py"])
        script.main(script.Settings(**given))
    return folder / "results"


def settings(results: Path, name: str) -> dict:
    """What config.json says was in force, and where it came from."""
    return json.loads((results / "runs" / name / "lead1" / "seed0" / "config.json").read_text())["settings"]


@pytest.mark.parametrize("days", [30, None])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_got_its_settings(made, strategy, days):
    name = f"finetune-SMAPtest/cnn{plan.variant_of(strategy, days)}"
    found = settings(made, name)
    expected = {"transfer": "full", "match": "none"} | STRATEGIES[strategy]
    expected.pop("unfreeze_every", None)
    assert {key: found[key]["value"] for key in expected} == expected
    assert all(found[key]["from"] == "reproduce.py" for key in STRATEGIES[strategy])
    assert found["target_days"]["value"] == days
    assert found["init_from"]["value"] == str(made / "runs" / "ERA5test" / "cnn" / "lead1" / "seed0")
    if strategy != "zero_shot":
        assert found["epochs"]["value"] == (20 if days else 10)  # 24 days are a step an epoch, 170 are two
    assert found["unfreeze_every"]["value"] == (2 if strategy == "gradual" and days else 1)  # as many steps


def test_zero_shot_keeps_the_weights_and_the_others_do_not(made):
    weights = {}
    for name in ("ERA5test/cnn", *(f"finetune-SMAPtest/cnn{plan.variant_of(s, 30)}" for s in STRATEGIES)):
        weights[name] = load_checkpoint(made / "runs" / name / "lead1" / "seed0").best
    source = weights.pop("ERA5test/cnn")
    same = [name for name, best in weights.items() if all((best[part] == source[part]).all() for part in source)]
    assert same == ["finetune-SMAPtest/cnn_zero_shot_30days"]


def test_the_compact_model_keeps_its_own_settings_with_few_days(made):
    few, whole = settings(made, "SMAPtest/compact_30days"), settings(made, "SMAPtest/compact")
    assert few["target_days"]["value"] == 30 and whole["target_days"]["value"] is None
    assert few["epochs"]["value"] == whole["epochs"]["value"] == 10
    assert settings(made, "finetune-SMAPtest/compact_head_30days")["transfer"]["value"] == "head"


def rmse(results: Path, name: str, place: str = "lead1/seed0") -> float:
    with xr.open_dataset(results / "runs" / name / place / "predictions.nc") as ds:
        return float(np.sqrt(((ds["predicted"] - ds["observed"]).astype(float) ** 2).mean()))


def test_the_table_of_strategies_is_that_of_the_predictions(made):
    table = pd.read_csv(made / "strategies.csv")
    fitted = table[~table["model"].isin(["ridge_memory", "persistence"])]
    assert len(fitted) == 2 * (8 + 4) and set(table["target_days"]) == {30, 535}
    for _, row in fitted.iterrows():
        days = None if row["whole"] else row["target_days"]
        scratch = row["strategy"] == "scratch"
        variant = plan.suffix(days) if scratch else plan.variant_of(row["strategy"], days)
        name = f"{'SMAPtest' if scratch else 'finetune-SMAPtest'}/{row['model']}{variant}"
        assert row["rmse"] == pytest.approx(rmse(made, name), abs=1e-6), name
        if not scratch:
            change = rmse(made, name) / rmse(made, f"SMAPtest/{row['model']}{plan.suffix(days)}") - 1
            assert row["change"] == pytest.approx(100 * change, abs=1e-3)
            assert row["replaces"]
    assert ((fitted["change_high"] < 0) == (fitted["vs_scratch"] == "better")).all()
    assert ((fitted["memory_low"] > 0) == (fitted["vs_ridge_memory"] == "worse")).all()
    memory = table[(table["model"] == "ridge_memory") & (table["target_days"] == 30)]
    assert memory["rmse"].item() == pytest.approx(rmse(made, "SMAPtest/ridge_memory_30days", "lead1"), abs=1e-6)


def test_the_report_answers_and_says_what_is_synthetic(made):
    page, answers = (made / "report.html").read_text(), (made / "answers.md").read_text()
    assert "Which strategy of transfer helps" in page and "Days of SMAP that pre-training replaces" in page
    assert "What is knowing the weather of the days ahead worth?" in answers
    assert "- cnn, 1 day ahead:" in answers and "- compact, 1 day ahead:" in answers
    assert "upper bound" in answers and "SYNTHETIC error" in answers
    names = {path.name for path in (made / "figures").iterdir()}
    assert {"strategies.png", "strategies.pdf", "weather.png", "weather_compact.png"} < names
    table = pd.read_csv(made / "table.csv")
    notes = table.set_index(["experiment", "model"])["note"]
    assert notes["finetune-SMAPtest", "cnn_l2sp"] == "--transfer l2sp"
    assert "upper bound" in notes["finetune-SMAPtest", "cnn_future_rain"]
    assert set(table[table["model"] == "ridge_memory_30days"]["experiment"]) == {"SMAPtest", "finetune-SMAPtest"}


def test_known_weather_comes_from_each_data_set(made):
    for name, data in (("ERA5test", "era5"), ("finetune-SMAPtest", "smap")):
        assert settings(made, f"{name}/cnn_future_rain")["future_from"]["value"] is None
        found = settings(made, f"{name}/compact_forecast_rain")
        assert found["known_ahead"]["value"] == ["precipitation"]
        with xr.open_dataset(found["future_from"]["value"]) as ds:
            assert ds.attrs["synthetic_error"] == "true"
            assert ds.attrs["data_sha256"] == file_hash(made.parent / f"{data}.nc")


# --- the figure


def example() -> pd.DataFrame:
    rows = []
    for model, names in (("convlstm", LOOKS), ("compact", ("scratch", *OF_OURS["compact"]))):
        for turn, name in enumerate(names):
            values = 0.04 + 0.001 * turn + np.array([0.01, 0.004, 0.001, 0.0])
            for days, value in zip(LENGTHS.astype(int), values, strict=True):
                row = {"model": model, "strategy": name, "lead_days": 3, "target_days": days, "rmse": value}
                if name != "scratch":
                    row |= {"change": turn - 2.5, "change_low": turn - 4.0, "change_high": turn - 1.0}
                rows.append(row)
    for model in ("ridge_memory", "persistence"):
        for days in LENGTHS.astype(int):
            rows.append({"model": model, "lead_days": 3, "target_days": days, "rmse": 0.05})
    table = pd.DataFrame(rows)
    return table.assign(whole=table["target_days"] == 1096)


def test_the_figure_has_the_rmse_and_the_change_of_each_model_and_a_marker_a_strategy():
    figure = _strategies_figure(example(), "A title")
    assert_tidy_plot(figure)
    titles = [ax.get_title(loc="left")[4:] for ax in figure.axes]
    change = "against scratch"
    assert titles == ["convlstm, RMSE", f"convlstm, {change}", "compact, RMSE", f"compact, {change}"]
    errors, changes = figure.axes[::2], figure.axes[1::2]
    assert all(ax.get_xscale() == "log" for ax in errors)
    assert "training days of the target (d)" in errors[1].get_xlabel() and "m³ m⁻³" in errors[0].get_ylabel()
    np.testing.assert_allclose(curve(errors[1], "full")[:, 1], 0.041 + np.array([0.01, 0.004, 0.001, 0.0]))
    np.testing.assert_allclose(curve(errors[0], "ridge_memory")[:, 0], LENGTHS)
    markers = {line.get_label(): line.get_marker() for line in errors[0].get_lines() if line.get_marker() != "None"}
    assert len(set(markers.values())) == len(LOOKS)
    drawn = {(row, value, filled) for row, value, filled, _ in forest_points(changes[1])}
    assert drawn == {
        (row, turn - 2.5, turn > 4 or turn < 1)
        for row in range(len(LENGTHS))
        for turn in range(1, 1 + len(OF_OURS["compact"]))
    }


def test_a_strategy_that_would_ruin_the_axis_is_marked_on_its_edge():
    table = example()
    table.loc[(table["strategy"] == "zero_shot") & (table["model"] == "compact"), "rmse"] = 0.5
    figure = _strategies_figure(table, "A title")
    assert [text for _, _, text in marks(figure.axes[2])] == ["0.500"] * 4 and not marks(figure.axes[0])


def test_a_table_without_an_error_is_refused():
    with pytest.raises(UserError, match="holds no model with an RMSE"):
        _strategies_figure(example().assign(rmse=np.nan), "A title")


def test_the_page_on_transfer_quotes_the_committed_study():
    """Every RMSE of the test year on it, and two differences; those of validation are not in the table."""
    text = (ROOT / "docs" / "transfer.md").read_text().split("## What the study says")[1].split("## Sources")[0]
    study = ROOT / "docs" / "results" / "evidence" / "transfer"
    table, answers = pd.read_csv(study / "strategies.csv"), (study / "answers.md").read_text()
    text = re.sub(r"- \*Defaults\.\*.*\n", "", text)
    known = {f"{value:.4f}" for value in table["rmse"]} | set(re.findall(r"0\.0\d{3}", answers))
    found = re.findall(r"0\.0\d{3}", text)
    assert len(found) > 15 and set(found) - known <= {"0.0003", "0.0001"}
