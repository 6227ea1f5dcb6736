"""The roads a user takes: every script in a process of its own, transfer from end to end, the whole study."""

import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from conftest import ERA5_PERIODS, PERIODS, REAL, quick_study, subprocess_script, tiny
from quoted_numbers import in_table, quoted
from scipy.stats import false_discovery_control, linregress
from sklearn.metrics import mean_squared_error, r2_score

from utils.dataset.prepared import write_prepared
from utils.scores.baselines import BASELINES
from utils.training.checkpoint import load_checkpoint

MODELS = ["cnn", "lstm", "convlstm", "conv3d_lstm"]


@pytest.mark.parametrize("model", MODELS)
def test_every_script_runs_from_pretraining_to_evaluation(tmp_path, era5, smap, model, script):
    """ERA5test → SMAPtest → finetune-SMAPtest → eval; the first model's as processes of their own, from elsewhere."""
    run = subprocess_script if model == MODELS[0] else script
    out = {name: tmp_path / name for name in ("ERA5test", "SMAPtest", "finetune-SMAPtest")}
    head = ["--head", "conv"] if model == "convlstm" else []
    for name, data, periods, more in (
        ("ERA5test", era5, ERA5_PERIODS, []),
        ("SMAPtest", smap, PERIODS, []),
        ("finetune-SMAPtest", smap, PERIODS, ["--init-from", out["ERA5test"]]),
    ):
        result = run(
            f"{name}/train_{model}.py",
            "--data",
            data,
            *periods,
            "--epochs",
            1,
            *head,
            *more,
            "--lead-days",
            2,
            "--out",
            out[name],
        )
        assert result.code == 0, result.err
        result = run(f"{name}/eval.py", out[name])
        assert result.code == 0, result.err
        assert "persistence" in result.out and "climatology" in result.out and "ridge" in result.out
        with xr.open_dataset(out[name] / "predictions.nc") as ds:
            assert ds.attrs["experiment"] == name
            assert ds.attrs["model"] == (f"{model}_conv" if head else model)


def pretrain(script, era5, *arguments):
    result = script("ERA5test/train_cnn.py", "--data", era5, *ERA5_PERIODS, "--epochs", 1, *arguments)
    assert result.code == 0, result.err


def finetune(smap, *arguments):
    return ["finetune-SMAPtest/train_cnn.py", "--data", smap, *PERIODS, "--epochs", 1, *arguments]


def test_fine_tuning_starts_from_the_weights_and_scaling_of_era5test(tmp_path, era5, smap, script):
    pretrain(script, era5)
    result = script(*finetune(smap, "--epochs", 0))
    assert result.code == 0, result.err
    source = load_checkpoint(tmp_path / "runs" / "ERA5test" / "cnn" / "lead3" / "seed0")
    tuned = load_checkpoint(tmp_path / "runs" / "finetune-SMAPtest" / "cnn" / "lead3" / "seed0")
    assert all(torch.equal(tuned.best[name], source.best[name]) for name in source.best)
    for name in ("low", "high"):
        assert torch.equal(tuned.statistics[name], source.statistics[name])
    assert not torch.equal(tuned.statistics["cell_mean"], source.statistics["cell_mean"])
    assert np.isfinite(tuned.best_rmse)


def test_missing_pretrained_weights_name_the_command_that_makes_them(tmp_path, era5, smap, script):
    missing = script(*finetune(smap, "--lead-days", 5)).sentence()
    assert "python ERA5test/train_cnn.py --lead-days 5" in missing
    conv = ["finetune-SMAPtest/train_convlstm.py", "--data", smap, *PERIODS, "--head", "conv", "--seed", 2]
    assert "python ERA5test/train_convlstm.py --lead-days 3 --head conv --seed 2" in script(*conv).sentence()


def test_pretrained_weights_of_another_model_lead_window_or_grid_are_refused(tmp_path, era5, smap, script):
    pretrain(script, era5)
    source = tmp_path / "runs" / "ERA5test" / "cnn" / "lead3" / "seed0"
    assert (
        "has the lead in days 3, expected 5"
        in script(*finetune(smap, "--lead-days", 5, "--init-from", source)).sentence()
    )
    assert "number of input days 3, expected 2" in script(*finetune(smap, "--input-days", 2)).sentence()
    lstm = ["finetune-SMAPtest/train_lstm.py", "--data", smap, *PERIODS, "--init-from", source]
    assert "has the model cnn, expected lstm" in script(*lstm).sentence()
    content = torch.load(source / "checkpoint.pt", weights_only=True)
    changed = tmp_path / "changed"
    changed.mkdir()
    torch.save({**content, "settings": content["settings"] | {"filters": 5}}, changed / "checkpoint.pt")
    assert "do not fit this model" in script(*finetune(smap, "--init-from", changed)).sentence()
    other = tmp_path / "other.nc"
    write_prepared(tiny(shape=(9, 8)), other)
    assert "was trained on 7 × 8 cells" in script(*finetune(other)).sentence()
    assert not (tmp_path / "runs" / "finetune-SMAPtest" / "cnn" / "lead3" / "seed0").exists()


