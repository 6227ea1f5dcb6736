"""The periods of a study: chosen from the records, or asked for; and `make paper`, which asks for the paper's."""

import re
import shlex
import shutil
from itertools import product
from pathlib import Path

import pytest
from conftest import ROOT, tiny

import reproduce
from utils.common.cli import UserError, parse
from utils.common.files import write_json
from utils.common.parallel import finish_here
from utils.dataset.prepared import write_prepared
from utils.scores.baselines import BASELINES
from utils.settings import EXPERIMENTS
from utils.study.periods import choose_periods
from utils.study.plan import read_train_script
from utils.study.results import Results
from utils.training.checkpoint import load_checkpoint

SOURCE, TARGET, TRANSFERRED = EXPERIMENTS
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
PAPER = re.search(r"^PAPER := (.*)$", MAKEFILE, re.MULTILINE)[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """A tiny record of each product: the target's has the paper's days, the source's begins in 2016."""
    folder = tmp_path_factory.mktemp("pair")
    write_prepared(tiny(days=1839, start="2016-01-01", shape=(3, 3), seed=1), folder / "era5.nc")  # to 2021-01-12
    write_prepared(tiny(days=2080, start="2015-03-31", shape=(3, 3)), folder / "smap.nc")  # to 2020-12-08
    return folder / "era5.nc", folder / "smap.nc"


def test_without_wishes_the_source_ends_before_the_test_year_and_learns_before_the_validation_year(pair):
    periods = choose_periods(*pair)
    assert (
        periods[TARGET]
        == periods[TRANSFERRED]
        == {
            "train": ("2015-03-31", "2018-12-09"),
            "val": ("2018-12-10", "2019-12-09"),
            "test": ("2019-12-10", "2020-12-08"),
        }
    )
    assert periods[SOURCE] == {
        "train": ("2016-01-01", "2017-12-09"),
        "val": ("2017-12-10", "2018-12-09"),
        "test": ("2018-12-10", "2019-12-09"),
    }


def test_what_is_not_asked_for_follows_from_what_is(pair):
    periods = choose_periods(*pair, asked={"test": ("2018-07-01", "2019-06-30"), "val": None})
    assert periods[TARGET]["val"] == ("2017-07-01", "2018-06-30")
    assert periods[TARGET]["train"] == ("2015-03-31", "2017-06-30")
    assert periods[SOURCE]["test"] == ("2017-07-01", "2018-06-30")


def test_periods_are_cut_to_the_record(pair):
    """So that the paper's periods serve a shorter record too, and the study says which days it learned from."""
    periods = choose_periods(*pair, source_asked={"train": ("1980-01-01", "2016-12-31")})
    assert periods[SOURCE]["train"] == ("2016-01-01", "2016-12-31")


@pytest.mark.parametrize(
    ("asked", "source_asked", "message"),
    [
        ({"val": ("2019-12-10", "2019-12-20")}, {}, "--val ends on 2019-12-20, expected before --test starts on"),
        (
            {},
            {"train": ("2015-01-01", "2018-01-01")},
            "--source-train ends on 2018-01-01, expected before --source-val",
        ),
        ({"test": ("2021-02-01", "2021-03-01")}, {}, "--test 2021-02-01 2021-03-01 has no day in"),
        ({"test": ("2019-13-01", "2020-01-01")}, {}, "--test has '2019-13-01', expected an ISO date"),
        ({}, {"val": ("2019-01-01", "2018-01-01")}, "--source-val 2019-01-01 2018-01-01 is an empty period"),
        (  # the paper's own source
            {},
            {"train": ("1980-01-01", "2019-12-07"), "val": ("2019-12-08", "2020-12-07"), "test": ("2020-12-08",) * 2},
            "--source-train has 2018-12-10, which lies in --val; the source may not learn",
        ),
        (
            {},
            {"train": ("2016-01-01", "2017-01-01"), "val": ("2020-01-01", "2020-02-01"), "test": ("2020-03-01",) * 2},
            "--source-val has 2020-01-01, which lies in --test; the source may not learn",
        ),
    ],
)
def test_periods_that_overlap_or_hold_nothing_are_refused(pair, asked, source_asked, message):
    with pytest.raises(UserError, match=re.escape(message)):
        choose_periods(*pair, asked, source_asked)


def test_the_source_may_be_scored_where_the_target_is_validated(pair):
    asked = {"test": ("2018-12-10", "2019-12-09")}
    assert choose_periods(*pair, source_asked=asked)[SOURCE]["test"] == asked["test"]


def commands() -> list[list[str]]:
    """The arguments of every call of reproduce.py in the Makefile; a path is the name of its variable."""
    calls = re.findall(r"reproduce\.py(.*)$", MAKEFILE, re.MULTILINE)
    calls += [call.replace("CONUS_PERIODS", "CONUS_YEAR") for call in calls if "CONUS_PERIODS" in call]
    values = dict(re.findall(r"^(\w+) := (.*)$", MAKEFILE, re.MULTILINE))
    values["CONUS_PERIODS"] = values["CONUS_MONTHS"]
    return [shlex.split(re.sub(r"\$\((\w+)\)", lambda name: values.get(name[1], name[1]), call)) for call in calls]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_study_of_the_makefile_has_settings_and_models_that_exist(arguments):
    settings = parse(reproduce.Settings, arguments)
    for experiment, model in product(EXPERIMENTS, settings.models):
        assert read_train_script(experiment, model).settings


@pytest.fixture(scope="module")
def paper(pair, tmp_path_factory) -> Results:
    """`make paper` as the Makefile has it, on a tiny pair: one model, lead and seed, one epoch, no figures."""
    (words,) = [words for words in commands() if "results-paper" in words]
    settings = parse(reproduce.Settings, [*words, "--era5-land", str(pair[0]), "--smap", str(pair[1])])
    assert settings.full and settings.epochs == 50
    settings.epochs, settings.models, settings.lead_days, settings.seeds = 1, ("cnn",), (5,), (0,)
    settings.details, settings.out = False, tmp_path_factory.mktemp("paper")
    study = reproduce.make_study(settings)
    finish_here(study.jobs(), study.add)
    reproduce.write_study_file(study, settings, seconds=0)
    return Results(settings.out)


def test_scores_of_another_age_are_made_again_and_never_enter_the_table(paper, pair, tmp_path):
    data = {"era5_land": pair[0], "smap": pair[1], "models": ("cnn",), "lead_days": (5,), "details": False}
    periods = {
        f"{prefix}{part}": tuple(span)
        for prefix, experiment in (("", TARGET), ("source_", SOURCE))
        for part, span in paper.study["periods"][experiment].items()
    }
    run = f"{TARGET}/cnn/lead5/seed0"
    for oldest, finished in ((None, True), (7, False)):
        settings = reproduce.Settings(**data, **periods, max_input_age=oldest, out=paper.out)
        assert bool(reproduce.make_study(settings).read_finished(run)) == finished
    shutil.copytree(paper.out, tmp_path / "results")
    write_json(tmp_path / "results" / "study.json", paper.study | {"max_input_age": 7})
    results = Results(tmp_path / "results")
    with pytest.raises(UserError, match="evaluated on other days, ages or data"):
        _ = results.table


def test_make_paper_has_the_papers_periods_without_its_leak(paper):
    study = paper.study
    assert study["periods"][TARGET] == {
        "train": ["2015-04-01", "2018-12-07"],
        "val": ["2018-12-08", "2019-12-07"],
        "test": ["2019-12-08", "2020-12-08"],
    }
    assert study["periods"][SOURCE]["train"][1] == "2017-12-07"
    assert study["periods"][SOURCE]["val"] == ["2017-12-08", "2018-12-07"]


def test_make_paper_has_the_papers_window_and_batch(paper):
    for experiment in EXPERIMENTS:
        checkpoint = load_checkpoint(paper.out / "runs" / experiment / "cnn" / "lead5" / "seed0")
        assert checkpoint.input_days == 3 and checkpoint.settings["batch_size"] == 128
        assert checkpoint.settings["patience"] == 0
        assert checkpoint.split["train"] == [paper.study["periods"][experiment]["train"]]
    assert paper.study["settings"] == {"input_days": 3, "epochs": 1, "batch_size": 128}


def test_the_table_of_make_paper_has_bias_beside_rmse_and_r2_on_the_test_year(paper):
    table = paper.table
    assert set(table["model"]) == {"cnn", *BASELINES} and (table["input_days"] == 3).all()
    assert table[["rmse", "r2", "bias"]].notna().all(axis=None)
    assert (table[table["experiment"] != SOURCE]["n"] == 367 * 3).all()  # days and cells of land


def test_a_source_may_learn_on_both_sides_of_the_test_year(pair):
    both = ("2016-01-01", "2016-12-31", "2019-01-01", "2019-06-30")
    asked = {
        "train": ("2015-03-31", "2016-12-31"),
        "val": ("2017-01-01", "2017-06-30"),
        "test": ("2017-07-01", "2018-06-30"),
    }
    later = {"train": both, "val": ("2019-07-01", "2019-12-31"), "test": ("2020-01-01", "2020-12-31")}
    periods = choose_periods(*pair, asked=asked, source_asked=later)
    assert periods[SOURCE] == later
    with pytest.raises(UserError, match=r"^--source-train has 2018-01-01, which lies in --test"):
        wrong = later | {"train": ("2016-01-01", "2016-12-31", "2018-01-01", "2019-06-30")}
        choose_periods(*pair, asked=asked, source_asked=wrong)
