"""What is committed of finished studies: copies, a diagram of their periods, and the time they took."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_tidy, drawn_texts
from matplotlib.patches import Rectangle

from utils.common.cli import UserError
from utils.figures import periods as diagram
from utils.study.publish import fill_table, publish_all, publish_study
from utils.study.results import Results

PERIODS = {
    "ERA5test": {
        "train": ["2009-03-31", "2016-03-30"],
        "val": ["2016-03-31", "2017-03-30"],
        "test": ["2017-03-31", "2018-03-30"],
    },
    "SMAPtest": {
        "train": ["2015-03-31", "2017-03-30"],
        "val": ["2017-03-31", "2018-03-30"],
        "test": ["2018-03-31", "2019-03-30"],
    },
}


@pytest.fixture
def studies(tmp_path):
    """A folder with the study `worlds`, as far as its copies are asked about."""
    study = tmp_path / "evidence" / "worlds"
    (study / "figures").mkdir(parents=True)
    content = {"command": "python reproduce.py --worlds 5", "seconds": 7260, "periods": PERIODS}
    content |= {"models": ["cnn"], "lead_days": [3], "seeds": [0], "detail": "cnn", "best": "cnn"}
    (study / "study.json").write_text(json.dumps(content))
    for name in (
        "table.csv",
        "provenance.json",
        "answers.md",
        "report.html",
        "figures/one.png",
        "figures/two.png",
        "figures/one.pdf",
    ):
        (study / name).write_text(name)
    return tmp_path / "evidence"


@pytest.fixture
def undrawn(monkeypatch):
    """The titles of the diagrams that would have been drawn, of studies without forecasts."""
    titles = []
    monkeypatch.setattr(Results, "label", "SYNTHETIC sample")
    monkeypatch.setattr("utils.study.publish.draw_periods", lambda periods, path, title, *names: titles.append(title))
    monkeypatch.setattr(Results, "source_label", "SYNTHETIC sample")
    return titles


def test_tables_answers_provenance_and_the_figures_named_are_copied(studies, tmp_path, undrawn):
    into = tmp_path / "docs"
    into.mkdir()
    (into / "strategies.csv").write_text("of an earlier study")
    (into / "bench.json").write_text("of something else")
    publish_study(studies / "worlds", into, ("two",))
    expected = {"table.csv", "answers.md", "provenance.json", "two.png", "bench.json"}
    assert {path.name for path in into.iterdir()} == expected
    assert (into / "table.csv").read_text() == "table.csv" and "SYNTHETIC" in undrawn[0]


def test_a_missing_figure_leaves_everything_as_it_was(studies, tmp_path):
    (tmp_path / "table.csv").write_text("earlier")
    with pytest.raises(UserError, match=r"three\.png is missing; make it with"):
        publish_study(studies / "worlds", tmp_path, ("three",))
    assert (tmp_path / "table.csv").read_text() == "earlier"


def test_the_evidence_has_a_page_with_commands_and_times(studies, tmp_path, undrawn):
    publish_all(studies, tmp_path / "docs")
    assert {path.name for path in (tmp_path / "docs" / "worlds").glob("*.png")} == {"one.png", "two.png"}
    page = (tmp_path / "docs" / "README.md").read_text()
    assert "| [worlds](worlds/answers.md) | `python reproduce.py --worlds 5` | 2:01:00 |" in page
    with pytest.raises(UserError, match="holds no study"):
        publish_all(tmp_path / "docs", tmp_path / "again")


def test_each_study_gives_those_of_the_figures_that_it_has(studies, tmp_path, undrawn):
    shutil.copytree(studies / "worlds", studies / "seeds")
    (studies / "seeds" / "figures" / "two.png").unlink()
    publish_all(studies, tmp_path / "docs", ("one", "two"))
    copied = {str(path.relative_to(tmp_path / "docs")) for path in (tmp_path / "docs").rglob("*.png")}
    assert copied == {"seeds/one.png", "worlds/one.png", "worlds/two.png"}
    with pytest.raises(UserError, match="has the figure three"):
        publish_all(studies, tmp_path / "docs", ("one", "three"))


def test_the_table_of_a_page_is_filled_from_a_study(tmp_path):
    """Each row keeps its name and takes the RMSE; a model's without and with transfer, of seeds the mean."""
    rows = [("SMAPtest", "cnn", 3, 0.0600, 0), ("SMAPtest", "cnn", 3, 0.0700, 1), ("SMAPtest", "cnn", 3, 0.0650, None)]
    rows += [("finetune-SMAPtest", "cnn", 3, 0.05004, 0), ("ERA5test", "cnn", 3, 0.01, 0)]
    rows += [("SMAPtest", "ridge", 3, 0.045, None), ("finetune-SMAPtest", "ridge", 3, 0.045, None)]
    table = pd.DataFrame(rows, columns=["experiment", "model", "lead_days", "rmse", "seed"])
    table.assign(data="REAL soil").to_csv(tmp_path / "table.csv")
    (tmp_path / "provenance.json").write_text(
        json.dumps({"periods": {"SMAPtest": {"test": ["2016-01-01", "2016-03-31"]}}})
    )
    before, after = "# A page\n\n| other | 3 days |\n|---|---|\n| cnn | 1 |\n\n", "\nThe end: | cnn | 2 |\n"
    page = tmp_path / "page.md"
    page.write_text(f"{before}| REAL soil, later | 3 days |\n|---|---|\n| ridge | ? |\n| cnn | 0.1 → 0.2 |\n{after}")
    expected = (
        "| REAL soil, 2016-01-01 to 2016-03-31 | 3 days |\n|---|---|\n| ridge | 0.0450 |\n| cnn | 0.0650 → 0.0500 |\n"
    )
    fill_table(page, tmp_path)
    assert page.read_text() == before + expected + after
    page.write_text(before + expected.replace("ridge", "persistence"))
    with pytest.raises(UserError, match="no persistence at 3 days"):
        fill_table(page, tmp_path)
    page.write_text(before)
    with pytest.raises(UserError, match=r"no table that starts with: \| REAL soil"):
        fill_table(page, tmp_path)