def test_pretraining_days_inside_the_test_period_are_refused_each_period_by_itself(tmp_path, smap, script):
    source = tmp_path / "source.nc"
    write_prepared(tiny(days=400, start="2015-01-01", seed=1), source)

    def attempt(train, val, test):
        out = tmp_path / "_".join(train)
        arguments = ["--data", source, "--train", *train, "--val", *val, "--test", *test, "--epochs", 1, "--out", out]
        assert script("ERA5test/train_cnn.py", *arguments).code == 0
        return finetune(smap, "--init-from", out, "--out", tmp_path / "tuned" / out.name)

    inside = attempt(("2015-01-01", "2015-07-03"), ("2015-08-01", "2015-08-20"), ("2015-09-01", "2015-09-20"))
    assert "2015-07-01, which lies in the test period" in script(*inside).sentence()
    val = attempt(("2015-01-01", "2015-05-03"), ("2015-07-10", "2015-07-20"), ("2015-09-01", "2015-09-20"))
    assert "2015-07-10, which lies in the test period" in script(*val).sentence()
    # around the test period, or with the source's own test inside it, is allowed
    around = attempt(
        ("2015-01-01", "2015-06-01", "2015-08-01", "2015-08-30"),
        ("2015-09-01", "2015-09-20"),
        ("2015-10-01", "2015-10-20"),
    )
    assert script(*around).code == 0
    own_test = attempt(("2015-01-01", "2015-05-01"), ("2015-05-02", "2015-06-20"), ("2015-07-01", "2015-07-20"))
    assert script(*own_test).code == 0


def test_another_pretraining_makes_another_fine_tuning(tmp_path, era5, smap, script):
    pretrain(script, era5)
    assert script(*finetune(smap)).code == 0
    pretrain(script, era5, "--lr", 0.01, "--overwrite")
    assert "pre-trained weights" in script(*finetune(smap)).sentence()


def test_with_n_target_days_no_earlier_value_is_read_not_even_as_input(tmp_path, era5, smap, script):
    """Spoiling every earlier day changes neither the weights nor the forecasts."""
    pretrain(script, era5)
    ds = tiny()
    ds["soil_moisture"][:62] = 0.9 * ds["soil_moisture"][:62].values[::-1]
    ds["precipitation"][:62] *= 3
    spoiled = tmp_path / "spoiled.nc"
    write_prepared(ds, spoiled)
    for data in (smap, spoiled):
        out = tmp_path / data.stem
        assert script(*finetune(data, "--target-days", 30, "--out", out)).code == 0
        assert script("finetune-SMAPtest/eval.py", out).code == 0
    one, other = (xr.open_dataset(tmp_path / name / "predictions.nc") for name in ("smap", "spoiled"))
    np.testing.assert_array_equal(one["predicted"], other["predicted"])
    scores = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("smap", "spoiled")]
    for name in ("rmse", "baselines", "weights_sha256"):
        assert scores[0][name] == scores[1][name]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """reproduce.py on a tiny pair, two models and two leads; and a second call. Its pictures are blank."""
    folder = tmp_path_factory.mktemp("study")
    write_prepared(tiny(days=1200, start="2012-06-01", shape=(5, 6), seed=1), folder / "era5.nc")
    write_prepared(tiny(days=900, start="2014-01-01", shape=(5, 6)), folder / "smap.nc")
    arguments = ["--era5-land", folder / "era5.nc", "--smap", folder / "smap.nc", "--out", folder / "results"]
    arguments += ["--models", "cnn", "convlstm_conv", "--lead-days", 1, 3, "--epochs", 6, "--details", "--matched"]
    return folder, quick_study(*arguments), quick_study(*arguments)


def main_rows(folder):
    long = pd.read_csv(folder / "results" / "table.csv")
    return long[long["model"].isin(["cnn", "convlstm_conv", *BASELINES]) & long["lead_days"].isin([1, 3])]


