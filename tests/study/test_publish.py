"""What is committed of finished studies: copies, a diagram of their periods, and the time they took."""

import json

import numpy as np
import pytest
from figure_checks import assert_tidy, drawn_texts
from matplotlib.patches import Rectangle

from utils.common.cli import UserError
from utils.figures import periods as diagram
from utils.study.publish import publish_all, publish_study
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
    monkeypatch.setattr("utils.study.publish.draw_periods", lambda periods, path, title: titles.append(title))
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