@pytest.mark.parametrize("end", ["2016-03-31", "2017-03-31"])
def test_the_diagram_of_a_target_that_ends_before_its_source_is_tidy(end, tmp_path, monkeypatch):
    """Three months or a year to test on, in the middle of a source with two periods to learn from, and long names."""
    figures = []
    monkeypatch.setattr(diagram.style, "save", lambda figure, path: figures.append(figure))
    source = {"train": ["2015-04-01", "2015-11-30", "2017-04-01", "2017-12-31"], "val": ["2018-01-01", "2018-02-14"]}
    target = {"train": ["2015-05-01", "2015-11-30"], "val": ["2015-12-01", "2015-12-31"], "test": ["2016-01-01", end]}
    periods = {"ERA5test": source | {"test": ["2018-02-15", "2018-03-31"]}, "SMAPtest": target}
    names = ("soil moisture SIMULATED by a land model with real weather", "REAL SMAP L3 over the United States")
    diagram.draw_periods(periods, tmp_path / "periods.png", "Periods", *names)
    (figure,) = figures
    assert_tidy(figure)
    assert [text for text, *_ in drawn_texts(figure)].count("validate") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SMAP", "SMAP is validated or tested. The source learns from none of them; its own test is only scored. "
         "Validation days choose\nthe epoch"),
        ("REAL SMAP L3", "days on which SMAP is"),
        ("GLEAM 4.2a", "days on which GLEAM 4.2a is"),
        ("ESA CCI SOIL MOISTURE PASSIVE, daily, version 09.1 of 2024", "2024 is validated"),
    ],
)  # fmt: skip
def test_the_note_of_the_diagram_calls_the_target_by_its_name(name, said, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(diagram.style, "save", lambda figure, path: figures.append(figure))
    diagram.draw_periods(PERIODS, tmp_path / "periods.png", "Periods", "ERA5-Land", name)
    (note,) = (text for text, *_ in drawn_texts(figures[0]) if text.startswith("Grey"))
    assert said in note and ("SMAP" in note) == ("SMAP" in name)
    assert_tidy(figures[0])


@pytest.mark.parametrize("start", ["2009-03-31", "1980-01-01"])
def test_the_diagram_of_the_periods_is_to_scale_and_tidy(start, tmp_path, monkeypatch):
    """A long source is cut to the years before the target and says so; of the rest, an inch is as many days."""
    figures = []
    monkeypatch.setattr(diagram.style, "save", lambda figure, path: figures.append(figure))
    source = PERIODS["ERA5test"] | {"train": [start, PERIODS["ERA5test"]["train"][1]]}
    diagram.draw_periods({**PERIODS, "ERA5test": source}, tmp_path / "periods.png", "Periods")
    (figure,) = figures
    assert_tidy(figure)
    words = [text for text, *_ in drawn_texts(figure)]
    for record in (source, PERIODS["SMAPtest"]):
        for first, last in record.values():
            assert f"{first}\nto {last}" in words
    assert ("//" in words) == (start == "1980-01-01")
    bars = [bar for bar in figure.axes[0].patches if isinstance(bar, Rectangle) and bar.get_height() == diagram.BAR]
    assert len(bars) == 6
    days = [np.diff(np.array(span, "M8[D]"))[0].astype(int) + 1 for span in [*source.values()][1:]]
    days += [np.diff(np.array(span, "M8[D]"))[0].astype(int) + 1 for span in PERIODS["SMAPtest"].values()]
    scale = [bar.get_width() / count for bar, count in zip(bars[1:], days, strict=True)]
    assert np.ptp(scale) < 1e-9
    target_validation, source_test = bars[4].get_x(), bars[2].get_x()
    assert target_validation == pytest.approx(source_test)  # the same day