def test_the_study_ends_with_table_figures_and_report(study):
    folder, first, _ = study
    assert first.code == 0, first.err
    long = main_rows(folder)
    assert len(long) == 3 * 2 * (2 + len(BASELINES))
    assert set(long["model"]) == {"cnn", "convlstm_conv", *BASELINES}
    assert list(long.columns[:7]) == ["experiment", "model", "lead_days", "seed", "rmse", "mse", "r2"]
    assert (long["data"] == "SYNTHETIC sample").all() and "SYNTHETIC" in first.out
    for _, group in long.groupby(["experiment", "lead_days"]):
        assert group["n"].nunique() == 1  # every model and baseline on the same samples
    names = "study transfer_gain scatters cells transfer_cells days predictors series target_days leads".split()
    names += ["reliability", "conditions", "curves", "events"]
    assert {p.name for p in (folder / "results" / "figures").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "pdf")
    }
    page = (folder / "results" / "report.html").read_text()
    assert page.count("<img") == len(names) and page.count("data:image/png") == len(names)
    assert "SYNTHETIC" in page and "<table" in page
    for model in long["model"].unique():
        assert model in first.out


def test_the_study_says_how_far_it_is(study):
    """A line a job: how many of how many, the time and what is left of it, the job and its error."""
    lines = re.findall(r"^(\d+) of (\d+)  ([\d:]+), about ([\d:]+) left  (\S+?)(?:: (.+))?$", study[1].out, re.M)
    assert [int(done) for done, *_ in lines] == list(range(1, len(lines) + 1))
    totals = [int(total) for _, total, *_ in lines]
    assert totals == sorted(totals) and totals[-1] == len(lines)  # more leads of the best model come to be known
    said = {name: errors for *_, name, errors in lines}
    table = pd.read_csv(study[0] / "results" / "table.csv").set_index(["experiment", "model", "lead_days"])["rmse"]
    assert said["SMAPtest/cnn/lead1/seed0"] == f"RMSE {table['SMAPtest', 'cnn', 1]:.4f} m³ m⁻³"
    errors = ", ".join(f"{name} {table['SMAPtest', name, 1]:.4f}" for name in BASELINES)
    assert said["SMAPtest/boosting/lead1"] == f"{errors} m³ m⁻³"


def test_the_study_ends_with_what_the_table_says(study):
    """In the terminal and at the top of the page, with the words of the test."""
    folder, first, _ = study
    page = html.unescape((folder / "results" / "report.html").read_text())
    long = main_rows(folder)
    compared = pd.read_csv(folder / "results" / "comparisons.csv")
    compared = compared[(compared["experiment"] == "finetune-SMAPtest") & (compared["against"] == "persistence")]
    against_persistence = compared.set_index(["model", "lead_days"])
    for lead, ahead in ((1, "1 day"), (3, "3 days")):
        rows = long[(long["experiment"] == "finetune-SMAPtest") & (long["lead_days"] == lead)].set_index("model")
        models = rows.loc[["cnn", "convlstm_conv"]]
        (said,) = re.findall(rf"^{ahead} ahead, .*has the lowest RMSE.*$", first.out, re.M)
        assert said in page
        assert f"ahead, {models['rmse'].idxmin()} has" in said and f"{models['rmse'].min():.4f} m³" in said
        assert f"against {rows.loc['persistence', 'rmse']:.4f} of persistence" in said
        p = against_persistence.xs(lead, level="lead_days").loc[["cnn", "convlstm_conv"]]
        better = p["rmse_change"] < 0
        p = pd.Series(false_discovery_control(p["p"]), better.index)  # the sentence counts two comparisons
        verdicts = list(np.where(p >= 0.05, "not significant", np.where(better, "better", "worse")))
        for word in ("better", "worse"):
            count = {0: "none is", 1: "1 is", 2: "2 are"}[verdicts.count(word)]
            assert re.search(rf"{count} significantly {word}", said)


def recomputed(path):
    """Scores of a predictions.nc by scikit-learn and scipy alone."""
    with xr.open_dataset(path) as ds:
        valid = np.isfinite(ds["observed"].values)
        truth, guess, last = (ds[n].values[valid].astype(float) for n in ("observed", "predicted", "persistence"))
    mse = mean_squared_error(truth, guess)
    line = linregress(truth, guess)
    return {
        "rmse": mse**0.5,
        "mse": mse,
        "r2": r2_score(truth, guess),
        "n": len(truth),
        "bias": guess.mean() - truth.mean(),
        "pearson_r": line.rvalue,
        "slope": line.slope,
        "skill_over_persistence": 1 - mse / mean_squared_error(truth, last),
    }


def test_table_and_metrics_agree_with_a_recomputation_from_predictions(study):
    results = study[0] / "results"
    long = pd.read_csv(results / "table.csv")
    runs_of_table = long[long["seed"].notna()]
    assert len(runs_of_table) == len(list((results / "runs").glob("*/*/*/seed0/predictions.nc")))
    for _, row in runs_of_table.iterrows():
        folder = results / "runs" / row["experiment"] / row["model"] / f"lead{row['lead_days']}" / "seed0"
        metrics = json.loads((folder / "metrics.json").read_text())
        for name, value in recomputed(folder / "predictions.nc").items():
            assert row[name] == pytest.approx(value, abs=1e-6), (folder, name)
            assert metrics[name] == pytest.approx(value, abs=1e-6), (folder, name)
    smap = long[long["seed"].isna() & (long["experiment"] == "SMAPtest")]
    assert len(smap) > 10
    for _, row in smap.iterrows():
        folder = results / "runs" / "SMAPtest" / row["model"] / f"lead{row['lead_days']}"
        for name, value in recomputed(folder / "predictions.nc").items():
            assert row[name] == pytest.approx(value, abs=1e-6), (folder, name)


def test_every_number_in_the_answers_is_in_the_table(study):
    results = study[0] / "results"
    assert len(quoted(results)) > 20
    assert not quoted(results) - in_table(results)


def test_record_lengths_are_compared_on_the_cells_of_the_shortest(study):
    """RMSE recomputed where persistence from 30 days has a score; scratch had as many days, and steps, as transfer."""
    results = study[0] / "results"
    table = pd.read_csv(results / "record_lengths.csv").set_index(["experiment", "model", "target_days"])
    assert {"cnn", "convlstm_conv", *BASELINES} <= set(table.index.get_level_values("model"))

    def rmse(name, lead_folder):
        with (
            xr.open_dataset(results / "runs" / name / lead_folder / "predictions.nc") as ds,
            xr.open_dataset(results / "runs" / "SMAPtest/persistence_30days/lead1/predictions.nc") as shortest,
        ):
            error = (ds["predicted"] - ds["observed"]).where(shortest["observed"].notnull())
            return float(np.sqrt((error.astype(float) ** 2).mean()))

    for days in (30, 365):
        scratch, tuned = (rmse(f"{way}/cnn_{days}days", "lead1/seed0") for way in ("SMAPtest", "finetune-SMAPtest"))
        assert table.loc[("SMAPtest", "cnn", days), "rmse"] == pytest.approx(scratch, abs=1e-6)
        assert table.loc[("finetune-SMAPtest", "cnn", days), "rmse"] == pytest.approx(tuned, abs=1e-6)
        rival = rmse(f"SMAPtest/cnn_{days}days_matched", "lead1/seed0")
        assert table.loc[("finetune-SMAPtest", "cnn", days), "change"] == pytest.approx(100 * (tuned / rival - 1))
        ridge = rmse(f"SMAPtest/ridge_{days}days", "lead1")
        assert table.loc[("SMAPtest", "ridge", days), "rmse"] == pytest.approx(ridge, abs=1e-6)


def test_interval_and_verdict_agree_in_every_row_of_every_table(study):
    """Before any correction: skill above 0, and the change of RMSE below it, exactly where the verdict is "better"."""
    long, compared = (pd.read_csv(study[0] / "results" / name) for name in ("table.csv", "comparisons.csv"))
    rivals = long[~long["model"].str.startswith("persistence")]
    assert len(rivals) > 50 and len(compared) > 50
    assert ((rivals["skill_low"] > 0) == (rivals["vs_persistence"] == "better")).all()
    assert ((rivals["skill_high"] < 0) == (rivals["vs_persistence"] == "worse")).all()
    assert ((rivals["transfer_high"] < 0) == (rivals["vs_scratch"] == "better")).all()
    assert ((compared["high"] < 0) == (compared["verdict"] == "better")).all()
    assert ((compared["low"] > 0) == (compared["verdict"] == "worse")).all()


def test_means_over_seeds_are_rows_of_their_own_and_speak_of_the_model(tmp_path, script):
    """Two seeds: a row of means without a seed, what the answers quote, and intervals that hold both seeds' chance."""
    write_prepared(tiny(days=1200, start="2012-06-01", shape=(4, 4), seed=1), tmp_path / "era5.nc")
    write_prepared(tiny(days=900, start="2014-01-01", shape=(4, 4)), tmp_path / "smap.nc")
    arguments = ["--era5-land", tmp_path / "era5.nc", "--smap", tmp_path / "smap.nc", "--out", tmp_path / "results"]
    arguments += ["--models", "cnn", "--lead-days", 1, "--seeds", 0, 1, 1, "--epochs", 6]
    result = quick_study(*arguments)
    assert result.code == 0, result.err
    long = pd.read_csv(tmp_path / "results" / "table.csv")
    rows = long[(long["experiment"] == "finetune-SMAPtest") & (long["model"] == "cnn")]
    assert list(rows["seed"].fillna(-1)) == [0, 1, -1]
    mean = rows.iloc[2]
    assert mean["note"] == "mean of 2 seeds"
    assert mean["rmse"] == pytest.approx(rows["rmse"][:2].mean(), abs=1e-8)
    assert mean["rmse_low"] < mean["rmse"] < mean["rmse_high"]
    assert mean["skill_low"] < mean["skill_over_persistence"] < mean["skill_high"]
    assert f"{mean['rmse']:.4f}" in (tmp_path / "results" / "report.html").read_text()
    compared = pd.read_csv(tmp_path / "results" / "comparisons.csv")
    assert set(compared["seeds"]) == {2}
    # what an evaluation of other days leaves behind is no part of the study
    run_dir = tmp_path / "results" / "runs" / "SMAPtest" / "cnn" / "lead1" / "seed0"
    assert script("SMAPtest/eval.py", run_dir, "--test", "2015-08-01", "2015-08-20").code == 0
    assert "evaluated on other days" in script("utils/study/report.py", tmp_path / "results").sentence()
    shutil.rmtree(tmp_path / "results" / "runs" / "SMAPtest" / "ridge")
    again = quick_study(*arguments)  # it restores both
    assert again.code == 0, again.err
    assert pd.read_csv(tmp_path / "results" / "table.csv").equals(long)


def test_figures_and_report_are_drawn_again_from_predictions_without_training(study, tmp_path, script):
    """In a process of its own, in full."""
    folder = tmp_path / "results"
    shutil.copytree(study[0] / "results", folder)
    for path in folder.glob("**/checkpoint.pt"):
        path.unlink()
    drawn = {path.name: path.stat().st_size for path in (folder / "figures").iterdir()}
    shutil.rmtree(folder / "figures")
    (folder / "table.csv").unlink()
    result = subprocess_script("utils/study/report.py", folder)
    assert result.code == 0, result.err
    assert (folder / "table.csv").read_bytes() == (study[0] / "results" / "table.csv").read_bytes()
    assert {path.name for path in (folder / "figures").iterdir()} == drawn.keys()
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix])
        assert path.stat().st_size > 100 * drawn[path.name]  # no blank picture
    (folder / "runs" / "SMAPtest" / "cnn" / "lead1" / "seed0" / "predictions.nc").unlink()
    missing = script("utils/study/report.py", folder).sentence()
    assert "predictions.nc is missing; make it with: python reproduce.py" in missing
    assert "holds no study" in script("utils/study/report.py", tmp_path).sentence()


def test_runs_for_the_closer_questions_differ_in_what_they_say_they_do(study):
    below = study[0] / "results" / "runs"

    def settings(name):
        return load_checkpoint(below / name / "lead1" / "seed0").settings

    short = settings("finetune-SMAPtest/cnn_30days")
    assert short["target_days"] == 30
    assert short["init_from"] == str(below / "ERA5test" / "cnn" / "lead1" / "seed0")
    assert short["epochs"] > settings("finetune-SMAPtest/cnn")["epochs"]  # as many steps on fewer days
    without = settings("finetune-SMAPtest/cnn_without_precipitation")
    assert without["predictors"] == ["soil_moisture", "soil_temperature"]
    assert without["init_from"] == str(below / "ERA5test" / "cnn_without_precipitation" / "lead1" / "seed0")
    assert "season" in settings("finetune-SMAPtest/cnn_with_season")["predictors"]


def test_the_study_keeps_the_test_year_out_of_everything_learned(study):
    folder, _, _ = study
    for path in (folder / "results" / "runs").glob("**/checkpoint.pt"):
        checkpoint = load_checkpoint(path.parent)
        smap_test = np.datetime64("2014-01-01") + 900 - 365
        assert max(end for _, end in checkpoint.learned_from) < smap_test
        assert (checkpoint.periods.test[0][1] - checkpoint.periods.test[0][0]).astype(int) == 364


def tables(result):
    """What a study prints in the end; which run ended first is chance."""
    shown = result.out.split("\n\n", 1)[1].rsplit("runs in", 1)[0]
    assert shown.startswith("ERA5test, 1 day ahead")
    return shown


def test_a_second_study_finds_nothing_missing_and_says_the_same(study):
    folder, first, second = study
    assert second.code == 0, second.err
    assert tables(first) == tables(second)
    stamps = [p.stat().st_mtime for p in (folder / "results" / "runs").glob("*/*/*/seed0/predictions.nc")]
    assert (
        len(stamps) == 12 + 4 + 8 + 8 + 8 + 3 + 4 and max(stamps) < (folder / "results" / "table.csv").stat().st_mtime
    )


def test_scores_of_another_period_never_enter_the_table(study, script):
    folder, first, _ = study
    run_dir = folder / "results" / "runs" / "SMAPtest" / "cnn" / "lead1" / "seed0"
    assert script("SMAPtest/eval.py", run_dir, "--test", "2015-08-01", "2015-08-20").code == 0
    arguments = ["--era5-land", folder / "era5.nc", "--smap", folder / "smap.nc", "--out", folder / "results"]
    arguments += ["--models", "cnn", "convlstm_conv", "--lead-days", 1, 3, "--epochs", 6, "--details", "--matched"]
    again = quick_study(*arguments)
    assert tables(again) == tables(first)


def test_the_study_says_which_settings_are_its_own(study):
    config = json.loads((study[0] / "results/runs/SMAPtest/cnn/lead3/seed0/config.json").read_text())
    assert config["settings"]["epochs"] == {"value": 6, "from": "reproduce.py"}
    assert config["settings"]["lr"]["from"] == "script"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lead-days"], "--lead-days has no value"),
        (["--era5-land", "x.nc"], "are a pair"),
        (["--models", "transformer"], "there is no ERA5test/train_transformer.py"),
        (["--models", "convlstm_foo"], "'convlstm_foo'"),
        (["--models", "cnn_conv"], "'cnn_conv'"),
        (["--era5-land", "x.nc", "--smap", "y.nc"], "does not exist"),
        (["--lead-day", "3"], "Unrecognized options"),
        (["--operational", "--max-input-age", "7"], "--operational scores every age of the last observation"),
    ],
)
def test_the_study_refuses_with_one_sentence(tmp_path, script, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in script("reproduce.py", *arguments, "--out", tmp_path / "out").sentence()


def test_a_record_of_less_than_two_years_is_refused(smap, era5, tmp_path, script):
    sentence = script("reproduce.py", "--era5-land", era5, "--smap", smap, "--out", tmp_path / "out").sentence()
    assert "expected more than 730 days" in sentence


@pytest.mark.skipif(not REAL.exists(), reason="the real data set is not part of the project")
def test_the_same_scripts_run_on_real_gappy_uneven_data(tmp_path, script):
    conus = REAL / "conus"
    source = ["--data", conus / "land_model_conus.nc", "--out", tmp_path / "source", "--epochs", 2]
    source += "--train 2015-04-01 2015-12-31 2017-04-01 2017-12-31 --val 2018-01-01 2018-02-14".split()
    assert script("ERA5test/train_cnn.py", *source, *"--test 2018-02-15 2018-03-31".split()).code == 0
    target = ["--data", conus / "smap_l3_conus.nc", "--init-from", tmp_path / "source", "--out", tmp_path / "run"]
    target += "--train 2015-04-01 2015-10-31 --val 2015-11-01 2015-12-31 --test 2016-01-01 2016-03-31".split()
    assert script("finetune-SMAPtest/train_cnn.py", *target, "--epochs", 2).code == 0
    result = script("finetune-SMAPtest/eval.py", tmp_path / "run")
    assert result.code == 0, result.err
    with (
        xr.open_dataset(tmp_path / "run" / "predictions.nc") as ds,
        xr.open_dataset(conus / "smap_l3_conus.nc") as data,
    ):
        np.testing.assert_array_equal(ds["lat"], data["lat"])
        assert np.isfinite(ds["predicted"].values[np.isfinite(ds["observed"].values)]).all()
        assert ds.attrs["synthetic"] == "false"
